//! The collector's own certificate authority: it says who the collector is, and who each host is.
//!
//! Constraints: the key is made here at first start and never leaves the data directory; a CA that
//! exists is never replaced by a new one, because that would turn every host into a stranger – if
//! its key is gone or unreadable, start-up says so instead. Of a certificate request only the public
//! key is taken; the name comes from whoever approved the request.
//!
//! Format: `ca/ca.key` (PKCS#8, PEM, mode 0600) and `ca/ca.pem` (the certificate) below the data
//! directory, `ca/revoked` beside them (see [`revoked`]), so that all three outlive the state
//! database. The key is written first: a key without a certificate is a first start that was
//! interrupted, and gets a certificate; a certificate without its key is a loss.
//!
//! This module knows no clock, no network and no database.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use stoa_model::{Hex, HostId, TimestampMs};

pub mod revoked;
pub mod server_cert;

pub use revoked::RevokedFile;
pub use server_cert::{CertSlot, ServerCert};

/// The name the collector's own certificates carry, whatever address it listens on.
pub const SERVER_NAME: &str = "collector.stoa";

/// How long the CA is valid: longer than any machine in a homelab.
const CA_VALID: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a host's certificate is valid. A host renews at half of it, so one that is away for
/// less than half a week never notices.
pub const HOST_CERT_VALID: Duration = Duration::from_secs(7 * 86_400);

/// How long the collector's own certificates are valid; they are renewed at half of it.
pub const SERVER_CERT_VALID: Duration = Duration::from_secs(30 * 86_400);

/// How far back a certificate's validity starts, for hosts whose clock is behind.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(3600);

/// The largest certificate request looked at, in bytes; an ECDSA one has about 200.
pub const CSR_BYTES_MAX: usize = 4096;

/// A certificate's serial number: 16 random bytes, the first from 0x40 to 0x7f, so that it reads
/// the same as an integer and as bytes. Printed as hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub [u8; 16]);

impl Serial {
    fn random() -> Self {
        let mut bytes: [u8; 16] = rand::random();
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0x3f) | 0x40;
        }
        Self(bytes)
    }

    /// The serial in a certificate, if it is one of ours by shape.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads what `Display` prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        stoa_model::hex::parse(text).map(Self)
    }
}

impl std::fmt::Display for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl std::fmt::Debug for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// What went wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the CA could not be read or written.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried: `read`, `write`, `create`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There was a CA, and its key is gone.
    #[error(
        "the CA's key {} is missing although a CA was made; restore it from a backup, or move {} \
         and the state database away to start anew (every host must then join again)",
        key.display(), dir.display()
    )]
    KeyMissing {
        /// Where the key was.
        key: PathBuf,
        /// The CA's directory.
        dir: PathBuf,
    },
    /// The key or certificate is not what it should be. Nothing is replaced.
    #[error("the CA's file {} cannot be used ({why}); restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A certificate request that cannot be granted.
    #[error("the certificate request is malformed: {why}")]
    Request {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A certificate could not be made.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
}

/// A certificate made for a host.
#[derive(Clone, Debug)]
pub struct HostCert {
    /// The host's certificate, then the CA's; DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its serial number.
    pub serial: Serial,
    /// When it ends.
    pub not_after_ms: TimestampMs,
    /// SHA-256 of the public key it is for.
    pub key_sha256: [u8; 32],
}

/// The certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
    sha256: [u8; 32],
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ca({}, key left out)", Hex(&self.sha256))
    }
}

impl Ca {
    /// Opens the CA below a data directory; makes it at first start.
    ///
    /// `made_before` says that the state database remembers a CA: then a missing key is a loss, not
    /// a first start.
    ///
    /// # Errors
    /// [`CaError`] when a file cannot be read or written, is damaged, or the key is missing.
    pub fn open(data_dir: &Path, made_before: bool, now_ms: TimestampMs) -> Result<Self, CaError> {
        let dir = data_dir.join("ca");
        let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        create.map_err(file_error("create", &dir))?;
        let (key_path, cert_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        let (key, cert) = (read_text(&key_path)?, read_text(&cert_path)?);
        let key = match (key, &cert) {
            (Some(pem), _) => KeyPair::from_pem(&pem).map_err(|_source| CaError::Damaged {
                path: key_path.clone(),
                why: "it is no private key",
            })?,
            (None, None) if !made_before => {
                let key = KeyPair::generate()?;
                write_private(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
            (None, _) => return Err(CaError::KeyMissing { key: key_path, dir }),
        };
        let cert = match cert {
            Some(pem) => parse_cert(&pem, &key, &cert_path)?,
            None => {
                if made_before {
                    tracing::error!(
                        path = %cert_path.display(),
                        "the CA's certificate is missing; made a new one for the same key, \
                         join tokens given out before no longer match"
                    );
                }
                let made = ca_params(&key, now_ms)?.self_signed(&key)?;
                write_private(&cert_path, made.pem().as_bytes())?;
                made.der().clone()
            }
        };
        let sha256 = sha256(&cert);
        let issuer = Issuer::from_ca_cert_der(&cert, key)?;
        Ok(Self { issuer, cert, sha256 })
    }

    /// SHA-256 of the CA's certificate (DER): what join tokens carry.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The CA's certificate.
    #[must_use]
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// Makes a host's certificate: the request's public key, and the name given here, as the one
    /// DNS name. Valid for [`HOST_CERT_VALID`], for client authentication only.
    ///
    /// # Errors
    /// [`CaError::Request`] when the request is over [`CSR_BYTES_MAX`], not PKCS#10, not signed by
    /// its own key, or not for an ECDSA P-256 key.
    pub fn issue_host(
        &self,
        csr_der: &[u8],
        host: &HostId,
        now_ms: TimestampMs,
    ) -> Result<HostCert, CaError> {
        if csr_der.len() > CSR_BYTES_MAX {
            return Err(CaError::Request { why: "it is over 4096 bytes" });
        }
        let csr = CertificateSigningRequestDer::from(csr_der);
        let request = CertificateSigningRequestParams::from_der(&csr).map_err(|_source| {
            CaError::Request { why: "it is not PKCS#10, or not signed by its own key" }
        })?;
        let public_key = request.public_key;
        let point = rcgen::PublicKeyData::der_bytes(&public_key);
        if public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 || point.len() != 65 {
            return Err(CaError::Request { why: "its key is not ECDSA P-256" });
        }
        let mut params = leaf_params(host.as_str(), now_ms, HOST_CERT_VALID)?;
        params.subject_alt_names = vec![SanType::DnsName(host.as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = Serial::random();
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        let made = params.signed_by(&public_key, &self.issuer)?;
        let chain = vec![made.der().clone(), self.cert.clone()];
        let not_after_ms = now_ms.saturating_add(millis(HOST_CERT_VALID));
        Ok(HostCert { chain, serial, not_after_ms, key_sha256: sha256(point) })
    }

    /// Makes a certificate for the collector itself, with a fresh key: [`SERVER_NAME`], the names
    /// and the addresses given. Valid for [`SERVER_CERT_VALID`], for server authentication only.
    ///
    /// # Errors
    /// [`CaError::Make`] when a name is no DNS name.
    pub fn issue_server(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        now_ms: TimestampMs,
    ) -> Result<ServerCert, CaError> {
        let mut params = leaf_params(SERVER_NAME, now_ms, SERVER_CERT_VALID)?;
        params.subject_alt_names.push(SanType::DnsName(SERVER_NAME.try_into()?));
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(SerialNumber::from_slice(&Serial::random().0));
        let key = KeyPair::generate()?;
        let made = params.signed_by(&key, &self.issuer)?;
        Ok(ServerCert {
            chain: vec![made.der().clone(), self.cert.clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            renew_at_ms: now_ms.saturating_add(millis(SERVER_CERT_VALID / 2)),
        })
    }
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or_default()
}

fn ca_params(key: &KeyPair, now_ms: TimestampMs) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(Vec::new())?;
    let fingerprint = sha256(key.public_key_raw());
    let short = fingerprint.get(..4).unwrap_or_default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Stoa");
    params.distinguished_name.push(DnType::CommonName, format!("Stoa CA {}", Hex(short)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&Serial::random().0));
    valid(&mut params, now_ms, CA_VALID);
    Ok(params)
}

fn leaf_params(
    common_name: &str,
    now_ms: TimestampMs,
    valid_for: Duration,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    // A common name has at most 64 characters; the name that counts is the alternative name.
    let short: String = common_name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, short);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now_ms, valid_for);
    Ok(params)
}

fn valid(params: &mut CertificateParams, now_ms: TimestampMs, valid_for: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or_default());
    params.not_before = epoch + now.saturating_sub(CLOCK_BEHIND_MAX);
    params.not_after = epoch + now.saturating_add(valid_for);
}

pub(crate) fn millis(duration: Duration) -> TimestampMs {
    TimestampMs::try_from(duration.as_millis()).unwrap_or(TimestampMs::MAX)
}

/// The certificate in a PEM text, if it is the one of this key.
fn parse_cert(pem: &str, key: &KeyPair, path: &Path) -> Result<CertificateDer<'static>, CaError> {
    let damaged = |why| CaError::Damaged { path: path.to_owned(), why };
    let cert = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_source| damaged("it is no certificate"))?;
    let (_rest, parsed) = x509_parser::parse_x509_certificate(&cert)
        .map_err(|_source| damaged("it is no certificate"))?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(damaged("it is not the certificate of the key beside it"));
    }
    Ok(cert)
}

fn read_text(path: &Path) -> Result<Option<String>, CaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

/// Writes a file that only this user may read, whole or not at all, and durably.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), CaError> {
    let write = || {
        let tmp = path.with_extension("tmp");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(file_error("write", path))
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { operation, path, source }
}

#[cfg(test)]
mod tests;
