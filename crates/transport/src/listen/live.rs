//! The connections that are open: counted, bounded, and ended from outside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::quic::close_settled;
use crate::{Class, Peer, Refused};

/// All open connections of a listener.
#[derive(Debug)]
pub(super) struct Live {
    /// By a number never used twice. Held for a moment, to add, to remove, to look through.
    entries: Mutex<HashMap<u64, Entry>>,
    accepted: AtomicU64,
    cut: AtomicU64,
    streams: TaskTracker,
    agents: Arc<Semaphore>,
    joins: Arc<Semaphore>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    end: End,
}

/// How a connection is ended: its streams by the token, at once; QUIC then says why.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) streams: CancellationToken,
    pub(super) quic: Option<Connection>,
}

/// A connection's place among the open ones, given back on drop.
#[derive(Debug)]
pub(super) struct Ticket {
    live: Arc<Live>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

/// What a stream counts against.
#[derive(Debug)]
pub(crate) struct Held {
    _stream: TaskTrackerToken,
    _connection: Arc<Ticket>,
}

impl Live {
    pub(super) fn new(agents_max: usize, joins_max: usize) -> Self {
        let streams = TaskTracker::new();
        // Closed, it still hands out tokens, and can be waited for.
        streams.close();
        Self {
            entries: Mutex::default(),
            accepted: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            streams,
            agents: Arc::new(Semaphore::new(agents_max)),
            joins: Arc::new(Semaphore::new(joins_max)),
        }
    }

    /// Enters a connection, unless there are too many.
    pub(super) fn enter(self: &Arc<Self>, peer: &Peer, end: End) -> Result<Arc<Ticket>, Refused> {
        let places = if peer.class == Class::Join { &self.joins } else { &self.agents };
        let permit = Arc::clone(places).try_acquire_owned().map_err(|_no_permits| Refused::Busy)?;
        let id = self.accepted.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { peer: peer.clone(), end };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
        Ok(Arc::new(Ticket { live: Arc::clone(self), id, _permit: permit }))
    }

    /// What a stream of that connection holds.
    pub(super) fn hold(&self, connection: &Arc<Ticket>) -> Held {
        Held { _stream: self.streams.token(), _connection: Arc::clone(connection) }
    }

    /// Ends the connections that `whom` picks.
    pub(super) fn cut(&self, reason: Refused, whom: impl Fn(&Peer) -> bool) -> usize {
        let mut count = 0;
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.values().filter(|entry| whom(&entry.peer)) {
            count += 1;
            entry.end.streams.cancel();
            if let Some(connection) = &entry.end.quic {
                close_settled(connection.clone(), reason.code(), reason.as_str());
            }
        }
        drop(entries);
        if reason == Refused::Revoked {
            let cut = u64::try_from(count).unwrap_or(u64::MAX);
            self.cut.fetch_add(cut, Ordering::Relaxed);
        }
        count
    }

    pub(super) async fn all_streams_ended(&self) {
        self.streams.wait().await;
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn connections(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn cut_total(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let entry =
            self.live.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        if let Some(entry) = entry {
            entry.end.streams.cancel();
        }
    }
}
