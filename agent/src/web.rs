//! The agent's one HTTP client: one call, one request, one connection.
//!
//! `resolve → connect → tls → processing → transfer`: each step is a [`Phase`] that is timed, all of
//! them together have one deadline, and what was learned on the way ([`Hop`]: durations, address,
//! certificates) is there when a later step fails. HTTP/1.1 and HTTP/2, plain or by TLS with
//! whatever trust its [`Tls`] was prepared with. Redirects are followed only when asked, each as a
//! hop of its own.
//!
//! Owns nothing between calls, and of the process only the machine's roots, loaded once when first
//! needed. Knows neither what is asked for nor who asks. Bounded: [`Request::timeout`] in all,
//! [`Request::body_bytes_max`] of a body before and after it is unpacked, [`HEAD_BYTES_MAX`] of
//! headers, [`Request::redirects_max`], [`dial::ADDRESSES_MAX`] addresses of a name. A resolver that
//! hangs keeps one of the runtime's blocking threads; the call returns without it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

mod body;
mod credential;
mod dial;
mod error;
mod hop;
mod tls;
mod url;

pub use credential::{Credential, Secret};
pub use dial::{Addressing, IpFamily, connect, resolve};
pub use error::WebError;
pub use hop::{Hop, Phase, Phases};
pub use tls::{Fingerprint, Tls, TlsFacts, TlsSettings};
pub use url::Url;

/// The most bytes of an answer's headers.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;
/// What a server is told that we are, unless a header says otherwise.
const AGENT: &str = concat!("stoa-agent/", env!("CARGO_PKG_VERSION"));
/// What is offered in a TLS handshake, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speak {
    /// By TLS what the server chooses, without it HTTP/1.1.
    #[default]
    Any,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS too.
    Http2,
}

/// What is asked, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where.
    pub url: Url,
    /// `GET`, unless set.
    pub method: Method,
    /// Sent as they are; `Host` takes the place of the address's.
    pub headers: HeaderMap,
    /// Sent as it is.
    pub body: Bytes,
    /// Shown to the first host and to no other that it redirects to.
    pub credential: Option<Credential>,
    /// Which addresses of a name are tried, and in what order.
    pub addressing: Addressing,
    /// Who is trusted.
    pub tls: Arc<Tls>,
    /// Which HTTP.
    pub speak: Speak,
    /// Whether a packed answer is asked for, and unpacked.
    pub accept_gzip: bool,
    /// How often a redirect is followed; what comes after is the answer itself.
    pub redirects_max: usize,
    /// The most bytes of a body, as sent and unpacked.
    pub body_bytes_max: usize,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// What a server said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// By which HTTP.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// What followed the body; gRPC's status stands here.
    pub trailers: HeaderMap,
    /// The body, unpacked if it was asked for packed.
    pub body: Bytes,
    /// The body's bytes as they came.
    pub packed_bytes: usize,
    /// How it went: the last of them gave the answer, those before it redirected.
    pub hops: Vec<Hop>,
}

/// A connection, plain or not.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The sender of a request by one of two protocols; the connection ends when it is dropped.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Request {
    /// A `GET` without anything else.
    #[must_use]
    pub fn get(url: Url, tls: Arc<Tls>, timeout: Duration) -> Self {
        Self {
            url,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            credential: None,
            addressing: Addressing::default(),
            tls,
            speak: Speak::Any,
            accept_gzip: true,
            redirects_max: 0,
            body_bytes_max: 16 << 20,
            timeout,
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`WebError`]: the phase, the peer, and what was wrong.
    pub async fn send(&self) -> Result<Answer, WebError> {
        let mut hops = Vec::new();
        let mut answer = self.send_traced(&mut hops).await?;
        answer.hops = hops;
        Ok(answer)
    }

    /// Asks, and tells in `hops` how far it came, whether or not there is an answer; those of the
    /// answer are left empty.
    ///
    /// # Errors
    /// [`WebError`].
    pub async fn send_traced(&self, hops: &mut Vec<Hop>) -> Result<Answer, WebError> {
        let asked = timeout(self.timeout, self.follow(hops)).await;
        if let Some(hop) = hops.last_mut() {
            hop.end();
        }
        match asked {
            Ok(asked) => asked,
            Err(_) => {
                let (phase, peer) = match hops.last() {
                    Some(hop) => (hop.phase(), hop.peer_name()),
                    None => (Phase::Resolve, self.url.to_string()),
                };
                Err(WebError::Deadline { phase, peer, after: self.timeout })
            }
        }
    }

    async fn follow(&self, hops: &mut Vec<Hop>) -> Result<Answer, WebError> {
        let mut request = Cow::Borrowed(self);
        loop {
            let followed = hops.len();
            // Stands there while it is on its way, so that a deadline finds it.
            let hop = hops.push_mut(Hop::new(&request.url));
            let is_last = followed >= self.redirects_max;
            let next = match request.once(hop, is_last).await? {
                Some(answer) => return Ok(answer),
                None => request.redirected(hop)?,
            };
            hop.end();
            request = Cow::Owned(next);
        }
    }

    /// Asks one server; `None`: it redirects, and is to be followed.
    async fn once(&self, hop: &mut Hop, is_last: bool) -> Result<Option<Answer>, WebError> {
        let credential = match &self.credential {
            Some(credential) => Some(credential.header().await?),
            None => None,
        };
        let (stream, speaks_http2) = self.connection(hop).await?;
        hop.enter(Phase::Processing);
        let lost = |hop: &Hop, source| WebError::Http {
            phase: hop.phase(),
            peer: hop.peer_name(),
            source,
        };
        let io = TokioIo::new(stream);
        let (mut sender, _driver) = if speaks_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let builder =
                builder.max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
            let (sender, connection) =
                builder.handshake(io).await.map_err(|source| lost(hop, source))?;
            (
                Sender::Http2(sender),
                AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) })),
            )
        } else {
            let mut builder = http1::Builder::new();
            let (sender, connection) = builder
                .max_buf_size(HEAD_BYTES_MAX)
                .handshake(io)
                .await
                .map_err(|source| lost(hop, source))?;
            (
                Sender::Http1(sender),
                AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) })),
            )
        };
        let request = self.request(credential, speaks_http2)?;
        let answer = match &mut sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let (head, body) = answer.map_err(|source| lost(hop, source))?.into_parts();
        hop.enter(Phase::Transfer);
        hop.status = Some(head.status);
        if !is_last
            && is_redirect(head.status)
            && let Some(to) = head.headers.get(LOCATION)
        {
            hop.location = Some(to.clone());
            return Ok(None);
        }
        let read = self.body(&head, body, hop).await?;
        hop.end();
        Ok(Some(Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            trailers: read.trailers,
            packed_bytes: read.packed_bytes,
            body: read.body,
            hops: Vec::new(),
        }))
    }

    /// A connection to the server, and whether HTTP/2 is spoken by it.
    async fn connection(&self, hop: &mut Hop) -> Result<(Box<dyn Wire>, bool), WebError> {
        let tcp =
            connect(&self.url.host, self.url.port, self.addressing, self.timeout, hop).await?;
        if !self.url.is_tls {
            return Ok((Box::new(tcp), self.speak == Speak::Http2));
        }
        let offered = match self.speak {
            Speak::Any => &ALPN[..],
            Speak::Http1 => &ALPN[1..],
            Speak::Http2 => &ALPN[..1],
        };
        let tls = self.tls.secure(tcp, &self.url.host, offered, hop).await?;
        let chosen = tls.get_ref().1.alpn_protocol();
        let speaks_http2 = match chosen {
            Some(chosen) => chosen == ALPN[0],
            // Nothing chosen: a server that knows nothing of it.
            None => self.speak == Speak::Http2,
        };
        Ok((Box::new(tls), speaks_http2))
    }

    fn request(
        &self,
        credential: Option<HeaderValue>,
        speaks_http2: bool,
    ) -> Result<http::Request<Full<Bytes>>, WebError> {
        let host = match self.headers.get(HOST) {
            Some(host) => host.clone(),
            None => self
                .url
                .host_header()
                .parse()
                .map_err(|_unsaid| WebError::wrong_url(&self.url, "its host"))?,
        };
        let target = match (speaks_http2, host.to_str()) {
            (true, Ok(authority)) => self.url.absolute(authority),
            _ => self.url.target.clone(),
        };
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() =
            target.parse().map_err(|_unsaid| WebError::wrong_url(&self.url, "its path"))?;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        if speaks_http2 {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
        } else {
            headers.insert(HOST, host);
        }
        let headers = request.headers_mut();
        if let Some(credential) = credential {
            headers.insert(AUTHORIZATION, credential);
        }
        set_default(headers, USER_AGENT, AGENT);
        if self.accept_gzip {
            set_default(headers, ACCEPT_ENCODING, "gzip");
        }
        Ok(request)
    }

    async fn body(
        &self,
        head: &http::response::Parts,
        body: Incoming,
        hop: &Hop,
    ) -> Result<body::Read, WebError> {
        let read = body::read(body, self.body_bytes_max, hop).await?;
        let is_packed = head
            .headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
        if !(self.accept_gzip && is_packed) || read.body.is_empty() {
            return Ok(read);
        }
        let body = body::unpack(&read.body, self.body_bytes_max, hop)?;
        Ok(body::Read { body, ..read })
    }

    /// What is asked of the place that `hop` redirected to.
    fn redirected(&self, hop: &Hop) -> Result<Self, WebError> {
        let to = hop.location.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        let wrong = || WebError::Redirect {
            peer: hop.peer_name(),
            to: String::from_utf8_lossy(to).chars().take(200).collect(),
        };
        let to = std::str::from_utf8(to).map_err(|_unsaid| wrong())?;
        let url = self.url.join(to).map_err(|_unsaid| wrong())?;
        let mut next = self.clone();
        if !url.is_same_host(&self.url) {
            next.credential = None;
            for name in [AUTHORIZATION, COOKIE, HOST] {
                next.headers.remove(name);
            }
        }
        let becomes_get = match hop.status {
            Some(StatusCode::SEE_OTHER) => self.method != Method::HEAD,
            Some(StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = Bytes::new();
            next.headers.remove(header::CONTENT_TYPE);
        }
        next.url = url;
        Ok(next)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn set_default(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests;
