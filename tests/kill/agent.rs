//! The agent that is killed: the real way from a tick to the collector, with readings of our own.
//!
//! Produces until its standard input ends, then waits until nothing waits, says so in its record
//! and ends.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use stoa_agent::batch::{Batcher, SourceReading};
use stoa_agent::identity;
use stoa_agent::spool::{Spool, SpoolOptions};
use stoa_agent::uplink::{self, UplinkConfig, UplinkFigures};
use stoa_daemon::log::{self, LogOptions};
use stoa_daemon::{DataDir, unix_ms};
use stoa_model::{Family, Labels, MetricKind};
use stoa_transport::{DialConfig, Dialer};
use stoa_wal::disk::RealDisk;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::record::{self, Recorded, Recorder};

/// Between two readings: fifty times an agent's usual pace, so that all bounds are met.
const PACE: Duration = Duration::from_millis(20);

/// How long draining may take, a wait for the next dial included.
const DRAIN: Duration = Duration::from_secs(90);

/// Arguments: data directory, collector, the process's number, the time after which its readings
/// are to lie.
pub(crate) fn run(args: &[&str]) -> anyhow::Result<()> {
    let [dir, collector, generation, after] = args else { bail!("wrong arguments") };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("start the runtime")?;
    let (generation, after) = (generation.parse()?, after.parse()?);
    runtime.block_on(serve(Path::new(dir), collector, generation, after))
}

async fn serve(dir: &Path, collector: &str, generation: u64, after: i64) -> anyhow::Result<()> {
    let options =
        LogOptions { level: "info".to_owned(), otlp_endpoint: None, service: "stoa-kill" };
    let _log = log::open(&options)?;
    let _data_dir = DataDir::open(dir)?;
    let identity = identity::load(dir)?;
    let epoch = uplink::draw_epoch();
    let options = SpoolOptions { free_bytes_min: 1 << 20, ..SpoolOptions::default() };
    let (spool, opened) =
        Spool::open(Arc::new(RealDisk), &dir.join("spool"), options, epoch, unix_ms())?;
    let mut recorder = Recorder::open(dir, generation)?;
    recorder.drops(&opened.dropped);
    let dialer = Dialer::new(DialConfig::new(collector, identity.credentials()))?;

    let stop = CancellationToken::new();
    let (figures_tx, mut figures) =
        watch::channel(UplinkFigures { in_spool: opened.recovered, ..UplinkFigures::default() });
    let (ticks, ticks_rx) = mpsc::channel(4);
    let uplink = tokio::spawn(uplink::run(
        Arc::new(dialer),
        Recorded { spool, recorder: recorder.another()? },
        UplinkConfig {
            epoch,
            boot_id: uplink::boot_id(),
            agent_version: "kill".to_owned(),
            seed: generation,
            recovered: opened.recovered,
        },
        ticks_rx,
        Arc::new(unix_ms),
        figures_tx,
        stop.clone(),
    ));

    let (enough_tx, mut enough) = oneshot::channel();
    std::thread::spawn(move || {
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        let _gone = enough_tx.send(());
    });
    let mut batcher = Batcher::new();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut t, mut produced) = (after, 0);
    for n in 1.. {
        tokio::select! {
            _ended = &mut enough => break,
            _at = pace.tick() => {}
        }
        t = unix_ms().max(t + 1);
        let families = families(generation, n);
        let families: Vec<&Family> = families.iter().collect();
        let batched = batcher.tick(t, &[SourceReading { source: "kill", families: &families }]);
        produced += batched.tick.samples.len() as u64;
        recorder.line(format!("P {t} {n}"));
        ticks.send(Arc::new(batched.tick)).await.context("the uplink has ended")?;
    }
    let drained = figures.wait_for(|figures| {
        figures.produced == produced && figures.in_memory + figures.in_spool == 0
    });
    tokio::time::timeout(DRAIN, drained).await.context("drain")??;
    recorder.line("Z".to_owned());
    stop.cancel();
    uplink.await.context("the uplink broke")
}

fn families(generation: u64, n: u64) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for (metric, label, value) in record::samples(generation, n) {
        let label = label.to_string();
        let labels = Labels::from_pairs_last_wins([("of", label.as_str())]);
        match families.last_mut().filter(|family| family.name == metric) {
            Some(family) => family.push(labels, value),
            None => {
                let mut family =
                    Family::new(metric, "Says which reading it is.", MetricKind::Gauge);
                family.push(labels, value);
                families.push(family);
            }
        }
    }
    families
}
