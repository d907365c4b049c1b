//! What a selector's series are for, and whether rollups do for that.
//!
//! **Exactly aligned**: every range begins and ends where windows do. What is answered from rollups is then
//! what the samples would have given. **Nearly**: there is more than one step, the range is at least
//! [`WINDOWS_MIN`] windows long and steps are no closer than windows; its end is moved back to that of a
//! window, by less than one, and sums and increases are given for the length asked for. A single answer, as
//! alerts ask for, is never near while the samples are there.
//!
//! Below [`SPAN_MS_MIN`] of time samples are taken as long as they are there: it is quick anyway.

use stoa_model::TimestampMs;

/// Ranges that do not lie on windows are at least this many windows long.
const WINDOWS_MIN: i64 = 4;

/// Less time than this is read as samples.
const SPAN_MS_MIN: i64 = 24 * 3_600_000;

/// What is made of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Something that needs the samples themselves.
    Samples,
    /// The newest sample at each step.
    Newest,
    /// Over a range that ends at each step, something that rollups know.
    Range {
        /// Its length, milliseconds.
        range_ms: i64,
        /// Whether its ends may be moved: not where a single sample of it is asked for.
        may_be_near: bool,
    },
}

/// What a selector's series are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hints {
    /// What is made of them.
    pub made: Use,
    /// The first time that is looked at, `offset` and `@` reckoned in.
    pub first_ms: TimestampMs,
    /// The last.
    pub last_ms: TimestampMs,
    /// From one time to the next; 0 when there is only one.
    pub step_ms: i64,
}

impl Hints {
    /// The longest of these windows whose rollups do; `None` when samples are wanted.
    #[must_use]
    pub fn window_ms(&self, windows_ms: &[i64]) -> Option<i64> {
        self.choice(windows_ms).ok()
    }

    /// The longest of these windows whose rollups do.
    ///
    /// # Errors
    /// Why samples are wanted, in words for people.
    pub fn choice(&self, windows_ms: &[i64]) -> Result<i64, &'static str> {
        let (range_ms, may_be_near) = match self.made {
            Use::Samples => return Err("every sample is wanted"),
            Use::Newest => (0, false),
            Use::Range { range_ms, may_be_near } => (range_ms, may_be_near),
        };
        if range_ms <= 0 && self.step_ms <= 0 {
            return Err("the newest samples are quick to find");
        }
        if windows_ms.is_empty() {
            return Err("no rollups are kept");
        }
        let span = self.last_ms.saturating_sub(self.first_ms).saturating_add(range_ms);
        if span < SPAN_MS_MIN {
            return Err("less than a day is read as samples");
        }
        let is_sound = |window: &i64| {
            let lies_on = |ms: i64| ms.rem_euclid(*window) == 0;
            let is_aligned = lies_on(self.first_ms) && lies_on(self.step_ms) && lies_on(range_ms);
            let is_near = may_be_near
                && self.step_ms >= *window
                && range_ms >= WINDOWS_MIN.saturating_mul(*window);
            *window > 0 && (is_aligned || is_near)
        };
        let longest = windows_ms.iter().copied().filter(is_sound).max();
        longest.ok_or("range and steps do not go with the windows of any rollups")
    }
}

#[cfg(test)]
mod tests {
    use super::{Hints, Use};

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    /// First time, last, step and range; which window does.
    #[track_caller]
    fn check(times: (i64, i64, i64), range: Option<i64>, expected: Option<i64>) {
        let made = |may_be_near| {
            range.map_or(Use::Newest, |range_ms| Use::Range { range_ms, may_be_near })
        };
        let (first_ms, last_ms, step_ms) = times;
        let hints = Hints { made: made(true), first_ms, last_ms, step_ms };
        assert_eq!(hints.window_ms(&[MINUTE, HOUR]), expected, "{hints:?}");
        let exact = Hints { made: made(false), ..hints }.window_ms(&[MINUTE, HOUR]);
        let lies_on = |ms: i64, window: i64| ms % window == 0;
        let is_exact = exact.is_none_or(|window| {
            [first_ms, step_ms, range.unwrap_or(0)].iter().all(|ms| lies_on(*ms, window))
        });
        assert!(is_exact && exact <= expected, "{hints:?}: {exact:?}");
        let hints = Hints { made: Use::Samples, ..hints };
        assert_eq!(hints.window_ms(&[MINUTE, HOUR]), None);
    }

    #[test]
    fn ranges_on_windows_are_answered_from_the_longest() {
        let month = |step| (0, 30 * DAY, step);
        check(month(HOUR), Some(HOUR), Some(HOUR));
        check(month(HOUR), Some(5 * MINUTE), Some(MINUTE));
        check(month(10 * MINUTE), Some(HOUR), Some(MINUTE));
        check(month(10 * MINUTE), Some(4 * HOUR), Some(MINUTE));
        check(month(HOUR), None, Some(HOUR));
        check(month(15 * MINUTE), None, Some(MINUTE));
        check(month(90_000), None, None);
        check(month(30_000), Some(HOUR), None);
        check((30_000, 30 * DAY, HOUR), None, None);
    }

    #[test]
    fn long_ranges_are_moved_by_less_than_a_window() {
        // Grafana's $__rate_interval: a step and a scrape interval.
        check((0, 30 * DAY, HOUR), Some(HOUR + 15_000), Some(MINUTE));
        check((0, 30 * DAY, 6 * HOUR), Some(6 * HOUR + 15_000), Some(HOUR));
        check((7, 30 * DAY, 10 * MINUTE), Some(10 * MINUTE), Some(MINUTE));
        check((7, 30 * DAY, 3 * MINUTE), Some(3 * MINUTE), None);
        // One answer is not moved.
        check((7, 7, 0), Some(7 * DAY), None);
        check((10 * HOUR + 5 * MINUTE, 10 * HOUR + 5 * MINUTE, 0), Some(DAY), Some(MINUTE));
        check((10 * HOUR, 10 * HOUR, 0), Some(DAY), Some(HOUR));
    }

    #[test]
    fn a_day_is_read_as_samples() {
        check((0, DAY - HOUR, MINUTE), Some(5 * MINUTE), None);
        check((0, DAY, HOUR), None, Some(HOUR));
        check((0, 0, 0), None, None);
    }
}
