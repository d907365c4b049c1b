//! Why there is no answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::CertificateError;

use super::{Phase, Url};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address cannot be meant.
    #[error("{url:?} is no address: {wrong}")]
    Url {
        /// The address, without what may be secret.
        url: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A file of ours cannot be used: a secret, a CA, a certificate, a key.
    #[error("cannot use {}: {wrong}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, never what it says.
        wrong: String,
    },
    /// TLS cannot be set up on our side.
    #[error("cannot set up TLS: {wrong}")]
    Setup {
        /// What is wrong.
        wrong: String,
    },
    /// The name is not known, or the resolver does not answer.
    #[error("cannot look up {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The name has no address of the family that was asked for.
    #[error("{host} has no {family} address")]
    NoAddress {
        /// The name.
        host: String,
        /// `IPv4`, `IPv6` or nothing.
        family: &'static str,
    },
    /// No address of it takes a connection; the last one's words.
    #[error("cannot connect to {peer}: {source}")]
    Connect {
        /// The peer.
        peer: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The two do not agree on TLS, or the certificate is refused.
    #[error("no TLS with {peer}: {source}")]
    Tls {
        /// The peer.
        peer: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// What came is no HTTP, or the connection was lost.
    #[error("lost {peer} while {phase} it: {}", told(source))]
    Http {
        /// Where it was.
        phase: Phase,
        /// The peer.
        peer: String,
        /// What is wrong.
        #[source]
        source: hyper::Error,
    },
    /// The body is larger than is taken.
    #[error("{peer} sends more than {bytes_max} bytes")]
    TooLarge {
        /// The peer.
        peer: String,
        /// What would have been taken.
        bytes_max: usize,
    },
    /// The body cannot be unpacked.
    #[error("cannot unpack what {peer} sent: {source}")]
    Unpack {
        /// The peer.
        peer: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// It redirects to what is no address.
    #[error("{peer} redirects to {to:?}, which is no address")]
    Redirect {
        /// The peer.
        peer: String,
        /// Where to.
        to: String,
    },
    /// The time was up.
    #[error("no answer within {after:?}: the time was up while {phase} {peer}")]
    Deadline {
        /// Where it was.
        phase: Phase,
        /// The peer.
        peer: String,
        /// How long it might have taken.
        after: Duration,
    },
}

/// hyper's words and those below them, which say what happened.
fn told(error: &hyper::Error) -> String {
    let mut told = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        below = error.source();
    }
    told
}

impl WebError {
    pub(super) fn wrong_url(url: &Url, wrong: &'static str) -> Self {
        Self::Url { url: url.to_string(), wrong }
    }

    /// At which step it failed; `None`: before any.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Url { .. } | Self::File { .. } | Self::Setup { .. } => None,
            Self::Resolve { .. } | Self::NoAddress { .. } => Some(Phase::Resolve),
            Self::Connect { .. } => Some(Phase::Connect),
            Self::Tls { .. } => Some(Phase::Tls),
            Self::Redirect { .. } => Some(Phase::Processing),
            Self::TooLarge { .. } | Self::Unpack { .. } => Some(Phase::Transfer),
            Self::Http { phase, .. } | Self::Deadline { phase, .. } => Some(*phase),
        }
    }

    /// What is wrong with the peer's certificate, if that is it.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateError> {
        let Self::Tls { source, .. } = self else { return None };
        match source.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the time was up.
    #[must_use]
    pub fn is_lateness(&self) -> bool {
        match self {
            Self::Deadline { .. } => true,
            Self::Connect { source, .. } => source.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }
}
