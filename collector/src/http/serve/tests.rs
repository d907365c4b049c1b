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
    start_within(router, tls, Places::new(Limits::default())).await
}

async fn start_within(router: Router, tls: Option<Arc<HttpTls>>, places: Arc<Places>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let done = tokio::spawn(serve(listener, router, tls, places, shutdown.clone()));
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

/// What a client gets that speaks HTTP/2 from the start.
async fn request_http2(to: SocketAddr, path: &str) -> (StatusCode, String) {
    let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let running = tokio::spawn(connection);
    let uri = format!("http://localhost{path}");
    let request = http::Request::get(uri).body(Body::empty()).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(Body::new(body), 1000).await.unwrap();
    drop(sender);
    running.await.unwrap().unwrap();
    (parts.status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn without_tls_both_versions_are_spoken() {
    let limits = Limits { headers: Duration::from_millis(300), ..Limits::default() };
    let places = Places::new(limits);
    let server = start_within(router(), None, Arc::clone(&places)).await;
    let answer = request_http2(server.address, "/from").await;
    assert_eq!(answer, (StatusCode::OK, "127.0.0.1".to_owned()));
    // In pieces, and what only begins like it.
    for (pieces, expected) in [
        (&["P", "RI * HTTP/2.0\r\n\r\nSM\r\n", "\r\n"][..], "\0\0"),
        (
            &["P", "OST /from HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"],
            "HTTP/1.1 405",
        ),
        (&["GET /from HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"], "HTTP/1.1 200"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut begin = vec![0; expected.len()];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(String::from_utf8(begin).unwrap(), expected);
    }
    let slow = places.figures().slow;
    // Neither a preface nor a first request may take its time.
    for begin in ["PRI * HT", "G", ""] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as a close.
        drop(stream.read_to_end(&mut answer).await);
    }
    assert_eq!(places.figures().slow, slow + 3);
    server.shutdown.cancel();
    server.done.await.unwrap();
}

#[tokio::test]
async fn http2_may_stand_without_a_request_and_is_told_when_it_ends() {
    const GOAWAY: u8 = 7;
    let idle = Duration::from_millis(700);
    let limits = Limits { headers: Duration::from_millis(200), idle, ..Limits::default() };
    let places = Places::new(limits);
    let server = start_within(router(), None, Arc::clone(&places)).await;
    let begun = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[PREFACE, &settings].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(begun.elapsed() >= idle, "{:?}", begun.elapsed());
    let (mut frames, mut left) = (Vec::new(), answer.as_slice());
    while let Some(([a, b, c, kind, ..], more)) = left.split_first_chunk::<9>() {
        frames.push(*kind);
        left = &more[u32::from_be_bytes([0, *a, *b, *c]) as usize..];
    }
    assert!(frames.contains(&GOAWAY), "{frames:?}");
    assert_eq!((places.figures().slow, places.figures().idle), (0, 1));
    server.shutdown.cancel();
    server.done.await.unwrap();
}

#[tokio::test]
async fn all_ports_have_their_connections_together() {
    let places = Places::new(Limits { connections_max: 4, ..Limits::default() });
    let one = start_within(router(), None, Arc::clone(&places)).await;
    let other = start_within(router(), None, Arc::clone(&places)).await;
    let ask = async |to: SocketAddr| {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(b"GET /from HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut begin = [0; 12];
        let read = stream.read_exact(&mut begin);
        let answered = tokio::time::timeout(Duration::from_millis(500), read).await.is_ok();
        (stream, answered)
    };
    let mut held = Vec::new();
    for to in [one.address, one.address, one.address, other.address] {
        let (stream, answered) = ask(to).await;
        assert!(answered);
        held.push(stream);
    }
    let (_waiting, answered) = ask(other.address).await;
    assert!(!answered, "the fifth of four");
    // The first place that is free is the first port's, which has waited longer.
    held.truncate(2);
    let (_stream, answered) = ask(other.address).await;
    assert!(!answered, "it is behind the one that waits");
    held.clear();
    let (_stream, answered) = ask(other.address).await;
    assert!(answered);
    for server in [one, other] {
        server.shutdown.cancel();
        server.done.await.unwrap();
    }
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

/// A connection from one of loopback's many addresses.
async fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Reads to the end, or the reset, of a connection that is expected to end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    if let Err(error) = read.await.expect("the connection was not closed") {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(rest).unwrap()
}

#[tokio::test]
async fn one_address_cannot_take_the_places_of_others() {
    let limits = Limits {
        per_address_max: 3,
        loopback_exempt: false,
        exempt: vec!["127.0.0.9".parse().unwrap()],
        ..Limits::default()
    };
    let places = Places::new(limits);
    let server = start_within(router(), None, Arc::clone(&places)).await;
    let mut hog = Vec::new();
    for _ in 0..8 {
        hog.push(connect_from("127.0.0.2", server.address).await);
    }
    // The kernel hands connections over in order: the first three stay, the others are closed.
    for refused in hog.iter_mut().skip(3) {
        assert_eq!(rest(refused).await, "");
    }
    assert_eq!((places.figures().connections, places.figures().crowded), (3, 5));
    let mut proxy = Vec::new();
    for _ in 0..8 {
        proxy.push(connect_from("127.0.0.9", server.address).await);
    }
    for stream in hog.iter_mut().take(3).chain(&mut proxy) {
        let answer = request(stream, "/from").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let mut other = connect_from("127.0.0.3", server.address).await;
    assert!(request(&mut other, "/from").await.ends_with("127.0.0.3"));
    drop((hog, proxy, other));
    server.shutdown.cancel();
    server.done.await.unwrap();
    assert_eq!((places.figures().connections, places.figures().crowded), (0, 5));
}

#[tokio::test]
async fn headers_in_drops_and_idle_connections_end_and_are_told_apart() {
    let limits = Limits {
        headers: Duration::from_millis(300),
        idle: Duration::from_millis(1500),
        ..Limits::default()
    };
    let places = Places::new(limits);
    let server = start_within(router(), None, Arc::clone(&places)).await;

    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
    let dribble = tokio::spawn(async move {
        for byte in b"GET /from HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    let begun = tokio::time::Instant::now();
    kept.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    let mut answer = Vec::new();
    if let Err(error) = reader.read_to_end(&mut answer).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(answer, b"");
    dribble.await.unwrap();
    assert_eq!((places.figures().slow, places.figures().idle), (2, 0));

    // One that has asked before may rest longer than headers may take.
    let answer = rest(&mut kept).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("slow"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!((places.figures().slow, places.figures().idle), (2, 1));
    server.shutdown.cancel();
    server.done.await.unwrap();
}

/// Sends a body of so many bytes, one each few milliseconds, until an answer comes; the answer.
async fn dribble(to: SocketAddr, bytes: usize, every: Duration) -> String {
    let (mut reader, mut writer) = TcpStream::connect(to).await.unwrap().into_split();
    let head = format!(
        "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\
         Connection: close\r\n\r\n"
    );
    writer.write_all(head.as_bytes()).await.unwrap();
    let sending = tokio::spawn(async move {
        for _ in 0..bytes {
            if writer.write_all(b"x").await.is_err() {
                break;
            }
            tokio::time::sleep(every).await;
        }
        // Held open: it is the other side that ends it.
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut answer));
    if let Err(error) = read.await.expect("no answer came") {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    sending.abort();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn bodies_must_come_and_answers_be_read_at_a_pace() {
    const LONG: usize = 64 << 20;
    let limits = Limits {
        headers: Duration::from_millis(500),
        pace: Pace { bytes: 20, within: Duration::from_millis(1000) },
        ..Limits::default()
    };
    let places = Places::new(limits);
    let counted = async |body: axum::body::Bytes| body.len().to_string();
    let router = Routes::new()
        .post("/body", Scope::Open, counted)
        .get("/long", Scope::Open, async || vec![b'x'; LONG])
        .into_router((), Access::open());
    let server = start_within(router, None, Arc::clone(&places)).await;

    // Longer than `within` altogether, but never too slowly.
    let answer = dribble(server.address, 150, Duration::from_millis(10)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("150"), "{answer}");
    assert_eq!(places.figures().slow, 0);
    let answer = dribble(server.address, 150, Duration::from_millis(200)).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(places.figures().slow, 1);

    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    deaf.write_all(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let get = b"GET /long HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    slow.write_all(get).await.unwrap();
    // In pieces, over more than `within`.
    let mut read = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        let more = slow.read(&mut piece).await.unwrap();
        if more == 0 {
            break;
        }
        read += more;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert!(read > LONG, "{read}");
    tokio::time::timeout(Duration::from_secs(20), async {
        while places.figures().stalled == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("who does not read keeps its connection");
    let mut got = Vec::new();
    let read = deaf.read_to_end(&mut got).await;
    assert!(read.is_err() || got.len() < LONG, "{}", got.len());
    assert_eq!((places.figures().stalled, places.figures().slow), (1, 1));
    server.shutdown.cancel();
    server.done.await.unwrap();
}
