//! Connections: accepted within bounds, TLS spoken where asked for, each request handed to the
//! router with the [`PeerAddress`] it came from.
//!
//! Bounds: [`CONNECTIONS_MAX`] at once (further ones wait in the kernel's queue), each with a
//! handshake and headers in time. At shutdown no new connection is taken, requests under way are
//! finished, and what is not done within [`GRACE`] is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::access::PeerAddress;
use super::tls::HttpTls;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 1024;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may wait for the next request's headers. Longer than the 90 s after which
/// Go's client, and so Grafana, gives up an idle connection, so that it is always the client that
/// does.
const IDLE: Duration = Duration::from_secs(120);

/// How many bytes of headers and look-ahead an HTTP/1 connection buffers.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// How many bytes of headers an HTTP/2 request may have.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// How long requests under way may take at shutdown.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then drains for up to [`GRACE`]. With `tls`, TLS only; without, plain
/// HTTP/1.1.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<HttpTls>>,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let gone = CancellationToken::new();
    loop {
        let (stream, from, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let door = Door { from, router: router.clone(), shutdown: shutdown.clone() };
        let (tls, gone) = (tls.clone(), gone.clone());
        connections.spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = door.open(stream, tls) => {}
            }
            drop(place);
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

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, from)) => Some((stream, from, place)),
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
    shutdown: CancellationToken,
}

impl Door {
    async fn open(self, stream: TcpStream, tls: Option<Arc<HttpTls>>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, from = %self.from, "set TCP_NODELAY");
        }
        let Some(tls) = tls else { return self.http1(stream).await };
        let acceptor = TlsAcceptor::from(tls.config());
        match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(stream).await;
            }
            Ok(Ok(stream)) => self.http1(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, from = %self.from, "HTTP TLS handshake"),
            Err(_elapsed) => tracing::debug!(from = %self.from, "HTTP TLS handshake took too long"),
        }
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { from, router, shutdown } = self;
        let service = service_fn(move |request| answer(router.clone(), from, request));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER_BYTES_MAX);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %from, "HTTP connection");
        }
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { from, router, shutdown } = self;
        let service = service_fn(move |request| answer(router.clone(), from, request));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %from, "HTTP connection");
        }
    }
}

async fn answer(
    router: Router,
    from: SocketAddr,
    mut request: http::Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    request.extensions_mut().insert(PeerAddress(from));
    router.oneshot(request).await
}

#[cfg(test)]
mod tests;
