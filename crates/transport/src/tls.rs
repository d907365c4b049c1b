//! TLS 1.3 with both sides' certificates, from credentials to rustls configurations.
//!
//! One configuration serves both transports. No session resumption: a resumed session would carry
//! an old verdict on a certificate past its revocation. Hence no 0-RTT either.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::peer::{claimed, sha256};

/// The ALPN protocol of agents: certificates on both sides.
pub const ALPN: &[u8] = b"stoa/1";
/// The ALPN protocol of enrolment: the client has no certificate yet.
pub const ALPN_JOIN: &[u8] = b"stoa-join/1";
/// The DNS name in the listener's certificate, whatever address it listens on.
pub const SERVER_NAME: &str = "collector.stoa";

/// What a listener shows, and whom it believes.
pub struct ServerCredentials {
    /// The listener's certificate first, then its issuers, the CA's own certificate included: a
    /// joining client knows the CA by its hash and must see it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// The CAs whose client certificates are accepted.
    pub client_roots: Vec<CertificateDer<'static>>,
}

/// What an agent shows, and whom it believes.
pub struct ClientCredentials {
    /// The host's certificate first, then its issuers, if any.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// The CAs whose listener certificates are accepted.
    pub roots: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for ServerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCredentials")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// ring, always named: a process default would be ambiguous as soon as a dependency brings another.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn root_store(roots: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root)?;
    }
    Ok(Arc::new(store))
}

fn verifier_error(error: impl fmt::Display) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

// ---- the listener's side ----

/// Credentials checked and ready; makes a configuration per handshake, so that each handshake has a
/// witness of its own that remembers whose certificate was judged.
#[derive(Debug)]
pub(crate) struct ServerTls {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl ServerTls {
    pub(crate) fn new(credentials: ServerCredentials) -> Result<Self, rustls::Error> {
        let provider = provider();
        let key = CertifiedKey::from_der(credentials.chain, credentials.key, &provider)?;
        let roots = root_store(credentials.client_roots)?;
        // Unauthenticated handshakes complete, so that the enrolment protocol can be served and the
        // refusal of any other can be said in words; `listen` admits by protocol.
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(verifier_error)?;
        Ok(Self { provider, key: Arc::new(key), clients })
    }

    /// A configuration for one handshake, and its witness.
    pub(crate) fn config(&self) -> Result<(Arc<ServerConfig>, Arc<Witness>), rustls::Error> {
        let witness = Arc::new(Witness {
            key: Arc::clone(&self.key),
            clients: Arc::clone(&self.clients),
            greeted: AtomicBool::new(false),
            seen: Mutex::new(None),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::clone(&witness) as _)
            .with_cert_resolver(Arc::clone(&witness) as _);
        config.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok((Arc::new(config), witness))
    }
}

/// Shows the certificate and judges the client's, and remembers both for the log line of a refusal.
pub(crate) struct Witness {
    key: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    /// The client said hello, and our certificate went out.
    greeted: AtomicBool,
    /// Name and serial as claimed, and what was wrong. Held for a moment within one handshake.
    seen: Mutex<Option<Seen>>,
}

/// A certificate that was not accepted.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) error: rustls::Error,
}

impl Witness {
    pub(crate) fn refused(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the handshake got as far as our certificate.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }
}

impl ResolvesServerCert for Witness {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.greeted.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.key))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl ClientCertVerifier for Witness {
    fn client_auth_mandatory(&self) -> bool {
        self.clients.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: which CA is trusted is nobody's business before authentication.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verdict =
            self.clients.verify_client_cert(end_entity, intermediates, now).map_err(namesake);
        if let Err(error) = &verdict {
            let (name, serial) = claimed(end_entity);
            let seen = Seen { name, serial, error: error.clone() };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

// ---- the dialer's side ----

/// The configuration of an agent: both certificates.
pub(crate) fn agent_config(credentials: ClientCredentials) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let roots = root_store(credentials.roots)?;
    let trust = Trust::Roots(chain_verifier(roots, &provider)?);
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ListenerVerifier { trust, provider }))
        .with_client_auth_cert(credentials.chain, credentials.key)?;
    Ok(hardened(config, ALPN))
}

/// The configuration of a joining client: no certificate, and a CA known by its hash.
pub(crate) fn join_config(ca_sha256: [u8; 32]) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let trust = Trust::CaHash(ca_sha256);
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ListenerVerifier { trust, provider }))
        .with_no_client_auth();
    Ok(hardened(config, ALPN_JOIN))
}

fn hardened(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn chain_verifier(
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(verifier_error)
}

/// webpki's verdict on a listener's chain, by one of two kinds of trust.
#[derive(Debug)]
struct ListenerVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    /// CAs at hand.
    Roots(Arc<WebPkiServerVerifier>),
    /// The CA with that SHA-256 of its DER, which the listener sends along.
    CaHash([u8; 32]),
}

impl ServerCertVerifier for ListenerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = match &self.trust {
            Trust::Roots(chain) => Arc::clone(chain),
            Trust::CaHash(hash) => {
                let Some(ca) = intermediates.iter().find(|cert| sha256(cert) == *hash) else {
                    return Err(CertificateError::UnknownIssuer.into());
                };
                chain_verifier(root_store(vec![ca.clone().into_owned()])?, &self.provider)?
            }
        };
        chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(namesake)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The CAs of two collectors have the same name. What one issued then looks to the other's peers
/// like its own with a bad signature, though it is simply from an unknown CA.
fn namesake(error: rustls::Error) -> rustls::Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    }
}
