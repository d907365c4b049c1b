//! Lines to commands.

use regex::Regex;
use stoa_model::{Labels, TimestampMs};

use super::series::{Sequence, parse_series};
use super::starts::{Announced, Offsets};
use crate::number::parse_number;
use crate::parse::{parse_duration_ms, unquote};

/// One command.
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// Samples, one every `step_ms` from 0 on.
pub(super) struct Load {
    pub(super) step_ms: i64,
    /// Also as native histograms with custom bounds.
    pub(super) with_nhcb: bool,
    pub(super) series: Vec<Loaded>,
}

/// One series of a load.
pub(super) struct Loaded {
    pub(super) labels: Labels,
    pub(super) items: Sequence,
    /// As many as items, or fewer; those left out are not known.
    pub(super) starts: Offsets,
}

/// A query and what is expected of it.
pub(super) struct Eval {
    pub(super) query: String,
    pub(super) times: EvalTimes,
    pub(super) ordered: bool,
    pub(super) fail: Vec<Expected>,
    pub(super) warn: Vec<Expected>,
    pub(super) info: Vec<Expected>,
    pub(super) no_warn: bool,
    pub(super) no_info: bool,
    pub(super) scalar: Option<f64>,
    pub(super) text: Option<String>,
    /// Start, end and step of an expected range vector.
    pub(super) range_vector: Option<(TimestampMs, TimestampMs, i64)>,
    pub(super) series: Vec<(Labels, Sequence)>,
}

#[derive(Clone, Copy)]
pub(super) enum EvalTimes {
    Instant { at: TimestampMs },
    Range { start: TimestampMs, end: TimestampMs, step: i64 },
}

/// A message that must come.
pub(super) enum Expected {
    Any,
    Message(String),
    Pattern(Regex),
}

impl Expected {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Message(message) => message == text,
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

/// All commands with their lines, from 1.
pub(super) fn parse(text: &str) -> Vec<(usize, Result<Command, String>)> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut blocks = lines.iter().enumerate().peekable();
    while let Some((at, line)) = blocks.next() {
        if line.is_empty() {
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        if word == "clear" {
            commands.push((at + 1, Ok(Command::Clear)));
            continue;
        }
        let mut body = Vec::new();
        let is_eval = word.starts_with("eval");
        if is_eval || word.starts_with("load") {
            while let Some((_, next)) = blocks.next_if(|(_, next)| !next.is_empty()) {
                body.push(*next);
            }
        }
        let command = if is_eval {
            parse_eval(line, &body).map(|eval| Command::Eval(Box::new(eval)))
        } else if word.starts_with("load") {
            parse_load(line, &body).map(Command::Load)
        } else {
            Err(format!("invalid command {line:?}"))
        };
        commands.push((at + 1, command));
    }
    commands
}

/// A duration; `0` needs no unit.
fn duration(text: &str) -> Result<i64, String> {
    match text.trim() {
        "0" => Ok(0),
        text => parse_duration_ms(text).ok_or_else(|| format!("invalid duration {text:?}")),
    }
}

pub(super) fn parse_load(line: &str, body: &[&str]) -> Result<Load, String> {
    let mut words = line.split_whitespace();
    let with_nhcb = match words.next() {
        Some("load") => false,
        Some("load_with_nhcb") => true,
        _ => return Err("invalid load command".into()),
    };
    let step_ms = duration(words.next().ok_or("load needs a step")?)?;
    let mut announced = Announced::default();
    let mut series = Vec::new();
    for line in body {
        if announced.take(line)? {
            continue;
        }
        let (labels, items) = parse_series(line)?;
        let starts = announced.of(&labels, &items)?;
        series.push(Loaded { labels, items, starts });
    }
    announced.finish()?;
    Ok(Load { step_ms, with_nhcb, series })
}

fn parse_eval(line: &str, body: &[&str]) -> Result<Eval, String> {
    let (word, rest) = split_word(line);
    let mode = word.strip_prefix("eval").unwrap_or("").trim_start_matches('_').to_owned();
    let (kind, rest) = split_word(rest);
    let (times, query) = match kind {
        "instant" => {
            let (at_word, rest) = split_word(rest);
            if at_word != "at" {
                return Err("invalid evaluation command".into());
            }
            let (at, query) = split_word(rest);
            (EvalTimes::Instant { at: duration(at)? }, query)
        }
        "range" => {
            let (from, rest) = keyword(rest, "from")?;
            let (to, rest) = keyword(rest, "to")?;
            let (step, query) = keyword(rest, "step")?;
            let times = EvalTimes::Range {
                start: duration(from)?,
                end: duration(to)?,
                step: duration(step)?,
            };
            (times, query)
        }
        _ => return Err("invalid evaluation command".into()),
    };
    let mut eval = Eval {
        query: query.to_owned(),
        times,
        ordered: mode == "ordered",
        fail: Vec::new(),
        warn: Vec::new(),
        info: Vec::new(),
        no_warn: false,
        no_info: false,
        scalar: None,
        text: None,
        range_vector: None,
        series: Vec::new(),
    };
    match mode.as_str() {
        "fail" => eval.fail.push(Expected::Any),
        "warn" => eval.warn.push(Expected::Any),
        "info" => eval.info.push(Expected::Any),
        _ => {}
    }
    for line in body {
        eval.expect(line)?;
    }
    if !eval.warn.is_empty() && eval.no_warn || !eval.info.is_empty() && eval.no_info {
        return Err("invalid expect lines: some and none of a kind cannot both be expected".into());
    }
    let is_instant = matches!(eval.times, EvalTimes::Instant { .. });
    if is_instant
        && eval.range_vector.is_none()
        && eval.series.iter().any(|(_, items)| items.len() > 1)
    {
        return Err("several values of an instant need \"expect range vector\"".into());
    }
    Ok(eval)
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// The word after a keyword.
fn keyword<'a>(text: &'a str, word: &str) -> Result<(&'a str, &'a str), String> {
    let (first, rest) = split_word(text);
    if first == word { Ok(split_word(rest)) } else { Err(format!("expected {word:?}")) }
}

impl Eval {
    fn expect(&mut self, line: &str) -> Result<(), String> {
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            self.fail = vec![Expected::Message(message.trim().into())];
            return Ok(());
        }
        if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
            self.fail = vec![Expected::Pattern(regex(pattern.trim())?)];
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("expect range vector") {
            let (from, rest) = keyword(rest, "from")?;
            let (to, rest) = keyword(rest, "to")?;
            let (step, _) = keyword(rest, "step")?;
            let (start, end) = (duration(from)?, duration(to)?);
            self.range_vector = Some((start, end, duration(step)?));
            if matches!(self.times, EvalTimes::Instant { .. }) {
                self.times = EvalTimes::Instant { at: end };
            }
            return Ok(());
        }
        if let Some(quoted) = line.strip_prefix("expect string") {
            let bytes = unquote(quoted.trim())?;
            self.text = Some(String::from_utf8_lossy(&bytes).into_owned());
            return Ok(());
        }
        if split_word(line).0 == "expect" {
            return self.expect_message(split_word(line).1);
        }
        if let Some(number) = parse_number(line) {
            self.scalar = Some(number);
            return Ok(());
        }
        let series = parse_series(line)?;
        self.series.push(series);
        Ok(())
    }

    fn expect_message(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = split_word(line);
        let expected = if let Some(message) = rest.strip_prefix("msg:") {
            Expected::Message(message.trim().into())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Expected::Pattern(regex(pattern.trim())?)
        } else if rest.is_empty() {
            Expected::Any
        } else {
            return Err(format!("invalid expect statement {line:?}"));
        };
        match kind {
            "fail" => self.fail.push(expected),
            "warn" => self.warn.push(expected),
            "info" => self.info.push(expected),
            "no_warn" => self.no_warn = true,
            "no_info" => self.no_info = true,
            "ordered" => self.ordered = true,
            _ => return Err(format!("invalid expect statement {line:?}")),
        }
        Ok(())
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| error.to_string())
}
