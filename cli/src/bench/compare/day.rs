//! The second part: the same day in each store, and a dashboard asked of it.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;
use stoa_daemon::unix_ms;
use stoa_model::TimestampMs;
use tokio::time::Instant;

use super::super::asker::{Asker, Panels, RANGES};
use super::super::child::Running;
use super::super::collector::{Collector, store_dir};
use super::super::cost::Cost;
use super::super::latency::Latency;
use super::super::load::{Asked, Load, millis};
use super::super::query::{Scan, scan, single_series};
use super::super::{Teller, apart, fill, say};
use super::Found;
use super::lines::Lines;
use super::peer::{Disk, Kind, Peer, blocks_of_prometheus, chunks_of_stoa, find};
use super::table::line;
use crate::table::counted;

/// The figures of the second part.
#[derive(Debug, Serialize)]
pub(super) struct Day {
    pub(super) readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    hours: f64,
    samples: u64,
    pub(super) stores: Vec<Store>,
}

/// Of one store.
#[derive(Debug, Serialize)]
pub(super) struct Store {
    pub(super) name: &'static str,
    pub(super) disk_bytes_per_sample: f64,
    /// Without labels and index.
    disk_samples_only_bytes_per_sample: f64,
    pub(super) panels: Vec<Panels>,
    /// CPU of the store in answering all that, each query three times.
    query_cpu_s: f64,
    pub(super) single: Latency,
    pub(super) scan: Scan,
    rss_bytes: u64,
}

/// Runs it, with everything below `dir`; with `queries`, they are asked of each store, and without
/// only its disk is looked at.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(
    asked: Asked,
    queries: Option<&[String]>,
    found: &[Found],
    dir: &Path,
) -> anyhow::Result<Day> {
    let stoa_dir = dir.join("stoa");
    std::fs::create_dir_all(&stoa_dir)?;
    let end_ms = unix_ms().div_euclid(60_000) * 60_000;
    let interval = asked.interval;
    say("a day: filling Stoa");
    let (load, samples) = apart(&store_dir(&stoa_dir), move |dir, stop| {
        let load = Load::open(&asked)?;
        let (mut teller, began) = (Teller::new(load.ticks), Instant::now());
        let samples = fill::backfill(dir, &load, end_ms, &mut |number| {
            let told = (number + 1) * load.all_series() as u64;
            teller.tell(number, || rate("Stoa", told, began));
            stop.check()
        })?;
        Ok((load, samples))
    })
    .await?;
    let end_s = end_ms / 1000 - i64::try_from(millis(interval).div_ceil(1000))?;
    let hours = u32::try_from((load.ticks * millis(interval)).div_ceil(3_600_000))?;
    let mut stores = Vec::new();

    let mut answers = Answers::default();
    if let Some(queries) = queries {
        say("a day: asking Stoa");
        let mut collector = Collector::start(&stoa_dir).await?;
        let asker = Asker::new(collector.url(), true)?;
        let asking = Asking { asker: &asker, queries, end_s, hours };
        answers = asking.answers(|| collector.cost()).await?;
        collector.stop().await?;
    }
    // As it would be at rest; asked it was as it is at the end of a day, with a part in the head.
    let disk = apart(&store_dir(&stoa_dir), move |dir, _| fill::compact(&fill::open(dir)?, end_ms))
        .await?;
    let chunks = chunks_of_stoa(&store_dir(&stoa_dir))?;
    stores.push(Store {
        disk_bytes_per_sample: disk.compacted.bytes_per_sample,
        disk_samples_only_bytes_per_sample: chunks as f64 / samples.max(1) as f64,
        ..answers.store("Stoa")
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
        let mut answers = Answers::default();
        if let Some(queries) = queries {
            say(&format!("a day: asking {name}"));
            let asker = Asker::new(peer.url(), one.kind == Kind::VictoriaMetrics)?;
            let asking = Asking { asker: &asker, queries, end_s, hours };
            answers = asking.answers(|| peer.cost()).await?;
        }
        let Disk { samples: chunks, index } = disk;
        stores.push(Store {
            disk_bytes_per_sample: (chunks + index) as f64 / samples.max(1) as f64,
            disk_samples_only_bytes_per_sample: chunks as f64 / samples.max(1) as f64,
            ..answers.store(name)
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

/// What a store answered, and what that cost it.
#[derive(Default)]
struct Answers {
    panels: Vec<Panels>,
    single: Latency,
    cpu_s: f64,
    scan: Scan,
    rss_bytes: u64,
}

/// What is asked of a store.
struct Asking<'a> {
    asker: &'a Asker,
    queries: &'a [String],
    end_s: i64,
    /// What it holds.
    hours: u32,
}

impl Asking<'_> {
    /// Asks; `cost` says what the store has cost so far.
    async fn answers(
        &self,
        mut cost: impl FnMut() -> anyhow::Result<Cost>,
    ) -> anyhow::Result<Answers> {
        let Self { asker, queries, end_s, hours } = *self;
        let before = cost()?;
        let mut panels = Vec::new();
        for range in RANGES {
            panels.push(asker.dashboard(queries, end_s, range).await?);
        }
        let single = asker.single(&single_series(), end_s).await?;
        let after = cost()?;
        let cpu_s = after.cpu_since(&before).as_secs_f64();
        let scan = scan(asker, end_s, hours, cost).await?;
        Ok(Answers { panels, single, cpu_s, scan, rss_bytes: after.rss_bytes })
    }
}

impl Answers {
    fn store(self, name: &'static str) -> Store {
        Store {
            name,
            disk_bytes_per_sample: 0.0,
            disk_samples_only_bytes_per_sample: 0.0,
            panels: self.panels,
            query_cpu_s: self.cpu_s,
            single: self.single,
            scan: self.scan,
            rss_bytes: self.rss_bytes,
        }
    }
}

/// What is being filled, and how fast.
fn rate(name: &str, samples: u64, began: Instant) -> String {
    format!("{name}, {:.0} samples/s", samples as f64 / began.elapsed().as_secs_f64().max(1e-3))
}

/// Has promtool make Prometheus's blocks, two hours at a time.
async fn blocks(
    promtool: &Path,
    load: &Load,
    end_ms: TimestampMs,
    dir: &Path,
) -> anyhow::Result<()> {
    let data = dir.join("data");
    std::fs::create_dir_all(&data)?;
    let file = dir.join("lines");
    let mut lines = Lines::openmetrics(load, end_ms);
    let (mut teller, began) = (Teller::new(load.ticks), Instant::now());
    while let Some(block) = lines.next_block() {
        tokio::fs::write(&file, block).await?;
        create_blocks(promtool, &file, &data, &dir.join("promtool.words")).await?;
        teller
            .tell(lines.ticks_told().saturating_sub(1), || rate("Prometheus", lines.count, began));
    }
    Ok(())
}

/// Has promtool make a file of OpenMetrics into blocks; what that costs.
///
/// # Errors
/// When it does not.
pub(super) async fn create_blocks(
    promtool: &Path,
    file: &Path,
    data: &Path,
    words: &Path,
) -> anyhow::Result<Cost> {
    let mut command = Command::new(promtool);
    command.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(file).arg(data);
    let running = Running::start(&mut command, words)?;
    running.done().await.context("make blocks with promtool")
}

/// Imports a load's lines into VictoriaMetrics; how many.
///
/// # Errors
/// When it does not take them.
pub(super) async fn import(peer: &Peer, load: &Load, end_ms: TimestampMs) -> anyhow::Result<u64> {
    let mut lines = Lines::text(load, end_ms);
    let (mut teller, began) = (Teller::new(load.ticks), Instant::now());
    while let Some(part) = lines.next_part() {
        peer.import(part).await?;
        teller.tell(lines.ticks_told().saturating_sub(1), || {
            rate(peer.kind.name(), lines.count, began)
        });
    }
    Ok(lines.count)
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
                "rate, M samples/s/core",
                line(stores, |store| {
                    Some(format!("{:.0}", store.scan.samples_per_s_and_core / 1e6))
                }),
            ),
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
