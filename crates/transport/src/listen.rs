//! The collector's side: one port, udp and tcp, and what comes in on it.
//!
//! Constraints
//! * Nothing before authentication costs more than a handshake slot ([`ListenerConfig::handshakes_max`])
//!   for at most [`ListenerConfig::handshake_timeout`], and one address has its share of those
//!   ([`ListenerConfig::handshakes_per_address_max`]). Once half of either is taken, QUIC clients must
//!   first prove their address, so that forged ones can fill neither.
//! * Every refusal is counted by reason, and logged with who and why, at most
//!   a few lines a second.
//! * A revoked host is out at once: the check runs after a connection is registered, so that
//!   a [`Listener::cut`] in between cannot miss it.

mod admit;
mod crowd;
mod live;
mod pace;
mod quic;
mod socket;
mod tcp;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{Endpoint, VarInt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::tls::ServerTls;
use crate::{Class, Peer, Refused, ResetKeys, ServerCredentials, ServerIo};

use self::admit::Refusals;
use self::crowd::{Crowd, Member};
pub(crate) use self::live::Held;
use self::live::Live;
pub(crate) use self::socket::ListenSocket;

/// Streams accepted and not yet taken by [`Incoming`]'s reader; more wait with their handshake.
const INCOMING_MAX: usize = 64;
/// How long an accepted stream may wait for [`Incoming`]'s reader.
const INCOMING_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients without a certificate served at once.
const JOINS_MAX: usize = 16;
/// How long a client without a certificate may stay.
const JOIN_LIFETIME: Duration = Duration::from_secs(60);
/// How long closed QUIC connections may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);
/// Attempts to find one number free for both udp and tcp, when the system may choose.
const PORT_ATTEMPTS: usize = 16;
/// Bytes a gRPC method may have under way per stream, and per class: as QUIC's stream window, so
/// that neither holds up the other.
const HTTP2_WINDOW_BYTES: u32 = 512 * 1024;
/// Calls at once per class.
const CALLS_MAX: u32 = 64;
/// Bytes of a call's headers.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// What a [`Listener`] needs. [`ListenerConfig::new`] fills the limits.
pub struct ListenerConfig {
    /// The certificate shown, and the CAs believed.
    pub credentials: ServerCredentials,
    /// Kept by the caller across restarts, so that those are noticed at once.
    pub reset_keys: ResetKeys,
    /// Whether the certificate with that [`crate::CertificateIdentity::serial`] is revoked. Called once per
    /// connection, on a worker thread: it must not block.
    pub is_revoked: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Connections with a certificate at once: an agent has one over QUIC, three over TCP. Default 1024.
    pub connections_max: usize,
    /// Handshakes at once. Default 256.
    pub handshakes_max: usize,
    /// Handshakes at once from one address. Default 32.
    pub handshakes_per_address_max: usize,
    /// Addresses for which that bound does not hold. Called for each handshake: it must not block.
    /// Default: loopback.
    pub is_exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// How long a handshake, and then a preamble, may take. Default 5 s.
    pub handshake_timeout: Duration,
}

impl ListenerConfig {
    /// The default limits, nobody revoked.
    #[must_use]
    pub fn new(credentials: ServerCredentials, reset_keys: ResetKeys) -> Self {
        Self {
            credentials,
            reset_keys,
            is_revoked: Arc::new(|_serial| false),
            connections_max: 1024,
            handshakes_max: 256,
            handshakes_per_address_max: 32,
            is_exempt: Arc::new(|address| address.to_canonical().is_loopback()),
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for ListenerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerConfig")
            .field("connections_max", &self.connections_max)
            .field("handshakes_max", &self.handshakes_max)
            .field("handshakes_per_address_max", &self.handshakes_per_address_max)
            .field("handshake_timeout", &self.handshake_timeout)
            .finish_non_exhaustive()
    }
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The certificate, its key or the CAs cannot be used.
    #[error("listener's credentials cannot be used")]
    Credentials {
        /// What TLS said.
        source: rustls::Error,
    },
    /// The port is taken, or the address is not ours.
    #[error("bind {addr}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Figures of a listener, for its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStats {
    /// Connections open, joins included.
    pub connections: usize,
    /// Streams open: HTTP/2 connections.
    pub streams: usize,
    /// Handshakes under way.
    pub handshakes: usize,
    /// QUIC handshakes answered with "prove your address first" since the start.
    pub retries: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections ended by [`Listener::cut`] since the start.
    pub cut: u64,
    /// Refusals since the start, by reason; reasons not met are absent.
    pub refused: Vec<(Refused, u64)>,
}

/// How a [`Listener::drain`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Streams that had not ended by themselves when the grace was over, and were cut.
    pub streams_cut: usize,
}

/// A port that agents dial, udp and tcp. Dropped without [`Listener::drain`], it closes at once.
pub struct Listener {
    shared: Arc<Shared>,
}

/// A handshake's place among all, and among its address's.
struct Slot {
    _permit: OwnedSemaphorePermit,
    _member: Member,
}

/// What both accept loops and all connections refer to.
struct Shared {
    local_addr: SocketAddr,
    endpoint: Endpoint,
    quic: quinn::ServerConfig,
    /// Replaced whole by `set_credentials`; read once per handshake.
    tls: RwLock<Arc<ServerTls>>,
    is_revoked: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    handshake_timeout: Duration,
    handshakes_max: usize,
    handshakes: Arc<Semaphore>,
    handshakes_per_address_max: usize,
    is_exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    crowd: Arc<Crowd>,
    retries: AtomicU64,
    live: Arc<Live>,
    refusals: Refusals,
    streams: mpsc::Sender<ServerIo>,
    /// No new connections or streams; those there go on.
    draining: CancellationToken,
    /// The accept loops end.
    stopped: CancellationToken,
}

impl Listener {
    /// Binds `addr`, udp and tcp – with port 0, one number free for both – and accepts from then on.
    /// Must be called within a tokio runtime.
    ///
    /// The second value yields the streams of all classes and both transports, for
    /// `serve_with_incoming_shutdown` of a [`server`].
    ///
    /// # Errors
    /// [`ListenError`]: bad credentials, or an address that cannot be bound.
    pub fn bind(addr: SocketAddr, config: ListenerConfig) -> Result<(Self, Incoming), ListenError> {
        let credentials = |source| ListenError::Credentials { source };
        let tls = Arc::new(ServerTls::new(config.credentials).map_err(credentials)?);
        let (handshake, _witness) = tls.config().map_err(credentials)?;
        let crypto = crate::quic::server_crypto(handshake).map_err(credentials)?;
        let quic = crate::quic::server_config(crypto);

        let bind = |source| ListenError::Bind { addr, source };
        let (tcp, udp) = bind_both(addr).map_err(bind)?;
        let local_addr = tcp.local_addr().map_err(bind)?;
        let tcp = TcpListener::from_std(tcp).map_err(bind)?;
        let endpoint = crate::quic::listen(udp, &config.reset_keys, quic.clone()).map_err(bind)?;

        let (streams, rx) = mpsc::channel(INCOMING_MAX);
        let draining = CancellationToken::new();
        let incoming = Incoming { rx, draining: Box::pin(draining.clone().cancelled_owned()) };
        let shared = Arc::new(Shared {
            local_addr,
            endpoint,
            quic,
            tls: RwLock::new(tls),
            is_revoked: config.is_revoked,
            handshake_timeout: config.handshake_timeout,
            handshakes_max: config.handshakes_max,
            handshakes: Arc::new(Semaphore::new(config.handshakes_max)),
            handshakes_per_address_max: config.handshakes_per_address_max,
            is_exempt: config.is_exempt,
            crowd: Arc::default(),
            retries: AtomicU64::new(0),
            live: Arc::new(Live::new(config.connections_max, JOINS_MAX)),
            refusals: Refusals::default(),
            streams,
            draining,
            stopped: CancellationToken::new(),
        });
        tokio::spawn(tcp::accept(Arc::clone(&shared), tcp));
        tokio::spawn(quic::accept(Arc::clone(&shared)));
        Ok((Self { shared }, incoming))
    }

    /// The address bound, with the port the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Uses other credentials from the next handshake on: a renewed certificate, other CAs.
    /// Connections that are open stay.
    ///
    /// # Errors
    /// [`ListenError::Credentials`]; the old ones stay in use then.
    pub fn set_credentials(&self, credentials: ServerCredentials) -> Result<(), ListenError> {
        let tls =
            ServerTls::new(credentials).map_err(|source| ListenError::Credentials { source })?;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        Ok(())
    }

    /// Ends at once, with [`Refused::Revoked`], each connection that `whom` picks, and says how many
    /// there were. Mark the host as revoked first, or it dials again. Calls in flight on those
    /// connections fail.
    pub fn cut(&self, whom: impl Fn(&Peer) -> bool) -> usize {
        self.shared.live.cut(Refused::Revoked, whom)
    }

    /// Cancelled when draining begins: what long calls watch, to end in time.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.shared.draining.child_token()
    }

    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        let shared = &self.shared;
        ListenerStats {
            connections: shared.live.connections(),
            streams: shared.live.streams(),
            handshakes: shared.handshakes_max.saturating_sub(shared.handshakes.available_permits()),
            retries: shared.retries.load(Ordering::Relaxed),
            accepted: shared.live.accepted(),
            cut: shared.live.cut_total(),
            refused: shared.refusals.counts(),
        }
    }

    /// Refuses what is new, lets calls in flight finish for up to `grace`, then closes with
    /// [`Refused::Draining`].
    ///
    /// [`Incoming`] ends, upon which a tonic server started with `serve_with_incoming_shutdown` sends
    /// GOAWAY on each stream. Replies are with their receivers when a stream counts as ended. Calls
    /// that never end by themselves must watch [`Listener::draining`].
    pub async fn drain(&self, grace: Duration) -> Drained {
        let shared = &self.shared;
        shared.draining.cancel();
        let ended = tokio::time::timeout(grace, shared.live.all_streams_ended()).await;
        let streams_cut = if ended.is_ok() { 0 } else { shared.live.streams() };
        shared.live.cut(Refused::Draining, |_peer| true);
        if tokio::time::timeout(FAREWELL, shared.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("some peers have not acknowledged the close");
        }
        shared.stopped.cancel();
        shared.endpoint.close(Refused::Draining.code(), b"draining");
        Drained { streams_cut }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.draining.cancel();
        self.shared.stopped.cancel();
        self.shared.live.cut(Refused::Draining, |_peer| true);
        self.shared.endpoint.close(VarInt::from_u32(0), b"");
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local_addr", &self.shared.local_addr)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn tls(&self) -> Arc<ServerTls> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether half of the handshakes are taken, of all or of that address.
    fn is_crowded(&self, address: IpAddr) -> bool {
        self.handshakes.available_permits() < self.handshakes_max / 2
            || (!(self.is_exempt)(address)
                && self.crowd.of(address) >= self.handshakes_per_address_max.div_ceil(2))
    }

    /// A handshake's place, or why there is none.
    fn enter(&self, address: IpAddr) -> Result<Slot, Refused> {
        let permit =
            Arc::clone(&self.handshakes).try_acquire_owned().map_err(|_none_free| Refused::Busy)?;
        let max =
            if (self.is_exempt)(address) { usize::MAX } else { self.handshakes_per_address_max };
        let member = self.crowd.enter(address, max).ok_or(Refused::AddressBusy)?;
        Ok(Slot { _permit: permit, _member: member })
    }

    /// Why a stream with that preamble cannot be had, if so.
    fn judge(&self, class: Option<Class>, peer: &Peer) -> Result<Class, Refused> {
        let Some(class) = class else {
            return Err(Refused::BadPreamble);
        };
        if self.draining.is_cancelled() {
            return Err(Refused::Draining);
        }
        let joins = peer.class == Class::Join;
        if (class == Class::Join) != joins {
            return Err(Refused::WrongClass);
        }
        Ok(class)
    }

    /// A place in [`Incoming`], or why there is none.
    async fn place(&self) -> Result<mpsc::Permit<'_, ServerIo>, Refused> {
        match tokio::time::timeout(INCOMING_TIMEOUT, self.streams.reserve()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_closed)) => Err(Refused::Draining),
            Err(_elapsed) => Err(Refused::Busy),
        }
    }
}

/// The streams that peers open, of all classes and both transports. Ends when draining begins.
pub struct Incoming {
    rx: mpsc::Receiver<ServerIo>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream for Incoming {
    type Item = io::Result<ServerIo>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.rx.is_closed() {
            return Poll::Ready(None);
        }
        if this.draining.as_mut().poll(cx).is_ready() {
            this.rx.close();
            return Poll::Ready(None);
        }
        this.rx.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}

/// tonic's server with the limits that fit this transport; services and layers are the caller's.
#[must_use]
pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_concurrent_streams(CALLS_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
}

fn bind_both(addr: SocketAddr) -> io::Result<(std::net::TcpListener, std::net::UdpSocket)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let tcp = std::net::TcpListener::bind(addr)?;
        tcp.set_nonblocking(true)?;
        match std::net::UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if addr.port() != 0 || attempts == PORT_ATTEMPTS => return Err(error),
            Err(_taken) => {}
        }
    }
}
