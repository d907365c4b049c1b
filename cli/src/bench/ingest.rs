//! `stoa bench ingest`: the store alone, in this process, in virtual time.
//!
//! No network: what an append costs, what the log takes, what a series takes in
//! memory, how fast a start after it is, also of a collector, and what blocks take on disk.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stoa_daemon::unix_ms;
use stoa_model::TimestampMs;
use tokio::time::Instant;

use super::collector::{Collector, store_dir};
use super::cost::Cost;
use super::fill::{self, Compacted, Filler};
use super::load::{Load, Readings, millis, ticks_in};
use super::report::{self, Report, megabytes};
use super::{Stop, Teller, apart, interval};
use crate::table::counted;

/// Virtual time between two maintenances.
const MAINTAIN_MS: i64 = 60_000;

/// How many hosts, how long.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct IngestArgs {
    /// Hosts
    #[arg(long, value_name = "HOSTS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(super) hosts: u16,
    /// Between two readings of a host
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub(super) interval: Duration,
    /// Virtual time, run as fast as it goes
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    pub(super) minutes: u32,
    #[command(flatten)]
    pub(super) readings: Readings,
    /// Print the figures as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When the store or a collector does not take it.
pub(super) async fn measure(args: IngestArgs, dir: &Path) -> anyhow::Result<Outcome> {
    let store = store_dir(dir);
    let filled = apart(&store, move |store, stop| fill(args, store, stop)).await?;
    let collector = start_collector(dir).await?;
    apart(&store, move |store, stop| compacted(filled, collector, store, stop)).await
}

/// A store that has taken everything, closed, and was opened once since.
struct Filled {
    end_ms: TimestampMs,
    /// What it came to; what follows is not in it yet.
    outcome: Outcome,
}

fn fill(args: IngestArgs, dir: &Path, stop: &Stop) -> anyhow::Result<Filled> {
    let ticks = ticks_in(args.minutes, args.interval)?;
    let load = Load::open(&args.readings.asked(args.hosts, args.interval, ticks))?;
    let own = std::process::id();
    let mut filler = Filler::open(dir, &load)?;
    let before = Cost::of(own)?;
    let interval_ms = i64::try_from(millis(load.interval))?;
    // Just before now, so that a collector takes it for what it has taken in itself; from the begin
    // of a block, so that each run cuts the same ones.
    let begin_ms = unix_ms() - interval_ms * i64::try_from(load.ticks)?;
    let begin_ms = begin_ms.div_euclid(fill::options().block_ms) * fill::options().block_ms;
    let began = Instant::now();
    let mut teller = Teller::new(load.ticks);
    let (mut wal_bytes, mut wal_seen, mut maintained) = (0, 0, begin_ms);
    let mut rss_most = 0;
    let (mut maintain_cpu, mut maintain_most) = (Duration::ZERO, Duration::ZERO);
    let mut t = begin_ms;
    for number in 0..load.ticks {
        filler.tick(t)?;
        if t - maintained >= MAINTAIN_MS {
            wal_bytes += filler.stats().log_bytes.saturating_sub(wal_seen);
            let maintaining = Instant::now();
            maintain_cpu += filler.maintain(t)?;
            maintain_most = maintain_most.max(maintaining.elapsed());
            wal_seen = filler.stats().log_bytes;
            maintained = t;
            rss_most = Cost::of(own)?.rss_bytes.max(rss_most);
        }
        stop.check()?;
        teller.tell(number, || {
            let rate = filler.samples as f64 / began.elapsed().as_secs_f64();
            format!("{} samples, {rate:.0}/s", filler.samples)
        });
        t += interval_ms;
    }
    let wall = began.elapsed();
    let stats = filler.stats();
    wal_bytes += stats.log_bytes.saturating_sub(wal_seen);
    let rss_bytes = Cost::of(own)?.rss_bytes.max(rss_most).saturating_sub(before.rss_bytes);
    let samples = filler.samples;
    let (append_cpu, sync_cpu) = (filler.append_cpu, filler.sync_cpu);
    let append_most = filler.append_most;
    filler.into_db().close()?;

    super::say("starting again");
    let began = Instant::now();
    let db = fill::open(dir)?;
    let restart = began.elapsed();
    let restart_samples = db.stats().head_samples;
    anyhow::ensure!(restart_samples == stats.head_samples, "a start has lost samples");
    db.close()?;
    let per_sample = |cpu: Duration| cpu.as_secs_f64() * 1e9 / samples.max(1) as f64;
    let outcome = Outcome {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: load.interval.as_secs_f64(),
        virtual_minutes: (load.interval.as_secs_f64() * load.ticks as f64) / 60.0,
        samples,
        wall_s: wall.as_secs_f64(),
        append_cpu_ns_per_sample: per_sample(append_cpu),
        sync_cpu_ns_per_sample: per_sample(sync_cpu),
        maintain_cpu_ns_per_sample: per_sample(maintain_cpu),
        append_most_ms: append_most.as_secs_f64() * 1e3,
        maintain_most_ms: maintain_most.as_secs_f64() * 1e3,
        samples_per_s_and_core: 1e9 / per_sample(append_cpu + sync_cpu).max(1e-9),
        wal_bytes_per_sample: wal_bytes as f64 / samples.max(1) as f64,
        rss_bytes,
        rss_bytes_per_series: rss_bytes as f64 / load.all_series() as f64,
        open_samples_per_series: stats.head_samples as f64 / stats.series.max(1) as f64,
        restart_ms: restart.as_secs_f64() * 1e3,
        restart_samples,
        collector: Restarted::default(),
        restart_compacted_ms: 0.0,
        disk: Compacted::default(),
    };
    Ok(Filled { end_ms: t, outcome })
}

/// A collector over a copy of the store in `dir`, as it is now: it makes blocks and tiers as soon as
/// it runs.
async fn start_collector(dir: &Path) -> anyhow::Result<Restarted> {
    super::say("starting a collector over it");
    let again = dir.join("again");
    let (from, to) = (store_dir(dir), store_dir(&again));
    apart(dir, move |_, _| copy(&from, &to)).await?;
    let began = Instant::now();
    let mut collector = Collector::start(&again).await?;
    let took = began.elapsed();
    let cost = collector.cost()?;
    let figures = collector.figures().await?;
    collector.stop().await?;
    std::fs::remove_dir_all(&again)?;
    let samples = ["head", "block"].map(|at| format!("stoa_collector_tsdb_{at}_samples"));
    let samples = samples.iter().map(|name| figures.sum(name)).sum();
    Ok(Restarted { start_s: took.as_secs_f64(), rss_bytes: cost.rss_bytes, samples })
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let (path, to) = (entry?.path(), to.to_owned());
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, &to).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn compacted(
    filled: Filled,
    collector: Restarted,
    dir: &Path,
    stop: &Stop,
) -> anyhow::Result<Outcome> {
    let Filled { end_ms, outcome } = filled;
    anyhow::ensure!(
        collector.samples >= outcome.samples as f64,
        "a collector has {} samples of {} after a start",
        collector.samples,
        outcome.samples
    );
    stop.check()?;
    super::say("compacting");
    let db = fill::open(dir)?;
    let disk = fill::compact(&db, end_ms)?;
    drop(db);
    let began = Instant::now();
    drop(fill::open(dir)?);
    let restart_compacted_ms = began.elapsed().as_secs_f64() * 1e3;
    Ok(Outcome { collector, restart_compacted_ms, disk, ..outcome })
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    virtual_minutes: f64,
    pub(super) samples: u64,
    /// With the making up of readings and the disk.
    wall_s: f64,
    append_cpu_ns_per_sample: f64,
    sync_cpu_ns_per_sample: f64,
    /// Once a minute: what seals, cuts blocks, writes checkpoints.
    maintain_cpu_ns_per_sample: f64,
    /// The longest append of one host's tick, and the longest maintenance.
    append_most_ms: f64,
    maintain_most_ms: f64,
    samples_per_s_and_core: f64,
    pub(super) wal_bytes_per_sample: f64,
    /// By which this process had grown at its largest.
    rss_bytes: u64,
    pub(super) rss_bytes_per_series: f64,
    open_samples_per_series: f64,
    restart_ms: f64,
    restart_samples: u64,
    pub(super) collector: Restarted,
    restart_compacted_ms: f64,
    disk: Compacted,
}

/// A collector, started over what the store had taken.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Restarted {
    /// Until it served.
    pub(super) start_s: f64,
    rss_bytes: u64,
    /// Its own readings count.
    samples: f64,
}

impl Outcome {
    /// CPU of all that a sample costs the store until it is in a block.
    pub(super) fn cpu_us_per_sample(&self) -> f64 {
        let parts = [
            self.append_cpu_ns_per_sample,
            self.sync_cpu_ns_per_sample,
            self.maintain_cpu_ns_per_sample,
        ];
        parts.iter().sum::<f64>() / 1e3
    }
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let goal = |figure: f64, most: f64, unit: &str| report::goal(figure, most, unit);
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
                    "{:.0} ns/sample of append, {:.0} of sync, {:.0} of maintenance ({}); {:.2} million samples/s and core",
                    self.append_cpu_ns_per_sample,
                    self.sync_cpu_ns_per_sample,
                    self.maintain_cpu_ns_per_sample,
                    goal(self.cpu_us_per_sample(), 0.4, "µs"),
                    self.samples_per_s_and_core / 1e6,
                ),
            ),
            (
                "at most",
                format!(
                    "{:.1} ms for an append, {:.0} ms for a maintenance",
                    self.append_most_ms, self.maintain_most_ms
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
                    "{:.0} ms with {} samples in log and head, {:.0} ms after compaction",
                    self.restart_ms, self.restart_samples, self.restart_compacted_ms
                ),
            ),
            (
                "a collector over it",
                format!(
                    "serves after {:.2} s ({}) with {:.0} samples, {} resident",
                    self.collector.start_s,
                    goal(self.collector.start_s, 30.0, "s"),
                    self.collector.samples,
                    megabytes(self.collector.rss_bytes)
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
