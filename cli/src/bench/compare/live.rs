//! The live part: the same hosts at the same time into each store.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stoa_daemon::unix_ms;
use tokio::time::{Instant, sleep, timeout};

use super::super::agents::{self, host::Hosts};
use super::super::collector::{Collector, store_dir};
use super::super::cost::Cost;
use super::super::load::{Asked, Load, Names, ticks_in};
use super::super::{apart, fill, say};
use super::peer::{Disk, Peer, Scrape, chunks_of_stoa};
use super::replay::Replay;
use super::table::line;
use super::{CompareArgs, Found};
use crate::table::counted;

/// What runs before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(20);

/// How long hosts may take to connect, and to have everything acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);

/// The figures of the live part.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    measured_s: f64,
    pub(super) stores: Vec<Store>,
}

/// Of one store.
#[derive(Debug, Serialize)]
pub(super) struct Store {
    pub(super) name: &'static str,
    samples_per_s: f64,
    pub(super) cpu_us_per_sample: f64,
    rss_bytes: u64,
    rss_idle_bytes: u64,
    rss_grown_bytes_per_series: f64,
    log_bytes_per_sample: Option<f64>,
    disk_bytes_per_sample: f64,
    /// Without labels and index.
    disk_samples_only_bytes_per_sample: f64,
}

/// A store's counters at one moment.
#[derive(Clone, Copy)]
struct Reading {
    samples: f64,
    cost: Cost,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(
    args: &CompareArgs,
    found: &[Found],
    dir: &Path,
) -> anyhow::Result<Live> {
    let stoa_dir = dir.join("stoa");
    std::fs::create_dir_all(&stoa_dir)?;
    let asked = Asked {
        corpus: args.corpus.clone(),
        hosts: args.hosts,
        names: Names::OfThisMachine,
        interval: args.interval,
        ticks: ticks_in(args.minutes + 2, args.interval)?,
        seed: args.seed,
    };
    let load = apart(dir, move |_, _| Load::open(&asked)).await?;
    let measured = load_time(&load, args);
    say(&format!("live: {} of {} series", counted(u64::from(load.hosts), "host"), load.series()));
    let mut collector = Collector::start(&stoa_dir).await?;
    let idle = collector.cost()?;
    let mut hosts = Hosts::new(load.clone());
    agents::join(&collector, &mut hosts, load.hosts, &stoa_dir).await?;
    timeout(PATIENCE, hosts.connected()).await.context("wait for all hosts to connect")?;

    let replay = Replay::start(hosts.pages()).await?;
    let scrape = Scrape { address: replay.address, hosts: load.hosts, interval: load.interval };
    let mut peers = Vec::new();
    for one in found {
        // Idle, as it is before it has anything to scrape.
        let empty = dir.join(format!("{}-idle", one.kind.name()));
        let mut peer = Peer::start(one.kind, &one.program, &empty, None).await?;
        sleep(Duration::from_secs(1)).await;
        let idle = peer.cost()?;
        peer.stop().await?;
        let dir = dir.join(one.kind.name());
        peers.push((Peer::start(one.kind, &one.program, &dir, Some(&scrape)).await?, idle));
    }

    hosts.begin();
    sleep(WARM_UP).await;
    let before = read(&mut collector, &hosts, &mut peers).await?;
    let began = Instant::now();
    while began.elapsed() < measured {
        let left = measured.saturating_sub(began.elapsed());
        say(&format!("live: {} s left", left.as_secs()));
        sleep(left.min(Duration::from_secs(15))).await;
        collector.cost()?;
    }
    let after = read(&mut collector, &hosts, &mut peers).await?;
    let measured_s = began.elapsed().as_secs_f64();

    hosts.end_ticks();
    timeout(PATIENCE, hosts.drained()).await.context("wait for the last acknowledgements")?;
    let log_bytes = collector.figures().await?.sum("stoa_collector_tsdb_wal_bytes");
    let stored = hosts.totals().acknowledged;
    hosts.stop().await?;
    collector.stop().await?;
    say("live: compacting");
    let end_ms = unix_ms();
    let disk = apart(&store_dir(&stoa_dir), move |dir, _| fill::compact(&fill::open(dir)?, end_ms))
        .await?;

    let mut before = before.into_iter();
    let mut after = after.into_iter();
    let mut pair = || before.next().zip(after.next()).context("a reading is missing");
    let series = load.all_series() as f64;
    let mut stores = vec![Store {
        log_bytes_per_sample: Some(log_bytes / stored.max(1) as f64),
        disk_bytes_per_sample: disk.compacted.bytes_per_sample,
        disk_samples_only_bytes_per_sample: chunks_of_stoa(&store_dir(&stoa_dir))? as f64
            / disk.compacted.samples.max(1) as f64,
        ..Store::of("Stoa", pair()?, idle, measured_s, series)
    }];
    for (peer, idle) in peers {
        let (taken, _) = peer.taken().await?;
        let log = peer.log_bytes()?;
        let Disk { samples, index } = peer.write_down().await?;
        stores.push(Store {
            log_bytes_per_sample: log.map(|bytes| bytes as f64 / taken.max(1.0)),
            disk_bytes_per_sample: (samples + index) as f64 / taken.max(1.0),
            disk_samples_only_bytes_per_sample: samples as f64 / taken.max(1.0),
            ..Store::of(peer.kind.name(), pair()?, idle, measured_s, series)
        });
        peer.stop().await?;
    }
    drop(replay);
    Ok(Live {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: load.interval.as_secs_f64(),
        measured_s,
        stores,
    })
}

/// How long is measured: what was asked for, or as much as the corpus gives.
fn load_time(load: &Load, args: &CompareArgs) -> Duration {
    let ticks = u32::try_from(load.ticks).unwrap_or(u32::MAX);
    let has = load.interval.saturating_mul(ticks).saturating_sub(WARM_UP);
    has.min(Duration::from_secs(u64::from(args.minutes) * 60))
}

async fn read(
    collector: &mut Collector,
    hosts: &Hosts,
    peers: &mut [(Peer, Cost)],
) -> anyhow::Result<Vec<Reading>> {
    let samples = hosts.totals().acknowledged as f64;
    let mut all = vec![Reading { samples, cost: collector.cost()? }];
    for (peer, _) in peers {
        let (samples, _) = peer.taken().await?;
        all.push(Reading { samples, cost: peer.cost()? });
    }
    Ok(all)
}

impl Store {
    fn of(
        name: &'static str,
        (before, after): (Reading, Reading),
        idle: Cost,
        seconds: f64,
        series: f64,
    ) -> Self {
        let samples = after.samples - before.samples;
        let grown = after.cost.rss_bytes.saturating_sub(idle.rss_bytes);
        Self {
            name,
            samples_per_s: samples / seconds,
            cpu_us_per_sample: after.cost.cpu_since(&before.cost).as_secs_f64() * 1e6
                / samples.max(1.0),
            rss_bytes: after.cost.rss_bytes,
            rss_idle_bytes: idle.rss_bytes,
            rss_grown_bytes_per_series: grown as f64 / series.max(1.0),
            log_bytes_per_sample: None,
            disk_bytes_per_sample: 0.0,
            disk_samples_only_bytes_per_sample: 0.0,
        }
    }
}

impl Live {
    /// As a table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let stores = &self.stores;
        let mb = |bytes: u64| Some(format!("{:.0}", bytes as f64 / 1e6));
        let two = |figure: f64| format!("{figure:.2}");
        vec![
            ("LIVE", line(stores, |store| Some(store.name.to_owned()))),
            ("samples/s taken", line(stores, |store| Some(format!("{:.0}", store.samples_per_s)))),
            ("CPU, µs/sample", line(stores, |store| Some(two(store.cpu_us_per_sample)))),
            ("resident, MB", line(stores, |store| mb(store.rss_bytes))),
            ("idle before, MB", line(stores, |store| mb(store.rss_idle_bytes))),
            (
                "grown by, B/series",
                line(stores, |store| Some(format!("{:.0}", store.rss_grown_bytes_per_series))),
            ),
            ("log, B/sample", line(stores, |store| store.log_bytes_per_sample.map(two))),
            ("disk, B/sample", line(stores, |store| Some(two(store.disk_bytes_per_sample)))),
            (
                "  without index",
                line(stores, |store| Some(two(store.disk_samples_only_bytes_per_sample))),
            ),
            (
                "",
                format!(
                    "{} of {} series every {} s, {:.0} s; {}",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.measured_s,
                    self.readings
                ),
            ),
            (
                "",
                "Stoa takes its agents' stream, the others scrape text: fetching and parsing is in their CPU. Disk: Stoa compacted, Prometheus a snapshot, VictoriaMetrics after a forced merge, each with labels and index, which weigh much in a short run.".to_owned(),
            ),
        ]
    }
}
