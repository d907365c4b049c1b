//! The client against small servers on loopback that behave, and that do not.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server does with each connection, after it has read a request's head.
#[derive(Clone, Debug)]
enum Script {
    /// Writes this, and closes.
    Says(Vec<u8>),
    /// Writes this, and then nothing more.
    Hangs(Vec<u8>),
    /// Writes this and then the second for ever.
    Streams(Vec<u8>, Vec<u8>),
    /// Closes at once.
    Closes,
}

use Script::{Closes, Hangs, Says, Streams};

/// A server; the address it listens at, and the heads it was sent.
async fn serve(
    script: Script,
    tls: Option<Arc<ServerConfig>>,
) -> (SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream: Box<dyn Wire> = match &tls {
                None => Box::new(stream),
                Some(config) => match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_refused) => continue,
                },
            };
            let (script, seen) = (script.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut stream = stream;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_gone) => return,
                    }
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                match script {
                    Says(text) => drop(stream.write_all(&text).await),
                    Hangs(text) => {
                        drop(stream.write_all(&text).await);
                        std::future::pending::<()>().await;
                    }
                    Streams(first, again) => {
                        let mut result = stream.write_all(&first).await;
                        while result.is_ok() {
                            result = stream.write_all(&again).await;
                        }
                    }
                    Closes => {}
                }
                drop(stream.shutdown().await);
            });
        }
    });
    (address, heads)
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(body).unwrap();
    let packed = packer.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    [head.into_bytes(), packed].concat()
}

fn request(address: SocketAddr, scheme: &str) -> Request {
    let url = format!("{scheme}://{address}/a?b").parse().unwrap();
    let anybody = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    let mut request =
        Request::get(url, Arc::new(anybody.prepare().unwrap()), Duration::from_millis(700));
    request.body_bytes_max = 1000;
    request
}

/// The status and body, or the phase and words of the error with the peer left out.
fn outcome(address: SocketAddr, answer: Result<Answer, WebError>) -> String {
    match answer {
        Ok(answer) => {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            format!("{} {body}", answer.status.as_u16())
        }
        Err(error) => error.to_string().replace(&address.to_string(), "PEER"),
    }
}

#[tokio::test]
async fn servers_that_do_not_behave_cost_a_bounded_time_and_room() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let endless_head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let row = |script, expected| (script, expected);
    for (script, expected) in [
        row(Says(ok("hello")), "200 hello"),
        row(Says(gzip(b"packed")), "200 packed"),
        row(Says(b"HTTP/1.0 404 No\r\n\r\nuntil the end".to_vec()), "404 until the end"),
        row(Says(ok(&"x".repeat(1001))), "PEER sends more than 1000 bytes"),
        // A bomb: few bytes that are many.
        row(Says(gzip(&[b'x'; 1 << 20])), "PEER sends more than 1000 bytes"),
        row(Streams(chunked, b"5\r\nhello\r\n".to_vec()), "PEER sends more than 1000 bytes"),
        row(
            Hangs(Vec::new()),
            "no answer within 700ms: the time was up while waiting for an answer of PEER",
        ),
        row(
            Hangs(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec()),
            "no answer within 700ms: the time was up while reading the body from PEER",
        ),
        row(
            Says(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            "lost PEER while waiting for an answer of it: ",
        ),
        row(Closes, "lost PEER while waiting for an answer of it: "),
        row(
            Streams(endless_head, b"X: y\r\n".repeat(1000)),
            "lost PEER while waiting for an answer of it: ",
        ),
        row(
            Says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec()),
            "lost PEER while reading the body from it: ",
        ),
        row(
            Says(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nnot"
                    .to_vec(),
            ),
            "cannot unpack what PEER sent: ",
        ),
    ] {
        let (address, _) = serve(script.clone(), None).await;
        let told = outcome(address, request(address, "http").send().await);
        assert!(told.starts_with(expected), "{script:?}: {told}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_connection_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = request(address, "http").send().await.unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
}

#[tokio::test]
async fn credentials_are_shown_to_who_is_asked_and_to_nobody_it_redirects_to() {
    let (other, other_heads) = serve(Says(ok("there")), None).await;
    let moved =
        format!("HTTP/1.1 302 Found\r\nLocation: http://localhost:{}/x\r\n\r\n", other.port());
    let (address, heads) = serve(Says(moved.into_bytes()), None).await;
    let mut asked = request(address, "http");
    asked.credential = Some(Credential::bearer(Secret::Text("s3cret".to_owned())));
    assert_eq!(outcome(address, asked.send().await), "302 ");
    asked.redirects_max = 1;
    asked.addressing = Addressing { preferred: Some(IpFamily::Ip4), fallback: false };
    let answer = asked.send().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.hops.len()), (200, 2));
    let shown = |heads: &Arc<std::sync::Mutex<Vec<String>>>| {
        heads.lock().unwrap().iter().all(|head| head.contains("uthorization: Bearer s3cret"))
    };
    assert!(shown(&heads) && !shown(&other_heads), "{heads:?} {other_heads:?}");
    assert!(!format!("{asked:?}").contains("s3cret"));
}

/// A CA and certificates of it.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        // Issuers are told apart by name.
        params.distinguished_name.push(DnType::CommonName, dir.path().display().to_string());
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    /// A server's certificate for a name, good from and until these years; signed by itself without a CA.
    fn server(
        &self,
        name: &str,
        years: (i32, i32),
        by_itself: bool,
    ) -> (Arc<ServerConfig>, Fingerprint) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = match by_itself {
            true => params.self_signed(&key).unwrap(),
            false => params.signed_by(&key, &self.issuer).unwrap(),
        };
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let fingerprint = Fingerprint::of(certificate.der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        (Arc::new(config), fingerprint)
    }
}

#[tokio::test]
async fn certificates_are_believed_as_the_settings_say() {
    let ours = Authority::new();
    let others = Authority::new();
    let good = (2020, 2090);
    let with_ca =
        TlsSettings { ca_file: Some(ours.dir.path().join("ca.pem")), ..TlsSettings::default() };
    let named = TlsSettings { server_name: Some("a.lan".to_owned()), ..with_ca.clone() };
    let anybody = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    for (authority, name, years, by_itself, settings, expected) in [
        (&ours, "localhost", good, false, &with_ca, "200 safe"),
        (&ours, "a.lan", good, false, &named, "200 safe"),
        (&ours, "a.lan", good, false, &with_ca, "not valid for name"),
        (&ours, "localhost", (2010, 2011), false, &with_ca, "expired"),
        (&ours, "localhost", (2080, 2090), false, &with_ca, "not valid yet"),
        (&others, "localhost", good, false, &with_ca, "UnknownIssuer"),
        (&ours, "localhost", good, true, &with_ca, "UnknownIssuer"),
        (&others, "b.lan", (2010, 2011), true, &anybody, "200 safe"),
    ] {
        let (config, fingerprint) = authority.server(name, years, by_itself);
        let (address, _) = serve(Says(ok("safe")), Some(config)).await;
        let mut asked = request(address, "https");
        asked.url = format!("https://localhost:{}/", address.port()).parse().unwrap();
        asked.addressing = Addressing { preferred: Some(IpFamily::Ip4), fallback: false };
        asked.tls = Arc::new(settings.prepare().unwrap());
        let mut hops = Vec::new();
        let told = outcome(address, asked.send_traced(&mut hops).await);
        assert!(told.contains(expected), "{name} {years:?}: {told}, not {expected}");
        // What it showed is known, also where it is refused.
        let shown = hops.first().and_then(|hop| hop.tls.as_ref()).map(|tls| &tls.chain);
        let shown = shown.and_then(|chain| chain.first()).map(|it| Fingerprint::of(it));
        assert_eq!(shown, Some(fingerprint), "{name}");
        // The one certificate that is pinned is believed, whatever it says; no other is.
        let pinned = |pin| TlsSettings { fingerprint: Some(pin), ..TlsSettings::default() };
        asked.tls = Arc::new(pinned(fingerprint).prepare().unwrap());
        assert_eq!(outcome(address, asked.send().await), "200 safe", "{name}");
        asked.tls = Arc::new(pinned(Fingerprint([7; 32])).prepare().unwrap());
        assert!(asked.send().await.is_err_and(|error| error.phase() == Some(Phase::Tls)));
    }
}
