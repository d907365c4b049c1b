//! Who this host is: its key, its certificate, whom it believes, and where its collector is.
//!
//! Format, below the data directory: `identity.pem` holds the key (PKCS#8), this host's certificate
//! and the collector's CA certificate, in that order, PEM; one file, so that key and certificate
//! are replaced together or not at all. `join.key` is a key whose certificate has been asked for and
//! not received: asking again with it is how a lost answer is had again. `collector` holds the
//! collector's address. All are mode 0600; the key never leaves this machine.
//!
//! This module knows no network and no clock.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stoa_model::{HostId, TimestampMs};
use stoa_transport::{CertificateIdentity, ClientCredentials};

pub(crate) const IDENTITY_FILE: &str = "identity.pem";
const JOIN_KEY_FILE: &str = "join.key";
const COLLECTOR_FILE: &str = "collector";

/// What went wrong with this host's identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// This host has not joined.
    #[error(
        "this host has not joined a collector; on the collector run: stoa token create, and here: \
         stoa-agent join TOKEN --collector HOST:7443"
    )]
    NotJoined,
    /// A file could not be read or written.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried: `read`, `write`, `create`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is not what it should be. Joining again replaces it.
    #[error("{} is damaged ({why}); let this host join again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key or a request for its certificate could not be made.
    #[error("make a key")]
    Key(#[from] rcgen::Error),
}

/// A host's identity.
pub struct Identity {
    /// The name, as the certificate says it.
    pub host: HostId,
    /// The certificate's serial number, hex.
    pub serial: String,
    /// From when the certificate is valid, in milliseconds since the Unix epoch.
    pub not_before_ms: TimestampMs,
    /// Until when.
    pub not_after_ms: TimestampMs,
    key: PrivateKeyDer<'static>,
    key_pem: String,
    cert: CertificateDer<'static>,
    roots: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, serial {}, key left out)", self.host, self.serial)
    }
}

impl Identity {
    /// Puts an identity together from a key and what the collector answered.
    ///
    /// # Errors
    /// What is wrong with the certificate, in words.
    pub fn new(
        key: &KeyPair,
        cert: CertificateDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, &'static str> {
        Self::of(key.serialize_pem(), cert, roots)
    }

    fn of(
        key_pem: String,
        cert: CertificateDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, &'static str> {
        let Ok(key) = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()) else {
            return Err("it holds no private key");
        };
        let Ok(pair) = KeyPair::try_from(&key) else { return Err("its key cannot be used") };
        let Ok(claims) = CertificateIdentity::of(&cert) else {
            return Err("its certificate names no host");
        };
        let Ok(host) = HostId::parse(&claims.host) else {
            return Err("its certificate names no host");
        };
        let Ok((_rest, parsed)) = x509_parser::parse_x509_certificate(&cert) else {
            return Err("it holds no certificate");
        };
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err("its certificate is not its key's");
        }
        if roots.is_empty() {
            return Err("it holds no CA certificate");
        }
        let not_before_ms = parsed.validity().not_before.timestamp().saturating_mul(1000);
        let not_after_ms = claims.not_after.saturating_mul(1000);
        let serial = claims.serial;
        Ok(Self { host, serial, not_before_ms, not_after_ms, key, key_pem, cert, roots })
    }

    /// What the transport shows and believes.
    #[must_use]
    pub fn credentials(&self) -> ClientCredentials {
        ClientCredentials {
            chain: vec![self.cert.clone()],
            key: self.key.clone_key(),
            roots: self.roots.clone(),
        }
    }

    /// The collector's CA certificates.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Writes the identity, and the collector's address when given; durable when this returns.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn store(&self, dir: &Path, collector: Option<&str>) -> Result<(), IdentityError> {
        if let Some(collector) = collector {
            write_private(&dir.join(COLLECTOR_FILE), format!("{collector}\n").as_bytes())?;
        }
        let mut text = self.key_pem.clone();
        for der in std::iter::once(&self.cert).chain(&self.roots) {
            text.push_str(&pem_of(der));
        }
        write_private(&dir.join(IDENTITY_FILE), text.as_bytes())?;
        match fs::remove_file(dir.join(JOIN_KEY_FILE)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(IdentityError::File {
                operation: "remove",
                path: dir.join(JOIN_KEY_FILE),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// Reads this host's identity.
///
/// # Errors
/// [`IdentityError::NotJoined`] when there is none, [`IdentityError::Damaged`] when it cannot be
/// used.
pub fn load(dir: &Path) -> Result<Identity, IdentityError> {
    let path = dir.join(IDENTITY_FILE);
    let Some(text) = read_text(&path)? else { return Err(IdentityError::NotJoined) };
    let damaged = |why| IdentityError::Damaged { path: path.clone(), why };
    let mut certs = Vec::new();
    for cert in CertificateDer::pem_slice_iter(text.as_bytes()) {
        certs.push(cert.map_err(|_source| damaged("it is not PEM"))?);
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(text.as_bytes()) else {
        return Err(damaged("it holds no private key"));
    };
    let Ok(key) = KeyPair::try_from(&key) else { return Err(damaged("its key cannot be used")) };
    if certs.is_empty() {
        return Err(damaged("it holds no certificate"));
    }
    let cert = certs.remove(0);
    Identity::new(&key, cert, certs).map_err(damaged)
}

/// The collector's address as written down at joining; `None` when this host has not joined.
///
/// # Errors
/// [`IdentityError::File`].
pub fn collector_address(dir: &Path) -> Result<Option<String>, IdentityError> {
    let text = read_text(&dir.join(COLLECTOR_FILE))?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// The key to join with: the one of an attempt whose answer never came, else a new one; on disk
/// before it is used. Makes the data directory if absent.
///
/// # Errors
/// [`IdentityError`].
pub fn join_key(dir: &Path) -> Result<KeyPair, IdentityError> {
    let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    create.map_err(|source| IdentityError::File {
        operation: "create",
        path: dir.to_owned(),
        source,
    })?;
    let path = dir.join(JOIN_KEY_FILE);
    if let Some(key) = read_text(&path)?.and_then(|pem| KeyPair::from_pem(&pem).ok()) {
        return Ok(key);
    }
    let key = KeyPair::generate()?;
    write_private(&path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

/// A request for this key's certificate, PKCS#10, DER. It names nobody: the collector decides.
///
/// # Errors
/// [`IdentityError::Key`].
pub fn request_for(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn pem_of(cert: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(cert);
    let mut rest = encoded.as_str();
    while let Some((line, tail)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn read_text(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            Err(IdentityError::File { operation: "read", path: path.to_owned(), source })
        }
    }
}

/// Writes a file that only this user may read, whole or not at all, and durably.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let write = || {
        let tmp = path.with_extension("tmp");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| IdentityError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn cert(key: &KeyPair, name: &str) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.self_signed(key).unwrap().der().clone()
    }

    fn identity(name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let ca = KeyPair::generate().unwrap();
        Identity::new(&key, cert(&key, name), vec![cert(&ca, "ca")]).unwrap()
    }

    #[test]
    fn an_identity_reads_back_as_stored_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(IdentityError::NotJoined)));
        assert_eq!(collector_address(dir.path()).unwrap(), None);
        let written = identity("pve1");
        written.store(dir.path(), Some("stoa.lan:7443")).unwrap();
        let read = load(dir.path()).unwrap();
        assert_eq!((&read.host, &read.serial), (&written.host, &written.serial));
        assert_eq!((&read.cert, &read.roots), (&written.cert, &written.roots));
        assert_eq!(read.key.secret_der(), written.key.secret_der());
        assert_eq!(collector_address(dir.path()).unwrap().as_deref(), Some("stoa.lan:7443"));
        for name in [IDENTITY_FILE, COLLECTOR_FILE] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(!format!("{read:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_join_key_stays_until_its_certificate_came() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let first = join_key(&data).unwrap();
        let again = join_key(&data).unwrap();
        assert_eq!(first.serialize_der(), again.serialize_der());
        assert!(request_for(&first).unwrap().len() < 1024);
        identity("pve1").store(&data, None).unwrap();
        assert_ne!(join_key(&data).unwrap().serialize_der(), first.serialize_der());
    }

    #[test]
    fn damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(IDENTITY_FILE);
        let (one, two) = (identity("pve1"), identity("pve2"));
        let check = |text: &str, why: &str| {
            fs::write(&path, text).unwrap();
            let error = load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("join again"), "{error}");
        };
        check("junk", "no private key");
        check(&one.key_pem, "no certificate");
        check(&format!("{}{}", one.key_pem, pem_of(&one.cert)), "no CA certificate");
        let mixed = format!("{}{}{}", one.key_pem, pem_of(&two.cert), pem_of(&two.cert));
        check(&mixed, "not its key's");
    }
}
