//! `stoa explain`: what a query reads and may cost, as a tree, and what it took.
//!
//! What goes to standard output is the explanation alone; notices and errors go to standard error. The
//! collector's answer is material from the network: its text is printed with what steers a terminal escaped.

mod answer;
mod tree;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use stoa_daemon::unix_ms;

use self::answer::Body;
use crate::client::{Client, ClientError, ServerArgs};
use crate::query::{QuestionArgs, expression_from_stdin, print, say, unanswered};
use crate::table::{printable, printable_lines};

/// Steps of a range that names none: those of a chart on a usual screen.
const COLUMNS: usize = 100;

/// Show what a PromQL query reads, what it may cost, and what it took
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa explain 'sum by (mode) (rate(node_cpu_seconds_total[5m]))'
  stoa explain 'avg_over_time(node_load1[1h])' --range 30d --step 1h
  stoa explain 'node_load1' --dry              only what it would read; runs nothing
  stoa explain 'node_load1' --json

What it reads is found in indexes, without reading any of it; samples are an estimate where a
chunk reaches beyond the time asked for. Times and durations are written as for stoa query.")]
pub(crate) struct ExplainArgs {
    /// The query, in PromQL [default: standard input]
    expr: Option<String>,
    /// For which time.
    #[command(flatten)]
    question: QuestionArgs,
    /// Do not run it: only what it would read
    #[arg(long)]
    dry: bool,
    /// Print the collector's answer as it came
    #[arg(long)]
    json: bool,
    /// The collector to ask.
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs `stoa explain`; prints to standard output, notices to standard error.
///
/// # Errors
/// With [`stoa_daemon::Misuse`] in the chain when an argument or the query is wrong; else when there is no
/// answer.
pub(crate) async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let expr = match args.expr {
        Some(expr) => expr,
        None => expression_from_stdin()?,
    };
    let question = args.question.meant(unix_ms(), COLUMNS)?;
    let mut form = question.form(&expr);
    form.push(("dry", args.dry.to_string()));
    let answer = client.prometheus("/stoa/api/v1/explain", &form).await;
    let answer = answer.map_err(|error| {
        let is_of_run = matches!(error, ClientError::Refused(_)) && !args.dry;
        let error = unanswered(error, &expr);
        if !is_of_run {
            return error;
        }
        error.context("the run was refused; --dry tells what it would read")
    })?;
    let infos = answer.infos.iter().filter(|_| !args.json).map(|text| ("info", text));
    for (kind, text) in answer.warnings.iter().map(|text| ("warning", text)).chain(infos) {
        say(&format!("{kind}: {}", printable(text)));
    }
    if args.json {
        let text = answer.text + "\n";
        let is_terminal = std::io::stdout().is_terminal();
        return print(&if is_terminal { printable_lines(&text) } else { text });
    }
    let body: Body = serde_json::from_str(&answer.text).context("read the answer")?;
    print(&tree::drawn(&body.data, &expr))
}
