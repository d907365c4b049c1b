//! An answer that goes out as it is read: pieces of about [`PIECE_BYTES`], each read in a turn of its own
//! when there is room for it, one waiting for the reader at a time.
//!
//! Who does not take a piece for [`TAKING_MAX`] is given up, as is one who has left, and one who has not
//! taken all after [`WHOLE_MAX`]: what is being handed out stays on the disk as long. The connection's own
//! pace cuts off who reads slowly. Whatever ends an answer before it is whole breaks the body off, so that
//! nobody takes it for whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use stoa_exchange::remote_read;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;

use super::super::Stop;
use super::super::gate::{Outgoing, Turns};
use super::super::outward::Outward;
use super::super::reply::{ApiError, ErrorKind};
use super::walk::{Met, Next, Walk};

/// What is read in one turn, and up to a series more; less where queries may hold little.
const PIECE_BYTES: usize = 1 << 20;

/// How long a piece may wait to be taken.
const TAKING_MAX: Duration = Duration::from_secs(60);

/// How long an answer may take in all.
const WHOLE_MAX: Duration = Duration::from_secs(30 * 60);

/// What goes to the reader: a piece, or that this was all.
type Sent = Result<Option<Bytes>, ApiError>;

/// The answer's body.
pub(super) struct Frames {
    first: Option<Bytes>,
    /// `None` when there is no more.
    rest: Option<mpsc::Receiver<Sent>>,
}

impl Frames {
    /// Begins an answer; what is wrong with it before its first piece is an error.
    pub(super) async fn begin(
        outward: Arc<Outward>,
        walk: Walk,
        turns: Turns,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, ApiError> {
        let (sender, mut rest) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                _late = tokio::time::timeout(WHOLE_MAX, send(&outward, walk, turns, &sender)) => {}
            }
            drop(place);
        });
        let broken = || ApiError::new(ErrorKind::Internal, "the answer ended before it began");
        match rest.recv().await.ok_or_else(broken)?? {
            None => Ok(Self { first: None, rest: None }),
            first => Ok(Self { first, rest: Some(rest) }),
        }
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let sent = std::task::ready!(rest.poll_recv(context));
        let broken = || Err(ApiError::new(ErrorKind::Timeout, "the reader took too long"));
        let piece = sent.unwrap_or_else(broken);
        if !matches!(piece, Ok(Some(_))) {
            self.rest = None;
        }
        Poll::Ready(piece.transpose())
    }
}

async fn send(outward: &Outward, mut walk: Walk, mut turns: Turns, sender: &mpsc::Sender<Sent>) {
    loop {
        // Nothing is read before there is room for it.
        let room = tokio::time::timeout(TAKING_MAX, sender.reserve()).await;
        let Ok(Ok(room)) = room else { return };
        let read = turns.turn(move |stop| {
            let (piece, is_all) = piece(&mut walk, stop)?;
            Ok((walk, piece, is_all))
        });
        let (so_far, piece, is_all) = match read.await {
            Ok(read) => read,
            Err(error) => {
                turns.end(Some(&error));
                room.send(Err(error));
                return;
            }
        };
        walk = so_far;
        let room = if piece.is_empty() {
            Some(room)
        } else {
            room.send(Ok(Some(piece.into())));
            None
        };
        if is_all {
            turns.end(None);
            let gate = &outward.prometheus.gate;
            gate.incomplete(Outgoing::Read, &walk.warnings());
            match room {
                Some(room) => room.send(Ok(None)),
                None => drop(tokio::time::timeout(TAKING_MAX, sender.send(Ok(None))).await),
            }
            return;
        }
    }
}

/// The next frames, and whether they are the last.
fn piece(walk: &mut Walk, stop: &Stop) -> Result<(Vec<u8>, bool), ApiError> {
    let mut piece = Vec::new();
    let enough = PIECE_BYTES.min(walk.bytes_max() / 8);
    let is_all = walk.go(stop, &mut |met| {
        if let Met::Series(query, series) = met {
            remote_read::chunk_frames(query, &series, |frame| piece.extend_from_slice(&frame));
        }
        Ok(if piece.len() >= enough { Next::Pause } else { Next::On(piece.len()) })
    })?;
    Ok((piece, is_all))
}
