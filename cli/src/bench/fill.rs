//! A store of our own, filled in virtual time: as fast as it takes readings, however long they span.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use stoa_model::{Labels, TimestampMs};
use stoa_proto::tick::Tick;
use stoa_tsdb::{AppendError, Batch, Db, GroupId, Options, Row, SeriesRef, Stats};
use stoa_wal::disk::RealDisk;
use tokio::time::Instant;

use super::load::{Load, Replica, millis};

/// A time at which blocks of every size begin: 2026-01-01, 00:00.
pub(super) const BEGIN_MS: TimestampMs = 1_767_225_600_000;

/// The job all series are told under, as a collector does.
pub(super) const JOB: &str = "node";

/// Calls of maintenance after which it is not waited for any longer.
const MAINTENANCES_MAX: u32 = 64;

/// What lies so far ahead is due, whatever the store waits for.
const ALL_DUE_MS: i64 = 365 * 24 * 3_600_000;

/// The name of host `number`, in labels.
pub(super) fn host_name(number: u16) -> String {
    format!("bench-{number}")
}

/// A store's options for a bench: as a collector has them, and nothing grows too old.
pub(super) fn options() -> Options {
    Options { retention_ms: 2 * ALL_DUE_MS, ..Options::default() }
}

/// A store, and the hosts that fill it.
pub(super) struct Filler {
    db: Db,
    hosts: Vec<Host>,
    pub(super) samples: u64,
    /// CPU of this thread in appending.
    pub(super) append_cpu: Duration,
    /// The longest append, by the clock on the wall.
    pub(super) append_most: Duration,
    /// CPU of this thread in syncing; the disk's time is not in it.
    pub(super) sync_cpu: Duration,
}

struct Host {
    group: GroupId,
    name: String,
    replica: Replica,
    /// By the series' number.
    refs: Vec<Option<SeriesRef>>,
}

impl Filler {
    /// A store in `dir`, and all hosts of a load at their first ticks.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(super) fn open(dir: &Path, load: &Load) -> anyhow::Result<Self> {
        let hosts = (0..load.hosts).map(|number| Host {
            group: GroupId(u64::from(number) + 1),
            name: host_name(number),
            replica: load.replica(number),
            refs: Vec::new(),
        });
        Ok(Self {
            hosts: hosts.collect(),
            db: open(dir)?,
            samples: 0,
            append_cpu: Duration::ZERO,
            append_most: Duration::ZERO,
            sync_cpu: Duration::ZERO,
        })
    }

    /// Appends the next readings of all hosts, as of `t`, and makes them durable.
    ///
    /// # Errors
    /// When the store does not take them, or the corpus is over.
    pub(super) fn tick(&mut self, t: TimestampMs) -> anyhow::Result<()> {
        for host in &mut self.hosts {
            let tick = host.replica.tick(t).context("the corpus is over")?;
            let Appended { samples, cpu, wall } = append(&self.db, host, &tick)?;
            self.samples += samples;
            self.append_cpu += cpu;
            self.append_most = self.append_most.max(wall);
        }
        let before = thread_cpu();
        self.db.sync()?;
        self.sync_cpu += thread_cpu().saturating_sub(before);
        Ok(())
    }

    /// Lets the store do what is due; the CPU of this process that takes.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn maintain(&self, now_ms: TimestampMs) -> anyhow::Result<Duration> {
        let before = process_cpu();
        self.db.maintain(now_ms).context("maintain the store")?;
        Ok(process_cpu().saturating_sub(before))
    }

    /// The store's own figures.
    pub(super) fn stats(&self) -> Stats {
        self.db.stats()
    }

    /// The store alone.
    pub(super) fn into_db(self) -> Db {
        self.db
    }
}

/// What came of an append, and what it took.
struct Appended {
    samples: u64,
    cpu: Duration,
    wall: Duration,
}

fn append(db: &Db, host: &mut Host, tick: &Tick) -> anyhow::Result<Appended> {
    let mut again = false;
    loop {
        let row = Row { t_ms: tick.t, samples: resolved(db, host, tick)? };
        let batch = Batch { group: host.group, rows: vec![row], marks: Vec::new() };
        let (began, before) = (Instant::now(), thread_cpu());
        let appended = db.append(&batch);
        let cpu = thread_cpu().saturating_sub(before);
        let wall = began.elapsed();
        match appended {
            // It had gone from the head because all it had was in blocks.
            Err(AppendError::UnknownSeries { .. }) if !again => {
                host.refs.clear();
                again = true;
            }
            appended => {
                let samples = appended.context("append")?.stored;
                return Ok(Appended { samples, cpu, wall });
            }
        }
    }
}

fn resolved(db: &Db, host: &mut Host, tick: &Tick) -> anyhow::Result<Vec<(SeriesRef, f64)>> {
    let mut samples = Vec::with_capacity(tick.samples.len());
    for (series, value) in &tick.samples {
        let at = usize::try_from(series.id)?;
        let known = host.refs.get(at).copied().flatten();
        let named = match known {
            Some(named) => named,
            None => {
                let named = db.resolve(host.group, &labels(&series.labels, &host.name))?;
                if host.refs.len() <= at {
                    host.refs.resize(at + 1, None);
                }
                if let Some(place) = host.refs.get_mut(at) {
                    *place = Some(named);
                }
                named
            }
        };
        samples.push((named, *value));
    }
    Ok(samples)
}

/// A series' labels as the collector stores them.
pub(super) fn labels(own: &Labels, host: &str) -> Labels {
    own.with("host", host).with("instance", host).with("job", JOB)
}

/// Opens a store, as a collector would.
///
/// # Errors
/// When the directory cannot be used.
pub(super) fn open(dir: &Path) -> anyhow::Result<Db> {
    let (db, recovery) =
        Db::open(Arc::new(RealDisk), dir, options(), 0).context("open the store")?;
    anyhow::ensure!(recovery.damaged == 0, "the store is damaged: {:?}", recovery.damage);
    Ok(db)
}

/// Fills a store with a load whose last tick is before `end_ms`; blocks are as they would be then.
///
/// # Errors
/// When the store does not take it; `tell` ends it early.
pub(super) fn backfill(
    dir: &Path,
    load: &Load,
    end_ms: TimestampMs,
    tell: &mut dyn FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut filler = Filler::open(dir, load)?;
    let mut maintained = 0;
    for (number, t) in times(load, end_ms).enumerate() {
        filler.tick(t)?;
        if t - maintained >= 600_000 {
            filler.maintain(t)?;
            maintained = t;
        }
        tell(number as u64)?;
    }
    let samples = filler.samples;
    let db = filler.into_db();
    maintain_fully(&db, end_ms)?;
    db.close()?;
    Ok(samples)
}

/// When a load's ticks are, if the last one comes an interval before `end_ms`.
pub(super) fn times(load: &Load, end_ms: TimestampMs) -> impl Iterator<Item = TimestampMs> + use<> {
    let interval_ms = i64::try_from(millis(load.interval)).unwrap_or(i64::MAX);
    let ticks = i64::try_from(load.ticks).unwrap_or(i64::MAX);
    let begin_ms = end_ms.saturating_sub(ticks.saturating_mul(interval_ms));
    (0..ticks).map(move |number| begin_ms + number * interval_ms)
}

/// Lets the store cut and merge all blocks that are due at a time, and says how much CPU of this
/// process that took.
///
/// # Errors
/// When it cannot.
pub(super) fn maintain_fully(db: &Db, now_ms: TimestampMs) -> anyhow::Result<Duration> {
    let before = process_cpu();
    for _ in 0..MAINTENANCES_MAX {
        let sizes = |stats: &Stats| (stats.blocks, stats.block_bytes, stats.head_samples);
        let was = sizes(&db.stats());
        db.maintain(now_ms).context("maintain the store")?;
        db.compact(now_ms).context("merge blocks")?;
        if sizes(&db.stats()) == was {
            break;
        }
    }
    Ok(process_cpu().saturating_sub(before))
}

/// What blocks take on disk.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Blocks {
    pub(super) blocks: u64,
    pub(super) samples: u64,
    /// Everything: samples, labels, index, checksums.
    pub(super) bytes: u64,
    pub(super) bytes_per_sample: f64,
}

impl Blocks {
    fn of(db: &Db) -> Self {
        let Stats { blocks, block_samples, block_bytes, .. } = db.stats();
        let bytes_per_sample = block_bytes as f64 / block_samples.max(1) as f64;
        Self { blocks, samples: block_samples, bytes: block_bytes, bytes_per_sample }
    }

    /// `0.61 B/sample in 3 blocks`.
    pub(super) fn said(&self) -> String {
        let blocks = if self.blocks == 1 { "block" } else { "blocks" };
        format!("{:.3} B/sample in {} {blocks}", self.bytes_per_sample, self.blocks)
    }
}

/// Blocks as cut from the head, then when nothing is left to compact.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Compacted {
    pub(super) cut: Blocks,
    pub(super) compacted: Blocks,
    /// CPU of cutting and compacting, all samples.
    pub(super) cpu_s: f64,
}

/// Moves everything to blocks, then compacts until nothing is due.
///
/// # Errors
/// When the store cannot.
pub(super) fn compact(db: &Db, end_ms: TimestampMs) -> anyhow::Result<Compacted> {
    let Options { block_ms, grace_ms, .. } = options();
    let before = process_cpu();
    db.maintain(end_ms + block_ms + grace_ms).context("cut the last block")?;
    let cut = Blocks::of(db);
    maintain_fully(db, end_ms + ALL_DUE_MS)?;
    let cpu_s = process_cpu().saturating_sub(before).as_secs_f64();
    let compacted = Blocks::of(db);
    anyhow::ensure!(db.stats().head_samples == 0, "not all samples have come to blocks");
    Ok(Compacted { cut, compacted, cpu_s })
}

/// CPU of the calling thread so far.
fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// CPU of this process so far.
fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let spent = clock_gettime(clock);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    Duration::from_secs(part(spent.tv_sec)) + Duration::from_nanos(part(spent.tv_nsec))
}

#[cfg(test)]
mod tests {
    use stoa_model::Matcher;

    use super::super::load::{Asked, Names};
    use super::*;

    #[test]
    fn what_is_filled_is_there_before_and_after_compaction() {
        let dir = tempfile::tempdir().unwrap();
        let load = Load::open(&Asked {
            corpus: None,
            hosts: 2,
            names: Names::MadeUp(40),
            interval: Duration::from_secs(10),
            ticks: 1000,
            seed: 1,
        })
        .unwrap();
        let end = BEGIN_MS + 10_000_000;
        let samples = backfill(dir.path(), &load, end, &mut |_| Ok(())).unwrap();
        assert_eq!(samples, 2 * 40 * 1000);
        let db = open(dir.path()).unwrap();
        let count = || {
            let host = [Matcher::equal("instance", "bench-1")];
            let found = db.select(&host, BEGIN_MS, end, 1000, 1_000_000).unwrap();
            (found.len(), found.iter().map(|series| series.values.len()).sum::<usize>())
        };
        assert_eq!(count(), (40, 40_000));
        let compacted = compact(&db, end).unwrap();
        assert_eq!(compacted.compacted.samples, samples);
        assert!(compacted.compacted.bytes <= compacted.cut.bytes);
        assert_eq!(count(), (40, 40_000));
    }
}
