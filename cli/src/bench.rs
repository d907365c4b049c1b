//! `stoa bench`: what Stoa costs and bears, measured; `docs/performance.md` says how.
//!
//! Where a collector is measured it is a process of its own (`stoa up --no-agent`), so that
//! the kernel says what it costs; it is reached over its real ports, with real tokens and certificates. Everything is kept
//! below one scratch directory, which goes when the bench ends, however it ends.

mod agent;
mod agents;
mod asker;
mod child;
mod collector;
mod compare;
mod compress;
mod cost;
mod fill;
mod ingest;
mod latency;
mod load;
mod query;
mod report;
mod simulated;
mod sources;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::{Args, Subcommand};
use stoa_collector::http::prometheus::duration;
use stoa_daemon::{Misuse, signal};
use tokio::time::Instant;

use report::Report;

/// Measures agents, a collector and its store on this machine
#[derive(Debug, Args)]
#[command(after_help = "Example: stoa bench ingest --hosts 200 --minutes 30")]
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
    /// What each of the agent's sources costs on this machine
    #[command(after_help = "Example: stoa bench sources --all")]
    Sources(sources::SourcesArgs),
    /// The store alone: CPU and memory of taking samples in, log, disk, start
    #[command(after_help = "Example: stoa bench ingest --hosts 200 --minutes 30")]
    Ingest(ingest::IngestArgs),
    /// The store alone: bytes per sample on disk, at 1 s and at 10 s
    #[command(after_help = "Example: stoa bench compress --corpus host.corpus")]
    Compress(compress::CompressArgs),
    /// Remote write in: Stoa, and Prometheus and VictoriaMetrics where they are installed, given the
    /// same bodies
    #[command(after_help = "Example: stoa bench write --hosts 330 --series 550")]
    Write(compare::write::WriteArgs),
    /// History brought in: `stoa import`, promtool and VictoriaMetrics on the same history
    #[command(after_help = "Example: stoa bench import --hosts 20")]
    Import(compare::import::ImportArgs),
    /// A collector with a day of samples: a dashboard's queries, single series, scan speed
    #[command(after_help = "Example: stoa bench query --dashboard node-exporter-full.json")]
    Query(query::QueryArgs),
    /// Stoa beside Prometheus and VictoriaMetrics, where they are installed, on the same readings
    #[command(after_help = "Example: stoa bench compare --minutes 3")]
    Compare(compare::CompareArgs),
    /// All figures that have a goal, side by side, in one table
    ///
    /// Runs the other benches one after another with sizes for a machine of two cores: some nine
    /// minutes. A part that fails says why below the table, and the rest goes on.
    #[command(after_help = "Example: stoa bench figures --json > figures.json")]
    Figures(compare::figures::FiguresArgs),
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
    // Fails only when there is one already, which is as good.
    let _already = rustls::crypto::ring::default_provider().install_default();
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
            BenchCommand::Sources(args) => {
                let json = args.json;
                let measured = apart(dir, move |_dir, stop| sources::measure(&args, stop));
                (Box::new(measured.await?), json)
            }
            BenchCommand::Ingest(args) => {
                let json = args.json;
                (Box::new(ingest::measure(args, dir).await?), json)
            }
            BenchCommand::Query(args) => {
                let json = args.json;
                (Box::new(query::measure(args, dir).await?), json)
            }
            BenchCommand::Compare(args) => {
                let json = args.json;
                (Box::new(compare::measure(args, dir).await?), json)
            }
            BenchCommand::Write(args) => {
                (Box::new(compare::write::run(&args, dir).await?), args.json)
            }
            BenchCommand::Import(args) => {
                (Box::new(compare::import::run(&args, dir).await?), args.json)
            }
            BenchCommand::Figures(args) => {
                let json = args.json;
                (Box::new(compare::figures::measure(args, dir).await?), json)
            }
            BenchCommand::Compress(args) => {
                let json = args.json;
                let measured = apart(dir, move |dir, stop| compress::measure(&args, dir, stop));
                (Box::new(measured.await?), json)
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

/// Tells work on a thread of its own that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error when it is to end.
    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.0.load(Relaxed), "stopped before the end");
        Ok(())
    }
}

/// Sets it when dropped.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Relaxed);
    }
}

/// Does work that blocks on a thread of its own, and ends it when it is not waited for any more.
async fn apart<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce(&Path, &Stop) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (dir, stop) = (dir.to_owned(), Stop::default());
    let _stopped = StopOnDrop(stop.clone());
    tokio::task::spawn_blocking(move || work(&dir, &stop)).await?
}

/// Tells how far work has come, now and then.
struct Teller {
    of: u64,
    began: Instant,
    told: Instant,
}

impl Teller {
    /// Work of so many steps.
    fn new(of: u64) -> Self {
        let now = Instant::now();
        Self { of, began: now, told: now }
    }

    fn tell(&mut self, step: u64, what: impl FnOnce() -> String) {
        if self.told.elapsed() < Duration::from_secs(2) {
            return;
        }
        self.told = Instant::now();
        let part = (step + 1) as f64 / self.of.max(1) as f64;
        let left_s = self.began.elapsed().as_secs_f64() * (1.0 / part.max(1e-6) - 1.0);
        say(&format!("{:3.0} %, about {left_s:.0} s left: {}", part * 100.0, what()));
    }
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

/// Between two readings, from a text.
///
/// # Errors
/// [`Misuse`] when it is none, or out of bounds.
pub(crate) fn interval(text: &str) -> Result<Duration, Misuse> {
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
