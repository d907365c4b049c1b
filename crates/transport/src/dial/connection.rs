//! A listener reached, whatever the transport.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use crate::{Class, Refused, Via};

use super::channel::{self, Opener, Path};

/// A connection the listener has accepted; cheap to clone. It stays open while it, or a channel of
/// it, is held.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    opener: Arc<Opener>,
    remote: SocketAddr,
    first: Channel,
    metrics: OnceLock<Channel>,
    logs: OnceLock<Channel>,
    /// Set by [`Connection::close`], to tell our own end from others'.
    closed_here: CancellationToken,
    better: CancellationToken,
    _probe: Option<AbortOnDropHandle<()>>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// By [`Connection::close`].
    Here,
    /// By the listener, which said why: as a rule [`Refused::Draining`] or [`Refused::Revoked`]. Over
    /// TCP no reason can be told, and this is [`Closed::Lost`].
    Refused(Refused),
    /// By a broken path, a timeout or a restart of the listener; the text says which.
    Lost(String),
}

impl Connection {
    pub(super) fn new(
        opener: Arc<Opener>,
        remote: SocketAddr,
        first: Channel,
        better: CancellationToken,
        probe: Option<AbortOnDropHandle<()>>,
    ) -> Self {
        let inner = Inner {
            opener,
            remote,
            first,
            metrics: OnceLock::new(),
            logs: OnceLock::new(),
            closed_here: CancellationToken::new(),
            better,
            _probe: probe,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The class's channel: one HTTP/2 connection, shared by all who ask. Metrics and logs are
    /// opened by their first call. Calls fail with `Unavailable` once the connection has ended: a
    /// channel never dials anew. (For [`Class::Join`] as for [`Class::Control`]: the channel that
    /// came with the dial.) Must be called within a tokio runtime.
    #[must_use]
    pub fn channel(&self, class: Class) -> Channel {
        let inner = &self.inner;
        let lazy = || channel::lazy(&inner.opener, class);
        match class {
            Class::Control | Class::Join => inner.first.clone(),
            Class::Metrics => inner.metrics.get_or_init(lazy).clone(),
            Class::Logs => inner.logs.get_or_init(lazy).clone(),
        }
    }

    /// The transport in use.
    #[must_use]
    pub fn via(&self) -> Via {
        self.inner.opener.via()
    }

    /// The listener's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.inner.remote
    }

    /// The round trip as QUIC measures it; `None` over TCP.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        match &self.inner.opener.path {
            Path::Quic(connection) => Some(connection.rtt()),
            Path::Tcp(_) => None,
        }
    }

    /// Completes when QUIC has been found to work while this connection goes over TCP: dial again,
    /// move there, close this one. Never completes over QUIC.
    pub async fn better_path(&self) {
        self.inner.better.cancelled().await;
    }

    /// Completes when the connection has ended, with how. May be awaited by many, before and after.
    pub async fn closed(&self) -> Closed {
        let lost = async {
            match &self.inner.opener.path {
                Path::Quic(connection) => how_closed(connection.closed().await),
                Path::Tcp(_) => {
                    self.inner.opener.life.cancelled().await;
                    Closed::Lost("tcp connection ended".to_owned())
                }
            }
        };
        tokio::select! {
            biased;
            () = self.inner.closed_here.cancelled() => Closed::Here,
            closed = lost => closed,
        }
    }

    /// Ends the connection; calls in flight fail, and what they sent may be lost: await the replies
    /// first. The listener is told within a few round trips: await [`super::Dialer::farewell`] before
    /// the process ends.
    pub fn close(&self) {
        self.inner.closed_here.cancel();
        self.inner.opener.life.cancel();
        if let Path::Quic(connection) = &self.inner.opener.path {
            crate::quic::close_settled(connection.clone(), VarInt::from_u32(0), "");
        }
    }
}

fn how_closed(error: ConnectionError) -> Closed {
    match error {
        ConnectionError::LocallyClosed => Closed::Here,
        ConnectionError::ApplicationClosed(close) => {
            match u8::try_from(close.error_code.into_inner()).unwrap_or(u8::MAX) {
                0 => Closed::Lost("closed by the listener".to_owned()),
                byte => Closed::Refused(Refused::from_byte(byte)),
            }
        }
        ConnectionError::Reset => Closed::Lost("the listener has restarted".to_owned()),
        other => Closed::Lost(other.to_string()),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("via", &self.via())
            .field("remote", &self.remote())
            .finish_non_exhaustive()
    }
}
