//! `stoa bench compress`: what a sample takes on disk, when read every second and every ten.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::fill::{self, BEGIN_MS, Compacted};
use super::load::{Asked, Load, Names, ticks_in};
use super::report::{self, Report};
use super::{Stop, Teller};

/// The intervals, and what a sample may take at each at most after compaction, bytes.
const INTERVALS: [(u64, f64); 2] = [(1, 0.45), (10, 0.65)];

/// What is compressed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CompressArgs {
    /// A recording at 1 s made with `stoa record`; without one, hosts are made up
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Hosts; more than one replica of a corpus says nothing more
    #[arg(long, value_name = "HOSTS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=200))]
    hosts: u16,
    /// Series of each, when made up
    #[arg(long, value_name = "SERIES", default_value_t = 550, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    series: u16,
    /// Virtual time; a corpus that is shorter shortens it
    #[arg(long, value_name = "MINUTES", default_value_t = 480, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    minutes: u32,
    /// What made-up values follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When the store does not take it, or `stop` is set.
pub(super) fn measure(args: &CompressArgs, dir: &Path, stop: &Stop) -> anyhow::Result<Outcome> {
    let mut readings = String::new();
    let mut at = Vec::new();
    for (interval_s, goal) in INTERVALS {
        let interval = Duration::from_secs(interval_s);
        let load = Load::open(&Asked {
            corpus: args.corpus.clone(),
            hosts: args.hosts,
            names: Names::MadeUp(args.series),
            interval,
            ticks: ticks_in(args.minutes, interval)?,
            seed: args.seed,
        })?;
        readings = load.said();
        let ms = i64::try_from(load.ticks * interval_s * 1000)?;
        let (dir, end_ms) = (dir.join(format!("every-{interval_s}")), BEGIN_MS + ms);
        let mut teller = Teller::new(load.ticks);
        fill::backfill(&dir, &load, end_ms, &mut |number| {
            teller.tell(number, || format!("every {interval_s} s"));
            stop.check()
        })?;
        let db = fill::open(&dir)?;
        let disk = fill::compact(&db, end_ms)?;
        drop(db);
        std::fs::remove_dir_all(&dir)?;
        let virtual_minutes = load.ticks as f64 * interval.as_secs_f64() / 60.0;
        at.push(At { interval_s, goal, series: load.all_series(), virtual_minutes, disk });
    }
    Ok(Outcome { readings, at })
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    readings: String,
    at: Vec<At>,
}

#[derive(Debug, Serialize)]
struct At {
    interval_s: u64,
    #[serde(rename = "goal_bytes_per_sample")]
    goal: f64,
    series: usize,
    virtual_minutes: f64,
    disk: Compacted,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("readings", self.readings.clone())];
        for at in &self.at {
            let title = if at.interval_s == 1 { "every second" } else { "every 10 s" };
            let disk = &at.disk;
            let per_sample = disk.compacted.bytes_per_sample;
            rows.push((
                title,
                format!(
                    "{} series, {:.0} min, {} samples",
                    at.series, at.virtual_minutes, disk.compacted.samples
                ),
            ));
            rows.push(("  blocks cut", disk.cut.said()));
            rows.push((
                "  compacted",
                format!("{} ({})", disk.compacted.said(), report::goal(per_sample, at.goal, "B")),
            ));
        }
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
