//! Why a dial failed, cut by what the caller can do about it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, TransportErrorCode};

use crate::Refused;
use crate::refused::alert_in;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The certificate, key or CAs given here cannot be used. Needs a person, or a new enrolment.
    #[error("dialer's credentials cannot be used")]
    Credentials {
        /// What TLS said.
        source: rustls::Error,
    },
    /// The name could not be resolved. May pass.
    #[error("resolve {addr}")]
    Resolve {
        /// The `host:port` asked for.
        addr: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name has no address. May pass.
    #[error("{addr} has no address")]
    NoAddress {
        /// The `host:port` asked for.
        addr: String,
    },
    /// Nobody listens there, or no packet gets there. May pass.
    #[error("cannot reach {addr}")]
    Unreachable {
        /// The address dialled.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time. May pass.
    #[error("no answer from {addr} within {after:?}")]
    TimedOut {
        /// The `host:port` asked for.
        addr: String,
        /// The bound.
        after: Duration,
    },
    /// The listener refused this host, and said why. [`Refused::passes`] tells what helps.
    #[error("{addr} refused: {reason}")]
    Refused {
        /// The address dialled.
        addr: SocketAddr,
        /// Its reason.
        reason: Refused,
    },
    /// The listener's certificate is not believed here: [`Refused::UnknownCa`], [`Refused::Expired`]
    /// and so on. Somebody else's listener, or a wrong clock; dialling again does not help.
    #[error("listener {addr} is not trusted: {reason}")]
    Listener {
        /// The address dialled.
        addr: SocketAddr,
        /// What is wrong with its certificate.
        reason: Refused,
        /// What TLS said.
        detail: String,
    },
    /// The connection broke while it was being made. May pass.
    #[error("connection to {addr} broke in the handshake")]
    Broken {
        /// The address dialled.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// What answers does not speak TLS: as a rule, another port of the same machine. Needs a person.
    #[error("what answers at {addr} does not speak TLS")]
    NotTls {
        /// The address dialled.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// HTTP/2 could not be started on the stream. May pass.
    #[error("start HTTP/2 with {addr}")]
    Http2 {
        /// The address dialled.
        addr: SocketAddr,
        /// What tonic said.
        source: tonic::transport::Error,
    },
}

impl DialError {
    /// Whether dialling again, with nothing changed by a person, may help.
    #[must_use]
    pub const fn passes(&self) -> bool {
        match self {
            Self::Credentials { .. } | Self::Listener { .. } | Self::NotTls { .. } => false,
            Self::Refused { reason, .. } => reason.passes(),
            _ => true,
        }
    }

    /// Whether the other side, or this one, has judged: other transports and addresses would only
    /// repeat it.
    pub(super) const fn is_verdict(&self) -> bool {
        matches!(self, Self::Credentials { .. } | Self::Refused { .. } | Self::Listener { .. })
    }

    pub(super) const fn refused(addr: SocketAddr, reason: Refused) -> Self {
        Self::Refused { addr, reason }
    }

    /// What ended a QUIC connection before it was one.
    pub(super) fn of_quic(addr: SocketAddr, error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TransportError(e) => match alert_in(u64::from(e.code)) {
                Some(alert) => Self::Listener {
                    addr,
                    reason: Refused::from_alert(alert),
                    detail: e.reason.clone(),
                },
                None => Self::Broken { addr, source: io::Error::other(error.clone()) },
            },
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::refused(addr, Refused::Busy)
            }
            ConnectionError::ConnectionClosed(close) => {
                match alert_in(u64::from(close.error_code)) {
                    Some(alert) => Self::refused(addr, Refused::from_alert(alert)),
                    None => Self::Broken { addr, source: io::Error::other(error.clone()) },
                }
            }
            ConnectionError::ApplicationClosed(close) => {
                let byte = u8::try_from(close.error_code.into_inner()).unwrap_or(u8::MAX);
                Self::refused(addr, Refused::from_byte(byte))
            }
            other => Self::Unreachable { addr, source: other.clone().into() },
        }
    }

    /// What ended a TLS handshake, or the wait for the answer after it, over TCP.
    pub(super) fn of_tcp(addr: SocketAddr, error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::refused(addr, Refused::from_alert(u8::from(*alert)))
            }
            Some(tls @ rustls::Error::InvalidCertificate(_)) => {
                Self::Listener { addr, reason: Refused::from_tls(tls), detail: tls.to_string() }
            }
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls { addr, source: error },
            _ => Self::Broken { addr, source: error },
        }
    }
}
