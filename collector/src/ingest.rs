//! What agents send becomes batches of the store, and acknowledgements.
//!
//! Each host has one task ([`agent`]) that owns its state machine ([`session`]); the gRPC handlers
//! ([`service`]) only read messages and hand them to it. A frame is acknowledged when the batch that
//! holds it is durable, and not before. Knows no file and no socket; the store is all it appends to.
//!
//! Bounds: [`FRAMES_WAITING_MAX`] frames and [`EVENTS_WAITING_MAX`] events a host, beside the
//! machine's own; a host's task lives as long as the collector, and there are as many as enrolled
//! hosts have spoken.

pub mod dictionary;
pub mod event;
pub mod figures;
pub mod legs;
pub mod session;

mod agent;
mod service;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stoa_model::{HostId, Labels, METRIC_NAME};
use stoa_proto::v1::control_server::ControlServer;
use stoa_proto::v1::ingest_server::IngestServer;
use tokio_util::sync::CancellationToken;

pub use figures::IngestFigures;
pub use service::{Sessions, Telemetry};
pub use session::group_of;

use crate::presence::Presence;
use crate::store::{Clock, Store};
use agent::Handle;

/// Frames read from a host's calls that wait for its task; more stay in the transport's windows.
const FRAMES_WAITING_MAX: usize = 8;

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
    presence: Arc<Mutex<Presence>>,
    series_max: usize,
    /// Cancelled when the listener drains: sessions and calls end.
    draining: CancellationToken,
    next_id: AtomicU64,
    /// Held to look up or add an entry only.
    agents: Mutex<HashMap<HostId, Arc<Handle>>>,
}

impl Ingest {
    /// An ingest that appends to `store` and tells `presence` who is heard; no agent may have more
    /// than `series_max` series. Everything ends when `draining` is cancelled.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Clock,
        presence: Arc<Mutex<Presence>>,
        series_max: usize,
        draining: CancellationToken,
    ) -> Self {
        Self {
            store,
            clock,
            presence,
            series_max,
            draining,
            next_id: AtomicU64::new(1),
            agents: Mutex::new(HashMap::new()),
        }
    }

    /// The gRPC services, fit for tonic's `add_service`.
    #[must_use]
    pub fn services(ingest: &Arc<Self>) -> (ControlServer<Sessions>, IngestServer<Telemetry>) {
        let control = ControlServer::new(Sessions(Arc::clone(ingest)));
        let push = IngestServer::new(Telemetry(Arc::clone(ingest)));
        (
            control.max_decoding_message_size(MESSAGE_BYTES_MAX),
            push.max_decoding_message_size(FRAME_BYTES_MAX),
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
