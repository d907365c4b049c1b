//! What agents send becomes batches of the store, and acknowledgements.
//!
//! Each host has one task ([`agent`]) that owns its state machine ([`session`]); the gRPC handlers
//! ([`service`]) only read messages and hand them to it. A frame is acknowledged when the batch that
//! holds it is durable, and not before. What senders' clocks say is put together in [`clocks`]. Knows
//! no file and no socket; the store is all it appends to; beside it the host's own document is kept ([`inventories`]).
//!
//! Bounds: [`FRAMES_WAITING_MAX`] frames and [`EVENTS_WAITING_MAX`] events a host, beside the
//! machine's own, and [`FRAMES_READ_MAX`] frames being read; a host's task lives as long as the
//! collector, and there are as many as enrolled hosts have spoken.

pub mod clocks;
pub mod dictionary;
pub mod event;
pub mod figures;
pub mod legs;
pub mod session;

mod agent;
mod inventories;
mod service;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stoa_model::{HostId, Labels, METRIC_NAME, TimestampMs};
use stoa_proto::convert::INVENTORY_BYTES_MAX;
use stoa_proto::v1::control_server::ControlServer;
use stoa_proto::v1::ingest_server::IngestServer;
use stoa_proto::v1::inventories_server::InventoriesServer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use figures::IngestFigures;
pub use inventories::Tellings;
pub use service::{Sessions, Telemetry};
pub use session::{FUTURE_MAX_MS, group_of};

use crate::clock::{Clock, Steady};
use crate::inventory::Inventories;
use crate::presence::Presence;
use crate::store::Store;
use agent::Handle;
use clocks::{Clocks, Moment, Odd, Standing};

/// Frames read from a host's calls that wait for its task; more stay in the transport's windows.
const FRAMES_WAITING_MAX: usize = 8;

/// Frames read at once, of all hosts: each on a thread that may wait for the store's locks.
const FRAMES_READ_MAX: usize = 2;

/// Openings, endings and pings of a host that wait for its task.
const EVENTS_WAITING_MAX: usize = 64;

/// Answers that wait for a peer to read them; a peer that lets more pile up is cut off.
const ANSWERS_WAITING_MAX: usize = 256;

/// The largest message of a Push call: a payload and what surrounds it.
const FRAME_BYTES_MAX: usize = stoa_proto::frame::PAYLOAD_BYTES_MAX + (64 << 10);

/// The largest message of a control session.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The labels of a series the collector writes about a host.
#[must_use]
pub fn host_labels(metric: &str, host: &HostId) -> Labels {
    Labels::from_pairs_last_wins([
        (METRIC_NAME, metric),
        ("host", host.as_str()),
        ("instance", host.as_str()),
        ("job", dictionary::JOB),
    ])
}

/// What every agent's task shares.
pub struct Ingest {
    store: Store,
    clock: Clock,
    steady: Steady,
    /// Held to tell or ask only.
    clocks: Mutex<Clocks>,
    presence: Arc<Mutex<Presence>>,
    series_max: usize,
    inventories: Arc<Inventories>,
    /// One permit: for the inventory being written.
    keeping: Arc<Semaphore>,
    /// A permit for each frame being read.
    reading: Semaphore,
    /// Cancelled when the listener drains: sessions and calls end.
    draining: CancellationToken,
    next_id: AtomicU64,
    /// Held to look up or add an entry only.
    agents: Mutex<HashMap<HostId, Arc<Handle>>>,
}

impl Ingest {
    /// An ingest that appends to `store`, tells `presence` who is heard, by `steady`, and keeps hosts'
    /// documents in `inventories`; no agent may have more than `series_max` series. Everything ends when `draining` is cancelled.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Clock,
        steady: Steady,
        presence: Arc<Mutex<Presence>>,
        inventories: Arc<Inventories>,
        series_max: usize,
        draining: CancellationToken,
    ) -> Self {
        Self {
            store,
            clock,
            steady,
            clocks: Mutex::default(),
            presence,
            inventories,
            keeping: Arc::new(Semaphore::new(1)),
            series_max,
            reading: Semaphore::new(FRAMES_READ_MAX),
            draining,
            next_id: AtomicU64::new(1),
            agents: Mutex::new(HashMap::new()),
        }
    }

    /// The gRPC services, fit for tonic's `add_service`.
    #[must_use]
    pub fn services(
        ingest: &Arc<Self>,
    ) -> (ControlServer<Sessions>, IngestServer<Telemetry>, InventoriesServer<Tellings>) {
        let control = ControlServer::new(Sessions(Arc::clone(ingest)));
        let push = IngestServer::new(Telemetry(Arc::clone(ingest)));
        let tell = InventoriesServer::new(Tellings(Arc::clone(ingest)));
        (
            control.max_decoding_message_size(MESSAGE_BYTES_MAX),
            push.max_decoding_message_size(FRAME_BYTES_MAX),
            tell.max_decoding_message_size(INVENTORY_BYTES_MAX),
        )
    }

    /// What all agents together have sent since the start.
    #[must_use]
    pub fn figures(&self) -> IngestFigures {
        let mut sum = IngestFigures::default();
        for handle in self.agents.lock().unwrap_or_else(PoisonError::into_inner).values() {
            sum.add(&handle.figures());
        }
        sum
    }

    /// What most senders say of the collector's clock.
    #[must_use]
    pub fn clock_standing(&self) -> Standing {
        self.clocks().standing(self.moment((self.clock)()))
    }

    /// Whether the collector may write samples of its own at `now_ms`; `expected` says how many hosts
    /// may speak.
    #[must_use]
    pub fn clock_vouched(&self, now_ms: TimestampMs, expected: usize) -> bool {
        self.clocks().vouch(self.moment(now_ms), expected)
    }

    /// Milliseconds since the collector began, by the clock that nobody sets: what `presence` goes by.
    #[must_use]
    pub fn steady_ms(&self) -> i64 {
        (self.steady)()
    }

    /// A host says what time it is.
    fn clock_said(&self, host: &HostId, said_ms: TimestampMs) {
        self.clocks().heard(host, said_ms, (self.steady)());
    }

    /// Whose clock is wrong when this host sends a sample that is too far ahead.
    fn clock_odd(&self, host: &HostId, now_ms: TimestampMs) -> Odd {
        self.clocks().odd(host, self.moment(now_ms))
    }

    fn moment(&self, now_ms: TimestampMs) -> Moment {
        Moment { now_ms, steady_ms: (self.steady)() }
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what may wait for the store's locks on a thread that may wait; a panic there goes on
    /// here. `None` when the process ends.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _permit = self.reading.acquire().await.ok()?;
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Some(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => None,
        }
    }

    /// The task of a host, started if it is not running: one that panicked costs the host its
    /// session, not its place.
    fn agent(self: &Arc<Self>, host: HostId) -> Arc<Handle> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        match agents.get(&host) {
            Some(handle) if !handle.events.is_closed() => return Arc::clone(handle),
            Some(_ended) => tracing::error!(%host, "the host's task had ended, starting it anew"),
            None => {}
        }
        let handle = agent::spawn(self, host.clone());
        agents.insert(host, Arc::clone(&handle));
        handle
    }

    /// A number no session or call of this process has had.
    fn number(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").finish_non_exhaustive()
    }
}
