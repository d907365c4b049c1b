//! The search for the way back from TCP to QUIC.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::VarInt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;

/// A probe comes this much earlier or later than [`super::DialConfig::quic_retry`], so that the
/// agents of a site do not probe as one.
const SPREAD: std::ops::Range<f64> = 0.8..1.2;

/// Tries a QUIC handshake now and then, and cancels `found` with the first that succeeds. The
/// listener sees a connection without streams, closed at once. Ends with its handle.
pub(super) fn spawn(
    shared: Arc<Shared>,
    addr: SocketAddr,
    found: CancellationToken,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(shared.quic_retry.mul_f64(rand::random_range(SPREAD))).await;
            let tls = shared.tls();
            match timeout(shared.quic_handshake, shared.handshake_quic(&tls, addr)).await {
                Ok(Ok(connection)) => {
                    connection.close(VarInt::from_u32(0), b"probe");
                    tracing::info!(%addr, "quic works again");
                    found.cancel();
                    return;
                }
                Ok(Err(error)) => tracing::debug!(%addr, %error, "quic still does not work"),
                Err(_elapsed) => tracing::debug!(%addr, "no quic handshake in time"),
            }
        }
    }))
}
