//! When to sample: the grid of ticks, and the thread that keeps to it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stoa_model::{Family, TimestampMs};

use super::Sampler;
use crate::sources::Now;

/// A leap of the clock by more than this was set by someone: nothing was missed.
const LEAP_MS: i64 = 24 * 3600 * 1000;

/// A wall clock that differs from what has passed by so much in one tick was set; less is slewing.
const SET_MICROS: u64 = 100_000;

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
/// moment, a whole multiple of the interval, how long it waited for sources, and all that was read, each
/// family once; it must not block.
///
/// # Errors
/// When the host has no thread to give.
pub fn spawn(
    sampler: Sampler,
    take: impl FnMut(TimestampMs, Duration, &[&Family]) -> Taken + Send + 'static,
) -> io::Result<SamplerHandle> {
    let stop = Arc::new(Stop::default());
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("stoa-sampler".to_owned());
    let thread = thread.spawn(move || keep_time(sampler, take, &stopped))?;
    Ok(SamplerHandle { stop, thread: Some(thread) })
}

fn keep_time(
    mut sampler: Sampler,
    mut take: impl FnMut(TimestampMs, Duration, &[&Family]) -> Taken,
    stop: &Stop,
) {
    let mut clock = Clock::new(sampler.interval());
    let mut last = (now(), instant());
    loop {
        let (before, after) = (last, (now(), instant()));
        last = after;
        if let Some(micros) = leap(before, after) {
            sampler.leap(micros);
        }
        let (at, _) = after;
        let (t_ms, missed) = clock.next(at.unix_micros.div_euclid(1000));
        sampler.count_lost(missed, 0);
        // By the same look at the clock, or one that is set back meanwhile makes a wait of years.
        let until = t_ms.saturating_mul(1000).saturating_sub(at.unix_micros);
        if stop.within(Duration::from_micros(u64::try_from(until).unwrap_or(0))) {
            return;
        }
        let (before, after) = (last, (now(), instant()));
        last = after;
        if let Some(micros) = leap(before, after) {
            sampler.leap(micros);
        }
        let sample = tracing::debug_span!("sample");
        sample.in_scope(|| sampler.tick(after.0));
        match take(t_ms, sampler.took(), &sampler.told()) {
            Taken::Yes => {}
            Taken::Full => sampler.count_lost(0, 1),
            Taken::Gone => return,
        }
    }
}

/// By how many microseconds the wall clock went further than the time that has passed, if by so many
/// that it was set, or the host slept.
fn leap(before: (Now, Instant), after: (Now, Instant)) -> Option<i64> {
    let passed = after.1.saturating_duration_since(before.1);
    let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
    let told = after.0.unix_micros.saturating_sub(before.0.unix_micros);
    Some(told.saturating_sub(passed)).filter(|micros| micros.unsigned_abs() >= SET_MICROS)
}

#[expect(clippy::disallowed_methods, reason = "measures how long it has been since the last tick")]
fn instant() -> Instant {
    Instant::now()
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

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_runs() {
        let (began, wall) = (instant(), |micros| Now { unix_micros: micros });
        let second = began + Duration::from_secs(1);
        for (told, expected) in [
            (1_000_000, None),
            (1_050_000, None),
            (3_601_000_000, Some(3_600_000_000)),
            (-3_599_000_000, Some(-3_600_000_000)),
        ] {
            assert_eq!(leap((wall(0), began), (wall(told), second)), expected);
        }
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
