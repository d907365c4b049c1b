//! A count of what seldom happens: told once it has, and from then on.
//!
//! On a well host such a count would say 0 for ever, once for each source there is. But a counter that
//! appears as 1 has not risen for who asks `increase()`, and its first event is the one that matters.
//! So it is told as 0 for [`ZERO`] when it first rises and as it stands after that. Nothing is lost by
//! it, all is told that much later; that something is wrong now is for a gauge to tell.
//!
//! Knows neither what is counted nor under which name.

use std::time::Duration;

use crate::sources::Now;

/// How long a count that rises for the first time is told as 0: a scraper that comes once a minute
/// sees it.
const ZERO: Duration = Duration::from_secs(90);

/// A count of what seldom happens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RareCount {
    count: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    /// It is 0, and not told.
    #[default]
    Never,
    /// It is told as 0 since then.
    Zero(Now),
    /// It is told as it stands; a clock that is set back takes nothing from it.
    Told,
}

impl RareCount {
    /// It happened once more.
    pub(crate) fn add_one(&mut self) {
        self.count += 1;
    }

    /// What to tell of it now that it stands at `count`.
    pub(crate) fn set(&mut self, count: u64, now: Now) -> Option<u64> {
        self.count = count;
        self.told(now)
    }

    /// What to tell of it, if anything.
    pub(crate) fn told(&mut self, now: Now) -> Option<u64> {
        self.stage = match self.stage {
            Stage::Never if self.count > 0 => Stage::Zero(now),
            Stage::Zero(since) if now.is_past(since, ZERO) => Stage::Told,
            stage => stage,
        };
        match self.stage {
            Stage::Never => None,
            Stage::Zero(_) => Some(0),
            Stage::Told => Some(self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a count that stands so at these seconds.
    #[track_caller]
    fn check(counts: &[(i64, u64, Option<u64>)]) {
        let mut count = RareCount::default();
        for (second, stands, told) in counts {
            let now = Now { unix_micros: second * 1_000_000 };
            assert_eq!(count.set(*stands, now), *told, "{second} s, {stands}");
        }
    }

    #[test]
    fn a_count_is_told_from_its_first_event_on_and_rises_from_zero() {
        check(&[(1, 0, None), (1000, 0, None)]);
        let zero = Some(0);
        check(&[(9, 0, None), (10, 1, zero), (99, 7, zero), (100, 7, Some(7)), (101, 8, Some(8))]);
        // A clock that is set back, while it is told as 0 and after.
        check(&[(100, 1, zero), (50, 1, Some(1)), (100, 1, Some(1)), (101, 2, Some(2))]);
        // What returned to 0, as a counter of an earlier session may.
        check(&[(0, 3, zero), (90, 0, zero), (91, 0, zero)]);
    }
}
