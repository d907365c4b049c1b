//! Who is trusted, and what was agreed on.
//!
//! A [`Tls`] is made once of [`TlsSettings`], reads its files then, and is shared by all requests.
//! Trust is one of: the machine's roots; an own CA file instead of them; one certificate by its
//! fingerprint, whatever it says; anybody. What the peer showed is kept in [`TlsFacts`], refused or
//! not. Sessions are never resumed, so that every handshake shows its certificates.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, OnceLock};

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use serde::{Deserialize, Deserializer, de};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::parse_x509_certificate;

use super::{Hop, Phase, WebError};

/// The largest file of certificates or keys; a bundle of all public roots is 220 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most certificates of a peer's that are kept.
const CHAIN_MAX: usize = 16;

/// How TLS with a peer is to be; the keys are Prometheus's `tls_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Who is trusted, PEM; the machine's own roots when not set.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate is to have, when it is not the host's.
    pub server_name: Option<String>,
    /// Whether anybody is believed.
    pub insecure_skip_verify: bool,
    /// The one certificate that is trusted, whatever it says.
    pub fingerprint: Option<Fingerprint>,
    /// Our certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
}

/// SHA-256 of a certificate's DER, as `openssl x509 -fingerprint -sha256` and Proxmox print it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// A certificate's.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, certificate).as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// In hexadecimal without colons.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "expected SHA-256 as 64 hexadecimal digits, with or without colons";
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(WRONG)?;
        let (pairs, _) = digits.as_chunks::<2>();
        let mut hash = [0; 32];
        for (to, [high, low]) in hash.iter_mut().zip(pairs) {
            *to = high << 4 | low;
        }
        Ok(Self(hash))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What was agreed on, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLS 1.3`; empty if the handshake came to nothing.
    pub version: &'static str,
    /// By IANA's name; empty if the handshake came to nothing.
    pub cipher: String,
    /// What the peer showed, its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Until when the way from its certificate to a trusted root holds, seconds since the Unix epoch;
    /// `None` where no such way was looked for or found.
    pub trusted_until: Option<i64>,
}

/// TLS as our side has it.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    trust: Trust,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("trust", &self.trust).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Trust {
    Roots(Arc<Roots>),
    Pinned(Fingerprint),
    Anybody,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(roots) => write!(f, "{} roots", roots.certificates.len()),
            Self::Pinned(fingerprint) => fingerprint.fmt(f),
            Self::Anybody => f.write_str("anybody"),
        }
    }
}

/// CAs.
struct Roots {
    verifier: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        let (taken, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if taken == 0 {
            return Err("there is no CA certificate".to_owned());
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { verifier, certificates })
    }

    /// Those of this machine.
    fn of_machine() -> Result<Arc<Self>, WebError> {
        static ROOTS: OnceLock<Arc<Roots>> = OnceLock::new();
        if let Some(roots) = ROOTS.get() {
            return Ok(Arc::clone(roots));
        }
        // Certificates may be installed later, so that what failed is tried again.
        let found = rustls_native_certs::load_native_certs();
        let roots = Self::new(found.certs).map_err(|_unsaid| WebError::Setup {
            wrong: "this machine has no roots; install ca-certificates, or name a ca_file"
                .to_owned(),
        })?;
        Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

impl TlsSettings {
    /// TLS as these say; reads their files.
    ///
    /// # Errors
    /// [`WebError::File`] and [`WebError::Setup`].
    pub fn prepare(&self) -> Result<Tls, WebError> {
        let setup = |wrong: &str| WebError::Setup { wrong: wrong.to_owned() };
        let trust = match (&self.fingerprint, self.insecure_skip_verify, &self.ca_file) {
            (Some(fingerprint), ..) => Trust::Pinned(*fingerprint),
            (None, true, _) => Trust::Anybody,
            (None, false, Some(path)) => {
                let roots = Roots::new(certificates(path)?)
                    .map_err(|wrong| WebError::File { path: path.clone(), wrong })?;
                Trust::Roots(Arc::new(roots))
            }
            (None, false, None) => Trust::Roots(Roots::of_machine()?),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Judge {
                trust: trust.clone(),
                seen: Arc::default(),
            }));
        let mut config = match (&self.cert_file, &self.key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let wrong = |wrong: String| WebError::File { path: key.clone(), wrong };
                let bytes = read(key)?;
                let private = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|_unsaid| wrong("there is no private key in PEM".to_owned()))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, private)
                    .map_err(|error| wrong(error.to_string()))?
            }
            _ => return Err(setup("cert_file and key_file go together")),
        };
        config.resumption = Resumption::disabled();
        let server_name = match &self.server_name {
            Some(name) => Some(server_name(name)?),
            None => None,
        };
        Ok(Tls { config: Arc::new(config), trust, server_name })
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, WebError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_unsaid| WebError::Setup { wrong: format!("{name:?} is no name of a server") })
}

fn read(path: &Path) -> Result<Vec<u8>, WebError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| WebError::File { path: path.to_owned(), wrong: error.to_string() })?;
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WebError> {
    let wrong = |wrong: &str| WebError::File { path: path.to_owned(), wrong: wrong.to_owned() };
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong("there is no certificate in PEM")),
        Err(_) => Err(wrong("it is not PEM")),
    }
}

impl Tls {
    /// Agrees on TLS with a peer that is called `host` unless the settings say otherwise, offering
    /// the protocols `alpn`. What it showed is in `hop`, refused or not.
    ///
    /// # Errors
    /// [`WebError::Tls`], and [`WebError::Setup`] for what is no server's name.
    pub async fn secure(
        &self,
        tcp: TcpStream,
        host: &str,
        alpn: &[&[u8]],
        hop: &mut Hop,
    ) -> Result<TlsStream<TcpStream>, WebError> {
        hop.enter(Phase::Tls);
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let seen = Arc::new(OnceLock::new());
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let judge = Judge { trust: self.trust.clone(), seen: Arc::clone(&seen) };
        config.dangerous().set_certificate_verifier(Arc::new(judge));
        let agreed = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let chain = seen.get().cloned().unwrap_or_default();
        let (version, cipher) = match &agreed {
            Ok(stream) => {
                let connection = stream.get_ref().1;
                (
                    version(connection.protocol_version()),
                    cipher(connection.negotiated_cipher_suite()),
                )
            }
            Err(_) => ("", String::new()),
        };
        let trusted_until = match &self.trust {
            Trust::Roots(roots) if agreed.is_ok() => trusted_until(&chain, &roots.certificates),
            _ => None,
        };
        if !chain.is_empty() {
            hop.tls = Some(TlsFacts { version, cipher, chain, trusted_until });
        }
        agreed.map_err(|source| WebError::Tls { peer: hop.peer_name(), source })
    }
}

fn version(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "",
    }
}

fn cipher(suite: Option<rustls::SupportedCipherSuite>) -> String {
    let name = suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(name) => format!("TLS_{name}"),
        None => name.to_owned(),
    }
}

/// Until when the chain to a root holds: the earliest end on it. `None` if no root is found by name.
fn trusted_until(
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Option<i64> {
    let mut shown: Vec<_> =
        chain.iter().filter_map(|der| parse_x509_certificate(der).ok()).map(|(_, x)| x).collect();
    if shown.is_empty() {
        return None;
    }
    let mut current = shown.remove(0);
    let mut until = current.validity().not_after.timestamp();
    // Of roots of one name the one that holds longest is the one that will be used.
    let root_of = |issuer: &[u8]| {
        let of_name = roots.iter().filter_map(|der| {
            let (_, root) = parse_x509_certificate(der).ok()?;
            (root.subject().as_raw() == issuer).then(|| root.validity().not_after.timestamp())
        });
        of_name.max()
    };
    if roots.iter().any(|root| chain.first() == Some(root)) {
        return Some(until);
    }
    loop {
        let issuer = current.issuer().as_raw();
        if let Some(root) = root_of(issuer) {
            return Some(until.min(root));
        }
        let place = shown.iter().position(|shown| shown.subject().as_raw() == issuer)?;
        current = shown.swap_remove(place);
        until = until.min(current.validity().not_after.timestamp());
    }
}

/// Says whether a peer is trusted, and keeps what it showed.
#[derive(Debug)]
struct Judge {
    trust: Trust,
    seen: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = std::iter::once(end_entity).chain(intermediates).take(CHAIN_MAX);
        self.seen.get_or_init(|| shown.map(|der| der.clone().into_owned()).collect());
        let roots = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Pinned(pinned) if Fingerprint::of(end_entity) == *pinned => {
                return Ok(ServerCertVerified::assertion());
            }
            Trust::Pinned(_) => {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
            Trust::Roots(roots) => roots,
        };
        // What `openssl req -x509` makes is its own CA, and a root if it is named as one.
        if roots.certificates.iter().any(|root| **root == **end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return holds(end_entity, now).map(|()| ServerCertVerified::assertion());
        }
        roots.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate is valid now.
fn holds(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return Err(CertificateError::BadEncoding.into());
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}
