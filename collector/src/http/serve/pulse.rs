//! What a connection is doing, and when it has done nothing for too long.
//!
//! hyper has one timer for "no request comes" and "its headers come slowly"; here they are two, so
//! that a client may keep a connection for minutes and yet not dribble a request in. A [`Pulse`] is
//! shared by the socket ([`Watched`], which sees the first byte), the service (which sees whole
//! headers) and the answer's body ([`Held`], which sees the end); [`Pulse::ended`] waits.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::places::Limits;

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// A request's headers did not come in time.
    Slow,
    /// No request came for long.
    Idle,
}

/// A connection's state; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    headers: Duration,
    idle: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Requests whose answers are not through.
    under_way: usize,
    /// Since when a request's headers are coming in, or since when there was nothing to do.
    since: Instant,
    /// Whether headers are coming in; true from the start, for the first request.
    reading: bool,
}

impl Pulse {
    /// A connection just made: its first request is awaited.
    pub(super) fn new(limits: &Limits) -> Self {
        let state = State { under_way: 0, since: Instant::now(), reading: true };
        let state = Arc::new(Mutex::new(state));
        Self { headers: limits.headers, idle: limits.idle, state }
    }

    /// A request's headers are there; the answer is under way until the result is dropped.
    pub(super) fn request(&self) -> UnderWay {
        let mut state = self.state();
        state.under_way += 1;
        state.reading = false;
        drop(state);
        UnderWay(self.clone())
    }

    /// Waits until the connection has done nothing for too long.
    pub(super) async fn ended(&self) -> Lapse {
        loop {
            let (deadline, lapse) = {
                let state = self.state();
                match (state.under_way, state.reading) {
                    (0, true) => (state.since + self.headers, Some(Lapse::Slow)),
                    (0, false) => (state.since + self.idle, Some(Lapse::Idle)),
                    // Looked at again: headers cannot be late sooner than that.
                    _ => (Instant::now() + self.headers, None),
                }
            };
            match lapse {
                Some(lapse) if deadline <= Instant::now() => return lapse,
                // A first byte may come while it waits, and has the shorter time.
                _ => tokio::time::sleep_until(deadline.min(Instant::now() + self.headers)).await,
            }
        }
    }

    /// Bytes have come.
    fn heard(&self) {
        let mut state = self.state();
        if state.under_way == 0 && !state.reading {
            state.reading = true;
            state.since = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose answer is not through.
#[derive(Debug)]
pub(super) struct UnderWay(Pulse);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way = state.under_way.saturating_sub(1);
        state.since = Instant::now();
    }
}

/// An answer's body that keeps its request under way until it is sent or dropped.
pub(super) struct Held {
    body: Body,
    _under_way: UnderWay,
}

impl Held {
    /// The body around another.
    pub(super) fn around(body: Body, under_way: UnderWay) -> Body {
        Body::new(Self { body, _under_way: under_way })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An HTTP/1 connection's socket that notes when bytes come.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) pulse: Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
