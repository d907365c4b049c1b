//! TLS for people and Grafana: a certificate of the collector's own CA, or one given as files.
//!
//! Either is renewed while serving: the own one at half its life, the files when they change (an
//! ACME client has renewed them). A renewal that fails leaves the old one in use and is logged; it
//! is tried again at the next [`HttpTls::refresh`].
//!
//! TLS 1.3 only. No client certificate is asked for: an agent's certificate opens nothing here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use stoa_model::TimestampMs;
use tokio_util::sync::CancellationToken;

use crate::ca::{Ca, CaError, CertSlot, ServerCert};
use crate::clock::Clock;
use crate::members::Members;

/// How often the caller should [`HttpTls::refresh`].
pub const REFRESH: Duration = Duration::from_secs(3600);

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertSource {
    /// The collector's own CA, for these names and addresses.
    Own {
        /// DNS names beyond the collector's own and `localhost`.
        names: Vec<String>,
        /// Addresses.
        addresses: Vec<IpAddr>,
    },
    /// PEM files.
    Files {
        /// The chain, the certificate first.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

impl CertSource {
    /// A certificate of the own CA for a server that listens on `bind`: the names configured,
    /// loopback, and `bind` – or, when that is every address, those this machine would use to
    /// reach others.
    #[must_use]
    pub fn own(bind: IpAddr, names: &[String]) -> Self {
        let mut names = names.to_vec();
        names.push("localhost".to_owned());
        names.dedup();
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let mut addresses: Vec<IpAddr> = loopback.to_vec();
        if bind.is_unspecified() {
            addresses.extend(outward_addresses());
        } else if !addresses.contains(&bind) {
            addresses.push(bind);
        }
        Self::Own { names, addresses }
    }
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpTlsError {
    /// The own CA could not make a certificate.
    #[error("make a certificate for the HTTP server")]
    Make(#[from] CaError),
    /// A file cannot be read, or is not PEM.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The key does not fit the certificate, or is of an unknown kind.
    #[error("use the HTTP server's certificate")]
    Use(#[from] rustls::Error),
}

/// A TLS server's configuration whose certificate can be renewed.
#[derive(Debug)]
pub struct HttpTls {
    source: CertSource,
    slot: Arc<CertSlot>,
    config: Arc<ServerConfig>,
    /// When the own certificate is to be renewed, or the files' time of change; held for a moment.
    fresh: Mutex<Fresh>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fresh {
    renew_at_ms: TimestampMs,
    changed: Option<SystemTime>,
}

impl HttpTls {
    /// Loads or makes the certificate.
    ///
    /// # Errors
    /// [`HttpTlsError`].
    pub fn new(source: CertSource, ca: &Ca, now_ms: TimestampMs) -> Result<Self, HttpTlsError> {
        let (cert, fresh) = obtain(&source, ca, now_ms)?;
        let slot = CertSlot::new(cert)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&slot) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        Ok(Self { source, slot, config: Arc::new(config), fresh: Mutex::new(fresh) })
    }

    /// What a TLS acceptor needs.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Renews the certificate if it is time; says whether it did. Call every [`REFRESH`], from a
    /// thread that may wait for the disk.
    ///
    /// # Errors
    /// [`HttpTlsError`]; the old certificate stays in use.
    pub fn refresh(&self, ca: &Ca, now_ms: TimestampMs) -> Result<bool, HttpTlsError> {
        let before = *self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let due = match &self.source {
            CertSource::Own { .. } => now_ms >= before.renew_at_ms,
            CertSource::Files { cert, .. } => changed(cert) != before.changed,
        };
        if due {
            let (cert, fresh) = obtain(&self.source, ca, now_ms)?;
            self.slot.replace(cert)?;
            *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(due)
    }
}

/// Keeps the certificate fresh until `shutdown`.
pub async fn keep(
    tls: Arc<HttpTls>,
    members: Arc<Members>,
    clock: Clock,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REFRESH) => {}
        }
        let (server, authority, now_ms) = (Arc::clone(&tls), Arc::clone(&members), clock());
        let refresh = move || server.refresh(authority.ca(), now_ms);
        match tokio::task::spawn_blocking(refresh).await {
            Ok(Ok(true)) => tracing::info!("renewed the HTTP server's certificate"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "renew the HTTP server's certificate; the old one stays in use"
            ),
            Err(error) => tracing::error!(%error, "renew the HTTP server's certificate"),
        }
    }
}

fn obtain(
    source: &CertSource,
    ca: &Ca,
    now_ms: TimestampMs,
) -> Result<(ServerCert, Fresh), HttpTlsError> {
    let (cert, changed) = match source {
        CertSource::Own { names, addresses } => (ca.issue_server(names, addresses, now_ms)?, None),
        CertSource::Files { cert, key } => {
            let changed = changed(cert);
            let read = |path: &Path, source| HttpTlsError::Read { path: path.to_owned(), source };
            let chain = CertificateDer::pem_file_iter(cert)
                .and_then(Iterator::collect)
                .map_err(|source| read(cert, source))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| read(key, source))?;
            (ServerCert { chain, key, renew_at_ms: TimestampMs::MAX }, changed)
        }
    };
    let fresh = Fresh { renew_at_ms: cert.renew_at_ms, changed };
    Ok((cert, fresh))
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// The addresses this machine would send from to the outside; nothing is sent.
fn outward_addresses() -> Vec<IpAddr> {
    // Documentation addresses: they have a route wherever there is a default one.
    let outward = |bind: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind((bind, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = outward(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = outward(
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    );
    v4.into_iter().chain(v6).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = 1_800_000_000_000;
    const DAY: TimestampMs = 86_400_000;

    #[test]
    fn the_own_certificate_is_renewed_at_half_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), false, NOW).unwrap();
        let source = CertSource::own("192.168.1.5".parse().unwrap(), &["stoa.lan".to_owned()]);
        let tls = HttpTls::new(source, &ca, NOW).unwrap();
        assert!(!tls.refresh(&ca, NOW + 14 * DAY).unwrap());
        assert!(tls.refresh(&ca, NOW + 15 * DAY).unwrap());
        assert!(!tls.refresh(&ca, NOW + 15 * DAY).unwrap());
    }

    #[test]
    fn given_files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), false, NOW).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let write = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        };
        let source = CertSource::Files { cert: cert.clone(), key: key.clone() };
        let missing = HttpTls::new(source.clone(), &ca, NOW);
        assert!(matches!(missing, Err(HttpTlsError::Read { .. })), "{missing:?}");
        write("a");
        let tls = HttpTls::new(source.clone(), &ca, NOW).unwrap();
        assert!(!tls.refresh(&ca, NOW).unwrap());
        write("b");
        let file = std::fs::File::options().write(true).open(&cert).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(tls.refresh(&ca, NOW).unwrap());
        // Half-written files: said, and tried again.
        std::fs::write(&key, "junk").unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + REFRESH).unwrap();
        for _ in 0..2 {
            assert!(tls.refresh(&ca, NOW).is_err());
        }
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&key, other.serialize_pem()).unwrap();
        let mismatched = HttpTls::new(source, &ca, NOW);
        assert!(matches!(mismatched, Err(HttpTlsError::Use(_))), "{mismatched:?}");
    }
}
