//! quinn's settings: windows, timers, keys.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use tokio::runtime::Handle;

use crate::ResetKeys;
use crate::listen::ListenSocket;

/// A connection that heard nothing for so long is dead.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// A dialer sends something at least so often: three chances within the idle timeout.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);
const _: () = assert!(KEEP_ALIVE.as_secs() * 3 <= IDLE_TIMEOUT.as_secs());

/// Bytes one stream may have under way. At 40 ms round trip: 12 MB/s.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// Bytes all streams of a connection may have under way, on either side. More than the streams'
/// windows together, so that a class that fills its own never holds up another.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Streams a dialer may have open: three classes, and one being opened anew.
const STREAMS_MAX: u32 = 4;
const _: () = assert!(STREAM_WINDOW_BYTES * STREAMS_MAX <= CONNECTION_WINDOW_BYTES);
/// The round trip assumed before the first is measured. It sets when a lost first packet is sent
/// again: after three times this, so that one loss still leaves QUIC its 400 ms (quinn's own 333 ms
/// would make every lost first packet a fall back to TCP).
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Handshakes quinn holds before this crate has looked at them.
const INCOMING_MAX: usize = 256;
/// Bytes quinn keeps for handshakes not yet looked at, in all.
const INCOMING_BYTES_MAX: u64 = 1024 * 1024;

/// Round trips between the end of a connection's streams and its close.
const SETTLE_RTTS: u32 = 3;
/// The least of that time.
const SETTLE_MIN: Duration = Duration::from_millis(10);
/// The most of it.
const SETTLE_MAX: Duration = Duration::from_millis(500);

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle_ms = u32::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    config
}

/// A dialer's configuration around its TLS one.
pub(crate) fn client_config(tls: Arc<rustls::ClientConfig>) -> Result<ClientConfig, rustls::Error> {
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut transport = transport();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The listener's crypto for one handshake.
pub(crate) fn server_crypto(
    tls: Arc<rustls::ServerConfig>,
) -> Result<Arc<QuicServerConfig>, rustls::Error> {
    let crypto = QuicServerConfig::try_from(tls)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(Arc::new(crypto))
}

/// The listener's configuration, apart from the crypto that each handshake gets of its own.
pub(crate) fn server_config(crypto: Arc<QuicServerConfig>) -> ServerConfig {
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX));
    let mut config = ServerConfig::with_crypto(crypto);
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    config
}

/// A listener's endpoint on a bound socket.
pub(crate) fn listen(
    socket: UdpSocket,
    keys: &ResetKeys,
    config: ServerConfig,
) -> io::Result<Endpoint> {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &keys.reset_key);
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    let cid_key = keys.cid_key;
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    let socket = Arc::new(ListenSocket::new(socket)?);
    Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, Arc::new(TokioRuntime))
}

/// Closes a connection whose streams have just been cut, once what is under way has had the time to
/// be acknowledged.
///
/// quinn holds a close back, for good, while streams have bytes to send and the congestion window is
/// full: the peer would learn of it by its idle timeout alone.
pub(crate) fn close_settled(connection: Connection, code: VarInt, reason: &'static str) {
    let settled = (connection.rtt() * SETTLE_RTTS).clamp(SETTLE_MIN, SETTLE_MAX);
    let Ok(runtime) = Handle::try_current() else {
        connection.close(code, reason.as_bytes());
        return;
    };
    runtime.spawn(async move {
        tokio::time::sleep(settled).await;
        connection.close(code, reason.as_bytes());
    });
}

/// A dialer's endpoint for addresses of `remote`'s family, on a port the system chooses.
pub(crate) fn dial(remote: SocketAddr) -> io::Result<Endpoint> {
    let local: SocketAddr = match remote {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    Endpoint::client(local)
}
