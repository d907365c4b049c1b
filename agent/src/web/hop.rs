//! How one request went, as far as it came.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{TlsFacts, Url};

/// A step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The name is looked up.
    Resolve,
    /// A connection is made.
    Connect,
    /// TLS is agreed on.
    Tls,
    /// The request is on its way, or the server thinks.
    Processing,
    /// The body comes.
    Transfer,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 5] =
        [Self::Resolve, Self::Connect, Self::Tls, Self::Processing, Self::Transfer];

    /// `blackbox_exporter`'s word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Processing => "processing",
            Self::Transfer => "transfer",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up",
            Self::Connect => "connecting to",
            Self::Tls => "agreeing on TLS with",
            Self::Processing => "waiting for an answer of",
            Self::Transfer => "reading the body from",
        })
    }
}

/// What each phase took; nothing for those not come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases([Duration; 5]);

impl Phases {
    /// What one took.
    #[must_use]
    pub fn get(&self, phase: Phase) -> Duration {
        self.0.get(phase as usize).copied().unwrap_or_default()
    }

    /// What all took.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

/// One request to one server.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Whom it was for.
    pub url: String,
    /// What each step took, the last one of a failure too.
    pub phases: Phases,
    /// The address that was connected to last, or tried.
    pub peer: Option<SocketAddr>,
    /// What TLS was agreed on, or which certificates were refused.
    pub tls: Option<TlsFacts>,
    /// What it answered.
    pub status: Option<StatusCode>,
    /// Where it redirected to.
    pub(super) location: Option<HeaderValue>,
    host: String,
    phase: Phase,
    since: Option<Instant>,
}

impl Hop {
    /// Begins.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self::to(url.to_string(), format!("{}:{}", url.host, url.port))
    }

    /// Begins, to what is no URL of HTTP.
    #[must_use]
    pub fn to(url: String, host: String) -> Self {
        Self {
            url,
            phases: Phases::default(),
            peer: None,
            tls: None,
            status: None,
            location: None,
            host,
            phase: Phase::Resolve,
            since: Some(Instant::now()),
        }
    }

    /// Where it is, or where it ended.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Ends one phase and begins another.
    pub fn enter(&mut self, phase: Phase) {
        self.end();
        self.phase = phase;
        self.since = Some(Instant::now());
    }

    /// Ends the phase it is in.
    pub fn end(&mut self) {
        if let Some(since) = self.since.take()
            && let Some(spent) = self.phases.0.get_mut(self.phase as usize)
        {
            *spent += since.elapsed();
        }
    }

    /// `gitea.lan:443 (192.168.1.7)`
    #[must_use]
    pub fn peer_name(&self) -> String {
        match self.peer {
            Some(peer) if !self.host.contains(&peer.ip().to_string()) => {
                format!("{} ({})", self.host, peer.ip())
            }
            _ => self.host.clone(),
        }
    }
}
