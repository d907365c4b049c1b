//! TLS over TCP: one connection per class.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, server};
use tokio_util::sync::CancellationToken;

use crate::stream::Io;
use crate::{Class, Peer, Refused, ServerIo, Via, preamble, tcp};

use super::admit::{Refusal, admit};
use super::live::End;
use super::{JOIN_LIFETIME, Shared};

/// The wait after the system could not accept: out of descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read and thrown away meanwhile.
const LINGER_BYTES_MAX: u64 = 16 * 1024;

/// Accepts until draining begins, then closes the socket.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = shared.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match shared.enter(remote.ip()) {
            Ok(slot) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(refusal) = handshake(&shared, stream, remote).await {
                        shared.refusals.note(&refusal);
                    }
                    drop(slot);
                });
            }
            Err(reason) => shared.refusals.note(&Refusal::new(remote, Via::Tcp, reason)),
        }
    }
}

async fn handshake(
    shared: &Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
) -> Result<(), Refusal> {
    let failed = |reason, error: String| Refusal::new(remote, Via::Tcp, reason).detail(error);
    tcp::configure(&stream).map_err(|error| failed(Refused::Other, error.to_string()))?;
    let (config, witness) =
        shared.tls().config().map_err(|error| failed(Refused::Other, error.to_string()))?;
    let accepting = TlsAcceptor::from(config).accept(stream).into_fallible();
    let mut stream = match timeout(shared.handshake_timeout, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, stream))) => {
            linger(stream).await;
            return Err(Refusal::of_tcp(remote, &error, &witness));
        }
        Err(_elapsed) => return Err(Refusal::new(remote, Via::Tcp, Refused::TooSlow)),
    };

    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates().unwrap_or_default();
    let peer = match admit(session.alpn_protocol(), certificates) {
        Ok(identity) => Peer::new(identity.as_ref(), remote, Via::Tcp),
        Err((reason, why)) => {
            let refusal = Refusal::new(remote, Via::Tcp, reason).claims(certificates, why);
            farewell(stream, reason).await;
            return Err(refusal);
        }
    };
    let class = match timeout(shared.handshake_timeout, preamble::read(&mut stream)).await {
        Ok(Ok(class)) => shared.judge(class, &peer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Ok(Err(error)) => return Err(Refusal::of(&peer, Refused::Other).detail(error)),
        Err(_elapsed) => Err(Refused::TooSlow),
    };
    match class {
        Ok(class) => serve(shared, stream, peer.with_class(class)).await,
        Err(reason) => {
            farewell(stream, reason).await;
            Err(Refusal::of(&peer, reason))
        }
    }
}

/// Enters the connection and hands its stream over.
async fn serve(
    shared: &Arc<Shared>,
    mut stream: server::TlsStream<TcpStream>,
    peer: Peer,
) -> Result<(), Refusal> {
    let cut = CancellationToken::new();
    let ticket = match shared.live.enter(&peer, End { streams: cut.clone(), quic: None }) {
        Ok(_) if (shared.is_revoked)(&peer.serial) && peer.class != Class::Join => {
            Err(Refused::Revoked)
        }
        entered => entered,
    };
    let place = match ticket {
        Ok(ticket) => shared.place().await.map(|place| (ticket, place)),
        Err(reason) => Err(reason),
    };
    let (ticket, place) = match place {
        Ok(place) => place,
        Err(reason) => {
            farewell(stream, reason).await;
            return Err(Refusal::of(&peer, reason));
        }
    };
    if preamble::answer(&mut stream, Ok(())).await.is_err() {
        // Gone before it was served; nothing was promised.
        return Ok(());
    }
    if peer.class == Class::Join {
        let cut = cut.clone();
        tokio::spawn(async move {
            // The token is also cancelled when the connection ends by itself.
            if timeout(JOIN_LIFETIME, cut.cancelled()).await.is_err() {
                cut.cancel();
            }
        });
    }
    let io = Io::tcp(Box::new(stream.into()), &cut);
    place.send(ServerIo::new(io, peer, shared.live.hold(&ticket)));
    Ok(())
}

/// Says why a stream cannot be had.
async fn farewell(mut stream: server::TlsStream<TcpStream>, reason: Refused) {
    match timeout(LINGER, preamble::answer(&mut stream, Err(reason))).await {
        Ok(Ok(())) => linger(stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "a refused peer was gone before it was told"),
        Err(_elapsed) => tracing::debug!("a refused peer did not listen"),
    }
}

/// Ends our side and waits a moment for the peer to end its own: a close with bytes unread would
/// reset the connection, and destroy what was said last on its way.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let unread = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if !matches!(timeout(LINGER, unread).await, Ok(Ok(_bytes))) {
        tracing::debug!("a refused peer did not hang up");
    }
}
