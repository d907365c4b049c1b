//! Who may hold how many connections, and what has become of connections so far.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections in all, of which one address holds at most
//! [`PER_ADDRESS_MAX`], so that no single one shuts the others out. Loopback and the proxies that
//! are trusted, which speak for many, are bounded by the whole only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::Pace;
use crate::http::access::AddressBlock;

/// Connections at once, of all ports that share the places.
pub const CONNECTIONS_MAX: usize = 1024;

/// Connections at once from one address.
pub const PER_ADDRESS_MAX: usize = 128;

/// How long a connection may take to its first request, and each request's headers from their first
/// byte to their last.
pub const HEADERS: Duration = Duration::from_secs(10);

/// How long a connection may stand without a request. Longer than the 90 s after which Go's client,
/// and so Grafana, gives up an idle connection, so that it is always the client that does.
pub const IDLE: Duration = Duration::from_secs(120);

/// The bounds of a listener. [`Limits::default`] is what a collector runs with.
#[derive(Clone, Debug)]
pub struct Limits {
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Connections at once from one address.
    pub per_address_max: usize,
    /// Addresses for which `per_address_max` does not hold, beside loopback.
    pub exempt: Vec<AddressBlock>,
    /// Whether loopback is exempt too.
    pub loopback_exempt: bool,
    /// See [`HEADERS`].
    pub headers: Duration,
    /// See [`IDLE`].
    pub idle: Duration,
    /// How fast bodies of requests must come and answers be read.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            per_address_max: PER_ADDRESS_MAX,
            exempt: Vec::new(),
            loopback_exempt: true,
            headers: HEADERS,
            idle: IDLE,
            pace: Pace::default(),
        }
    }
}

/// Figures of a listener, for its series; all but `connections` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpFigures {
    /// Connections open now.
    pub connections: u64,
    /// Connections closed at once because their address held too many.
    pub crowded: u64,
    /// Connections closed because headers or a TLS handshake did not come in time, and requests refused
    /// because their body did not.
    pub slow: u64,
    /// Connections closed because an answer was not read in time.
    pub stalled: u64,
    /// TLS handshakes that failed.
    pub tls: u64,
    /// Connections closed because no request came for long.
    pub idle: u64,
}

/// The places of one or more listeners: their limits, and who holds how many.
#[derive(Debug)]
pub struct Places {
    limits: Limits,
    /// Free places.
    free: Arc<Semaphore>,
    /// Only addresses that hold one; locked to count.
    held: Mutex<HashMap<IpAddr, usize>>,
    open: AtomicUsize,
    crowded: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) stalled: AtomicU64,
    pub(super) tls: AtomicU64,
    pub(super) idle: AtomicU64,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// `None` for an address that is exempt.
    counted: Option<IpAddr>,
}

impl Places {
    /// Places under these limits, none held.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limits.connections_max)),
            limits,
            held: Mutex::default(),
            open: AtomicUsize::default(),
            crowded: AtomicU64::default(),
            slow: AtomicU64::default(),
            stalled: AtomicU64::default(),
            tls: AtomicU64::default(),
            idle: AtomicU64::default(),
        })
    }

    /// Waits until there is one more place.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// What became of connections so far.
    #[must_use]
    pub fn figures(&self) -> HttpFigures {
        HttpFigures {
            connections: u64::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(u64::MAX),
            crowded: self.crowded.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
            stalled: self.stalled.load(Ordering::Relaxed),
            tls: self.tls.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place for a connection from there; `None`, and counted, when the address holds too many.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = from.to_canonical();
        let limits = &self.limits;
        let exempt = (limits.loopback_exempt && from.is_loopback())
            || limits.exempt.iter().any(|block| block.contains(from));
        if !exempt {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let of_address = held.entry(from).or_default();
            if *of_address >= limits.per_address_max {
                self.crowded.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            *of_address += 1;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place { places: Arc::clone(self), counted: (!exempt).then_some(from) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Ordering::Relaxed);
        let Some(from) = self.counted else { return };
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_address) = held.get_mut(&from) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                held.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_its_share_and_gives_it_back() {
        let places = Places::new(Limits {
            per_address_max: 2,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            ..Limits::default()
        });
        let take = |from: &str| places.take(from.parse().unwrap());
        let first = take("192.168.1.5");
        let second = take("::ffff:192.168.1.5");
        assert!(first.is_some() && second.is_some() && take("192.168.1.5").is_none());
        let others: Vec<Option<Place>> =
            ["192.168.1.6", "10.1.1.1", "10.1.1.1", "10.1.1.1", "127.0.0.1", "::1", "::1", "::1"]
                .map(take)
                .into();
        assert!(others.iter().all(Option::is_some));
        assert_eq!((places.figures().connections, places.figures().crowded), (10, 1));
        drop(second);
        assert!(take("192.168.1.5").is_some());
        drop((first, others));
        assert_eq!(places.figures().connections, 0);
        assert!(places.held.lock().unwrap().is_empty());
    }
}
