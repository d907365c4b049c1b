//! How long what was answered once goes on being told.
//!
//! Disks sleep, volumes lie idle, and where the agent has no rights a job asks in its place: what is
//! told may be older than the reading that tells it. A [`Dated`] knows when its answer was given, and
//! when it was last known to hold; one that was not given again, nor known to hold, for [`HOLDS`] is
//! told no more, but for its time. Knows nothing of what was asked.

use std::time::Duration;

use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now};

/// Six rounds of the job that asks where the agent has no rights.
const HOLDS: Duration = Duration::from_secs(3600);

/// An answer and its age.
#[derive(Clone, Debug)]
pub(super) struct Dated<T> {
    answer: T,
    given_at: Now,
    held_at: Now,
}

impl<T> Dated<T> {
    pub(super) fn new(answer: T, at: Now) -> Self {
        Self { answer, given_at: at, held_at: at }
    }

    /// The answer is seen to hold: a disk sleeps, nobody used the volumes since.
    pub(super) fn hold(&mut self, at: Now) {
        self.held_at = at;
    }

    /// The answer, unless it is too old.
    pub(super) fn get(&self, now: Now) -> Option<&T> {
        self.is_held(now).then_some(&self.answer)
    }

    pub(super) fn is_held(&self, now: Now) -> bool {
        holds(self.held_at, now)
    }

    /// The answer, however old.
    pub(super) fn whatever_its_age(&self) -> &T {
        &self.answer
    }

    /// Tells when the answer was given.
    pub(super) fn tell_time(&self, desc: &Desc, pairs: &[(&'static str, &str)], sheet: &mut Sheet) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let seconds = self.given_at.unix_micros.div_euclid(1_000_000) as f64;
        sheet.push(desc, pairs, seconds);
    }
}

/// Whether what was so at `at` may still be told. A file may be written while a reading runs, and be
/// later than it; one of much later is of before the clock was set.
pub(super) fn holds(at: Now, now: Now) -> bool {
    u128::from(now.unix_micros.abs_diff(at.unix_micros)) < HOLDS.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::sheet::lines;

    const TIME: Desc = Desc::gauge("t", "");

    fn at(minute: i64) -> Now {
        Now { unix_micros: 1_770_000_000_000_000 + minute * 60_000_000 }
    }

    #[test]
    fn an_answer_is_told_for_an_hour_and_its_time_for_ever() {
        let mut answer = Dated::new("a", at(0));
        for (minute, expected) in
            [(0, Some(&"a")), (59, Some(&"a")), (60, None), (-1, Some(&"a")), (-60, None)]
        {
            assert_eq!(answer.get(at(minute)), expected, "{minute}");
        }
        answer.hold(at(30));
        assert_eq!((answer.get(at(89)), answer.get(at(90))), (Some(&"a"), None));
        let mut sheet = Sheet::new();
        answer.tell_time(&TIME, &[], &mut sheet);
        assert_eq!(lines(&mut sheet), ["t 1.77e+09"]);
    }
}
