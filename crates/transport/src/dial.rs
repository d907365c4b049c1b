//! An agent's side: dialling, QUIC first and TCP when it must, and what a connection then is.
//!
//! A dial: QUIC to the address; when no handshake is complete after [`DialConfig::quic_handshake`],
//! TLS over TCP beside it, and the first to be accepted by the listener wins. A refusal in words – a
//! certificate not accepted, on either side – ends the dial at once: the other transport would say
//! the same. Over TCP the connection keeps trying QUIC and says so ([`Connection::better_path`]).
//!
//! Every step is bounded by [`DialConfig::connect_timeout`] as a whole: quinn by itself would take
//! its idle timeout to give up, and does not hear that a port is closed. A peer of which nothing is
//! heard, neither a QUIC handshake nor a TCP connection, is given up sooner
//! ([`DialConfig::silence`]): both send again ever more rarely, so that a new dial hears of a listener
//! that has come back before an old one would.

mod channel;
mod connection;
mod error;
mod names;
mod probe;

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use quinn::Endpoint;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::stream::{Io, QuicStream};
use crate::tls::{self, SERVER_NAME};
use crate::{Class, ClientCredentials, Via, preamble, tcp};

use self::channel::Opener;
pub use self::connection::{Closed, Connection};
pub use self::error::DialError;
use self::names::Names;

/// Addresses tried of those a name resolves to, one after the other.
const ADDRESSES_MAX: usize = 4;
/// See [`DialConfig::connect_timeout`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`DialConfig::quic_handshake`].
const QUIC_HANDSHAKE: Duration = Duration::from_millis(400);
/// See [`DialConfig::silence`].
const SILENCE: Duration = Duration::from_millis(1100);
/// See [`DialConfig::quic_retry`].
const QUIC_RETRY: Duration = Duration::from_secs(15);
/// See [`Dialer::farewell`].
const FAREWELL: Duration = Duration::from_secs(1);

/// What a [`Dialer`] needs. [`DialConfig::new`] fills the times.
#[derive(Debug)]
pub struct DialConfig {
    /// `host:port` or `address:port`; a name is resolved anew for each dial.
    pub addr: String,
    /// The host's certificate, and the CAs believed.
    pub credentials: ClientCredentials,
    /// The bound of a whole dial, and of opening one more stream. Default 5 s.
    pub connect_timeout: Duration,
    /// How long QUIC has before TCP is tried beside it. Default 400 ms.
    pub quic_handshake: Duration,
    /// How long, once TCP is tried as well, an address may stay silent on both. Default 1.1 s, in
    /// which QUIC's third packet (after 0.9 s in all) and TCP's second (after 1.4 s) have been sent.
    pub silence: Duration,
    /// Over TCP, how often QUIC is tried again, spread by a fifth either way. Default 15 s.
    pub quic_retry: Duration,
}

impl DialConfig {
    /// The default times.
    #[must_use]
    pub fn new(addr: impl Into<String>, credentials: ClientCredentials) -> Self {
        Self {
            addr: addr.into(),
            credentials,
            connect_timeout: CONNECT_TIMEOUT,
            quic_handshake: QUIC_HANDSHAKE,
            silence: SILENCE,
            quic_retry: QUIC_RETRY,
        }
    }
}

/// Dials a [`crate::Listener`]; may be asked again and again, and cloned.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

impl Dialer {
    /// Checks the credentials; dials nothing yet.
    ///
    /// # Errors
    /// [`DialError::Credentials`].
    pub fn new(config: DialConfig) -> Result<Self, DialError> {
        let tls = ClientTls::agent(config.credentials)?;
        let shared = Shared {
            names: Names::new(config.addr.clone()),
            addr: config.addr,
            connect_timeout: config.connect_timeout,
            quic_handshake: config.quic_handshake,
            silence: config.silence,
            quic_retry: config.quic_retry,
            tls: RwLock::new(Arc::new(tls)),
            endpoints: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The `host:port` it dials.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.shared.addr
    }

    /// Uses other credentials from the next dial on: a renewed certificate. Connections that are
    /// open keep theirs.
    ///
    /// # Errors
    /// [`DialError::Credentials`]; the old ones stay in use then.
    pub fn set_credentials(&self, credentials: ClientCredentials) -> Result<(), DialError> {
        let tls = ClientTls::agent(credentials)?;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        Ok(())
    }

    /// Dials once, at most for [`DialConfig::connect_timeout`]. On `Ok` the listener has accepted
    /// this host's certificate. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`DialError`]; [`DialError::passes`] says whether a later attempt may do better.
    pub async fn connect(&self) -> Result<Connection, DialError> {
        self.shared.connect().await
    }

    /// Waits until connections closed here have told the listener, for a second at most. To be
    /// awaited before the process ends; else the listener learns it by its idle timeout.
    pub async fn farewell(&self) {
        let endpoints: Vec<Endpoint> = {
            let endpoints = self.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            endpoints.v4.iter().chain(&endpoints.v6).cloned().collect()
        };
        let idle = async {
            for endpoint in endpoints {
                endpoint.wait_idle().await;
            }
        };
        if timeout(FAREWELL, idle).await.is_err() {
            tracing::debug!("some connections are still open");
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("addr", &self.shared.addr).finish_non_exhaustive()
    }
}

/// A channel for enrolment, by a client that has no certificate yet.
///
/// `addr` is `host:port`; `ca_sha256` is the SHA-256 of the DER of the CA whose chain the listener
/// must show. The connection lives as long as the channel, and at most a minute.
///
/// # Errors
/// [`DialError`]; with another CA than the hash says, [`DialError::Listener`].
pub async fn join_channel(addr: &str, ca_sha256: [u8; 32]) -> Result<Channel, DialError> {
    let tls = tls::join_config(ca_sha256).and_then(|config| ClientTls::new(config, Class::Join));
    let tls = tls.map_err(|source| DialError::Credentials { source })?;
    let shared = Arc::new(Shared {
        addr: addr.to_owned(),
        names: Names::new(addr.to_owned()),
        connect_timeout: CONNECT_TIMEOUT,
        quic_handshake: QUIC_HANDSHAKE,
        // A person waits, and asks once.
        silence: CONNECT_TIMEOUT,
        quic_retry: QUIC_RETRY,
        tls: RwLock::new(Arc::new(tls)),
        endpoints: Mutex::default(),
    });
    let connection = shared.connect().await?;
    Ok(connection.channel(Class::Join))
}

/// What a dial refers to.
struct Shared {
    addr: String,
    names: Names,
    connect_timeout: Duration,
    quic_handshake: Duration,
    silence: Duration,
    quic_retry: Duration,
    /// Replaced whole by `set_credentials`; read once per dial.
    tls: RwLock<Arc<ClientTls>>,
    /// One UDP socket per address family, made when first needed and kept.
    endpoints: Mutex<Endpoints>,
}

#[derive(Default)]
struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

/// One TLS configuration, as each transport wants it.
struct ClientTls {
    tcp: Arc<rustls::ClientConfig>,
    quic: quinn::ClientConfig,
    /// The class whose stream is opened by the dial itself.
    first: Class,
}

impl ClientTls {
    fn agent(credentials: ClientCredentials) -> Result<Self, DialError> {
        tls::agent_config(credentials)
            .and_then(|config| Self::new(config, Class::Control))
            .map_err(|source| DialError::Credentials { source })
    }

    fn new(config: rustls::ClientConfig, first: Class) -> Result<Self, rustls::Error> {
        let tcp = Arc::new(config);
        let quic = crate::quic::client_config(Arc::clone(&tcp))?;
        Ok(Self { tcp, quic, first })
    }
}

/// A listener reached: its transport, and the first class's stream, accepted.
struct Reached {
    opener: Opener,
    first: Io,
}

impl Shared {
    async fn connect(self: &Arc<Self>) -> Result<Connection, DialError> {
        let tls = self.tls();
        let dial = async {
            let mut last = DialError::NoAddress { addr: self.addr.clone() };
            let addresses = self.resolve().await?;
            let share = self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
            for addr in addresses {
                last = match timeout(share, self.reach(&tls, addr)).await {
                    Ok(Ok(reached)) => return self.connection(&tls, addr, reached).await,
                    Ok(Err(error)) if error.is_verdict() => return Err(error),
                    Ok(Err(error)) => error,
                    Err(_elapsed) => self.timed_out(share),
                };
            }
            Err(last)
        };
        // A moment longer than the addresses' shares, so that their errors come through.
        let bound = self.connect_timeout + Duration::from_millis(50);
        Box::pin(timeout(bound, dial))
            .await
            .unwrap_or_else(|_elapsed| Err(self.timed_out(self.connect_timeout)))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let resolve = |source| DialError::Resolve { addr: self.addr.clone(), source };
        let mut found = self.names.resolve().await.map_err(resolve)?;
        found.truncate(ADDRESSES_MAX);
        Ok(found)
    }

    async fn connection(
        self: &Arc<Self>,
        tls: &ClientTls,
        addr: SocketAddr,
        reached: Reached,
    ) -> Result<Connection, DialError> {
        let opener = Arc::new(reached.opener);
        let first = channel::eager(&opener, tls.first, reached.first)
            .await
            .map_err(|source| DialError::Http2 { addr, source })?;
        let better = CancellationToken::new();
        let probe = match opener.via() {
            Via::Quic => None,
            Via::Tcp if tls.first == Class::Join => None,
            Via::Tcp => Some(probe::spawn(Arc::clone(self), addr, better.clone())),
        };
        Ok(Connection::new(opener, addr, first, better, probe))
    }

    /// QUIC, and TCP beside it when that takes long.
    async fn reach(
        self: &Arc<Self>,
        tls: &Arc<ClientTls>,
        addr: SocketAddr,
    ) -> Result<Reached, DialError> {
        let shaken = AtomicBool::new(false);
        let mut quic = pin!(self.reach_quic(tls, addr, &shaken));
        let mut quic_failed = match timeout(self.quic_handshake, &mut quic).await {
            Ok(Ok(reached)) => return Ok(reached),
            Ok(Err(error)) if error.is_verdict() => return Err(error),
            Ok(Err(error)) => {
                tracing::debug!(%addr, %error, "quic failed, trying tcp");
                true
            }
            // The handshake is done, only the answer to the preamble is under way.
            Err(_elapsed) if shaken.load(Ordering::Relaxed) => return quic.await,
            Err(_elapsed) => false,
        };
        let connected = AtomicBool::new(false);
        let mut tcp = pin!(self.reach_tcp(tls, addr, &connected));
        let mut either = pin!(async {
            loop {
                tokio::select! {
                    reached = &mut quic, if !quic_failed => match reached {
                        Err(error) if !error.is_verdict() => quic_failed = true,
                        decided => return decided,
                    },
                    reached = &mut tcp => match reached {
                        Err(error) if !quic_failed && !error.is_verdict() => {
                            // Perhaps only TCP is blocked, and QUIC slow.
                            let late = timeout(self.quic_handshake, &mut quic).await;
                            return late.unwrap_or(Err(error));
                        }
                        decided => return decided,
                    },
                }
            }
        });
        match timeout(self.silence, &mut either).await {
            Ok(decided) => decided,
            Err(_elapsed)
                if shaken.load(Ordering::Relaxed) || connected.load(Ordering::Relaxed) =>
            {
                either.await
            }
            Err(_elapsed) => Err(self.timed_out(self.quic_handshake + self.silence)),
        }
    }

    async fn reach_quic(
        &self,
        tls: &ClientTls,
        addr: SocketAddr,
        shaken: &AtomicBool,
    ) -> Result<Reached, DialError> {
        let connection = self.handshake_quic(tls, addr).await?;
        shaken.store(true, Ordering::Relaxed);
        let life = CancellationToken::new();
        let first = open_quic(&connection, addr, tls.first, &life).await?;
        Ok(Reached { opener: Opener::quic(connection, addr, life, self.connect_timeout), first })
    }

    async fn handshake_quic(
        &self,
        tls: &ClientTls,
        addr: SocketAddr,
    ) -> Result<quinn::Connection, DialError> {
        let endpoint = self.endpoint(addr)?;
        let connecting =
            endpoint.connect_with(tls.quic.clone(), addr, SERVER_NAME).map_err(|source| {
                DialError::Unreachable { addr, source: std::io::Error::other(source) }
            })?;
        connecting.await.map_err(|error| DialError::of_quic(addr, &error))
    }

    async fn reach_tcp(
        self: &Arc<Self>,
        tls: &Arc<ClientTls>,
        addr: SocketAddr,
        connected: &AtomicBool,
    ) -> Result<Reached, DialError> {
        let life = CancellationToken::new();
        let stream = connect_tcp(addr).await?;
        connected.store(true, Ordering::Relaxed);
        let first = start_tcp(tls, stream, addr, tls.first, &life).await?;
        let first = first.ends(life.clone().drop_guard());
        let opener = Opener::tcp(Arc::clone(tls), addr, life, self.connect_timeout);
        Ok(Reached { opener, first })
    }

    fn tls(&self) -> Arc<ClientTls> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn endpoint(&self, addr: SocketAddr) -> Result<Endpoint, DialError> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = if addr.is_ipv4() { &mut endpoints.v4 } else { &mut endpoints.v6 };
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        let endpoint =
            crate::quic::dial(addr).map_err(|source| DialError::Unreachable { addr, source })?;
        Ok(slot.insert(endpoint).clone())
    }

    fn timed_out(&self, after: Duration) -> DialError {
        DialError::TimedOut { addr: self.addr.clone(), after }
    }
}

/// Opens one more class on a QUIC connection; it ends when `life` does.
async fn open_quic(
    connection: &quinn::Connection,
    addr: SocketAddr,
    class: Class,
    life: &CancellationToken,
) -> Result<Io, DialError> {
    let (send, recv) =
        connection.open_bi().await.map_err(|error| DialError::of_quic(addr, &error))?;
    let mut stream = QuicStream::new(send, recv);
    stream.set_class(class);
    match preamble::offer(&mut stream, class).await {
        Ok(Ok(())) => Ok(Io::quic(stream, life)),
        Ok(Err(reason)) => Err(DialError::refused(addr, reason)),
        Err(source) => Err(match connection.close_reason() {
            Some(error) => DialError::of_quic(addr, &error),
            None => DialError::Broken { addr, source },
        }),
    }
}

/// Dials one more class over TCP; it ends when `life` does.
async fn open_tcp(
    tls: &ClientTls,
    addr: SocketAddr,
    class: Class,
    life: &CancellationToken,
) -> Result<Io, DialError> {
    start_tcp(tls, connect_tcp(addr).await?, addr, class, life).await
}

async fn connect_tcp(addr: SocketAddr) -> Result<TcpStream, DialError> {
    let unreachable = |source| DialError::Unreachable { addr, source };
    let stream = TcpStream::connect(addr).await.map_err(unreachable)?;
    tcp::configure(&stream).map_err(unreachable)?;
    Ok(stream)
}

/// TLS and the preamble of a class on a connection; it ends when `life` does.
async fn start_tcp(
    tls: &ClientTls,
    stream: TcpStream,
    addr: SocketAddr,
    class: Class,
    life: &CancellationToken,
) -> Result<Io, DialError> {
    let name = ServerName::try_from(SERVER_NAME)
        .map_err(|error| DialError::Unreachable { addr, source: std::io::Error::other(error) })?;
    let connecting = TlsConnector::from(Arc::clone(&tls.tcp)).connect(name, stream);
    let mut stream = connecting.await.map_err(|error| DialError::of_tcp(addr, error))?;
    match preamble::offer(&mut stream, class).await {
        Ok(Ok(())) => Ok(Io::tcp(Box::new(stream.into()), life)),
        Ok(Err(reason)) => Err(DialError::refused(addr, reason)),
        Err(error) => Err(DialError::of_tcp(addr, error)),
    }
}
