//! What travels together, and over what.

use std::fmt;

/// A traffic class: one HTTP/2 connection each, so that no class waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Orders, alert facts, certificate renewal: small, and never to wait.
    Control,
    /// Samples.
    Metrics,
    /// Log lines: bulk.
    Logs,
    /// Enrolment by a client that has no certificate yet.
    Join,
}

impl Class {
    /// The classes of a connection with a certificate, the most urgent first.
    pub const AGENT: [Self; 3] = [Self::Control, Self::Metrics, Self::Logs];

    /// The byte that names the class in the preamble.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Metrics => 2,
            Self::Logs => 3,
            Self::Join => 4,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Control),
            2 => Some(Self::Metrics),
            3 => Some(Self::Logs),
            4 => Some(Self::Join),
            _ => None,
        }
    }

    /// The QUIC stream priority: of two streams with bytes to send, the higher one is sent first.
    pub(crate) const fn priority(self) -> i32 {
        match self {
            Self::Control | Self::Join => 20,
            Self::Metrics => 10,
            Self::Logs => 0,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Join => "join",
        })
    }
}

/// The transport underneath.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// One QUIC connection, a stream per class.
    Quic,
    /// A TLS connection over TCP per class.
    Tcp,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}
