//! An agent without sources: the real uplink and spool, and ticks handed in by a test.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use stoa_agent::identity;
use stoa_agent::spool::{Spool, SpoolOptions};
use stoa_agent::uplink::{self, Clock, UplinkConfig, UplinkFigures};
use stoa_model::{Labels, METRIC_NAME, MetricKind};
use stoa_proto::delivery::DropReason;
use stoa_proto::tick::{FamilyInfo, Series, Tick};
use stoa_transport::{DialConfig, Dialer};
use stoa_wal::disk::RealDisk;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::sandbox::{Sandbox, until};

/// A running uplink.
pub struct Feed {
    ticks: mpsc::Sender<Arc<Tick>>,
    figures: watch::Receiver<UplinkFigures>,
    series: HashMap<Labels, Arc<Series>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Feed {
    /// The uplink of a new host.
    pub async fn start(sandbox: &Sandbox, host: &str) -> Self {
        let dir = sandbox.join(host).await;
        Self::start_in(sandbox, &dir, uplink::boot_id()).await
    }

    /// The uplink of a new host whose clock is `clock`.
    pub async fn with_clock(sandbox: &Sandbox, host: &str, clock: Clock) -> Self {
        let dir = sandbox.join(host).await;
        Self::run_in(sandbox, &dir, uplink::boot_id(), clock)
    }

    /// The uplink of the host that has joined in `dir`, on a machine with this boot id.
    pub async fn start_in(sandbox: &Sandbox, dir: &Path, boot_id: Vec<u8>) -> Self {
        Self::run_in(sandbox, dir, boot_id, Arc::new(stoa_daemon::unix_ms))
    }

    fn run_in(sandbox: &Sandbox, dir: &Path, boot_id: Vec<u8>, clock: Clock) -> Self {
        let identity = identity::load(dir).unwrap();
        let epoch = uplink::draw_epoch();
        let (spool, opened) = Spool::open(
            Arc::new(RealDisk),
            &dir.join("spool"),
            SpoolOptions::default(),
            epoch,
            clock(),
        )
        .unwrap();
        let dialer = DialConfig::new(sandbox.address(), identity.credentials());
        let config = UplinkConfig {
            epoch,
            boot_id,
            agent_version: "test".to_owned(),
            seed: rand::random(),
            recovered: opened.recovered,
        };
        let (ticks, ticks_rx) = mpsc::channel(64);
        let (figures_tx, figures) = watch::channel(UplinkFigures::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(uplink::run(
            Arc::new(Dialer::new(dialer).unwrap()),
            spool,
            config,
            ticks_rx,
            clock,
            figures_tx,
            stop.clone(),
        ));
        Self { ticks, figures, series: HashMap::new(), stop, task }
    }

    /// Hands a tick in.
    pub async fn send(&mut self, t_ms: i64, readings: impl IntoIterator<Item = (Labels, f64)>) {
        let mut samples = Vec::new();
        for (labels, value) in readings {
            let next = u32::try_from(self.series.len()).unwrap();
            let series = self.series.entry(labels).or_insert_with_key(|labels| new(next, labels));
            samples.push((Arc::clone(series), value));
        }
        samples.sort_by_key(|(series, _)| series.id);
        self.ticks.send(Arc::new(Tick { t: t_ms, samples })).await.unwrap();
    }

    /// Hands in one reading, as of now; when that was.
    pub async fn say(&mut self, name: &str, value: f64) -> i64 {
        let now_ms = stoa_daemon::unix_ms();
        self.send(now_ms, [(named(name), value)]).await;
        now_ms
    }

    /// What has been done.
    #[must_use]
    pub fn figures(&self) -> UplinkFigures {
        self.figures.borrow().clone()
    }

    /// Waits until the collector has answered for `samples` in all, and nothing waits any more.
    pub async fn settled(&self, samples: u64) -> UplinkFigures {
        let what = format!("{samples} samples are answered for");
        until(&what, async || {
            let figures = self.figures();
            assert_eq!(figures.imbalance(), 0, "{figures:?}");
            let waiting = figures.in_memory + figures.in_spool;
            (figures.produced + figures.recovered == samples && waiting == 0).then_some(figures)
        })
        .await
    }

    /// Saves what waits, and ends.
    pub async fn stop(self) -> UplinkFigures {
        let Self { figures, stop, task, .. } = self;
        stop.cancel();
        task.await.unwrap();
        figures.borrow().clone()
    }
}

fn new(id: u32, labels: &Labels) -> Arc<Series> {
    let family = FamilyInfo {
        name: labels.metric_name().unwrap_or_default().to_owned(),
        help: "Fed by a test.".to_owned(),
        unit: String::new(),
        kind: MetricKind::Gauge,
    };
    Arc::new(Series { id, family: Arc::new(family), labels: labels.clone() })
}

/// Labels of a metric without others.
#[must_use]
pub fn named(name: &str) -> Labels {
    labelled(name, &[])
}

/// Labels of a metric.
#[must_use]
pub fn labelled(name: &str, labels: &[(&str, &str)]) -> Labels {
    let pairs = labels.iter().copied().chain([(METRIC_NAME, name)]);
    Labels::from_pairs_last_wins(pairs)
}

/// Of figures by reason, those of one.
#[must_use]
pub fn of(figures: &[u64; DropReason::ALL.len()], reason: DropReason) -> u64 {
    let place = DropReason::ALL.iter().position(|one| *one == reason).unwrap();
    figures[place]
}
