//! The listener's UDP socket: under many small senders it is read at most every [`PAUSE`], so that one
//! waking of the process serves several of them.
//!
//! A datagram that comes alone wakes the whole path, from the socket to the task of its host, and that
//! costs more than handling it. When datagrams come closer together than [`CLOSE`] and few at a time,
//! reading waits out the pause. Who is alone, and who sends much at once, is read at once: a reading
//! that brings [`MANY`] is followed by another without a pause, long before the system's buffer is
//! full.
//!
//! Bounds: what comes during a pause waits in the socket's buffer; nothing is kept here.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

/// The longest a datagram waits to be read.
const PAUSE: Duration = Duration::from_millis(8);

/// Readings this close together, on average over [`LOOKED_AT`] of them, are worth a pause.
const CLOSE: Duration = Duration::from_millis(12);

/// Readings over which that is judged.
const LOOKED_AT: u32 = 16;

/// A reading of so many datagrams is one of many: 90 kB of full ones, less than half of what Linux
/// keeps for a socket by default.
const MANY: usize = 32;

/// A socket read with pauses.
pub(super) struct Gather {
    socket: Arc<dyn AsyncUdpSocket>,
    /// Held while the socket is read, by the one task that reads it.
    reading: Mutex<Reading>,
}

struct Reading {
    pace: Pace,
    pause: Pin<Box<Sleep>>,
    is_pausing: bool,
}

/// How close together readings are.
struct Pace {
    is_busy: bool,
    /// Readings since `since`.
    readings: u32,
    since: Instant,
}

impl Gather {
    /// Must be called within a tokio runtime.
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>) -> Self {
        let now = Instant::now();
        let pause = Box::pin(sleep_until(now));
        let reading = Reading { pace: Pace::new(now), pause, is_pausing: false };
        Self { socket, reading: Mutex::new(reading) }
    }
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { is_busy: false, readings: 0, since: now }
    }

    /// A reading brought so many datagrams and left none: says whether to pause before the next.
    fn pauses(&mut self, datagrams: usize, now: Instant) -> bool {
        self.readings += 1;
        if self.readings >= LOOKED_AT {
            self.is_busy = now.duration_since(self.since) < CLOSE * LOOKED_AT;
            self.readings = 0;
            self.since = now;
        }
        self.is_busy && datagrams < MANY
    }
}

impl AsyncUdpSocket for Gather {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if reading.is_pausing {
            ready!(reading.pause.as_mut().poll(cx));
            reading.is_pausing = false;
        }
        let messages = ready!(self.socket.poll_recv(cx, bufs, meta))?;
        if messages < bufs.len().min(meta.len()) {
            let datagrams = |meta: &RecvMeta| meta.len.div_ceil(meta.stride.max(1));
            let (datagrams, now) =
                (meta.iter().take(messages).map(datagrams).sum(), Instant::now());
            if reading.pace.pauses(datagrams, now) {
                reading.pause.as_mut().reset(now + PAUSE);
                reading.is_pausing = true;
            }
        }
        Poll::Ready(Ok(messages))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads so often, so far apart, so many at a time; whether a pause follows the last.
    fn pauses(pace: &mut Pace, now: &mut Instant, gap: Duration, datagrams: usize) -> bool {
        let mut last = false;
        for _ in 0..2 * LOOKED_AT {
            *now += gap;
            last = pace.pauses(datagrams, *now);
        }
        last
    }

    #[tokio::test]
    async fn only_few_at_a_time_and_close_together_wait() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for (gap, datagrams, expected) in [
            (CLOSE * 2, 1, false),
            (CLOSE, 1, false),
            (CLOSE / 4, 1, true),
            (PAUSE, 1, true),
            (PAUSE, MANY - 1, true),
            (PAUSE, MANY, false),
            (Duration::ZERO, 1, true),
            (CLOSE * 2, 1, false),
        ] {
            let found = pauses(&mut pace, &mut now, gap, datagrams);
            assert_eq!(found, expected, "{datagrams} every {gap:?}");
        }
    }
}
