//! Over real sockets, in raw HTTP/1.1: what a client of any making would see.

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stoa_model::HostId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::ca::Ca;
use crate::http::tls::CertSource;
use crate::http::{Access, AccessConfig, Routes, Scope};

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

async fn start(router: Router, tls: Option<Arc<HttpTls>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let done = tokio::spawn(serve(listener, router, tls, shutdown.clone()));
    Server { address, shutdown, done }
}

fn router() -> Router {
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(150)).await;
        "slow"
    };
    let from = async |axum::Extension(from): axum::Extension<PeerAddress>| from.0.ip().to_string();
    Routes::new()
        .get("/from", Scope::Open, from)
        .get("/slow", Scope::Open, slow)
        .into_router((), Access::open())
}

async fn request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_carry_their_address_and_a_shutdown_finishes_them() {
    let server = start(router(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = request(&mut stream, "/from").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");

    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let under_way = tokio::spawn(async move { request(&mut stream, "/slow").await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    server.shutdown.cancel();
    let answer = under_way.await.unwrap();
    assert!(answer.ends_with("slow"), "{answer}");
    server.done.await.unwrap();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

fn client(
    ca: &Ca,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(ca.cert().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn beyond_loopback_it_is_tls_and_an_agents_certificate_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let now_ms = crate::clock::system()();
    let ca = Ca::open(dir.path(), false, now_ms).unwrap();
    let source = CertSource::own("192.168.1.5".parse().unwrap(), &[]);
    let tls = Arc::new(HttpTls::new(source, &ca, now_ms).unwrap());
    let config = AccessConfig::on("192.168.1.5:7480".parse().unwrap());
    assert!(config.needs_tls());
    let table = Routes::new().get("/open", Scope::Open, async || "open").get(
        "/read",
        Scope::Read,
        async || "read",
    );
    let router = table.into_router((), Access::new(config, Box::new(|_| None)));
    let server = start(router, Some(tls)).await;

    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let host = HostId::parse("pve1").unwrap();
    let agent = ca.issue_host(csr.der(), &host, now_ms).unwrap();
    let agent = (agent.chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    for own in [None, Some(agent)] {
        for (path, status) in [("/open", "HTTP/1.1 200"), ("/read", "HTTP/1.1 401")] {
            let own = own.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
            for name in ["localhost", "collector.stoa", "192.168.1.5"] {
                let own = own.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
                let stream = TcpStream::connect(server.address).await.unwrap();
                let name = ServerName::try_from(name).unwrap();
                let mut stream = client(&ca, own).connect(name, stream).await.unwrap();
                let answer = request(&mut stream, path).await;
                assert!(answer.starts_with(status), "{path}: {answer}");
            }
        }
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("evil.lan").unwrap();
    assert!(client(&ca, None).connect(name, stream).await.is_err());
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    let answer = request_bytes(&mut plain).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    server.shutdown.cancel();
    server.done.await.unwrap();
}

/// A plain request to a TLS port; whatever comes back.
async fn request_bytes(stream: &mut TcpStream) -> Vec<u8> {
    stream.write_all(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as a close.
    if let Err(error) = stream.read_to_end(&mut answer).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    answer
}

#[tokio::test]
async fn headers_over_their_bound_end_the_connection() {
    let server = start(router(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let flood = format!("GET /from HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(1 << 20));
    let sent = stream.write_all(flood.as_bytes()).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    assert!(sent.is_err() || read.is_err() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    server.shutdown.cancel();
    server.done.await.unwrap();
}
