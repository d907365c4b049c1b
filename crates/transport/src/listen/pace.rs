//! When the listener's socket is read: at once, or on a grid that gathers what many peers send.
//!
//! Two hundred agents that send once a second wake a thread some five hundred times a second, and
//! each waking costs more than the packet it is for. What is read together is handled, committed and
//! acknowledged together. A peer that sends much is not made to wait: its packets come in long runs,
//! and while they do there is no pause. Knows no socket and no clock.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long packets may wait in the socket's buffer.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Over how long it is judged whether many peers send little.
const WINDOW: Duration = PAUSE.saturating_mul(2);

/// Changes of sender in a window from which on gathering is worth the wait: a hundred a second.
const TURNS_MIN: usize = 10;

/// Datagrams in a row from one peer that make it one that sends much.
const RUN: usize = 8;

/// Pauses over which it is judged whether too little comes to be worth the wait.
const PAUSES: usize = 8;

/// Changes of sender in so many pauses below which it is not: forty a second.
const PAUSED_TURNS_MIN: usize = 16;

/// What the kernel charges for a full datagram in a socket's buffer, in bytes.
const DATAGRAM_COST: usize = 2304;

/// The part of the buffer that a pause may fill, as a divisor: more than that may be coming.
const SHARE: usize = 4;

/// The judgement, and what it rests on.
#[derive(Debug)]
pub(super) struct Pace {
    /// Datagrams in one pause from which on there is none.
    many: usize,
    is_paced: bool,
    /// Since when the rest counts.
    since: Instant,
    pauses: usize,
    turns: usize,
    datagrams: usize,
    last: Option<SocketAddr>,
    run: usize,
    longest_run: usize,
}

impl Pace {
    /// Begins without pauses, for a socket with a receive buffer of so many bytes.
    pub(super) fn new(buffer_bytes: usize, now: Instant) -> Self {
        Self {
            many: buffer_bytes / DATAGRAM_COST / SHARE,
            is_paced: false,
            since: now,
            pauses: 0,
            turns: 0,
            datagrams: 0,
            last: None,
            run: 0,
            longest_run: 0,
        }
    }

    /// So many datagrams in a row were read.
    pub(super) fn came(&mut self, from: SocketAddr, datagrams: usize) {
        if self.last != Some(from) {
            self.last = Some(from);
            self.run = 0;
            self.turns += 1;
        }
        self.run += datagrams;
        self.longest_run = self.longest_run.max(self.run);
        self.datagrams += datagrams;
    }

    /// The socket was read until it was empty; says whether to pause before it is read again.
    pub(super) fn emptied(&mut self, now: Instant) -> bool {
        let is_much = self.datagrams >= self.many || self.longest_run >= RUN;
        if self.is_paced {
            self.pauses += 1;
            if is_much || (self.pauses == PAUSES && self.turns < PAUSED_TURNS_MIN) {
                self.judge(false, now);
            } else if self.pauses == PAUSES {
                self.judge(true, now);
            } else {
                (self.last, self.run, self.longest_run, self.datagrams) = (None, 0, 0, 0);
            }
        } else {
            // What may fill one pause is counted over two: it shall not go to and fro.
            let spent = now.saturating_duration_since(self.since);
            if spent >= WINDOW {
                let is_often = spent < 2 * WINDOW && self.turns >= TURNS_MIN;
                self.judge(is_often && !is_much, now);
            }
        }
        self.is_paced
    }

    fn judge(&mut self, is_paced: bool, now: Instant) {
        let buffer = self.many * DATAGRAM_COST * SHARE;
        *self = Self { is_paced, ..Self::new(buffer, now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER: usize = 425_984;

    fn peer(number: u64) -> SocketAddr {
        let port = u16::try_from(number % 60_000).unwrap();
        ([192, 0, 2, 1], port).into()
    }

    /// Lets `each` of many peers' datagrams come every `every` ms from `start`, each read alone while
    /// there is no pause; says whether there is one in the end.
    fn run(pace: &mut Pace, start: Instant, every_ms: u64, ms: u64, each: usize) -> bool {
        let (mut paced, mut read_at) = (pace.is_paced, 0);
        for at in (0..ms).step_by(usize::try_from(every_ms).unwrap()) {
            pace.came(peer(at / every_ms), each);
            if !paced || at >= read_at {
                paced = pace.emptied(start + Duration::from_millis(at));
                read_at = at + 50;
            }
        }
        paced
    }

    #[test]
    fn many_small_senders_are_gathered_and_few_are_not() {
        let start = Instant::now();
        assert!(run(&mut Pace::new(BUFFER, start), start, 3, 1000, 1));
        assert!(!run(&mut Pace::new(BUFFER, start), start, 20, 1000, 1));
        assert!(!run(&mut Pace::new(0, start), start, 3, 1000, 1), "no buffer, no pause");
    }

    #[test]
    fn a_sender_of_much_ends_the_pauses_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(BUFFER, start);
        assert!(run(&mut pace, start, 3, 1000, 1));
        let next = start + Duration::from_secs(1);
        pace.came(peer(7), RUN - 1);
        assert!(pace.emptied(next), "a frame of a large host");
        pace.came(peer(7), 1);
        assert!(pace.emptied(next), "and its next");
        pace.came(peer(7), RUN);
        assert!(!pace.emptied(next));
        // And keeps them away, though others send as before.
        for at in 0..200 {
            pace.came(peer(at), 1);
            pace.came(peer(7), if at % 10 == 0 { RUN } else { 1 });
            assert!(!pace.emptied(next + Duration::from_millis(3 * at)));
        }
    }

    #[test]
    fn pauses_end_when_more_comes_than_may_wait_or_hardly_anything() {
        let start = Instant::now();
        let mut pace = Pace::new(BUFFER, start);
        assert!(run(&mut pace, start, 3, 1000, 1));
        for number in 0..46 {
            pace.came(peer(number), 1);
        }
        assert!(!pace.emptied(start), "a quarter of the buffer");

        let mut pace = Pace::new(BUFFER, start);
        assert!(run(&mut pace, start, 3, 1000, 1));
        let later = start + Duration::from_secs(1);
        assert!(!run(&mut pace, later, 60, 2000, 1));
    }

    #[test]
    fn a_burst_of_all_at_once_is_no_reason_to_pause() {
        let start = Instant::now();
        let mut pace = Pace::new(BUFFER, start);
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            for number in 0..40 {
                pace.came(peer(number), 1);
                assert!(!pace.emptied(now + Duration::from_micros(100 * number)));
            }
        }
    }
}
