//! What a connection is doing, and when it has done nothing for too long.
//!
//! hyper has one timer for "no request comes" and "its headers come slowly"; here they are two, so
//! that a client may keep a connection for minutes and yet not dribble a request in. A [`Pulse`] is
//! shared by the socket ([`Watched`], which sees the first byte, and whether what is written is taken),
//! the service (which sees whole headers) and the answer's body ([`Held`], which sees whether more of it
//! is wanted, and the end); [`Pulse::ended`] waits.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::pace::{Pace, Wait};
use super::places::Limits;

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// A request's headers did not come in time.
    Slow,
    /// No request came for long.
    Idle,
    /// An answer is not read.
    Stalled,
}

/// A connection's state; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    headers: Duration,
    idle: Duration,
    pace: Pace,
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
    /// Waiting for the socket to take what is written.
    write: Wait,
    /// Parts of answers that were given away, by answer, and until when the next must be asked for: with
    /// HTTP/2 it is not the socket that is full.
    given: BTreeMap<u64, Instant>,
    /// The number of the last answer.
    answers: u64,
}

impl Pulse {
    /// A connection just made: its first request is awaited.
    pub(super) fn new(limits: &Limits) -> Self {
        let state = State {
            under_way: 0,
            since: Instant::now(),
            reading: true,
            write: Wait::default(),
            given: BTreeMap::new(),
            answers: 0,
        };
        let state = Arc::new(Mutex::new(state));
        Self { headers: limits.headers, idle: limits.idle, pace: limits.pace, state }
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
        // What begins while it waits has at least that time.
        let look = self.headers.min(self.pace.within);
        loop {
            let next = self.state().next_lapse(self);
            let now = Instant::now();
            match next {
                Some((deadline, lapse)) if deadline <= now => return lapse,
                Some((deadline, _)) => tokio::time::sleep_until(deadline.min(now + look)).await,
                None => tokio::time::sleep(look).await,
            }
        }
    }

    /// HTTP/2 is spoken: from here on a connection may stand without a request as it may between two.
    fn greeted(&self) {
        let mut state = self.state();
        if state.reading {
            state.reading = false;
            state.since = Instant::now();
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

    /// What became of writing to the socket.
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.state();
        match written {
            Poll::Pending => state.write.begin(),
            Poll::Ready(written) => {
                let was_waiting = state.write.deadline(&self.pace).is_some();
                state.write.passed(*written.as_ref().unwrap_or(&0), &self.pace);
                if was_waiting && state.under_way == 0 && !state.reading {
                    // The end of an answer that was still on its way.
                    state.since = Instant::now();
                }
            }
        }
    }

    /// What had been written is through: TLS keeps what the socket has no room for, and says so only
    /// when it is told to flush.
    fn flushed(&self) {
        let mut state = self.state();
        state.write = Wait::default();
        if state.under_way == 0 && !state.reading {
            state.since = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What would be amiss next, and when.
    fn next_lapse(&self, pulse: &Pulse) -> Option<(Instant, Lapse)> {
        let unwritten = self.write.deadline(&pulse.pace);
        let stalled = self.given.values().copied().chain(unwritten).min();
        let stalled = stalled.map(|deadline| (deadline, Lapse::Stalled));
        let quiet = match (self.under_way, self.reading) {
            (0, true) => Some((self.since + pulse.headers, Lapse::Slow)),
            (0, false) if unwritten.is_none() => Some((self.since + pulse.idle, Lapse::Idle)),
            _ => None,
        };
        stalled.into_iter().chain(quiet).min_by_key(|(deadline, _)| *deadline)
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

/// An answer's body that keeps its request under way until it is sent or dropped, and notes when a part
/// of it is given away and when the next is asked for.
pub(super) struct Held {
    body: Body,
    number: u64,
    under_way: UnderWay,
}

impl Held {
    /// The body around another.
    pub(super) fn around(body: Body, under_way: UnderWay) -> Body {
        let number = {
            let mut state = under_way.0.state();
            state.answers += 1;
            state.answers
        };
        Body::new(Self { body, number, under_way })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.under_way.0.state().given.remove(&self.number);
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let pulse = &self.under_way.0;
        let mut state = pulse.state();
        state.given.remove(&self.number);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            state.given.insert(self.number, Instant::now() + pulse.pace.time_for(bytes));
        }
        drop(state);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's socket that notes when bytes come and whether they go.
pub(super) struct Watched<S> {
    stream: S,
    pulse: Pulse,
    hears: bool,
    /// Nothing has come yet.
    is_silent: bool,
    /// What was written could not be flushed yet.
    is_flushing: bool,
}

impl<S> Watched<S> {
    /// `hears`: bytes that come are a request's; with HTTP/2 they need not be.
    pub(super) fn new(stream: S, pulse: Pulse, hears: bool) -> Self {
        Self { stream, pulse, hears, is_silent: true, is_flushing: false }
    }
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
            if self.hears {
                self.pulse.heard();
            } else if self.is_silent {
                self.pulse.greeted();
            }
            self.is_silent = false;
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
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.pulse.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() {
            self.pulse.wrote(&Poll::Pending);
        } else if self.is_flushing {
            self.pulse.flushed();
        }
        self.is_flushing = flushed.is_pending();
        flushed
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.pulse.wrote(&written);
        written
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;

    fn limits() -> Limits {
        let pace = Pace { bytes: 100, within: Duration::from_secs(20) };
        Limits { headers: Duration::from_secs(10), pace, ..Limits::default() }
    }

    /// What ends a connection, and after how many whole seconds; `None` when nothing does for an hour.
    async fn ends(pulse: &Pulse) -> Option<(Lapse, u64)> {
        let begun = Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(3600), pulse.ended()).await;
        ended.ok().map(|lapse| (lapse, begun.elapsed().as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_must_be_taken() {
        // Nobody reads, one reads now and then, one a little often.
        for (every_s, expected) in
            [(3600, Some(Lapse::Stalled)), (25, Some(Lapse::Stalled)), (5, None)]
        {
            let pulse = Pulse::new(&limits());
            let under_way = pulse.request();
            let (stream, mut reader) = tokio::io::duplex(64);
            let mut stream = Watched::new(stream, pulse.clone(), true);
            let writing =
                tokio::spawn(async move { stream.write_all(&[0; 5000]).await.map(|()| stream) });
            let read = async {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_secs(every_s)).await;
                    reader.read_exact(&mut [0; 64]).await.unwrap();
                }
            };
            let lapse = tokio::select! {
                lapse = pulse.ended() => Some(lapse),
                () = read => None,
            };
            assert_eq!(lapse, expected, "64 bytes each {every_s} s");
            // It is not idle while the end of the answer is on its way, and is from then on.
            drop(under_way);
            assert_eq!(ends(&pulse).await.map(|(lapse, _)| lapse), Some(Lapse::Stalled));
            tokio::spawn(async move { reader.read_to_end(&mut Vec::new()).await });
            let _open = writing.await.unwrap().unwrap();
            assert_eq!(ends(&pulse).await, Some((Lapse::Idle, 120)));
        }
    }

    /// A writer that takes everything and has room for it after a while.
    struct Later(Pin<Box<tokio::time::Sleep>>);

    impl AsyncWrite for Later {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.as_mut().poll(cx).map(|()| Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_flushed_is_waited_for_no_more() {
        for (room_s, expected) in [(5, (Lapse::Idle, 120)), (500, (Lapse::Stalled, 20))] {
            let pulse = Pulse::new(&limits());
            let under_way = pulse.request();
            let stream = Later(Box::pin(tokio::time::sleep(Duration::from_secs(room_s))));
            let mut stream = Watched::new(stream, pulse.clone(), true);
            drop(under_way);
            let flushing = tokio::spawn(async move {
                stream.write_all(&[0; 1000]).await?;
                stream.flush().await.map(|()| stream)
            });
            tokio::time::sleep(Duration::from_secs(6)).await;
            let (lapse, after_s) = ends(&pulse).await.unwrap();
            // From the end of the flush, or from its beginning.
            let begun_s = if lapse == Lapse::Idle { room_s } else { 0 };
            assert_eq!((lapse, after_s + 6 - begun_s), expected);
            flushing.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_asked_for_on_and_on() {
        let pulse = Pulse::new(&limits());
        let part = |bytes: usize| Ok::<_, axum::Error>(Bytes::from(vec![0; bytes]));
        let parts = tokio_stream::iter([part(10), part(1000)]).then(|part| async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            part
        });
        let body = Held::around(Body::from_stream(parts), pulse.request());
        let mut parts = body.into_data_stream();
        let asked = tokio::select! {
            _ = pulse.ended() => None,
            part = parts.next() => part,
        };
        assert_eq!(asked.unwrap().unwrap().len(), 10, "what we need ourselves does not count");
        assert_eq!(ends(&pulse).await, Some((Lapse::Stalled, 20)));
        assert_eq!(parts.next().await.unwrap().unwrap().len(), 1000);
        assert_eq!(ends(&pulse).await, Some((Lapse::Stalled, 200)), "a long one may take long");
        assert!(parts.next().await.is_none());
        drop(parts);
        assert_eq!(ends(&pulse).await, Some((Lapse::Idle, 120)));
    }
}
