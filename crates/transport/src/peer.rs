//! Who is at the other end, as its certificate says it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use ring::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::tls::SERVER_NAME;
use crate::{Class, Via};

/// The longest host name accepted, in bytes (a DNS name's limit).
const HOST_BYTES_MAX: usize = 253;
/// Names below this domain are the collector's own and never a host's.
const RESERVED_DOMAIN: &str = ".stoa";

/// The caller of a gRPC method: `request.extensions().get::<Peer>()`, on both transports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The host name from the verified certificate; `None` exactly for [`Class::Join`].
    pub host: Option<String>,
    /// The certificate's serial number as [`CertificateIdentity::serial`]; empty for [`Class::Join`].
    pub serial: String,
    /// SHA-256 of the certificate's DER; zeros for [`Class::Join`].
    pub cert_sha256: [u8; 32],
    /// Where the packets come from, IPv4 written as such. No part of the identity: it may change
    /// while a QUIC connection lives.
    pub remote: SocketAddr,
    /// The transport underneath.
    pub via: Via,
    /// The class of the stream the call came on. Where a whole QUIC connection is meant
    /// ([`crate::Listener::cut`]), [`Class::Control`].
    pub class: Class,
}

impl Peer {
    pub(crate) fn new(
        identity: Option<&CertificateIdentity>,
        remote: SocketAddr,
        via: Via,
    ) -> Self {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        match identity {
            Some(identity) => Self {
                host: Some(identity.host.clone()),
                serial: identity.serial.clone(),
                cert_sha256: identity.sha256,
                remote,
                via,
                class: Class::Control,
            },
            None => Self {
                host: None,
                serial: String::new(),
                cert_sha256: [0; 32],
                remote,
                via,
                class: Class::Join,
            },
        }
    }

    pub(crate) fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }
}

/// What a host's certificate says about its holder.
///
/// The host name is the one and only DNS subject alternative name: 1 to 253 bytes of lower case
/// letters, digits, `-`, `_` and `.`, not starting with `.` or `-`, not below the domain `.stoa`
/// (so the collector's certificate names no host). Common name, and alternative names of other
/// kinds, are not read. Whoever issues certificates for this crate also sets, when it sets an
/// extended key usage at all, `clientAuth` for hosts and `serverAuth` for the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The host name.
    pub host: String,
    /// The serial number: lower case hexadecimal, two digits a byte, without leading zero bytes.
    pub serial: String,
    /// SHA-256 of the certificate's DER.
    pub sha256: [u8; 32],
    /// End of validity, Unix seconds.
    pub not_after: i64,
}

/// Why a certificate names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The DER is no X.509 certificate.
    #[error("certificate cannot be parsed")]
    Malformed,
    /// Not exactly one DNS subject alternative name.
    #[error("certificate has {found} DNS names, a host's has one")]
    Names {
        /// How many it has.
        found: usize,
    },
    /// The name is outside the alphabet, too long, or reserved.
    #[error("certificate's DNS name {name:?} cannot be a host name")]
    Name {
        /// The name as found, cut to a printable length.
        name: String,
    },
}

impl CertificateIdentity {
    /// Reads a certificate's identity. It verifies nothing: the TLS handshake has.
    ///
    /// # Errors
    /// [`IdentityError`] when the certificate names no host.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_error| IdentityError::Malformed)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_error| IdentityError::Malformed)?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let names: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            })
            .collect();
        let &[name] = names.as_slice() else {
            return Err(IdentityError::Names { found: names.len() });
        };
        if !is_host_name(name) {
            return Err(IdentityError::Name { name: name.chars().take(64).collect() });
        }
        Ok(Self {
            host: name.to_owned(),
            serial: serial_of(&parsed),
            sha256: sha256(certificate),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// What can be said in a log line about a certificate that was not accepted: name and serial, as
/// claimed, with nothing in it that could move a terminal's cursor.
pub(crate) fn claimed(certificate: &CertificateDer<'_>) -> (Option<String>, Option<String>) {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return (None, None);
    };
    let name = CertificateIdentity::of(certificate).map_or_else(
        |_error| {
            let subject = parsed.subject().to_string();
            let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
            subject.chars().take(HOST_BYTES_MAX).map(printable).collect()
        },
        |identity| identity.host,
    );
    (Some(name), Some(serial_of(&parsed)))
}

fn serial_of(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes.iter().skip(start) {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= HOST_BYTES_MAX
        && !name.starts_with(['.', '-'])
        && !name.ends_with(RESERVED_DOMAIN)
        && name != SERVER_NAME
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, SerialNumber};

    use super::*;

    fn check(names: &[&str], serial: &[u8], expected: Result<(&str, &str), IdentityError>) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.strip_prefix("uri:") {
                Some(uri) => SanType::URI(uri.try_into().unwrap()),
                None => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = CertificateIdentity::of(certificate.der());
        let found = found.as_ref().map(|id| (id.host.as_str(), id.serial.as_str()));
        assert_eq!(found, expected.as_ref().map(|pair| *pair), "{names:?}");
    }

    #[test]
    fn the_host_is_the_one_dns_name() {
        check(&["pve1"], &[0x80, 1], Ok(("pve1", "8001")));
        check(&["a_b.lan"], &[1], Ok(("a_b.lan", "01")));
        check(&["pve1", "uri:stoa://host/other"], &[0, 7], Ok(("pve1", "07")));
        check(&[], &[1], Err(IdentityError::Names { found: 0 }));
        check(&["a", "b"], &[1], Err(IdentityError::Names { found: 2 }));
        for name in [SERVER_NAME, "x.stoa", "UPPER", "-x", ".x", "a b", "../x", "*.lan"] {
            check(&[name], &[1], Err(IdentityError::Name { name: name.to_owned() }));
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        let junk = CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff, 1]);
        assert_eq!(CertificateIdentity::of(&junk), Err(IdentityError::Malformed));
        assert_eq!(claimed(&junk), (None, None));
    }
}
