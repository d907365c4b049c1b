//! When to sample: the grid of ticks, and the thread that keeps to it.
//!
//! Three clocks tell what happened to the time: one that can be set, one that stands while the host
//! sleeps, and one that does neither.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use stoa_model::{Family, TimestampMs};

use super::Sampler;
use crate::sources::Now;

/// A leap of the clock by more than this was set by someone: nothing was missed.
const LEAP_MS: i64 = 24 * 3600 * 1000;

/// Clocks that differ by so much in one tick: one was set, or the host slept; less is slewing.
const LEAP_MICROS: u64 = 100_000;

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

    /// Whether the tick given last is an interval or more away.
    fn is_away(&self, now_ms: TimestampMs) -> bool {
        self.last
            .is_some_and(|last| now_ms.saturating_sub(last).saturating_abs() >= self.interval_ms)
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
    let mut last = Look::now();
    loop {
        let (at, _) = look(&mut last, &mut sampler);
        let (t_ms, missed) = clock.next(at.unix_micros.div_euclid(1000));
        sampler.count_lost(missed, 0);
        // By the same look at the clock, or one that is set back meanwhile makes a wait of years.
        let until = t_ms.saturating_mul(1000).saturating_sub(at.unix_micros);
        if stop.within(Duration::from_micros(u64::try_from(until).unwrap_or(0))) {
            return;
        }
        let (at, has_leapt) = look(&mut last, &mut sampler);
        if has_leapt && clock.is_away(at.unix_micros.div_euclid(1000)) {
            // What is read now is not of the time that was waited for.
            sampler.count_lost(1, 0);
            continue;
        }
        let sample = tracing::debug_span!("sample");
        sample.in_scope(|| sampler.tick(at));
        match take(t_ms, sampler.took(), &sampler.told()) {
            Taken::Yes => {}
            Taken::Full => sampler.count_lost(0, 1),
            Taken::Gone => return,
        }
    }
}

/// What the clocks said at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    wall: Now,
    /// Microseconds since the host started, without and with those it slept.
    awake: i64,
    passed: i64,
}

/// How the wall clock went other than the time that the host was awake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leap {
    /// By so many microseconds it was set forth, or back.
    pub(super) set_micros: i64,
    /// The host slept for so long.
    pub(super) slept: Duration,
}

impl Look {
    fn now() -> Self {
        Self { wall: now(), awake: micros(ClockId::Monotonic), passed: micros(ClockId::Boottime) }
    }

    /// What happened to the time since an earlier look, if something did.
    fn leap_since(self, before: Self) -> Option<Leap> {
        let passed = self.passed.saturating_sub(before.passed);
        let slept = passed.saturating_sub(self.awake.saturating_sub(before.awake));
        let told = self.wall.unix_micros.saturating_sub(before.wall.unix_micros);
        let large = |micros: i64| if micros.unsigned_abs() < LEAP_MICROS { 0 } else { micros };
        let leap = Leap {
            set_micros: large(told.saturating_sub(passed)),
            slept: Duration::from_micros(u64::try_from(large(slept)).unwrap_or(0)),
        };
        Some(leap).filter(|leap| *leap != Leap::default())
    }
}

/// Looks at the clocks and tells the sampler what happened to the time; whether something did.
fn look(last: &mut Look, sampler: &mut Sampler) -> (Now, bool) {
    let before = std::mem::replace(last, Look::now());
    let leap = last.leap_since(before);
    if let Some(leap) = leap {
        sampler.leap(leap);
    }
    (last.wall, leap.is_some())
}

fn micros(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
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
    fn a_tick_that_was_waited_for_is_another_time_after_a_leap() {
        let mut clock = Clock::new(Duration::from_secs(1));
        assert!(!clock.is_away(0));
        clock.next(400);
        for (now, is_away) in [(1, false), (1000, false), (1999, false), (2000, true), (0, true)] {
            assert_eq!(clock.is_away(now), is_away, "{now}");
        }
    }

    #[test]
    fn a_clock_that_was_set_and_a_host_that_slept_are_told_from_a_tick() {
        let second = 1_000_000;
        let before = Look { wall: Now { unix_micros: 7 }, awake: 70, passed: 700 };
        for (told, awake, passed, set, slept) in [
            (second, second, second, 0, 0),
            (second + 50_000, second, second, 0, 0),
            (3601 * second, second, second, 3600, 0),
            (-3599 * second, second, second, -3600, 0),
            // It slept for an hour, and once more with the clock set a day back meanwhile.
            (3601 * second, second, 3601 * second, 0, 3600),
            (-82_799 * second, second, 3601 * second, -86_400, 3600),
        ] {
            let after = Look {
                wall: before.wall.moved(told),
                awake: before.awake + awake,
                passed: before.passed + passed,
            };
            let leap = Leap { set_micros: set * second, slept: Duration::from_secs(slept) };
            let expected = Some(leap).filter(|leap| *leap != Leap::default());
            assert_eq!(after.leap_since(before), expected, "{told} {awake} {passed}");
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
