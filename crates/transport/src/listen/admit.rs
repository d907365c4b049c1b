//! Who may in: protocol, certificate, revocation; and the log line for who may not.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quinn::ConnectionError;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use crate::peer::claimed;
use crate::refused::alert_in;
use crate::tls::Witness;
use crate::{ALPN, ALPN_JOIN, CertificateIdentity, IdentityError, Peer, Refused, Via};

/// Refusals logged per [`LOG_PERIOD`]; the rest are counted and summed up in the next line.
const LOG_LINES_MAX: u32 = 20;
/// See [`LOG_LINES_MAX`].
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// A refusal, as far as it is known.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) remote: SocketAddr,
    pub(super) via: Via,
    /// The host as its certificate says, or claims.
    pub(super) host: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) reason: Refused,
    pub(super) detail: String,
    /// Counted, but no matter for an operator: a health check that connects and hangs up.
    pub(super) quiet: bool,
}

impl Refusal {
    pub(super) fn new(remote: SocketAddr, via: Via, reason: Refused) -> Self {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        Self { remote, via, host: None, serial: None, reason, detail: String::new(), quiet: false }
    }

    /// Of a peer already known by its certificate.
    pub(super) fn of(peer: &Peer, reason: Refused) -> Self {
        Self {
            host: peer.host.clone(),
            serial: Some(peer.serial.clone()).filter(|serial| !serial.is_empty()),
            ..Self::new(peer.remote, peer.via, reason)
        }
    }

    pub(super) fn detail(mut self, detail: impl ToString) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// Of a peer whose handshake was sound, but whose certificate or protocol does not do.
    pub(super) fn claims(
        self,
        certificates: &[CertificateDer<'_>],
        why: Option<IdentityError>,
    ) -> Self {
        let (host, serial) = certificates.first().map(claimed).unwrap_or_default();
        let detail = why.map(|error| error.to_string()).unwrap_or_default();
        Self { host, serial, detail, ..self }
    }

    /// What failed a TLS handshake over TCP.
    pub(super) fn of_tcp(remote: SocketAddr, error: &io::Error, witness: &Witness) -> Self {
        let refusal = Self::new(remote, Via::Tcp, Refused::NotTls).detail(error);
        if let Some(refusal) = refusal.seen_by(witness) {
            return refusal;
        }
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let hung_up = tls.is_none() && error.kind() == io::ErrorKind::UnexpectedEof;
        if hung_up && witness.greeted() {
            // A TLS client over TCP need not say why.
            return Self::new(remote, Via::Tcp, Refused::PeerRefused)
                .detail("hung up upon our certificate");
        }
        let reason = match tls {
            Some(tls) => Refused::from_tls(tls),
            None if hung_up => Refused::NotTls,
            None => Refused::Other,
        };
        Self { quiet: hung_up, ..Self::new(remote, Via::Tcp, reason).detail(error) }
    }

    /// What failed a QUIC handshake.
    pub(super) fn of_quic(remote: SocketAddr, error: &ConnectionError, witness: &Witness) -> Self {
        let refusal = Self::new(remote, Via::Quic, Refused::Other).detail(error);
        if let Some(refusal) = refusal.seen_by(witness) {
            return refusal;
        }
        let reason = match error {
            ConnectionError::ConnectionClosed(close)
                if alert_in(u64::from(close.error_code)).is_some() =>
            {
                Refused::PeerRefused
            }
            ConnectionError::TimedOut => Refused::TooSlow,
            other => Refused::from_quic(other).unwrap_or(Refused::Other),
        };
        Self::new(remote, Via::Quic, reason).detail(error)
    }

    /// With the certificate that was judged in the handshake, if one was refused.
    fn seen_by(&self, witness: &Witness) -> Option<Self> {
        let seen = witness.refused()?;
        Some(Self {
            host: seen.name,
            serial: seen.serial,
            reason: Refused::from_tls(&seen.error),
            detail: seen.error.to_string(),
            ..Self::new(self.remote, self.via, self.reason)
        })
    }
}

/// Whose handshake it was, from its protocol and certificates; `None` for a client that joins.
pub(super) fn admit(
    protocol: Option<&[u8]>,
    certificates: &[CertificateDer<'_>],
) -> Result<Option<CertificateIdentity>, (Refused, Option<IdentityError>)> {
    match protocol {
        Some(ALPN_JOIN) => Ok(None),
        Some(ALPN) => match certificates.first() {
            None => Err((Refused::NoCertificate, None)),
            Some(certificate) => CertificateIdentity::of(certificate)
                .map(Some)
                .map_err(|error| (Refused::NoHostName, Some(error))),
        },
        _ => Err((Refused::Protocol, None)),
    }
}

/// Counts refusals and logs them, at a bounded rate: a port scan must not fill a disk.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<Refused, u64>,
    period: Option<Instant>,
    lines: u32,
    unlogged: u64,
}

impl Refusals {
    pub(super) fn note(&self, refusal: &Refusal) {
        let unlogged = self.count(refusal.reason, Instant::now(), refusal.quiet);
        if refusal.quiet {
            tracing::debug!(remote = %refusal.remote, "connected and hung up");
        } else if let Some(unlogged) = unlogged {
            let host = refusal.host.as_deref().unwrap_or("unknown");
            let serial = refusal.serial.as_deref().unwrap_or("none");
            tracing::warn!(
                remote = %refusal.remote,
                via = %refusal.via,
                host,
                serial,
                reason = %refusal.reason,
                detail = refusal.detail,
                unlogged,
                "connection refused",
            );
        }
    }

    /// Counts, and says whether to log: how many before went without a line.
    fn count(&self, reason: Refused, now: Instant, quiet: bool) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.counts.entry(reason).or_default();
        *count = count.saturating_add(1);
        if quiet {
            return None;
        }
        let fresh = state.period.is_none_or(|start| now.duration_since(start) >= LOG_PERIOD);
        if fresh {
            state.period = Some(now);
            state.lines = 0;
        }
        if state.lines >= LOG_LINES_MAX {
            state.unlogged = state.unlogged.saturating_add(1);
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.unlogged))
    }

    pub(super) fn counts(&self) -> Vec<(Refused, u64)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_refusals_is_counted_whole_and_logged_in_part() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let logged =
            (0..500).filter(|_| refusals.count(Refused::NotTls, start, false).is_some()).count();
        assert_eq!(logged, 20);
        assert_eq!(refusals.counts(), [(Refused::NotTls, 500)]);
        assert_eq!(refusals.count(Refused::Expired, start + LOG_PERIOD, false), Some(480));
        assert_eq!(refusals.count(Refused::Expired, start + LOG_PERIOD, false), Some(0));
    }

    #[test]
    fn only_the_enrolment_protocol_goes_without_a_certificate() {
        assert_eq!(admit(Some(b"stoa-join/1"), &[]), Ok(None));
        assert_eq!(admit(Some(b"stoa/1"), &[]), Err((Refused::NoCertificate, None)));
        assert_eq!(admit(Some(b"h2"), &[]), Err((Refused::Protocol, None)));
        assert_eq!(admit(None, &[]), Err((Refused::Protocol, None)));
    }
}
