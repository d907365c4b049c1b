//! The pace the other side must keep, in sending a body and in reading an answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// So many bytes must pass within so long a time of waiting for the other side. What we ourselves need
/// does not count, so that nobody is cut off for our being slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many bytes.
    pub bytes: usize,
    /// Within what time.
    pub within: Duration,
}

impl Default for Pace {
    /// 8 KiB in 20 s: 400 bytes a second, less than any line that is of use.
    fn default() -> Self {
        Self { bytes: 8 << 10, within: Duration::from_secs(20) }
    }
}

impl Pace {
    /// How long so many bytes may take.
    pub(super) fn time_for(&self, bytes: usize) -> Duration {
        let parts = bytes.div_ceil(self.bytes.max(1)).max(1);
        self.within.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX))
    }
}

/// Waiting for the other side, since enough bytes had passed last.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// When the present wait began.
    since: Option<Instant>,
    /// How long those before it were.
    waited: Duration,
    bytes: usize,
}

impl Wait {
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn passed(&mut self, bytes: usize, pace: &Pace) {
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= pace.bytes {
            *self = Self::default();
        }
    }

    /// When it has been too long, if the other side is waited for.
    pub(super) fn deadline(&self, pace: &Pace) -> Option<Instant> {
        self.since.map(|since| since + pace.within.saturating_sub(self.waited))
    }
}

/// A request's body; an error in place of the next part, and a word to `slow`, when it comes too slowly.
pub(super) struct Arriving<B> {
    body: B,
    pace: Pace,
    wait: Wait,
    timer: Option<Pin<Box<Sleep>>>,
    slow: Arc<AtomicBool>,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, pace: Pace, slow: Arc<AtomicBool>) -> Self {
        Self { body, pace, wait: Wait::default(), timer: None, slow }
    }
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => 0,
            };
            this.wait.passed(bytes, &this.pace);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        this.wait.begin();
        if let Some(deadline) = this.wait.deadline(&this.pace) {
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
        }
        this.slow.store(true, Relaxed);
        Poll::Ready(Some(Err("the body comes too slowly".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::time::sleep;
    use tokio_stream::StreamExt as _;

    use super::*;

    const PACE: Pace = Pace { bytes: 100, within: Duration::from_secs(20) };

    /// A body of `count` parts, each `bytes` long and so many seconds after the one before: how many come
    /// through, whether all do, and whether it is said that it came slowly.
    async fn read(count: usize, bytes: usize, wait_s: u64) -> (usize, bool, bool) {
        let parts = tokio_stream::iter((0..count).map(move |_| Bytes::from(vec![b'x'; bytes])));
        let parts = parts.then(move |part| async move {
            sleep(Duration::from_secs(wait_s)).await;
            Ok::<_, axum::Error>(part)
        });
        let slow = Arc::new(AtomicBool::default());
        let body = Arriving::new(Body::from_stream(parts), PACE, Arc::clone(&slow));
        let mut parts = Body::new(body).into_data_stream();
        let mut through = 0;
        while let Some(part) = parts.next().await {
            match part {
                Ok(_) => through += 1,
                Err(_slow) => return (through, false, slow.load(Relaxed)),
            }
        }
        (through, true, slow.load(Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_keep_the_pace() {
        assert_eq!(read(50, 100, 19).await, (50, true, false));
        assert_eq!(read(50, 10, 1).await, (50, true, false), "small parts often");
        assert_eq!(read(3, 1, 6).await, (3, true, false), "a small body");
        assert_eq!(read(50, 100, 21).await, (0, false, true));
        assert_eq!(read(50, 10, 3).await, (6, false, true), "and not too seldom");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_reader_needs_does_not_count() {
        let parts = tokio_stream::iter((0..9).map(|_| Ok::<_, axum::Error>(Bytes::from("x"))));
        let body = Arriving::new(Body::from_stream(parts), PACE, Arc::default());
        let mut parts = Body::new(body).into_data_stream();
        for _ in 0..9 {
            sleep(Duration::from_secs(60)).await;
            assert!(parts.next().await.unwrap().is_ok());
        }
        assert!(parts.next().await.is_none());
    }
}
