//! `stoa bench`: what Stoa costs and bears, measured on real processes.
//!
//! The collector is a process of its own (`stoa up --no-agent`), so that the kernel says what it
//! costs; it is reached over its real ports, with real tokens and certificates. Everything is kept
//! below one scratch directory, which goes when the bench ends, however it ends.

mod agent;
mod agents;
mod child;
mod collector;
mod cost;
mod latency;
mod report;
mod simulated;

use std::time::Duration;

use clap::{Args, Subcommand};
use stoa_collector::http::prometheus::duration;
use stoa_daemon::{Misuse, signal};

use report::Report;

/// Measures agents and a collector on this machine
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Many simulated hosts against a real collector: does it hold, and at what cost
    ///
    /// Each host joins, has its own certificate, connection and spool, and speaks the real
    /// protocol; only its readings are made up. All of them run in this process.
    #[command(after_help = "Example: stoa bench agents --count 200 --series 550")]
    Agents(agents::AgentsArgs),
    /// The real agent of this machine against a real collector: what it costs, and how fast a
    /// reading can be queried
    #[command(after_help = "Example: stoa bench agent --seconds 60")]
    Agent(agent::AgentArgs),
}

/// How long, and how to say it.
#[derive(Clone, Debug, Args)]
struct Run {
    /// How long to measure, after a warm-up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(4..=3600))]
    seconds: u32,
    /// How often a host is read, 100ms to 1m
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `stoa bench`.
///
/// # Errors
/// When something did not start or the bench was stopped before its end.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<()> {
    let scratch = tempfile::Builder::new().prefix("stoa-bench-").tempdir()?;
    let dir = scratch.path();
    let measured = async {
        let (report, json): (Box<dyn Report>, bool) = match args.command {
            BenchCommand::Agents(args) => {
                let json = args.run.json;
                (Box::new(agents::measure(args, dir).await?), json)
            }
            BenchCommand::Agent(args) => {
                let json = args.run.json;
                (Box::new(agent::measure(args, dir).await?), json)
            }
        };
        let text = if json { report.json()? } else { report::table(&report.rows()) };
        crate::query::print(&text)
    };
    // Dropping what is measured ends its tasks and its children.
    let outcome = tokio::select! {
        outcome = measured => outcome,
        why = signal::stop() => Err(anyhow::anyhow!("stopped by {} before the end, no figures", why?)),
    };
    remove(scratch).await;
    outcome
}

/// Tasks cut off may still write a last file; so more than once.
async fn remove(scratch: tempfile::TempDir) {
    let path = scratch.path().to_path_buf();
    for _ in 0..20 {
        if std::fs::remove_dir_all(&path).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(scratch);
}

fn interval(text: &str) -> Result<Duration, Misuse> {
    let ms = duration(text).map_err(|error| Misuse(error.to_string()))?;
    match u64::try_from(ms) {
        Ok(ms @ 100..=60_000) => Ok(Duration::from_millis(ms)),
        _ => Err(Misuse(format!("{text:?} is not between 100ms and 1m"))),
    }
}

#[expect(clippy::print_stderr, reason = "progress goes beside the figures")]
fn say(text: &str) {
    eprintln!("{text}");
}
