//! The simulated hosts' tasks: one that makes ticks and sees them acknowledged, one uplink.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use stoa_agent::identity::Identity;
use stoa_agent::join;
use stoa_agent::spool::{Spool, SpoolOptions};
use stoa_agent::uplink::{self, UplinkConfig, UplinkFigures};
use stoa_model::TimestampMs;
use stoa_proto::delivery::Epoch;
use stoa_proto::tick::Tick;
use stoa_transport::{DialConfig, Dialer};
use stoa_wal::disk::RealDisk;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::load::{Load, Replica};
use super::clock;
use super::outcome::Totals;

/// Ticks that wait for an uplink, as in the agent.
const TICKS_WAITING_MAX: usize = 4;

/// How often it is looked whether all hosts are connected, or all is acknowledged.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A host with an identity and a spool.
pub(in super::super) struct Joined {
    number: u16,
    identity: Identity,
    address: String,
    spool: Spool,
    epoch: Epoch,
}

/// Joins as host `number`, with everything below `dir`.
///
/// # Errors
/// When the collector does not take it, or the spool cannot be made.
pub(in super::super) async fn join(
    number: u16,
    token: &str,
    address: &str,
    dir: &Path,
) -> anyhow::Result<Joined> {
    let name = format!("bench-{number}");
    let identity = join::join(token, address, &name, dir)
        .await
        .with_context(|| format!("join the simulated host {name}"))?;
    let epoch = uplink::draw_epoch();
    let path = dir.join("spool");
    let opening = tokio::task::spawn_blocking(move || {
        let now = stoa_daemon::unix_ms();
        Spool::open(Arc::new(RealDisk), &path, SpoolOptions::default(), epoch, now)
    });
    let (spool, _opened) = opening.await?.context("open a spool")?;
    Ok(Joined { number, identity, address: address.to_owned(), spool, epoch })
}

/// A tick that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Acknowledged {
    /// When the uplink was handed it.
    pub(in super::super) handed_in: Instant,
    /// How long until the collector had it on disk and we knew.
    pub(in super::super) latency: Duration,
}

/// When ticks begin, in both clocks.
type Start = Option<(Instant, TimestampMs)>;

/// What an exporter on a host would show now.
pub(in super::super) type Page = Option<Arc<Tick>>;

/// All hosts.
pub(in super::super) struct Hosts {
    load: Load,
    figures: Vec<watch::Receiver<UplinkFigures>>,
    pages: Vec<watch::Receiver<Page>>,
    uplinks: JoinSet<()>,
    hosts: JoinSet<Vec<Acknowledged>>,
    start: watch::Sender<Start>,
    /// No more ticks.
    end_ticks: CancellationToken,
    /// No more waiting for acknowledgements.
    end: CancellationToken,
}

impl Hosts {
    /// None yet.
    pub(in super::super) fn new(load: Load) -> Self {
        Self {
            load,
            figures: Vec::new(),
            pages: Vec::new(),
            uplinks: JoinSet::new(),
            hosts: JoinSet::new(),
            start: watch::channel(None).0,
            end_ticks: CancellationToken::new(),
            end: CancellationToken::new(),
        }
    }

    /// How many were started.
    pub(in super::super) fn len(&self) -> usize {
        self.figures.len()
    }

    /// The last tick of each.
    pub(in super::super) fn pages(&self) -> Vec<watch::Receiver<Page>> {
        self.pages.clone()
    }

    /// Samples of one tick of all hosts.
    pub(in super::super) fn one_tick(&self) -> u64 {
        self.load.all_series() as u64
    }

    /// Starts a host's uplink; its ticks begin with [`Self::begin`], at its phase among all hosts.
    ///
    /// # Errors
    /// When its certificate cannot be used.
    pub(in super::super) fn start(&mut self, joined: Joined) -> anyhow::Result<()> {
        let Joined { number, identity, address, spool, epoch } = joined;
        let dialer = Dialer::new(DialConfig::new(address, identity.credentials()))?;
        let (figures_tx, figures) = watch::channel(UplinkFigures::default());
        let (ticks, ticks_rx) = mpsc::channel(TICKS_WAITING_MAX);
        let config = UplinkConfig {
            epoch,
            boot_id: Vec::new(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: u64::from(number),
            recovered: 0,
        };
        let stop = self.end.clone();
        let dialer = Arc::new(dialer);
        self.uplinks.spawn(uplink::run(dialer, spool, config, ticks_rx, clock(), figures_tx, stop));
        let (page, page_rx) = watch::channel(None);
        self.pages.push(page_rx);
        let ticking = Ticking {
            replica: self.load.replica(number),
            interval: self.load.interval,
            phase: self.load.interval * u32::from(number) / u32::from(self.load.hosts.max(1)),
            ticks,
            page,
            figures: figures.clone(),
            produced: 0,
            waiting: VecDeque::new(),
            acknowledged: Vec::new(),
        };
        let (start, end_ticks) = (self.start.subscribe(), self.end_ticks.clone());
        self.hosts.spawn(ticking.run(start, end_ticks, self.end.clone()));
        self.figures.push(figures);
        Ok(())
    }

    /// Waits until each has had a session.
    pub(in super::super) async fn connected(&self) {
        while !self.figures.iter().all(|figures| figures.borrow().sessions > 0) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets ticks begin.
    pub(in super::super) fn begin(&self) -> Instant {
        let now = Instant::now();
        self.start.send_replace(Some((now, stoa_daemon::unix_ms())));
        now
    }

    /// All hosts together.
    pub(in super::super) fn totals(&self) -> Totals {
        self.figures.iter().fold(Totals::default(), |all, one| all.with(&one.borrow()))
    }

    /// Lets ticks end.
    pub(in super::super) fn end_ticks(&self) {
        self.end_ticks.cancel();
    }

    /// Waits until nothing waits to be acknowledged.
    pub(in super::super) async fn drained(&self) {
        // What was handed in last may not be counted as produced yet.
        tokio::time::sleep(LOOK_EVERY).await;
        while self.totals().waiting() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends all tasks; what was acknowledged, in no order.
    ///
    /// # Errors
    /// When one panicked.
    pub(in super::super) async fn stop(mut self) -> anyhow::Result<Vec<Acknowledged>> {
        self.end.cancel();
        let mut all = Vec::new();
        while let Some(host) = self.hosts.join_next().await {
            all.extend(host.context("a simulated host")?);
        }
        while let Some(uplink) = self.uplinks.join_next().await {
            uplink.context("an uplink")?;
        }
        Ok(all)
    }
}

struct Ticking {
    replica: Replica,
    interval: Duration,
    phase: Duration,
    ticks: mpsc::Sender<Arc<Tick>>,
    page: watch::Sender<Page>,
    figures: watch::Receiver<UplinkFigures>,
    produced: u64,
    /// Ticks not acknowledged: what was produced with each, and when it was handed in. Bounded by
    /// the uplink's own bounds and by the length of the run.
    waiting: VecDeque<(u64, Instant)>,
    acknowledged: Vec<Acknowledged>,
}

impl Ticking {
    async fn run(
        mut self,
        mut start: watch::Receiver<Start>,
        end_ticks: CancellationToken,
        end: CancellationToken,
    ) -> Vec<Acknowledged> {
        let begun = match start.wait_for(Option::is_some).await {
            Ok(start) => *start,
            Err(_gone) => None,
        };
        let Some((start, start_ms)) = begun else { return self.acknowledged };
        let mut offset = self.phase;
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return self.acknowledged,
                changed = self.figures.changed() => match changed {
                    Ok(()) => self.see_acknowledged(),
                    Err(_uplink_ended) => return self.acknowledged,
                },
                // A tick keeps the time it is due, however late this process gets to it.
                () = tokio::time::sleep_until(start + offset), if !end_ticks.is_cancelled() => {
                    let offset_ms = TimestampMs::try_from(offset.as_millis()).unwrap_or(0);
                    let Some(tick) = self.replica.tick(start_ms + offset_ms) else {
                        end_ticks.cancel();
                        continue;
                    };
                    self.produced += tick.samples.len() as u64;
                    self.waiting.push_back((self.produced, Instant::now()));
                    offset += self.interval;
                    let tick = Arc::new(tick);
                    self.page.send_replace(Some(Arc::clone(&tick)));
                    if self.ticks.send(tick).await.is_err() {
                        return self.acknowledged;
                    }
                }
            }
        }
    }

    fn see_acknowledged(&mut self) {
        let through = self.figures.borrow_and_update().acknowledged;
        let now = Instant::now();
        while let Some((_, handed_in)) =
            self.waiting.pop_front_if(|(samples, _)| *samples <= through)
        {
            let latency = now.duration_since(handed_in);
            self.acknowledged.push(Acknowledged { handed_in, latency });
        }
    }
}
