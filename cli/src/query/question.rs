//! For which time something is asked: one instant, or a range in steps.

use stoa_daemon::Misuse;

use super::when::{moment, span};

/// The arguments that say for which time.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct QuestionArgs {
    /// When, and where a range ends [default: now]
    #[arg(
        long,
        short = 't',
        visible_alias = "to",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub(crate) time: Option<String>,
    /// Ask for this long before --time, e.g. 1h
    #[arg(long, short = 'r', value_name = "DURATION")]
    pub(crate) range: Option<String>,
    /// Ask from here to --time
    #[arg(long, value_name = "TIME", conflicts_with = "range", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Time between two points of a range [default: one per dot of a chart, at least 1s]
    #[arg(long, short = 's', value_name = "DURATION")]
    pub(crate) step: Option<String>,
}

/// The question as meant, times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// At one time; now where it is not said.
    Instant {
        /// When.
        at: Option<i64>,
    },
    /// From start to end, both included.
    Range {
        /// The first time.
        start: i64,
        /// The last it may be.
        end: i64,
        /// From one to the next.
        step: i64,
    },
}

impl QuestionArgs {
    /// What is meant by them now, on a screen of so many columns.
    ///
    /// # Errors
    /// [`Misuse`], naming the flag.
    pub(crate) fn meant(&self, now: i64, columns: usize) -> Result<Question, Misuse> {
        let at = self.time.as_deref().map(|text| moment("--time", text, now)).transpose()?;
        let end = at.unwrap_or(now);
        let start = match (&self.range, &self.from) {
            (Some(range), _) => end.saturating_sub(span("--range", range)?),
            (None, Some(from)) => moment("--from", from, now)?,
            (None, None) if self.step.is_some() => {
                return Err(Misuse("--step needs --range or --from".to_owned()));
            }
            (None, None) => return Ok(Question::Instant { at }),
        };
        if start >= end {
            return Err(Misuse("--from is not before --time".to_owned()));
        }
        let step = match &self.step {
            Some(step) => span("--step", step)?,
            None => step_for(end - start, columns),
        };
        Ok(Question::Range { start, end, step })
    }
}

impl Question {
    /// Prometheus's route for it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Instant { .. } => "/api/v1/query",
            Self::Range { .. } => "/api/v1/query_range",
        }
    }

    /// The form for that route.
    pub(crate) fn form(self, expr: &str) -> Vec<(&'static str, String)> {
        let mut form = vec![("query", expr.to_owned())];
        match self {
            Self::Instant { at } => form.extend(at.map(|at| ("time", seconds(at)))),
            Self::Range { start, end, step } => form.extend([
                ("start", seconds(start)),
                ("end", seconds(end)),
                ("step", seconds(step)),
            ]),
        }
        form
    }
}

/// A point per dot, in whole seconds.
fn step_for(range: i64, columns: usize) -> i64 {
    let dots = i64::try_from(columns).unwrap_or(100) * 2;
    (range / dots / 1000).max(1) * 1000
}

fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        question: QuestionArgs,
    }

    /// 2023-11-14T22:13:20Z
    const NOW: i64 = 1_700_000_000_000;

    fn question(arguments: &[&str]) -> Result<Question, String> {
        let cli = Cli::try_parse_from([&["query"], arguments].concat())
            .map_err(|error| error.kind().to_string())?;
        cli.question.meant(NOW, 40).map_err(|misuse| misuse.to_string())
    }

    #[test]
    fn arguments_become_a_question() {
        let range = |start, end, step| Ok(Question::Range { start, end, step });
        let instant = |at| Ok(Question::Instant { at });
        let wrong = |text: &str| Err(text.to_owned());
        for (arguments, want) in [
            (&[][..], instant(None)),
            (&["--time", "4"], instant(Some(4000))),
            (&["--time", "-2h"], instant(Some(NOW - 7_200_000))),
            (&["-t", "2 hours ago"], instant(Some(NOW - 7_200_000))),
            (&["--time", "2023-11-14T22:13:20Z"], instant(Some(NOW))),
            (&["--range", "1h", "--step", "15s"], range(NOW - 3_600_000, NOW, 15_000)),
            (&["-r", "1 hour", "-s", "1 minute"], range(NOW - 3_600_000, NOW, 60_000)),
            (&["--range", "1h"], range(NOW - 3_600_000, NOW, 45_000)),
            (&["--range", "10s"], range(NOW - 10_000, NOW, 1000)),
            (&["--range", "1m", "--time", "-1d"], range(NOW - 86_460_000, NOW - 86_400_000, 1000)),
            (&["--from", "22:12:20"], range(NOW - 60_000, NOW, 1000)),
            (&["--from", "10", "--to", "90"], range(10_000, 90_000, 1000)),
            (&["--from", "90", "--to", "10"], wrong("--from is not before --time")),
            (
                &["--time", "noon"],
                wrong(
                    "--time: \"noon\" is no time; such are: 14:30, yesterday, 2h ago, 2026-01-31 14:30, 2026-01-31T14:30:00Z, 1769869800",
                ),
            ),
            (&["--range", "0"], wrong("--range: \"0\" is not above zero")),
            (
                &["--range", "x"],
                wrong("--range: \"x\" is no duration; such are: 90s, 1h30m, 5 minutes"),
            ),
            (&["--range=1h", "--step=-1"], wrong("--step: \"-1\" is not above zero")),
            (&["--step", "1s"], wrong("--step needs --range or --from")),
        ] {
            assert_eq!(question(arguments), want, "{arguments:?}");
        }
    }

    #[test]
    fn a_question_is_sent_in_seconds() {
        let form = Question::Range { start: -1500, end: 0, step: 250 }.form("up");
        let values: Vec<&str> = form.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["up", "-1.500", "0.000", "0.250"]);
    }
}
