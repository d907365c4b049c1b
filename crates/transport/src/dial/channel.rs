//! tonic channels, each over a stream of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::quic::{IDLE_TIMEOUT, KEEP_ALIVE};
use crate::stream::Io;
use crate::{Class, Via};

use super::{ClientTls, DialError, open_quic, open_tcp};

/// Bytes a call may have under way per stream, and per class: as the QUIC stream's window.
const HTTP2_WINDOW_BYTES: u32 = 512 * 1024;
/// Calls that wait for their channel's connection; further ones wait to be let in.
const CALLS_WAITING_MAX: usize = 64;
/// What requests are addressed to; TLS has verified it.
const ORIGIN: &str = "http://collector.stoa";

/// Opens streams on what was dialled, as long as that lives. Knows no channel, so that channels may
/// hold it.
pub(super) struct Opener {
    pub(super) path: Path,
    /// Cancelled to end the streams of all classes; over TCP also when the first class's ends.
    pub(super) life: CancellationToken,
    addr: SocketAddr,
    open_timeout: Duration,
}

pub(super) enum Path {
    Quic(quinn::Connection),
    Tcp(Arc<ClientTls>),
}

impl Opener {
    pub(super) const fn quic(
        connection: quinn::Connection,
        addr: SocketAddr,
        life: CancellationToken,
        open_timeout: Duration,
    ) -> Self {
        Self { path: Path::Quic(connection), life, addr, open_timeout }
    }

    pub(super) const fn tcp(
        tls: Arc<ClientTls>,
        addr: SocketAddr,
        life: CancellationToken,
        open_timeout: Duration,
    ) -> Self {
        Self { path: Path::Tcp(tls), life, addr, open_timeout }
    }

    pub(super) const fn via(&self) -> Via {
        match self.path {
            Path::Quic(_) => Via::Quic,
            Path::Tcp(_) => Via::Tcp,
        }
    }

    async fn open(&self, class: Class) -> Result<Io, DialError> {
        let addr = self.addr;
        let open = async {
            if self.life.is_cancelled() {
                let source = std::io::ErrorKind::NotConnected.into();
                return Err(DialError::Broken { addr, source });
            }
            match &self.path {
                Path::Quic(connection) => open_quic(connection, addr, class, &self.life).await,
                Path::Tcp(tls) => open_tcp(tls, addr, class, &self.life).await,
            }
        };
        timeout(self.open_timeout, open).await.unwrap_or_else(|_elapsed| {
            Err(DialError::TimedOut { addr: addr.to_string(), after: self.open_timeout })
        })
    }

    fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::from_static(ORIGIN)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .buffer_size(CALLS_WAITING_MAX);
        match self.via() {
            // QUIC has its own keep-alive.
            Via::Quic => endpoint,
            // The kernel's probes are answered by the other kernel, even for a process that hangs.
            Via::Tcp => endpoint
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(IDLE_TIMEOUT - KEEP_ALIVE)
                .keep_alive_while_idle(true),
        }
    }
}

/// A channel on a stream that is open already; HTTP/2 has started when it returns.
pub(super) async fn eager(
    opener: &Arc<Opener>,
    class: Class,
    first: Io,
) -> Result<Channel, tonic::transport::Error> {
    opener.endpoint().connect_with_connector(connector(opener, class, Some(first))).await
}

/// A channel whose stream is opened by its first call, and again should it be lost alone.
pub(super) fn lazy(opener: &Arc<Opener>, class: Class) -> Channel {
    opener.endpoint().connect_with_connector_lazy(connector(opener, class, None))
}

fn connector(
    opener: &Arc<Opener>,
    class: Class,
    first: Option<Io>,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<Io>,
    Error = DialError,
    Future: Future<Output = Result<TokioIo<Io>, DialError>> + Send,
> + Send
+ 'static {
    let opener = Arc::clone(opener);
    let first = Arc::new(Mutex::new(first));
    tower::service_fn(move |_origin: Uri| {
        let opener = Arc::clone(&opener);
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            match first {
                Some(io) => Ok(TokioIo::new(io)),
                None => opener.open(class).await.map(TokioIo::new),
            }
        }
    })
}
