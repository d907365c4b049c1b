//! A server that answers as Proxmox's do, from a script: by TLS with a certificate of its own, to one
//! token.
//!
//! A script is an object of `data` by path. What is `{"status": …}` is that status with its message; a
//! [`Says`] of the test goes before the script. What stands in neither is answered as an unknown method.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::web::Fingerprint;

/// What the server wants to see, as `Authorization` has it.
pub(super) const PVE_TOKEN: &str = "PVEAPIToken=stoa@pve!agent=geheim";
pub(super) const PBS_TOKEN: &str = "PBSAPIToken=stoa@pbs!agent:geheim";

/// What a path answers instead of what the script has.
#[derive(Clone, Debug)]
pub(super) enum Says {
    Data(Value),
    Status(u16, &'static str),
    Html,
    Hang,
    Stream,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server; ends when dropped.
pub(super) struct Fake {
    pub(super) address: String,
    pub(super) fingerprint: String,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Script {
    token: &'static str,
    data: Value,
    says: BTreeMap<String, Says>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(super) fn new(token: &'static str, script: &str, says: &[(&str, Says)]) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let fingerprint = Fingerprint::of(&certificate).hex();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked = Arc::default();
        let script = Arc::new(Script {
            token,
            data: serde_json::from_str(script).unwrap(),
            says: says.iter().map(|(path, says)| ((*path).to_owned(), says.clone())).collect(),
            asked: Arc::clone(&asked),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), acceptor, script) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, fingerprint, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// The paths that were asked for since this was called last.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, script: Arc<Script>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let service = service_fn(|request| answer(Arc::clone(&script), request));
            let http = hyper::server::conn::http1::Builder::new();
            drop(http.serve_connection(TokioIo::new(tls), service).await);
        });
    }
}

async fn answer(
    script: Arc<Script>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let full = |text: String| Full::new(Bytes::from(text)).boxed_unsync();
    let with = |status: u16, body: Body| {
        Ok(Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body).unwrap())
    };
    let shown = request.headers().get(http::header::AUTHORIZATION);
    if shown.is_none_or(|shown| shown.as_bytes() != script.token.as_bytes()) {
        return with(401, full(r#"{"data":null,"message":"invalid token value!\n"}"#.to_owned()));
    }
    let path = request.uri().path_and_query().unwrap().as_str();
    let Some(path) = path.strip_prefix("/api2/json/") else {
        return with(404, full(String::new()));
    };
    script.asked.lock().unwrap().push(path.to_owned());
    let node = path.split('/').take(2).collect::<Vec<_>>().join("/");
    match script.says.get(path).or_else(|| script.says.get(&node)) {
        Some(Says::Data(data)) => return with(200, full(json!({ "data": data }).to_string())),
        Some(Says::Status(status, said)) => return with(*status, full((*said).to_owned())),
        Some(Says::Html) => {
            return with(200, full("<!DOCTYPE html><title>login</title>".to_owned()));
        }
        Some(Says::Hang) => std::future::pending().await,
        Some(Says::Stream) => {
            let frame = || Ok(Frame::data(Bytes::from_static(&[b' '; 1 << 16])));
            let body = StreamBody::new(tokio_stream::iter(std::iter::repeat_with(frame)));
            return with(200, body.boxed_unsync());
        }
        None => {}
    }
    let Some(data) = script.data.get(path) else {
        return with(501, full(format!("Method 'GET /{path}' not implemented")));
    };
    match data.get("status").and_then(Value::as_u64) {
        Some(status) => with(u16::try_from(status).unwrap(), full(data.to_string())),
        None => with(200, full(json!({ "data": data }).to_string())),
    }
}
