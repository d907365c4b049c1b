//! Why one side would not talk to the other: one list for the log, the wire and the dialer.

use std::fmt;

use quinn::{ConnectionError, VarInt};
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

/// Why a connection, a stream or a handshake was refused or ended on purpose.
///
/// The number is the QUIC application close code and the second byte of a preamble's answer; it is
/// part of the wire format and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Refused {
    /// The listener is at its limit of connections or handshakes; try again later.
    Busy = 1,
    /// The listener is about to stop; dial again later.
    Draining = 2,
    /// The host or its certificate has been revoked.
    Revoked = 3,
    /// The protocol asked for needs a certificate, and none was shown.
    NoCertificate = 4,
    /// The certificate is sound, but names no host (see [`crate::CertificateIdentity`]).
    NoHostName = 5,
    /// The first bytes of a stream were no preamble of a version known here.
    BadPreamble = 6,
    /// The class is not to be had with this protocol: join with a certificate, or the reverse.
    WrongClass = 7,
    /// A handshake or a preamble was not complete in time.
    TooSlow = 8,
    /// No common ALPN protocol.
    Protocol = 9,
    /// The certificate was not issued by a CA trusted here.
    UnknownCa = 10,
    /// The certificate is no longer valid.
    Expired = 11,
    /// The certificate is not valid yet: as a rule, a clock is wrong.
    NotYetValid = 12,
    /// The certificate is malformed, of the wrong use or for another name.
    BadCertificate = 13,
    /// TLS 1.2 or older.
    TlsVersion = 14,
    /// Not a TLS handshake: a port scan, or another service's client.
    NotTls = 15,
    /// The other side did not accept this side's certificate.
    PeerRefused = 16,
    /// The address has too many handshakes under way; try again later. Told to nobody: there is no
    /// connection yet to tell it over.
    AddressBusy = 17,
    /// Anything else; the detail beside it says more.
    Other = 255,
}

impl Refused {
    const ALL: [Self; 18] = [
        Self::Busy,
        Self::Draining,
        Self::Revoked,
        Self::NoCertificate,
        Self::NoHostName,
        Self::BadPreamble,
        Self::WrongClass,
        Self::TooSlow,
        Self::Protocol,
        Self::UnknownCa,
        Self::Expired,
        Self::NotYetValid,
        Self::BadCertificate,
        Self::TlsVersion,
        Self::NotTls,
        Self::PeerRefused,
        Self::AddressBusy,
        Self::Other,
    ];

    /// A word for it: the value of a metric's `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Revoked => "revoked",
            Self::NoCertificate => "no_certificate",
            Self::NoHostName => "no_host_name",
            Self::BadPreamble => "bad_preamble",
            Self::WrongClass => "wrong_class",
            Self::TooSlow => "too_slow",
            Self::Protocol => "wrong_protocol",
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::BadCertificate => "bad_certificate",
            Self::TlsVersion => "tls_version",
            Self::NotTls => "not_tls",
            Self::PeerRefused => "peer_refused",
            Self::AddressBusy => "address_busy",
            Self::Other => "other",
        }
    }

    /// Whether dialling again, with nothing changed by a person, may help.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::AddressBusy | Self::Draining | Self::TooSlow | Self::Other
        )
    }

    pub(crate) const fn byte(self) -> u8 {
        self as u8
    }

    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(u32::from(self.byte()))
    }

    /// The reason with that number; an unknown number is [`Self::Other`].
    pub(crate) fn from_byte(byte: u8) -> Self {
        Self::ALL.into_iter().find(|reason| reason.byte() == byte).unwrap_or(Self::Other)
    }

    /// The reason behind a TLS alert, as sent by whoever judged the certificate.
    pub(crate) fn from_alert(alert: u8) -> Self {
        match AlertDescription::from(alert) {
            AlertDescription::CertificateRequired => Self::NoCertificate,
            AlertDescription::UnknownCA => Self::UnknownCa,
            AlertDescription::CertificateExpired => Self::Expired,
            AlertDescription::CertificateRevoked => Self::Revoked,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::BadCertificate,
            AlertDescription::ProtocolVersion => Self::TlsVersion,
            AlertDescription::NoApplicationProtocol => Self::Protocol,
            AlertDescription::DecodeError | AlertDescription::UnexpectedMessage => Self::NotTls,
            _ => Self::Other,
        }
    }

    /// What this side found wrong in the other's handshake.
    pub(crate) fn from_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::NoApplicationProtocol => Self::Protocol,
            rustls::Error::InvalidCertificate(why) => Self::from_certificate(why),
            rustls::Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic,
            ) => Self::TlsVersion,
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::PeerMisbehaved(_) => Self::NotTls,
            rustls::Error::AlertReceived(_) => Self::PeerRefused,
            _ => Self::Other,
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::Revoked => Self::Revoked,
            _ => Self::BadCertificate,
        }
    }

    /// What ended a QUIC handshake that this side judged, or `None` when it was not a TLS matter.
    pub(crate) fn from_quic(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::TransportError(e) => alert_in(u64::from(e.code)).map(Self::from_alert),
            _ => None,
        }
    }
}

/// The TLS alert inside a QUIC transport error code.
pub(crate) fn alert_in(code: u64) -> Option<u8> {
    u8::try_from(code.checked_sub(0x100)?).ok()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "too many connections or handshakes at once, or it is stopping",
            Self::Draining => "the listener is about to stop",
            Self::Revoked => "the certificate has been revoked",
            Self::NoCertificate => "no client certificate was shown",
            Self::NoHostName => "the certificate names no host",
            Self::BadPreamble => "the stream did not start with a known preamble",
            Self::WrongClass => "the traffic class does not belong to this protocol",
            Self::TooSlow => "the handshake was not complete in time",
            Self::Protocol => "no common application protocol (ALPN)",
            Self::UnknownCa => "the certificate is from an unknown CA",
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::BadCertificate => "the certificate is not acceptable",
            Self::TlsVersion => "TLS 1.3 is required, an older version was offered",
            Self::NotTls => "not a TLS handshake",
            Self::PeerRefused => "the other side did not accept our certificate",
            Self::AddressBusy => "the address has too many handshakes under way",
            Self::Other => "refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_keeps_its_number_on_the_wire() {
        for reason in Refused::ALL {
            assert_eq!(Refused::from_byte(reason.byte()), reason);
        }
        assert_eq!(Refused::from_byte(200), Refused::Other);
        // Pinned: a released agent reads these numbers.
        assert_eq!([Refused::Draining.byte(), Refused::Revoked.byte()], [2, 3]);
        assert_eq!(Refused::NoCertificate.byte(), 4);
    }

    #[test]
    fn alerts_tell_what_was_wrong_with_a_certificate() {
        for (alert, reason) in [
            (116, Refused::NoCertificate),
            (48, Refused::UnknownCa),
            (45, Refused::Expired),
            (44, Refused::Revoked),
            (70, Refused::TlsVersion),
            (120, Refused::Protocol),
        ] {
            assert_eq!(Refused::from_alert(alert), reason, "alert {alert}");
        }
        assert_eq!(alert_in(0x178), Some(120));
        assert_eq!(alert_in(2), None);
        assert_eq!(alert_in(0x200), None);
    }
}
