//! From ticks to the collector: drives the machine in [`session`] with real streams and disks.
//!
//! [`run`] is one task. It waits for a tick, for something from the session, for the machine's
//! deadline or for the stop, hands it to the machine, and does what the machine wants done: the
//! spool's work on a blocking thread, streams on tasks of their own that end with the session.
//! What it sends is never awaited, so a stuck peer cannot hold up sampling.
//!
//! Bounds: [`FRAMES_WAITING_MAX`], [`EVENTS_WAITING_MAX`], and the machine's and the spool's.

pub mod event;
pub mod figures;
pub mod session;

mod lane;
mod link;
mod outage;
mod teller;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use stoa_model::TimestampMs;
use stoa_proto::delivery::Epoch;
use stoa_proto::tick::Tick;
use stoa_transport::Dialer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use figures::UplinkFigures;
pub use session::UplinkConfig;

use event::{Action, Event, Moment, SpoolWorker};
use link::Link;
use outage::Outage;
use session::Uplink;

use crate::sources::inventory::Outbox;

/// Frames of one call that wait for the transport, at most; a call with more waiting is stuck.
const FRAMES_WAITING_MAX: usize = 256;

/// Replies that wait for the machine, at most; streams wait beyond.
const EVENTS_WAITING_MAX: usize = 64;

/// The longest sleep: the machine may have nothing to wait for.
const NAP: Duration = Duration::from_secs(5);

/// Tells the time in milliseconds since 1970, as the host has it, which may leap; main hands it in.
/// Nothing waits by it.
pub type Clock = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// A random epoch for a process that begins.
#[must_use]
pub fn draw_epoch() -> Epoch {
    Epoch::from_random(rand::rng().random())
}

/// The kernel's boot id, 16 bytes; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair.iter().fold(0, |sum, digit| sum * 16 + digit)).ok();
    let bytes: Vec<u8> = digits.chunks(2).filter_map(byte).collect();
    if bytes.len() == 16 { bytes } else { Vec::new() }
}

/// What the uplink sends; ticks alone are this as well.
#[derive(Debug)]
pub struct Readings {
    /// What was read.
    pub ticks: mpsc::Receiver<Arc<Tick>>,
    /// What the host is made of.
    pub inventory: Option<Outbox>,
}

impl From<mpsc::Receiver<Arc<Tick>>> for Readings {
    fn from(ticks: mpsc::Receiver<Arc<Tick>>) -> Self {
        Self { ticks, inventory: None }
    }
}

/// Sends ticks until `stop`, then saves what is in memory and closes the spool. `figures` always
/// holds what has been done so far.
pub async fn run<S: SpoolWorker>(
    dialer: Arc<Dialer>,
    spool: S,
    config: UplinkConfig,
    readings: impl Into<Readings>,
    clock: Clock,
    figures: watch::Sender<UplinkFigures>,
    stop: CancellationToken,
) {
    let Readings { mut ticks, inventory } = readings.into();
    let (replies_tx, mut replies) = mpsc::channel(EVENTS_WAITING_MAX);
    let mut driver = Driver {
        machine: Uplink::new(config, 0),
        link: Link::new(dialer, replies_tx, inventory),
        outage: Outage::default(),
        was_up: false,
        spool: Some(spool),
        clock,
        began: Instant::now(),
    };
    driver.handle(Event::Timer).await;
    let mut more_ticks = true;
    loop {
        let wait = u64::try_from(driver.machine.deadline().saturating_sub(driver.now().steady_ms));
        let nap = Duration::from_millis(wait.unwrap_or(0)).min(NAP);
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some((session, event)) = replies.recv() => {
                if !driver.link.is_current(session) {
                    continue;
                }
                event
            }
            tick = ticks.recv(), if more_ticks => match tick {
                Some(tick) => Event::Tick(tick),
                None => {
                    more_ticks = false;
                    continue;
                }
            },
            () = tokio::time::sleep(nap) => Event::Timer,
        };
        driver.handle(event).await;
        figures.send_replace(driver.machine.figures().clone());
        if driver.spool.is_none() {
            // Without it nothing could be bounded; the next process reads what is there.
            return;
        }
    }
    // What the sampler had ready when it stopped is saved too.
    while let Ok(tick) = ticks.try_recv() {
        driver.handle(Event::Tick(tick)).await;
    }
    driver.handle(Event::Stop).await;
    figures.send_replace(driver.machine.figures().clone());
    if let Some(spool) = driver.spool.take() {
        let closed = tokio::task::spawn_blocking(move || spool.end()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "closing the spool panicked");
        }
    }
}

struct Driver<S> {
    machine: Uplink,
    link: Link,
    outage: Outage,
    /// Whether a session was up, or the process is to end, before the event being handled.
    was_up: bool,
    /// Away while a blocking thread works with it; lost if that panics.
    spool: Option<S>,
    clock: Clock,
    /// Where the steady clock begins.
    began: Instant,
}

impl<S: SpoolWorker> Driver<S> {
    fn now(&self) -> Moment {
        let steady_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Moment { steady_ms, wall_ms: (self.clock)() }
    }

    async fn handle(&mut self, event: Event) {
        let mut actions = std::collections::VecDeque::from(self.step(event));
        while let Some(action) = actions.pop_front() {
            let outcome = match action {
                Action::Dial(hello) => {
                    self.link.dial(hello);
                    None
                }
                Action::Push { call, push } => self.link.push(call, push),
                Action::Ping { queue_age_ms, queue_samples } => {
                    self.link.ping(queue_age_ms, queue_samples, (self.clock)())
                }
                Action::HangUp { reason } => {
                    if self.was_up {
                        tracing::info!(reason, "session to the collector ends");
                    } else if self.outage.is_news(&reason) {
                        tracing::warn!(
                            reason,
                            "the collector cannot be reached; readings wait in the spool, and it \
                             is tried again every second"
                        );
                    } else {
                        tracing::debug!(reason, "the collector cannot be reached");
                    }
                    self.link.hang_up();
                    None
                }
                Action::Spool(job) => {
                    let now = (self.clock)();
                    let Some(mut spool) = self.spool.take() else { continue };
                    let work = tokio::task::spawn_blocking(move || {
                        let done = spool.work(job, now);
                        (spool, done)
                    });
                    match work.await {
                        Ok((spool, done)) => {
                            self.spool = Some(spool);
                            done.map(Event::Spool)
                        }
                        Err(error) => {
                            tracing::error!(%error, "the spool panicked, the uplink ends");
                            None
                        }
                    }
                }
            };
            // Behind what was wanted before: the machine relies on that order.
            actions.extend(outcome.into_iter().flat_map(|event| self.step(event)));
        }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let now = self.now();
        self.was_up = self.machine.is_up() || matches!(event, Event::Stop);
        match &event {
            Event::Welcomed { welcome, .. } => {
                self.outage.end();
                let skew_ms = now.wall_ms.saturating_sub(welcome.now_ms);
                tracing::info!(session = welcome.session, skew_ms, "the collector is there");
            }
            Event::Fenced { reason } => {
                tracing::error!(reason, "another process uses this host's identity");
            }
            Event::Refused { reason, .. } if self.outage.is_news(reason) => {
                tracing::error!(
                    reason,
                    "the collector and this host do not accept each other; readings wait in the \
                     spool, and it is tried again every few minutes"
                );
            }
            _ => {}
        }
        self.machine.handle(event, now)
    }
}
