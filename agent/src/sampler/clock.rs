//! When to sample: the grid of ticks, and the thread that keeps to it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stoa_model::{Family, TimestampMs};

use super::Sampler;
use crate::sources::Now;

/// A leap of the clock by more than this was set by someone: nothing was missed.
const LEAP_MS: i64 = 24 * 3600 * 1000;

/// The grid of ticks: which moment is next, and how many were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    interval_ms: i64,
    last: Option<TimestampMs>,
}

impl Clock {
    /// A clock that ticks at whole multiples of `interval`, at least a millisecond.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { interval_ms, last: None }
    }

    /// The next tick after `now_ms`, and the ticks missed since the last one.
    ///
    /// A clock that is a little behind the last tick (slewed, or woken early) goes on from that
    /// tick; one set back by more begins a new grid.
    pub fn next(&mut self, now_ms: TimestampMs) -> (TimestampMs, u64) {
        let grid = now_ms.div_euclid(self.interval_ms).saturating_add(1);
        let mut next = grid.saturating_mul(self.interval_ms);
        let mut missed = 0;
        if let Some(last) = self.last {
            let steps = (next - last) / self.interval_ms;
            if (-1..=0).contains(&steps) {
                next = last + self.interval_ms;
            } else if steps > 1 && next - last < LEAP_MS {
                missed = u64::try_from(steps - 1).unwrap_or(0);
            }
        }
        self.last = Some(next);
        (next, missed)
    }
}

/// A sampler's thread; dropping this stops it.
#[derive(Debug)]
pub struct SamplerHandle {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    /// Held for moments only.
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it was set within `wait`.
    fn within(&self, wait: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.changed.wait_timeout_while(stopped, wait, |stopped| !*stopped);
        *wait.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl SamplerHandle {
    /// Stops sampling and waits for the tick under way; its sender is dropped then.
    pub fn stop(mut self) {
        self.end();
    }

    /// Whether the thread has ended by itself: nobody takes ticks any more, or it broke.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) {
        self.stop.set();
        // A panic of the sampler's thread shows as the end of its ticks.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for SamplerHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// What became of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// There was no room for it; it is dropped, and counted.
    Full,
    /// Nobody takes ticks any more.
    Gone,
}

/// Samples on a thread of its own until stopped or until nobody takes ticks. `take` is given a tick's
/// moment, a whole multiple of the interval, and all that was read, each family once; it must not
/// block.
///
/// # Errors
/// When the host has no thread to give.
pub fn spawn(
    sampler: Sampler,
    take: impl FnMut(TimestampMs, &[&Family]) -> Taken + Send + 'static,
) -> io::Result<SamplerHandle> {
    let stop = Arc::new(Stop::default());
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("stoa-sampler".to_owned());
    let thread = thread.spawn(move || keep_time(sampler, take, &stopped))?;
    Ok(SamplerHandle { stop, thread: Some(thread) })
}

fn keep_time(
    mut sampler: Sampler,
    mut take: impl FnMut(TimestampMs, &[&Family]) -> Taken,
    stop: &Stop,
) {
    let mut clock = Clock::new(sampler.interval());
    loop {
        let (t_ms, missed) = clock.next(now().unix_micros.div_euclid(1000));
        sampler.count_lost(missed, 0);
        let until = t_ms.saturating_mul(1000).saturating_sub(now().unix_micros);
        if stop.within(Duration::from_micros(u64::try_from(until).unwrap_or(0))) {
            return;
        }
        let sample = tracing::debug_span!("sample");
        sample.in_scope(|| sampler.tick(now()));
        match take(t_ms, &sampler.told()) {
            Taken::Yes => {}
            Taken::Full => sampler.count_lost(0, 1),
            Taken::Gone => return,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sampler's driver reads the clock for all sources"
)]
fn now() -> Now {
    let unix_micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Now { unix_micros }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(nows: &[i64], expected: &[(i64, u64)]) {
        let mut clock = Clock::new(Duration::from_secs(1));
        let ticks: Vec<_> = nows.iter().map(|now| clock.next(*now)).collect();
        assert_eq!(ticks, expected);
    }

    #[test]
    fn ticks_stand_on_the_grid_and_missed_ones_are_counted() {
        check(&[400, 1003, 2001], &[(1000, 0), (2000, 0), (3000, 0)]);
        check(&[0, 1000], &[(1000, 0), (2000, 0)]);
        // Woken a moment early; a tick that took two and a half intervals.
        check(&[400, 999, 4500], &[(1000, 0), (2000, 0), (5000, 2)]);
        // Set back a little: no tick stands twice. Set back far: a new grid.
        check(&[5400, 5100, 100], &[(6000, 0), (7000, 0), (1000, 0)]);
        // Set forward by years: nothing was missed.
        check(&[400, 1_800_000_000_500], &[(1000, 0), (1_800_000_001_000, 0)]);
        check(&[-1500], &[(-1000, 0)]);
    }

    proptest! {
        #[test]
        fn a_tick_is_on_the_grid_and_never_the_last_again(steps in prop::collection::vec(-5000_i64..5000, 1..50)) {
            let mut clock = Clock::new(Duration::from_millis(700));
            let (mut now, mut last) = (1_000_000, None);
            for step in steps {
                now += step;
                let (tick, _) = clock.next(now);
                prop_assert_eq!(tick % 700, 0);
                prop_assert!(last != Some(tick));
                last = Some(tick);
            }
        }
    }
}
