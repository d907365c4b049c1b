//! `stoa query`: asks PromQL, prints a table, a chart, CSV, or the answer as it came; without an
//! expression, on a terminal, a prompt.
//!
//! What goes to standard output is the answer alone; notices and errors go to standard error. The
//! parts: [`question`] is what the arguments mean, [`answer`] what the collector says, [`mod@drawn`] one
//! as a text; [`prompt`] asks again and again.

mod answer;
mod bars;
mod caret;
mod csv;
mod drawn;
mod heatmap;
mod histogram;
mod prompt;
mod question;
pub(crate) mod when;

use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use stoa_daemon::{Misuse, unix_ms};

use self::answer::Body;
use self::drawn::{Screen, drawn};
pub(crate) use self::question::{Question, QuestionArgs};
use crate::client::{Answer, Client, ClientError, ServerArgs};
use crate::table::{printable, printable_lines};

/// The longest expression read from standard input, in bytes: what the collector takes.
const EXPR_BYTES_MAX: u64 = 1 << 20;

/// Ask the collector a PromQL question; without one, on a terminal, open a prompt
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa query                            a prompt that completes names; \\help in it says more
  stoa query 'up'
  stoa query 'sum by (mode) (rate(node_cpu_seconds_total[1m]))' --format chart
  stoa query 'rate(node_network_receive_bytes_total[1m])' --range 1h --step 15s
  stoa query 'node_load1' --from 14:00 --time 15:30 --format csv
  stoa query 'node_load1' --time '2 hours ago' --json
  echo 'up == 0' | stoa query

Times: now, 2h ago, -2h, 14:30, yesterday, 2026-01-31 14:30 (UTC unless a zone is given),
RFC 3339, seconds since 1970. Durations: 90s, 1h30m, '5 minutes', 1.5h, seconds.")]
pub(crate) struct QueryArgs {
    /// What to ask, in PromQL [default: a prompt on a terminal, else standard input]
    pub(crate) expr: Option<String>,
    /// For which time.
    #[command(flatten)]
    pub(crate) question: QuestionArgs,
    /// How to show the answer [default: chart for a range, else table]
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Print the collector's answer as it came (Prometheus's JSON): --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// The collector to ask.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns, a row per series (per sample where there are several)
    Table,
    /// Lines over time, bars at one time, a heat map of native histograms
    Chart,
    /// Comma-separated values (RFC 4180) with a header
    Csv,
    /// The collector's answer as it came: Prometheus's JSON
    Json,
}

impl QueryArgs {
    fn format(&self, question: Question) -> Format {
        match (self.format, self.json, question) {
            (Some(format), ..) => format,
            (None, true, _) => Format::Json,
            (None, false, Question::Range { .. }) => Format::Chart,
            (None, false, Question::Instant { .. }) => Format::Table,
        }
    }
}

/// Runs `stoa query`; prints to standard output, notices to standard error.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when there is no answer.
pub(crate) async fn run(args: QueryArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let expr = match &args.expr {
        Some(expr) => expr.clone(),
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => {
            return prompt::run(args, client).await;
        }
        None => expression_from_stdin()?,
    };
    ask(&client, &args, &expr).await
}

/// Asks one question and prints what comes of it.
async fn ask(client: &Client, args: &QueryArgs, expr: &str) -> anyhow::Result<()> {
    let screen = Screen::of(&std::io::stdout());
    let question = args.question.meant(unix_ms(), screen.columns)?;
    let format = args.format(question);
    let answer = asked(client, question, expr).await?;
    // An info is worth a line only to a person.
    notices(&answer, matches!(format, Format::Table | Format::Chart));
    // For programs as it is; on a terminal nothing in it may steer that.
    let raw = |text: String| if screen.is_terminal { printable_lines(&text) } else { text };
    if format == Format::Json {
        return print(&raw(answer.text + "\n"));
    }
    let body: Body = serde_json::from_str(&answer.text).context("read the answer")?;
    let text = drawn(body.data, question, expr, format, screen);
    print(&if format == Format::Csv { raw(text) } else { text })
}

async fn asked(client: &Client, question: Question, expr: &str) -> anyhow::Result<Answer> {
    let answer = client.prometheus(question.path(), &question.form(expr)).await;
    answer.map_err(|error| unanswered(error, expr))
}

/// Why a question has no answer, with the place that is named shown. Wrongly asked is only what the
/// collector cannot read: limits, time and what the samples do not allow are failures.
pub(crate) fn unanswered(error: ClientError, expr: &str) -> anyhow::Error {
    let colours = are_coloured(&std::io::stderr());
    let shown = |why: &str| {
        let place = caret::of(why, expr, colours).map(|place| format!("\n{place}"));
        printable(why) + &place.unwrap_or_default()
    };
    match error {
        ClientError::Question(why) => Misuse(shown(&why)).into(),
        ClientError::Refused(why) => ClientError::Refused(shown(&why)).into(),
        error => error.into(),
    }
}

fn notices(answer: &Answer, with_infos: bool) {
    let warnings = answer.warnings.iter().map(|text| ("warning", text));
    let infos = answer.infos.iter().filter(|_| with_infos).map(|text| ("info", text));
    for (kind, text) in warnings.chain(infos) {
        say(&format!("{kind}: {}", printable(text)));
    }
}

/// The expression on standard input, which is not a terminal.
pub(crate) fn expression_from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(EXPR_BYTES_MAX + 1);
    let read =
        input.read_to_string(&mut text).context("read the expression from standard input")?;
    if read as u64 > EXPR_BYTES_MAX {
        return Err(Misuse(format!("the expression is longer than {EXPR_BYTES_MAX} bytes")).into());
    }
    if text.trim().is_empty() {
        return Err(Misuse("give an expression, such as: stoa query 'up'".to_owned()).into());
    }
    Ok(text)
}

/// Whether colours are for this stream: a terminal whose person has not set `NO_COLOR`.
pub(crate) fn are_coloured(stream: &impl std::io::IsTerminal) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !unwanted
}

/// Prints; a reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("write to standard output"),
    }
}

#[expect(clippy::print_stderr, reason = "notices go beside the answer")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests;
