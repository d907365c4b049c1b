//! The collector's own certificate, and the slot a TLS server reads it from, so that a renewed one
//! is served from the next handshake on.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stoa_model::TimestampMs;

/// A certificate for the collector, its key, and when to get the next.
pub struct ServerCert {
    /// The certificate first, then what signed it; DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When to make the next one.
    pub renew_at_ms: TimestampMs,
}

impl fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerCert(renew at {}, key left out)", self.renew_at_ms)
    }
}

/// The certificate a TLS server shows now. The lock is held only to copy or replace a pointer.
#[derive(Debug)]
pub struct CertSlot(RwLock<Arc<CertifiedKey>>);

impl CertSlot {
    /// A slot holding this certificate.
    ///
    /// # Errors
    /// When the key is of a kind unknown here, or not the certificate's.
    pub fn new(cert: ServerCert) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(RwLock::new(Arc::new(certified(cert)?)))))
    }

    /// Shows this certificate from the next handshake on.
    ///
    /// # Errors
    /// As [`CertSlot::new`]; the old certificate stays.
    pub fn replace(&self, cert: ServerCert) -> Result<(), rustls::Error> {
        let next = Arc::new(certified(cert)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ResolvesServerCert for CertSlot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(cert: ServerCert) -> Result<CertifiedKey, rustls::Error> {
    let provider: CryptoProvider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(cert.chain, cert.key, &provider)
}
