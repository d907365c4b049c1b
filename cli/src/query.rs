//! `stoa query`: asks PromQL, prints a table, a chart, or the answer as it came.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use serde::Deserialize;
use stoa_collector::http::prometheus::{duration, rfc3339, time};
use stoa_daemon::{Misuse, unix_ms};

use crate::chart::{Canvas, Line, chart};
use crate::client::{Client, ClientError, ServerArgs};
use crate::table::{Row, figure, printable, series_name, table};

/// Ask the collector a PromQL question
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa query 'up'
  stoa query 'sum by (mode) (rate(node_cpu_seconds_total[1m]))'
  stoa query 'node_load1' --time 2026-01-31T12:00:00Z --json
  stoa query 'node_load1' --time -2h
  stoa query 'rate(node_network_receive_bytes_total[1m])' --range 1h --step 15s")]
pub(crate) struct QueryArgs {
    /// What to ask, in PromQL
    pub(crate) expr: String,
    /// When: seconds since 1970, RFC 3339, or how long ago (-1h) [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) time: Option<String>,
    /// Draw a chart of this long before --time, e.g. 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) range: Option<String>,
    /// Time between two points of the chart [default: one per dot, at least 1s]
    #[arg(long, value_name = "DURATION", requires = "range")]
    pub(crate) step: Option<String>,
    /// Print the collector's answer as it came (Prometheus's JSON)
    #[arg(long)]
    pub(crate) json: bool,
    /// The collector to ask.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Runs `stoa query`; prints to standard output, notices to standard error.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when there is no answer.
pub(crate) async fn run(args: QueryArgs) -> anyhow::Result<()> {
    let out = std::io::stdout();
    let screen = Screen::of(&out);
    let question = Question::of(&args, unix_ms(), screen)?;
    let client = Client::new(&args.server)?;
    let asked = client.prometheus(question.path(), &question.form(&args.expr)).await;
    let answer = asked.map_err(|error| match error {
        ClientError::Question(why) => anyhow::Error::new(Misuse(printable(&why))),
        error => error.into(),
    })?;
    for notice in answer.warnings.iter().map(|w| ("warning", w)).chain(
        // an info is worth a line only to a person
        answer.infos.iter().filter(|_| !args.json).map(|i| ("info", i)),
    ) {
        say(&format!("{}: {}", notice.0, printable(notice.1)));
    }
    let text = if args.json {
        answer.text + "\n"
    } else {
        let body: Body = serde_json::from_str(&answer.text).context("read the answer")?;
        drawn(body.data, question, &args.expr, screen)
    };
    print(&text)
}

/// What is drawn on.
#[derive(Clone, Copy, Debug)]
struct Screen {
    columns: usize,
    rows: usize,
    colours: bool,
}

impl Screen {
    /// The terminal's size; 100 × 24 without one. Colours only on a terminal whose person has not
    /// set `NO_COLOR`.
    fn of(out: &std::io::Stdout) -> Self {
        let size = rustix::termios::tcgetwinsize(out).ok().filter(|size| size.ws_col > 0);
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (columns, rows) =
            size.map_or((100, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        Self { columns: columns.min(240), rows: rows.clamp(12, 28) - 8, colours }
    }
}

/// The question as meant, times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Instant { at: Option<i64> },
    Range { start: i64, end: i64, step: i64 },
}

impl Question {
    fn of(args: &QueryArgs, now: i64, screen: Screen) -> Result<Self, Misuse> {
        let at = args.time.as_deref().map(|text| moment(text, now)).transpose()?;
        let Some(range) = &args.range else { return Ok(Self::Instant { at }) };
        let range = span("--range", range)?;
        let step = match &args.step {
            Some(step) => span("--step", step)?,
            None => step_for(range, screen.columns),
        };
        let end = at.unwrap_or(now);
        Ok(Self::Range { start: end.saturating_sub(range), end, step })
    }

    fn path(self) -> &'static str {
        match self {
            Self::Instant { .. } => "/api/v1/query",
            Self::Range { .. } => "/api/v1/query_range",
        }
    }

    fn form(self, expr: &str) -> Vec<(&'static str, String)> {
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

fn moment(text: &str, now: i64) -> Result<i64, Misuse> {
    if let Some(ago) = text.strip_prefix('-')
        && let Ok(ago) = duration(ago)
        && ago >= 0
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
    {
        return Ok(now.saturating_sub(ago));
    }
    time(text).map_err(|error| Misuse(format!("--time: {error}")))
}

fn span(flag: &str, text: &str) -> Result<i64, Misuse> {
    let millis = duration(text).map_err(|error| Misuse(format!("{flag}: {error}")))?;
    if millis > 0 { Ok(millis) } else { Err(Misuse(format!("{flag}: {text:?} is not above zero"))) }
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

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<Instant>),
    Matrix(Vec<Range>),
}

#[derive(Deserialize)]
struct Instant {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

#[derive(Deserialize)]
struct Range {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

fn drawn(data: Data, question: Question, expr: &str, screen: Screen) -> String {
    match (data, question) {
        (Data::Scalar((_, value)) | Data::String((_, value)), _) => printable(&value) + "\n",
        (Data::Vector(list), _) => {
            let row = |item: Instant| Row { labels: item.metric, value: figure(&item.value.1) };
            let rows: Vec<Row> = list.into_iter().map(row).collect();
            table(&rows, screen.colours)
        }
        (Data::Matrix(list), Question::Range { start, end, step }) => {
            if list.is_empty() {
                return "no series match\n".to_owned();
            }
            let lines: Vec<Line> = list.into_iter().map(|item| line(item, expr)).collect();
            let canvas =
                Canvas { columns: screen.columns, rows: screen.rows, colours: screen.colours };
            chart(&lines, start, end, step, canvas)
        }
        (Data::Matrix(list), Question::Instant { .. }) => samples(list, screen),
    }
}

/// A line without labels is named by what was asked.
fn line(item: Range, expr: &str) -> Line {
    let points = item.values.iter().map(|(t, value)| (millis(*t), number(value))).collect();
    let name = if item.metric.is_empty() { printable(expr) } else { series_name(&item.metric) };
    Line { name, points }
}

/// A range selector asked at one instant: every sample with its time.
fn samples(list: Vec<Range>, screen: Screen) -> String {
    let mut rows = Vec::new();
    for item in list {
        for (t, value) in item.values {
            let value = format!("{} @ {}", figure(&value), rfc3339(millis(t)));
            rows.push(Row { labels: item.metric.clone(), value });
        }
    }
    table(&rows, screen.colours)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time the collector printed fits; as saturates"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
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
