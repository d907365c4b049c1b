//! `stoa bench ingest`: the store alone, in this process, in virtual time.
//!
//! No network, no collector: what an append costs, what the log takes, what a series takes in
//! memory, how fast a start after it is, and what blocks take on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::cost::Cost;
use super::fill::{self, BEGIN_MS, Compacted, Filler};
use super::load::{Asked, Load, Names, millis, ticks_in};
use super::report::{self, Report, megabytes};
use super::{Stop, Teller, interval};
use crate::table::counted;

/// Virtual time between two maintenances.
const MAINTAIN_MS: i64 = 60_000;

/// How many hosts, how long.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct IngestArgs {
    /// A recording made with `stoa record`; without one, hosts are made up
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Hosts
    #[arg(long, value_name = "HOSTS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=2000))]
    hosts: u16,
    /// Series of each, when made up
    #[arg(long, value_name = "SERIES", default_value_t = 550, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    series: u16,
    /// Between two readings of a host
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Virtual time, run as fast as it goes
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_080))]
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
pub(super) fn measure(args: IngestArgs, dir: &Path, stop: &Stop) -> anyhow::Result<Outcome> {
    let load = Load::open(&Asked {
        corpus: args.corpus,
        hosts: args.hosts,
        names: Names::MadeUp(args.series),
        interval: args.interval,
        ticks: ticks_in(args.minutes, args.interval)?,
        seed: args.seed,
    })?;
    let dir = dir.join("store");
    let own = std::process::id();
    let mut filler = Filler::open(&dir, &load)?;
    let before = Cost::of(own)?;
    let interval_ms = i64::try_from(millis(load.interval))?;
    let began = Instant::now();
    let mut teller = Teller::new(load.ticks);
    let (mut wal_bytes, mut wal_seen, mut maintained) = (0, 0, BEGIN_MS);
    let mut t = BEGIN_MS;
    for number in 0..load.ticks {
        filler.tick(t)?;
        if t - maintained >= MAINTAIN_MS {
            wal_bytes += filler.stats().log_bytes.saturating_sub(wal_seen);
            filler.maintain(t)?;
            wal_seen = filler.stats().log_bytes;
            maintained = t;
        }
        stop.check()?;
        teller.tell(number, || format!("{} samples", filler.samples));
        t += interval_ms;
    }
    let wall = began.elapsed();
    let stats = filler.stats();
    wal_bytes += stats.log_bytes.saturating_sub(wal_seen);
    let after = Cost::of(own)?;
    let samples = filler.samples;
    let (append_cpu, sync_cpu) = (filler.append_cpu, filler.sync_cpu);
    filler.into_db().close()?;

    super::say("starting again");
    let began = Instant::now();
    let db = fill::open(&dir)?;
    let restart = began.elapsed();
    let restart_samples = db.stats().head_samples;
    anyhow::ensure!(restart_samples == stats.head_samples, "a start has lost samples");
    stop.check()?;
    super::say("compacting");
    let disk = fill::compact(&db, t)?;
    drop(db);
    let began = Instant::now();
    drop(fill::open(&dir)?);
    let restart_compacted = began.elapsed();

    let per_sample = |cpu: Duration| cpu.as_secs_f64() * 1e9 / samples.max(1) as f64;
    Ok(Outcome {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: load.interval.as_secs_f64(),
        virtual_minutes: (load.interval.as_secs_f64() * load.ticks as f64) / 60.0,
        samples,
        wall_s: wall.as_secs_f64(),
        append_cpu_ns_per_sample: per_sample(append_cpu),
        sync_cpu_ns_per_sample: per_sample(sync_cpu),
        samples_per_s_and_core: 1e9 / per_sample(append_cpu + sync_cpu).max(1e-9),
        wal_bytes_per_sample: wal_bytes as f64 / samples.max(1) as f64,
        rss_bytes: after.rss_bytes.saturating_sub(before.rss_bytes),
        rss_bytes_per_series: after.rss_bytes.saturating_sub(before.rss_bytes) as f64
            / load.all_series() as f64,
        open_samples_per_series: stats.head_samples as f64 / stats.series.max(1) as f64,
        restart_ms: restart.as_secs_f64() * 1e3,
        restart_samples,
        restart_compacted_ms: restart_compacted.as_secs_f64() * 1e3,
        disk,
    })
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    virtual_minutes: f64,
    samples: u64,
    /// With the making up of readings and the disk.
    wall_s: f64,
    append_cpu_ns_per_sample: f64,
    sync_cpu_ns_per_sample: f64,
    samples_per_s_and_core: f64,
    wal_bytes_per_sample: f64,
    /// By which this process has grown.
    rss_bytes: u64,
    rss_bytes_per_series: f64,
    open_samples_per_series: f64,
    restart_ms: f64,
    restart_samples: u64,
    restart_compacted_ms: f64,
    disk: Compacted,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let goal = |figure: f64, most: f64, unit: &str| report::goal(figure, most, unit);
        let cpu_us = (self.append_cpu_ns_per_sample + self.sync_cpu_ns_per_sample) / 1e3;
        vec![
            ("readings", self.readings.clone()),
            (
                "load",
                format!(
                    "{} of {} series every {} s, {:.0} min of virtual time: {} samples in {:.1} s",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.virtual_minutes,
                    self.samples,
                    self.wall_s,
                ),
            ),
            (
                "CPU",
                format!(
                    "{:.0} ns/sample of append, {:.0} of sync ({}); {:.2} million samples/s and core",
                    self.append_cpu_ns_per_sample,
                    self.sync_cpu_ns_per_sample,
                    goal(cpu_us, 0.4, "µs"),
                    self.samples_per_s_and_core / 1e6,
                ),
            ),
            (
                "log",
                format!(
                    "{:.2} B/sample ({})",
                    self.wal_bytes_per_sample,
                    goal(self.wal_bytes_per_sample, 2.5, "B")
                ),
            ),
            (
                "memory",
                format!(
                    "{} more than before, {:.0} B/series ({}) with {:.0} samples of each in the head",
                    megabytes(self.rss_bytes),
                    self.rss_bytes_per_series,
                    goal(self.rss_bytes_per_series, 900.0, "B"),
                    self.open_samples_per_series,
                ),
            ),
            (
                "start again",
                format!(
                    "{:.0} ms with {} samples in the log, {:.0} ms after compaction",
                    self.restart_ms, self.restart_samples, self.restart_compacted_ms
                ),
            ),
            ("disk, blocks cut", self.disk.cut.said()),
            ("disk, compacted", self.disk.compacted.said()),
            (
                "cutting and compacting",
                format!(
                    "{:.0} ns/sample of CPU",
                    self.disk.cpu_s * 1e9 / self.samples.max(1) as f64
                ),
            ),
        ]
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
