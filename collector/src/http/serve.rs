//! Connections: accepted within bounds, TLS spoken where asked for, each request handed to the
//! router with the [`PeerAddress`] it came from.
//!
//! Bounds: [`CONNECTIONS_MAX`] at once on all ports (further ones wait in the kernel's queue), of which an address
//! has its share ([`Places`]), each with a handshake and headers in time, and at a [`Pace`] after that:
//! who sends a body more slowly is told to come again, who reads an answer more slowly is cut off. At
//! shutdown no new connection is taken, requests under way are finished, and what is not done within
//! [`GRACE`] is dropped.

mod pace;
mod places;
mod pulse;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::access::PeerAddress;
use super::tls::HttpTls;
use pace::Arriving;
use places::Place;
use pulse::{Held, Lapse, Pulse, Watched};

pub use pace::Pace;
pub use places::{CONNECTIONS_MAX, HEADERS, HttpFigures, IDLE, Limits, PER_ADDRESS_MAX, Places};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many bytes of headers and look-ahead an HTTP/1 connection buffers.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// How many bytes of headers an HTTP/2 request may have.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// What a client says first that speaks HTTP/2 without having been asked (RFC 9113, 3.4), as gRPC's do.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long an idle connection may take to say that it ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long requests under way may take at shutdown.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then drains for up to [`GRACE`]. With `tls`, TLS only; without, plain
/// HTTP/1.1, and HTTP/2 with those who begin with it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<HttpTls>>,
    places: Arc<Places>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let gone = CancellationToken::new();
    loop {
        let (stream, from, permit) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let Some(place) = places.take(from.ip()) else {
            tracing::debug!(%from, "too many HTTP connections from one address");
            continue;
        };
        let door = Door {
            from,
            router: router.clone(),
            pulse: Pulse::new(places.limits()),
            places: Arc::clone(&places),
            _place: place,
            shutdown: shutdown.clone(),
        };
        let (tls, gone) = (tls.clone(), gone.clone());
        connections.spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = door.open(stream, tls) => {}
            }
            drop(permit);
        });
    }
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "dropped HTTP connections at shutdown");
        gone.cancel();
        connections.wait().await;
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection. It is not taken from the kernel before there is a place for it, which a port
/// holds while it waits for someone to call.
async fn accept(listener: &TcpListener, places: &Places) -> Option<Accepted> {
    let permit = places.free().await?;
    match listener.accept().await {
        Ok((stream, from)) => Some((stream, from, permit)),
        Err(error) => {
            tracing::warn!(%error, "accept an HTTP connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection's way in.
struct Door {
    from: SocketAddr,
    router: Router,
    pulse: Pulse,
    places: Arc<Places>,
    _place: Place,
    shutdown: CancellationToken,
}

impl Door {
    async fn open(self, stream: TcpStream, tls: Option<Arc<HttpTls>>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, from = %self.from, "set TCP_NODELAY");
        }
        let Some(tls) = tls else { return self.plain(stream).await };
        let acceptor = TlsAcceptor::from(tls.config());
        match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(stream).await;
            }
            Ok(Ok(stream)) => self.http1(stream).await,
            Ok(Err(error)) => {
                self.places.tls.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, from = %self.from, "HTTP TLS handshake");
            }
            Err(_elapsed) => {
                self.places.slow.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(from = %self.from, "HTTP TLS handshake took too long");
            }
        }
    }

    /// Without TLS: the other side's first bytes say what it speaks.
    async fn plain(self, mut stream: TcpStream) {
        let greeted = tokio::select! {
            () = self.shutdown.cancelled() => return,
            greeted = tokio::time::timeout(self.places.limits().headers, greeting(&mut stream)) => greeted,
        };
        let heard = match greeted {
            Ok(Ok(heard)) => heard,
            Ok(Err(error)) => {
                tracing::debug!(%error, from = %self.from, "HTTP connection");
                return;
            }
            Err(_elapsed) => {
                self.places.slow.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(from = %self.from, "no HTTP request came in time");
                return;
            }
        };
        let is_http2 = heard == PREFACE;
        let (reader, writer) = stream.into_split();
        let stream = tokio::io::join(std::io::Cursor::new(heard).chain(reader), writer);
        if is_http2 { self.http2(stream).await } else { self.http1(stream).await }
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| answer(&self, request));
        let mut builder = http1::Builder::new();
        // The pulse sees to both, headers that come slowly and requests that do not come.
        builder.header_read_timeout(None).max_buf_size(BUFFER_BYTES_MAX);
        let stream = TokioIo::new(Watched::new(stream, self.pulse.clone(), true));
        let connection = std::pin::pin!(builder.serve_connection(stream, service));
        self.attend(connection, |connection| connection.graceful_shutdown()).await;
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| answer(&self, request));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX);
        let stream = TokioIo::new(Watched::new(stream, self.pulse.clone(), false));
        let connection = std::pin::pin!(builder.serve_connection(stream, service));
        self.attend(connection, |connection| connection.graceful_shutdown()).await;
    }

    /// Serves until either side ends it, or it has done nothing for too long.
    async fn attend<C: Future<Output = hyper::Result<()>>>(
        &self,
        mut connection: Pin<&mut C>,
        wind_up: impl Fn(Pin<&mut C>),
    ) {
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                wind_up(connection.as_mut());
                connection.await
            }
            lapse = self.pulse.ended() => match lapse {
                Lapse::Slow => {
                    self.places.slow.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(from = %self.from, "HTTP headers took too long");
                    return;
                }
                Lapse::Stalled => {
                    self.places.stalled.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(from = %self.from, "an HTTP answer was not read");
                    return;
                }
                Lapse::Idle => {
                    self.places.idle.fetch_add(1, Ordering::Relaxed);
                    wind_up(connection.as_mut());
                    tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
                }
            },
        };
        if let Err(error) = ended {
            tracing::debug!(%error, from = %self.from, "HTTP connection");
        }
    }
}

/// What the other side says first: HTTP/2's preface, or what shows that it is none.
async fn greeting(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut heard = [0; PREFACE.len()];
    let mut length = 0;
    while let Some(room) = heard.get_mut(length..).filter(|room| !room.is_empty()) {
        let more = stream.read(room).await?;
        length += more;
        if more == 0 || !PREFACE.starts_with(heard.get(..length).unwrap_or_default()) {
            break;
        }
    }
    Ok(heard.get(..length).unwrap_or_default().to_vec())
}

/// Hands a request to the router; the future owns what it needs, as HTTP/2 runs it beside others.
fn answer(
    door: &Door,
    request: http::Request<Incoming>,
) -> impl Future<Output = Result<Response, std::convert::Infallible>> + use<> {
    let under_way = door.pulse.request();
    let (router, places) = (door.router.clone(), Arc::clone(&door.places));
    let slow = Arc::new(AtomicBool::default());
    let pace = places.limits().pace;
    let paces_itself = request.uri().path() == super::import::PATH;
    let mut request = request.map(|body| {
        if paces_itself {
            return Body::new(body);
        }
        Body::new(Arriving::new(body, pace, Arc::clone(&slow)))
    });
    request.extensions_mut().insert(PeerAddress(door.from));
    async move {
        let mut answer = router.oneshot(request).await?;
        if slow.load(Ordering::Relaxed) {
            places.slow.fetch_add(1, Ordering::Relaxed);
            answer = come_again();
        }
        Ok(answer.map(|body| Held::around(body, under_way)))
    }
}

/// What a request is told whose body came too slowly. Not 408: senders of remote write give up what a 4xx
/// is said of.
fn come_again() -> Response {
    let text = "the body came too slowly; come again\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
}

#[cfg(test)]
mod tests;
