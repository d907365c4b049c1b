//! `stoa bench compare`: Stoa beside Prometheus and VictoriaMetrics, on the same readings.
//!
//! Two parts. *Live*: hosts run in real time; their agents' streams go to Stoa, and a server shows
//! the same readings as pages, which the others scrape. *A day*: each holds the same day, written
//! by its own way in, and answers a dashboard's queries. All of them run on this machine and share
//! its cores: CPU time is compared, not throughput. Whoever is not installed is left out.

mod day;
pub(super) mod figures;
mod goals;
pub(super) mod import;
mod lines;
mod live;
mod peer;
mod replay;
mod table;
mod text;
pub(super) mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::asker::queries;
use super::load::{Asked, Names, ticks_in};
use super::report::{self, Report};
use super::{interval, say};
use day::Day;
use live::Live;
use peer::Kind;

/// What is compared, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// A recording made with `stoa record`; without one, values are made up for the series that
    /// this machine's own sources give
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Hosts of the live part
    #[arg(long, value_name = "HOSTS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    hosts: u16,
    /// Between two readings of a live host
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// How long the live part is measured; 0 leaves it out
    #[arg(long, value_name = "MINUTES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1440))]
    minutes: u32,
    /// Hours of the second part; 0 leaves it out
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=168))]
    hours: u32,
    /// Hosts of the second part
    #[arg(long, value_name = "HOSTS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    day_hosts: u16,
    /// Between two readings of the second part
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = interval)]
    day_interval: Duration,
    /// Grafana dashboard to take the queries from [default: Node Exporter Full in the test data
    /// at `$STOA_CONFORMANCE_DATA`]
    #[arg(long, value_name = "FILE")]
    dashboard: Option<PathBuf>,
    /// What made-up values follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The programs that are there; who is not is said.
fn find_peers() -> Vec<Found> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        match kind.program() {
            Some(program) => {
                let version = kind.version(&program);
                found.push(Found { kind, program, version });
            }
            None => say(&format!("{} is not installed: left out", kind.name())),
        }
    }
    found
}

/// Stoa's version, and theirs.
fn versions(found: &[Found]) -> Vec<String> {
    let theirs = found.iter().map(|one| format!("{} {}", one.kind.name(), one.version));
    [format!("Stoa {}", env!("CARGO_PKG_VERSION"))].into_iter().chain(theirs).collect()
}

/// A program that is there.
#[derive(Clone, Debug)]
struct Found {
    kind: Kind,
    program: PathBuf,
    version: String,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(args: CompareArgs, dir: &Path) -> anyhow::Result<Outcome> {
    let found = find_peers();
    let live = match args.minutes {
        0 => None,
        _ => Some(live::measure(&args, &found, &dir.join("live")).await?),
    };
    let day = match args.hours {
        0 => None,
        _ => {
            let queries = queries(args.dashboard.as_deref(), 0)?.unwrap_or_default();
            if queries.is_empty() {
                say("no dashboard: name one with --dashboard, or set STOA_CONFORMANCE_DATA");
            }
            let asked = args.asked_of_day()?;
            Some(day::measure(asked, Some(&queries), &found, &dir.join("day")).await?)
        }
    };
    Ok(Outcome { versions: versions(&found), live, day })
}

impl CompareArgs {
    /// The readings of the second part.
    fn asked_of_day(&self) -> anyhow::Result<Asked> {
        Ok(Asked {
            corpus: self.corpus.clone(),
            hosts: self.day_hosts,
            names: Names::OfThisMachine,
            interval: self.day_interval,
            ticks: ticks_in(self.hours * 60, self.day_interval)?,
            seed: self.seed,
        })
    }
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    versions: Vec<String>,
    live: Option<Live>,
    day: Option<Day>,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("versions", self.versions.join(", "))];
        if let Some(live) = &self.live {
            rows.push(("", String::new()));
            rows.extend(live.rows());
        }
        if let Some(day) = &self.day {
            rows.push(("", String::new()));
            rows.extend(day.rows());
        }
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
