//! What the prompt does besides asking: lines that begin with a backslash.

use rustyline::completion::Pair;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Quit,
    /// Say how questions are asked now.
    Show,
    /// For how long before the time; none for one instant.
    Range(Option<String>),
    /// From one point to the next.
    Step(Option<String>),
    /// At which time; none for now.
    Time(Option<String>),
    /// How answers are shown.
    Format(Option<String>),
}

const NAMES: [&str; 7] = ["\\format", "\\help", "\\quit", "\\range", "\\show", "\\step", "\\time"];

pub(super) const HELP: &str = "\
An expression in PromQL is asked when you press Enter; one with something open goes on in the
next line, an empty line ends it. Tab completes metrics, labels, values, functions. Ctrl-C ends
the line or the question, Ctrl-D the prompt; arrows and Ctrl-R find what was asked before.

  rate(node_cpu_seconds_total{mode=\"idle\"}[5m])
  \\range 1h            ask over the last hour and draw a chart; \\range alone: at one time again
  \\step 1m             time between two points; \\step alone: one per dot
  \\time 2h ago         when to ask, or where the range ends; \\time alone: now
  \\format csv          table, chart, csv or json; \\format alone: what fits
  \\show                how questions are asked now
  \\quit
";

/// The command a line is, if it begins with a backslash.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parsed(line: &str) -> Option<Result<Command, String>> {
    let text = line.trim().strip_prefix('\\')?;
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let value = Some(rest.to_owned()).filter(|text| !text.is_empty() && text != "off");
    Some(Ok(match name {
        "help" | "h" | "?" => Command::Help,
        "quit" | "q" | "exit" => Command::Quit,
        "show" => Command::Show,
        "range" | "r" => Command::Range(value),
        "step" | "s" => Command::Step(value),
        "time" | "t" => Command::Time(value),
        "format" | "f" => Command::Format(value),
        _ => return Some(Err(format!("there is no \\{name}; \\help says what there is"))),
    }))
}

/// Commands that begin with what is written, if it is one.
pub(super) fn completed(text: &str) -> Option<(usize, Vec<Pair>)> {
    if !text.starts_with('\\') || text.contains(char::is_whitespace) {
        return None;
    }
    let names = NAMES.iter().filter(|name| name.starts_with(text));
    let pair = |name: &&str| Pair { display: (*name).to_owned(), replacement: format!("{name} ") };
    Some((0, names.map(pair).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_backslash_are_commands() {
        let some = |text: &str| Some(text.to_owned());
        let error = |text: &str| Some(Err(text.to_owned()));
        for (line, want) in [
            ("up", None),
            ("\\help", Some(Ok(Command::Help))),
            (" \\q ", Some(Ok(Command::Quit))),
            ("\\range 1h", Some(Ok(Command::Range(some("1h"))))),
            ("\\range", Some(Ok(Command::Range(None)))),
            ("\\range off", Some(Ok(Command::Range(None)))),
            ("\\time 2h ago", Some(Ok(Command::Time(some("2h ago"))))),
            ("\\drop", error("there is no \\drop; \\help says what there is")),
        ] {
            assert_eq!(parsed(line), want, "{line:?}");
        }
    }
}
