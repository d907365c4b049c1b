//! A body that must come at some pace.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;

/// What must come within [`WAIT_MAX`], in bytes as they are on the wire, unless the body ends.
pub(super) const WAIT_BYTES: usize = 64 << 10;

/// How long the sender may be waited for until [`WAIT_BYTES`] have come. Only waiting counts: what
/// the collector itself needs does not.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The parts of a body; an error in place of the next when the sender is too slow.
#[derive(Debug)]
pub(super) struct Paced<S> {
    body: S,
    wait_max: Duration,
    /// Waited since so many bytes had come, the present wait left out.
    waited: Duration,
    bytes: usize,
    /// When the present wait began.
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// A body whose sender may be waited for so long; call it within a runtime.
    pub(super) fn new(body: S, wait_max: Duration) -> Self {
        let timer = Box::pin(sleep(wait_max));
        Self { body, wait_max, waited: Duration::ZERO, bytes: 0, since: None, timer }
    }
}

impl<S, E> Stream for Paced<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(part) = Pin::new(&mut this.body).poll_next(cx) {
            if let Some(since) = this.since.take() {
                this.waited = this.waited.saturating_add(since.elapsed());
            }
            let part = part.map(|part| part.map_err(io::Error::other));
            if let Some(Ok(part)) = &part {
                this.bytes = this.bytes.saturating_add(part.len());
                if this.bytes >= WAIT_BYTES {
                    (this.bytes, this.waited) = (0, Duration::ZERO);
                }
            }
            return Poll::Ready(part);
        }
        if this.since.is_none() {
            let now = Instant::now();
            this.since = Some(now);
            this.timer.as_mut().reset(now + this.wait_max.saturating_sub(this.waited));
        }
        ready!(this.timer.as_mut().poll(cx));
        let why = format!(
            "the sender is too slow: {WAIT_BYTES} bytes must come within {} s",
            this.wait_max.as_secs()
        );
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, why))))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio_stream::StreamExt as _;

    use super::*;

    /// A body of `count` parts, each `bytes` long and `wait` after the one before, read with
    /// `wait_max`: how many come through, and whether it was read to its end.
    async fn read(count: usize, bytes: usize, wait_ms: u64, wait_max_ms: u64) -> (usize, bool) {
        let parts = (0..count).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes])));
        let body = tokio_stream::iter(parts).then(move |part| async move {
            sleep(Duration::from_millis(wait_ms)).await;
            part
        });
        let mut paced = Paced::new(Box::pin(body), Duration::from_millis(wait_max_ms));
        let mut through = 0;
        while let Some(part) = paced.next().await {
            match part {
                Ok(_) => through += 1,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return (through, false);
                }
            }
        }
        (through, true)
    }

    #[tokio::test]
    async fn a_byte_now_and_then_is_not_enough() {
        let (through, is_whole) = read(1000, 1, 20, 200).await;
        assert!(through <= 10 && !is_whole, "{through}");
        assert_eq!(read(1, 1, 60_000, 20).await, (0, false), "nor is nothing at all");
    }

    #[tokio::test]
    async fn whoever_keeps_the_pace_is_read_to_the_end() {
        // Longer than may be waited, but never without enough having come; then a small body.
        assert_eq!(read(60, WAIT_BYTES, 50, 2000).await, (60, true));
        assert_eq!(read(3, 10, 1, 60_000).await, (3, true));
    }

    #[tokio::test]
    async fn what_the_reader_needs_does_not_count() {
        let parts = (0..5).map(|_| Ok::<_, Infallible>(Bytes::from_static(b"x")));
        let mut paced = Paced::new(tokio_stream::iter(parts), Duration::from_millis(10));
        for _ in 0..5 {
            sleep(Duration::from_millis(20)).await;
            assert!(paced.next().await.unwrap().is_ok());
        }
        assert!(paced.next().await.is_none());
    }
}
