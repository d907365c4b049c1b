//! QUIC: one connection per agent, one stream per class.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::stream::{Io, QuicStream};
use crate::{Class, Peer, Refused, ServerIo, Via, preamble};

use super::admit::{Refusal, admit};
use super::live::{End, Ticket};
use super::{JOIN_LIFETIME, Shared};

/// Accepts until the listener stops; while draining, refuses in so many words.
pub(super) async fn accept(shared: Arc<Shared>) {
    loop {
        let incoming = tokio::select! {
            () = shared.stopped.cancelled() => return,
            incoming = shared.endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            return;
        };
        if shared.draining.is_cancelled() {
            incoming.refuse();
            continue;
        }
        let remote = incoming.remote_address();
        let proven = incoming.remote_address_validated();
        if !proven && incoming.may_retry() && shared.is_crowded(remote.ip()) {
            // Addresses may be forged: from now on, whoever knocks must be reachable.
            shared.retries.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            continue;
        }
        let slot = match shared.enter(remote.ip()) {
            Ok(slot) => slot,
            Err(reason) => {
                shared.refusals.note(&Refusal::new(remote, Via::Quic, reason));
                incoming.refuse();
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let entered = handshake(&shared, incoming, remote).await;
            drop(slot);
            match entered {
                Ok(entered) => serve(&shared, entered).await,
                Err(refusal) => shared.refusals.note(&refusal),
            }
        });
    }
}

/// A connection among the open ones.
#[derive(Clone)]
struct Entered {
    connection: Connection,
    peer: Peer,
    ticket: Arc<Ticket>,
    /// Ends the connection's streams.
    cut: CancellationToken,
}

async fn handshake(
    shared: &Shared,
    incoming: quinn::Incoming,
    remote: SocketAddr,
) -> Result<Entered, Refusal> {
    let failed =
        |error: rustls::Error| Refusal::new(remote, Via::Quic, Refused::Other).detail(error);
    let (tls, witness) = shared.tls().config().map_err(failed)?;
    let mut config = shared.quic.clone();
    config.crypto = crate::quic::server_crypto(tls).map_err(failed)?;
    let refused = |error| Refusal::of_quic(remote, &error, &witness);
    let connecting = incoming.accept_with(Arc::new(config)).map_err(refused)?;
    let connection = match timeout(shared.handshake_timeout, connecting).await {
        Ok(connected) => connected.map_err(refused)?,
        Err(_elapsed) => return Err(Refusal::new(remote, Via::Quic, Refused::TooSlow)),
    };

    let protocol = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    let certificates = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .unwrap_or_default();
    let peer = match admit(protocol.as_deref(), &certificates) {
        Ok(identity) => Peer::new(identity.as_ref(), remote, Via::Quic),
        Err((reason, why)) => {
            close(&connection, reason);
            return Err(Refusal::new(remote, Via::Quic, reason).claims(&certificates, why));
        }
    };
    let end = End { streams: CancellationToken::new(), quic: Some(connection.clone()) };
    let entered = match shared.live.enter(&peer, end.clone()) {
        Ok(_) if peer.class != Class::Join && (shared.is_revoked)(&peer.serial) => {
            Err(Refused::Revoked)
        }
        entered => entered,
    };
    match entered {
        Ok(ticket) => Ok(Entered { connection, peer, ticket, cut: end.streams }),
        Err(reason) => {
            close(&connection, reason);
            Err(Refusal::of(&peer, reason))
        }
    }
}

/// Accepts a connection's streams until it ends.
async fn serve(shared: &Arc<Shared>, entered: Entered) {
    let Entered { connection, peer, .. } = &entered;
    let streams = async {
        // Once cut, no stream is accepted; the close follows.
        tokio::select! {
            ended = accept_streams(shared, &entered) => ended,
            () = entered.cut.cancelled() => Ok(()),
        }
    };
    let ended = if peer.class == Class::Join {
        timeout(JOIN_LIFETIME, streams).await.unwrap_or(Err(Refused::TooSlow))
    } else {
        streams.await
    };
    if let Err(reason) = ended {
        close(connection, reason);
        shared.refusals.note(&Refusal::of(peer, reason));
    }
    let why = connection.close_reason().map(|why| why.to_string());
    tracing::debug!(host = peer.host.as_deref(), remote = %peer.remote, why, "connection ended");
}

async fn accept_streams(shared: &Arc<Shared>, entered: &Entered) -> Result<(), Refused> {
    let first = timeout(shared.handshake_timeout, entered.connection.accept_bi());
    let mut accepted = first.await.map_err(|_elapsed| Refused::TooSlow)?;
    // The error is the connection's end.
    while let Ok((send, recv)) = accepted {
        // Bounded: a connection has at most `STREAMS_MAX` streams.
        let (shared, entered_too) = (Arc::clone(shared), entered.clone());
        tokio::spawn(async move {
            if let Err(reason) = open(&shared, send, recv, &entered_too).await {
                shared.refusals.note(&Refusal::of(&entered_too.peer, reason));
                if reason == Refused::BadPreamble {
                    close(&entered_too.connection, reason);
                }
            }
        });
        accepted = entered.connection.accept_bi().await;
    }
    Ok(())
}

/// Reads a stream's preamble and hands the stream over.
async fn open(
    shared: &Shared,
    send: SendStream,
    recv: RecvStream,
    entered: &Entered,
) -> Result<(), Refused> {
    let mut stream = QuicStream::new(send, recv);
    let class = match timeout(shared.handshake_timeout, preamble::read(&mut stream)).await {
        Ok(Ok(class)) => shared.judge(class, &entered.peer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Refused::BadPreamble),
        // The connection is gone, and the stream with it.
        Ok(Err(_error)) => return Ok(()),
        Err(_elapsed) => Err(Refused::TooSlow),
    };
    let place = match class {
        Ok(class) => shared.place().await.map(|place| (class, place)),
        Err(reason) => Err(reason),
    };
    let answer = place.as_ref().map(|_place| ()).map_err(|reason| *reason);
    let answered = preamble::answer(&mut stream, answer).await;
    match place {
        Ok((class, place)) if answered.is_ok() => {
            stream.set_class(class);
            let peer = entered.peer.clone().with_class(class);
            let io = Io::quic(stream, &entered.cut);
            place.send(ServerIo::new(io, peer, shared.live.hold(&entered.ticket)));
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(reason) => {
            // Until the answer has arrived; bounded by the connection's idle timeout.
            if let Err(error) = stream.shutdown().await {
                tracing::debug!(%error, "a refused peer was gone before it was told");
            }
            Err(reason)
        }
    }
}

fn close(connection: &Connection, reason: Refused) {
    connection.close(reason.code(), reason.as_str().as_bytes());
}
