//! Who may not in, what the operator reads about it, and what the dialer learns.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use stoa_transport::chaos::{Link, Proxy};
use stoa_transport::{
    ClientCredentials, DialConfig, DialError, Dialer, ListenerConfig, Refused, ResetKeys,
    SERVER_NAME, ServerCredentials, Via,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::log;
use crate::site::{Ca, Site};

const VALID: (i32, i32) = (2020, 2120);
const PAST: (i32, i32) = (2020, 2021);
const FUTURE: (i32, i32) = (2110, 2120);

/// Dials over that transport alone.
async fn dial(site: &Site, via: Via, credentials: ClientCredentials) -> DialError {
    let proxy = Proxy::start(site.addr(), Link::CLEAR, 1).await.unwrap();
    proxy.block_udp(via == Via::Tcp);
    let quic_handshake = match via {
        Via::Quic => Duration::from_secs(4),
        Via::Tcp => Duration::from_millis(20),
    };
    let config = DialConfig::new(proxy.local_addr().to_string(), credentials);
    let dialer = Dialer::new(DialConfig { quic_handshake, ..config }).unwrap();
    dialer.connect().await.unwrap_err()
}

/// A client the listener must refuse, over both transports.
async fn refused(
    site: &Site,
    host: &str,
    credentials: impl Fn() -> ClientCredentials,
    why: Refused,
) {
    log::keep();
    for via in [Via::Quic, Via::Tcp] {
        let error = dial(site, via, credentials()).await;
        assert!(
            matches!(error, DialError::Refused { reason, .. } if reason == why),
            "{host} via {via}: {error:?}",
        );
        let line = log::line(&["connection refused", host, &format!("via={via}")]).await;
        assert!(line.contains(&format!("reason={why}")), "{line}");
        assert!(line.contains("remote=127.0.0.1:") && line.contains("serial="), "{line}");
        if via == Via::Quic {
            println!("{}", line.trim());
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let site = Site::start(&ca);
    let client = || other.client_with(&["mallory"], VALID, &ca);
    refused(&site, "mallory", client, Refused::UnknownCa).await;
    assert_eq!(site.listener.stats().refused, [(Refused::UnknownCa, 2)]);
    assert_eq!(site.listener.stats().accepted, 0);
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let client = || ca.client_with(&["methuselah"], PAST, &ca);
    refused(&site, "methuselah", client, Refused::Expired).await;
    // TLS has one alert for both; the listener's log line knows better.
    log::keep();
    let error = dial(&site, Via::Quic, ca.client_with(&["unborn"], FUTURE, &ca)).await;
    assert!(matches!(error, DialError::Refused { .. }), "{error:?}");
    let why = Refused::NotYetValid.to_string();
    log::line(&["connection refused", "host=\"unborn\"", &why]).await;
}

#[tokio::test]
async fn a_certificate_that_names_no_host_is_refused() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let client = || ca.client_with(&["janus-a", "janus-b"], VALID, &ca);
    refused(&site, "has 2 DNS names", client, Refused::NoHostName).await;
    // The collector's own certificate is no host's.
    let client = || ca.client_with(&[SERVER_NAME], VALID, &ca);
    refused(&site, "\\\"collector.stoa\\\"", client, Refused::NoHostName).await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let ca = Ca::new();
    let revoked: Arc<Mutex<Vec<String>>> = Arc::default();
    let list = Arc::clone(&revoked);
    let site = Site::with(ListenerConfig {
        is_revoked: Arc::new(move |serial| list.lock().unwrap().iter().any(|one| one == serial)),
        ..ListenerConfig::new(ca.server(), ResetKeys::generate().unwrap())
    });
    let again = || ca.client("judas");
    let serials: Vec<_> = std::iter::repeat_with(again).take(3).collect();
    for credentials in &serials {
        let identity = stoa_transport::CertificateIdentity::of(&credentials.chain[0]).unwrap();
        revoked.lock().unwrap().push(identity.serial);
    }
    let serials = Mutex::new(serials);
    let client = || serials.lock().unwrap().pop().unwrap();
    refused(&site, "judas", client, Refused::Revoked).await;
}

#[tokio::test]
async fn a_listener_of_another_ca_expired_or_under_another_name_is_not_trusted() {
    let (ca, other) = (Ca::new(), Ca::new());
    log::keep();
    let cases: [(ServerCredentials, Refused); 3] = [
        (other.server(), Refused::UnknownCa),
        (ca.server_named(SERVER_NAME, PAST), Refused::Expired),
        (ca.server_named("elsewhere", VALID), Refused::BadCertificate),
    ];
    for (server, why) in cases {
        let server = ServerCredentials { client_roots: vec![ca.der.clone()], ..server };
        let site = Site::with(ListenerConfig::new(server, ResetKeys::generate().unwrap()));
        for via in [Via::Quic, Via::Tcp] {
            let error = dial(&site, via, ca.client("pve1")).await;
            assert!(
                matches!(&error, DialError::Listener { reason, .. } if *reason == why),
                "{why} via {via}: {error:?}",
            );
            assert!(!error.passes());
            log::line(&["refused", &format!("via={via}"), &Refused::PeerRefused.to_string()]).await;
        }
    }
}

// ---- clients that are none of ours ----

fn stranger(ca: &Ca, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// What the listener logs about a TLS client over TCP, and the bytes it answered.
async fn over_tcp(site: &Site, ca: &Ca, alpn: &[&[u8]]) -> (String, Vec<u8>) {
    let stream = TcpStream::connect(site.addr()).await.unwrap();
    let me = format!("remote={} ", stream.local_addr().unwrap());
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut answer = Vec::new();
    if let Ok(mut stream) = TlsConnector::from(stranger(ca, alpn)).connect(name, stream).await {
        stream.write_all(b"stoa\x01\x01").await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    }
    (log::line(&[&me, "connection refused"]).await, answer)
}

/// What the listener logs about a QUIC client, and how its connection ended.
async fn over_quic(site: &Site, ca: &Ca, alpn: &[&[u8]]) -> (String, quinn::ConnectionError) {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let me = format!("remote={} ", endpoint.local_addr().unwrap());
    let crypto = QuicClientConfig::try_from(stranger(ca, alpn)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let ended = match endpoint.connect_with(config, site.addr(), SERVER_NAME).unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    (log::line(&[&me, "connection refused"]).await, ended)
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    log::keep();
    let why = Refused::NoCertificate.to_string();
    let (line, answer) = over_tcp(&site, &ca, &[b"stoa/1"]).await;
    assert!(line.contains(&why), "{line}");
    assert_eq!(answer, [1, 4]);
    let (line, ended) = over_quic(&site, &ca, &[b"stoa/1"]).await;
    assert!(line.contains(&why), "{line}");
    assert!(ended.to_string().contains("no_certificate"), "{ended}");
}

#[tokio::test]
async fn another_protocol_or_none_is_refused() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    log::keep();
    let why = Refused::Protocol.to_string();
    for alpn in [&[b"h2".as_slice(), b"stoa/9"] as &[&[u8]], &[]] {
        let (line, _) = over_tcp(&site, &ca, alpn).await;
        assert!(line.contains(&why), "{line}");
        let (line, _) = over_quic(&site, &ca, alpn).await;
        assert!(line.contains(&why), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_joins_gets_no_other_class() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    log::keep();
    // The preamble asks for control, on the protocol that needs no certificate.
    let (line, answer) = over_tcp(&site, &ca, &[b"stoa-join/1"]).await;
    assert!(line.contains(&Refused::WrongClass.to_string()), "{line}");
    assert_eq!(answer, [1, 7]);
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let site = Site::start(&Ca::new());
    log::keep();
    let mut stream = TcpStream::connect(site.addr()).await.unwrap();
    let me = format!("remote={} ", stream.local_addr().unwrap());
    stream.write_all(&tls12_client_hello()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // A fatal alert, protocol_version.
    assert_eq!((answer[0], &answer[5..]), (21, [2_u8, 70].as_slice()));
    log::line(&[&me, "connection refused", &Refused::TlsVersion.to_string()]).await;
}

/// As an old client sends it: no `supported_versions` extension.
fn tls12_client_hello() -> Vec<u8> {
    let mut extensions = Vec::new();
    for (kind, body) in [
        (10_u16, [0_u8, 2, 0, 23].as_slice()), // supported_groups: secp256r1
        (11, &[1, 0]),                         // ec_point_formats: uncompressed
        (13, &[0, 4, 4, 3, 8, 4]),             // signature_algorithms
    ] {
        extensions.extend_from_slice(&kind.to_be_bytes());
        extensions.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        extensions.extend_from_slice(body);
    }
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.push(0);
    hello.extend_from_slice(&[0, 4, 0xc0, 0x2b, 0xc0, 0x2f]);
    hello.extend_from_slice(&[1, 0]);
    hello.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend_from_slice(&extensions);
    let len = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, len + 4, 1, 0, 0, len];
    record.extend_from_slice(&hello);
    record
}
