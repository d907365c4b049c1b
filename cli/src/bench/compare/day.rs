//! The second part: the same day in each store, and a dashboard asked of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;
use stoa_daemon::unix_ms;
use stoa_model::TimestampMs;

use super::super::asker::{Asker, Panels, RANGES, queries};
use super::super::child::Running;
use super::super::collector::{Collector, store_dir};
use super::super::cost::Cost;
use super::super::latency::Latency;
use super::super::load::{Asked, Load, Names, Replica, millis, ticks_in};
use super::super::query::single_series;
use super::super::{Teller, apart, fill, say};
use super::peer::{Disk, Kind, Peer, blocks_of_prometheus, chunks_of_stoa, find};
use super::table::line;
use super::text;
use super::{CompareArgs, Found};
use crate::table::counted;

/// A block of Prometheus's; what is imported is cut there, so that promtool reads each line once.
const BLOCK_MS: i64 = 2 * 3_600_000;

/// About how many bytes of lines go in one request.
const IMPORT_BYTES: usize = 4 << 20;

/// The figures of the second part.
#[derive(Debug, Serialize)]
pub(super) struct Day {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    hours: f64,
    samples: u64,
    stores: Vec<Store>,
}

/// Of one store.
#[derive(Debug, Serialize)]
struct Store {
    name: &'static str,
    disk_bytes_per_sample: f64,
    /// Without labels and index.
    disk_samples_only_bytes_per_sample: f64,
    panels: Vec<Panels>,
    /// CPU of the store in answering all that, each query three times.
    query_cpu_s: f64,
    single: Latency,
    rss_bytes: u64,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(
    args: &CompareArgs,
    found: &[Found],
    dir: &Path,
) -> anyhow::Result<Day> {
    let queries = queries(args.dashboard.as_deref(), 0)?.unwrap_or_default();
    if queries.is_empty() {
        say("no dashboard: name one with --dashboard, or set STOA_CONFORMANCE_DATA");
    }
    let stoa_dir = dir.join("stoa");
    std::fs::create_dir_all(&stoa_dir)?;
    let end_ms = unix_ms().div_euclid(60_000) * 60_000;
    let interval = args.day_interval;
    let asked = Asked {
        corpus: args.corpus.clone(),
        hosts: args.day_hosts,
        names: Names::OfThisMachine,
        interval,
        ticks: ticks_in(args.hours * 60, interval)?,
        seed: args.seed,
    };
    say("a day: filling Stoa");
    let (load, samples) = apart(&store_dir(&stoa_dir), move |dir, stop| {
        let load = Load::open(&asked)?;
        let mut teller = Teller::new(load.ticks);
        let samples = fill::backfill(dir, &load, end_ms, &mut |number| {
            teller.tell(number, String::new);
            stop.check()
        })?;
        Ok((load, samples))
    })
    .await?;
    let end_s = end_ms / 1000 - i64::try_from(millis(interval).div_ceil(1000))?;
    let mut stores = Vec::new();

    say("a day: asking Stoa");
    let mut collector = Collector::start(&stoa_dir).await?;
    let asker = Asker::new(collector.url(), false)?;
    let before = collector.cost()?;
    let answers = Answers::of(&asker, &queries, end_s).await?;
    let after = collector.cost()?;
    collector.stop().await?;
    // As it would be at rest; asked it was as it is at the end of a day, with a part in the head.
    let disk = apart(&store_dir(&stoa_dir), move |dir, _| fill::compact(&fill::open(dir)?, end_ms))
        .await?;
    let chunks = chunks_of_stoa(&store_dir(&stoa_dir))?;
    stores.push(Store {
        disk_bytes_per_sample: disk.compacted.bytes_per_sample,
        disk_samples_only_bytes_per_sample: chunks as f64 / samples.max(1) as f64,
        ..answers.store("Stoa", before, after)
    });

    for one in found {
        let name = one.kind.name();
        say(&format!("a day: filling {name}"));
        let dir = dir.join(name);
        let mut peer = match one.kind {
            Kind::Prometheus => {
                let Some(promtool) = find("promtool") else {
                    say("promtool is not installed: Prometheus is left out");
                    continue;
                };
                blocks(&promtool, &load, end_ms, &dir).await?;
                Peer::start(one.kind, &one.program, &dir, None).await?
            }
            Kind::VictoriaMetrics => {
                let peer = Peer::start(one.kind, &one.program, &dir, None).await?;
                import(&peer, &load, end_ms).await?;
                peer
            }
        };
        let disk = match one.kind {
            Kind::Prometheus => blocks_of_prometheus(&dir.join("data"))?,
            Kind::VictoriaMetrics => peer.write_down().await?,
        };
        say(&format!("a day: asking {name}"));
        let asker = Asker::new(peer.url(), one.kind == Kind::VictoriaMetrics)?;
        let before = peer.cost()?;
        let answers = Answers::of(&asker, &queries, end_s).await?;
        let Disk { samples: chunks, index } = disk;
        stores.push(Store {
            disk_bytes_per_sample: (chunks + index) as f64 / samples.max(1) as f64,
            disk_samples_only_bytes_per_sample: chunks as f64 / samples.max(1) as f64,
            ..answers.store(name, before, peer.cost()?)
        });
        peer.stop().await?;
    }
    Ok(Day {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: interval.as_secs_f64(),
        hours: load.ticks as f64 * interval.as_secs_f64() / 3600.0,
        samples,
        stores,
    })
}

/// What a store answered.
struct Answers {
    panels: Vec<Panels>,
    single: Latency,
}

impl Answers {
    async fn of(asker: &Asker, queries: &[String], end_s: i64) -> anyhow::Result<Self> {
        let mut panels = Vec::new();
        for range in RANGES {
            panels.push(asker.dashboard(queries, end_s, range).await?);
        }
        Ok(Self { panels, single: asker.single(&single_series(), end_s).await? })
    }

    fn store(self, name: &'static str, before: Cost, after: Cost) -> Store {
        Store {
            name,
            disk_bytes_per_sample: 0.0,
            disk_samples_only_bytes_per_sample: 0.0,
            panels: self.panels,
            query_cpu_s: after.cpu_since(&before).as_secs_f64(),
            single: self.single,
            rss_bytes: after.rss_bytes,
        }
    }
}

/// A load's hosts, told tick by tick as lines.
struct Lines {
    hosts: Vec<(String, Replica, text::Names)>,
    in_seconds: bool,
}

impl Lines {
    fn new(load: &Load, in_seconds: bool) -> Self {
        let host = |number| (fill::host_name(number), load.replica(number), text::Names::default());
        Self { hosts: (0..load.hosts).map(host).collect(), in_seconds }
    }

    fn tick(&mut self, t: TimestampMs, out: &mut String) {
        for (name, replica, names) in &mut self.hosts {
            if let Some(tick) = replica.tick(t) {
                names.lines(&tick, name, self.in_seconds, out);
            }
        }
    }
}

/// Writes Prometheus's blocks with promtool, two hours at a time.
async fn blocks(
    promtool: &Path,
    load: &Load,
    end_ms: TimestampMs,
    dir: &Path,
) -> anyhow::Result<()> {
    let data = dir.join("data");
    std::fs::create_dir_all(&data)?;
    let mut lines = Lines::new(load, true);
    let mut out = String::new();
    let times: Vec<TimestampMs> = fill::times(load, end_ms).collect();
    for (at, t) in times.iter().enumerate() {
        lines.tick(*t, &mut out);
        let block = t.div_euclid(BLOCK_MS);
        let goes_on = times.get(at + 1).is_some_and(|next| next.div_euclid(BLOCK_MS) == block);
        if !goes_on {
            out.push_str("# EOF\n");
            let file: PathBuf = dir.join("lines");
            tokio::fs::write(&file, std::mem::take(&mut out)).await?;
            let mut command = Command::new(promtool);
            command.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(&data);
            let running = Running::start(&mut command, &dir.join("promtool.words"))?;
            running.done().await.context("make blocks with promtool")?;
        }
    }
    Ok(())
}

/// Imports a load's lines into VictoriaMetrics.
async fn import(peer: &Peer, load: &Load, end_ms: TimestampMs) -> anyhow::Result<()> {
    let mut lines = Lines::new(load, false);
    let mut out = String::new();
    for t in fill::times(load, end_ms) {
        lines.tick(t, &mut out);
        if out.len() >= IMPORT_BYTES {
            peer.import(std::mem::take(&mut out)).await?;
        }
    }
    peer.import(out).await
}

impl Day {
    /// As a table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let stores = &self.stores;
        let panel = |store: &Store, at: usize, figure: fn(&Panels) -> String| {
            store.panels.get(at).filter(|panels| panels.answered > 0).map(figure)
        };
        let sum = |panels: &Panels| format!("{:.0}", panels.sum_ms);
        let p95 = |panels: &Panels| format!("{:.2}", panels.p95_ms);
        let count = |panels: &Panels| format!("{} ({})", panels.answered, panels.empty);
        vec![
            ("A DAY", line(stores, |store| Some(store.name.to_owned()))),
            (
                "disk, B/sample",
                line(stores, |store| Some(format!("{:.3}", store.disk_bytes_per_sample))),
            ),
            (
                "  without index",
                line(stores, |store| {
                    Some(format!("{:.3}", store.disk_samples_only_bytes_per_sample))
                }),
            ),
            ("queries (empty)", line(stores, |store| panel(store, 1, count))),
            ("1 h, all, ms", line(stores, |store| panel(store, 0, sum))),
            ("1 h, p95, ms", line(stores, |store| panel(store, 0, p95))),
            ("24 h, all, ms", line(stores, |store| panel(store, 1, sum))),
            ("24 h, p95, ms", line(stores, |store| panel(store, 1, p95))),
            ("CPU of all, s", line(stores, |store| Some(format!("{:.2}", store.query_cpu_s)))),
            ("one series, p50 ms", line(stores, |store| Some(format!("{:.2}", store.single.p50_ms)))),
            ("one series, p99 ms", line(stores, |store| Some(format!("{:.2}", store.single.p99_ms)))),
            (
                "resident then, MB",
                line(stores, |store| Some(format!("{:.0}", store.rss_bytes as f64 / 1e6))),
            ),
            (
                "",
                format!(
                    "{} of {} series every {} s, {:.1} h, {} samples; {}",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.hours,
                    self.samples,
                    self.readings
                ),
            ),
            (
                "",
                "Queries one after another over one connection, the fastest of three each, VictoriaMetrics without its cache. Disk: Stoa compacted, Prometheus's blocks of two hours from promtool, VictoriaMetrics after a forced merge.".to_owned(),
            ),
        ]
    }
}
