//! Completion, and whether Enter ends an expression.

use std::cell::RefCell;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use stoa_daemon::unix_ms;
use stoa_promql::{WordKind, vocabulary};
use tokio::runtime::Handle;

use super::commands;
use super::names::{Names, Wanted};
use super::place::{Place, is_unfinished, place};
use crate::client::Client;
use crate::table::{is_hidden, printable};

/// Lengths that are offered for a range.
const DURATIONS: [&str; 9] = ["1m", "5m", "10m", "30m", "1h", "6h", "1d", "7d", "30d"];

/// The most candidates shown; more are no help.
const CANDIDATES_MAX: usize = 200;

/// What the editor asks while a person writes.
pub(super) struct Help {
    names: RefCell<Names>,
    runtime: Handle,
}

impl Help {
    pub(super) fn new(client: Client, runtime: Handle) -> Self {
        Self { names: RefCell::new(Names::new(client)), runtime }
    }

    /// Asks the collector, on the editor's own thread, which waits for a key anyway.
    fn ask(&self, wanted: Wanted) -> Vec<String> {
        let mut names = self.names.borrow_mut();
        self.runtime.block_on(names.of(wanted, unix_ms() / 1000))
    }

    fn candidates(&self, text: &str, after: &str) -> (usize, Vec<Pair>) {
        if let Some(found) = commands::completed(text) {
            return found;
        }
        match place(text) {
            Place::Name { from } => {
                let word = text.get(from..).unwrap_or_default();
                let of_language = vocabulary().map(|(word, kind)| match kind {
                    WordKind::Function if !after.starts_with('(') => format!("{word}("),
                    WordKind::Function | WordKind::Aggregation | WordKind::Keyword => word.into(),
                });
                let metrics = self.ask(Wanted::Metrics { prefix: word.to_owned() });
                let metrics = metrics.into_iter().filter_map(|name| as_written(&name));
                (from, begun(word, metrics.chain(of_language)))
            }
            Place::Matcher { from, metric } => {
                let word = text.get(from..).unwrap_or_default();
                let labels = self.ask(Wanted::Labels { metric });
                let labels = labels.into_iter().filter(|name| name != "__name__" && is_plain(name));
                (from, begun(word, labels.map(|name| format!("{name}=\""))))
            }
            Place::Label { from } => {
                let word = text.get(from..).unwrap_or_default();
                let labels = self.ask(Wanted::Labels { metric: None });
                let labels = labels.into_iter().filter(|name| name != "__name__" && is_plain(name));
                (from, begun(word, labels))
            }
            Place::Value { from, metric, label, quote } => {
                let word = text.get(from..).unwrap_or_default();
                let end = Some(quote).filter(|quote| !after.starts_with(*quote));
                let values = self.ask(Wanted::Values { metric, label });
                let values = values
                    .into_iter()
                    .filter_map(|value| escaped(&value, quote))
                    .map(|value| value.chars().chain(end).collect());
                (from, begun(word, values))
            }
            Place::Duration { from } => {
                let word = text.get(from..).unwrap_or_default();
                let end = if after.starts_with(']') { "" } else { "]" };
                (from, begun(word, DURATIONS.iter().map(|length| format!("{length}{end}"))))
            }
            Place::Unknown => (text.len(), Vec::new()),
        }
    }
}

/// Those that begin with what is written, in order, each once.
fn begun(word: &str, all: impl Iterator<Item = String>) -> Vec<Pair> {
    let mut found: Vec<String> = all.filter(|candidate| candidate.starts_with(word)).collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(CANDIDATES_MAX);
    let pair = |text: String| Pair { display: printable(&text), replacement: text };
    found.into_iter().map(pair).collect()
}

/// Whether a name stands in PromQL without quotes.
fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A metric as PromQL writes it; `None` of a name that needs quotes, which is not completed.
fn as_written(name: &str) -> Option<String> {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':').then(|| name.to_owned())
}

/// A value as it stands between quotes, with nothing in it that a terminal would not print; `None` where
/// these quotes cannot hold it.
fn escaped(value: &str, quote: char) -> Option<String> {
    if quote == '`' {
        let is_held = !value.chars().any(|c| c == quote || is_hidden(c));
        return is_held.then(|| value.to_owned());
    }
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c == quote => out.extend(['\\', c]),
            c if is_hidden(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    Some(out)
}

impl Helper for Help {}
impl Highlighter for Help {}

impl Hinter for Help {
    type Hint = String;
}

impl Completer for Help {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (before, after) = line.split_at_checked(pos).unwrap_or((line, ""));
        Ok(self.candidates(before, after))
    }
}

impl Validator for Help {
    /// Enter goes on where something is open; on an empty line it always ends.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_ended = text.ends_with('\n') || text.trim_start().starts_with('\\');
        if !is_ended && is_unfinished(text) {
            return Ok(ValidationResult::Incomplete);
        }
        Ok(ValidationResult::Valid(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_begin_with_what_is_written() {
        let all = ["rate(", "up", "rate(", "ratio"].map(str::to_owned);
        let found = begun("rat", all.into_iter());
        let texts: Vec<&str> = found.iter().map(|pair| pair.replacement.as_str()).collect();
        assert_eq!(texts, ["rate(", "ratio"]);
    }

    #[test]
    fn values_are_escaped_for_their_quotes() {
        let text = escaped("a\"b\\c\u{1}\u{202e}", '"');
        assert_eq!(text.as_deref(), Some("a\\\"b\\\\c\\U00000001\\U0000202e"));
        assert_eq!(escaped("a\"b\\c", '`').as_deref(), Some("a\"b\\c"));
        for value in ["a`", "\u{1b}]52;c;x\u{7}", "\u{9b}2J", "\u{200b}"] {
            assert_eq!(escaped(value, '`'), None, "{value:?}");
        }
    }
}
