//! Whether a source does its work, or a part of it, and which turns of that are a line in the log.
//!
//! A fault is one line when it begins and one when it ends. One that comes back within [`QUIET`] of the
//! last line is none: it is counted, and [`QUIET`] after the last line one line says how often it came
//! and whether it is there now. So a source that fails every other second is at most two lines in any
//! [`QUIET`], each fault is in one of them, and what the log said last is so, or will be put right by
//! then.
//!
//! Knows neither the source nor what is wrong with it; the lines are written by who asks.

use std::time::Duration;

use crate::sources::Now;

/// How long after a line no other fault begins one.
pub(super) const QUIET: Duration = Duration::from_secs(600);

/// A source's fault.
#[derive(Debug, Default)]
pub(super) struct Fault {
    is_on: bool,
    /// Whether the log says that it is.
    is_said: bool,
    /// When the last line was written.
    said: Option<Now>,
    /// How often it began without a line.
    unsaid: u64,
    /// What it was when it last began without a line.
    why: String,
}

/// Faults that had no line of their own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsaid {
    pub(super) times: u64,
    /// What it was the last time.
    pub(super) why: String,
    /// Whether it is there now.
    pub(super) is_on: bool,
}

impl Fault {
    /// Whether it is there now.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// It is there. Whether that is to be said.
    pub(super) fn is(&mut self, now: Now, why: impl FnOnce() -> String) -> bool {
        if std::mem::replace(&mut self.is_on, true) {
            return false;
        }
        if self.unsaid > 0 || self.is_quiet(now) {
            self.unsaid += 1;
            self.why = why();
            return false;
        }
        self.is_said = true;
        self.said = Some(now);
        true
    }

    /// There is more of it, which counts as another. Whether that is to be said.
    pub(super) fn grows(&mut self, now: Now, why: impl FnOnce() -> String) -> bool {
        self.is_on = false;
        self.is(now, why)
    }

    /// It is not there. Whether that is to be said.
    pub(super) fn is_not(&mut self, now: Now) -> bool {
        self.is_on = false;
        let is_news = std::mem::take(&mut self.is_said);
        if is_news {
            self.said = Some(now);
        }
        is_news
    }

    /// What is to be said of the faults that had no line; to be asked at every tick.
    pub(super) fn unsaid(&mut self, now: Now) -> Option<Unsaid> {
        if self.unsaid == 0 || self.is_quiet(now) {
            return None;
        }
        self.said = Some(now);
        self.is_said = self.is_on;
        let (times, why) = (std::mem::take(&mut self.unsaid), std::mem::take(&mut self.why));
        Some(Unsaid { times, why, is_on: self.is_on })
    }

    /// The wall clock was set.
    pub(super) fn set_clock(&mut self, micros: i64) {
        self.said = self.said.map(|at| at.moved(micros));
    }

    fn is_quiet(&self, now: Now) -> bool {
        self.said.is_some_and(|said| !now.is_past(said, QUIET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said when a source is so at these seconds.
    #[track_caller]
    fn check(turns: &[(i64, bool, &str)]) {
        let mut fault = Fault::default();
        for (second, fails, expected) in turns {
            let now = Now { unix_micros: second * 1_000_000 };
            let mut said = match fails {
                true => fault.is(now, || format!("at {second}")).then(|| "fails".to_owned()),
                false => fault.is_not(now).then(|| "well".to_owned()),
            };
            if let Some(Unsaid { times, why, is_on }) = fault.unsaid(now) {
                assert_eq!(said, None, "two lines at {second} s");
                said = Some(format!("{times} more, {why}, {}", if is_on { "on" } else { "off" }));
            }
            assert_eq!(said.unwrap_or_default(), *expected, "{second} s");
            assert_eq!(fault.is_on(), *fails);
        }
    }

    #[test]
    fn a_fault_is_two_lines_and_one_that_returns_is_counted() {
        check(&[(1, false, ""), (2, true, "fails"), (3, true, ""), (9000, true, "")]);
        check(&[(2, true, "fails"), (3, false, "well"), (4, false, ""), (603, true, "fails")]);
        // Back within the quiet, and still there after it.
        check(&[
            (0, true, "fails"),
            (2, false, "well"),
            (3, true, ""),
            (601, true, ""),
            (602, true, "1 more, at 3, on"),
            (605, false, "well"),
            (606, true, ""),
            (607, false, ""),
            (1204, true, ""),
            (1205, false, "2 more, at 1204, off"),
            (1804, false, ""),
            (1805, true, "fails"),
        ]);
        // It comes back just when the quiet ends: one line for both.
        check(&[
            (0, true, "fails"),
            (1, false, "well"),
            (3, true, ""),
            (4, false, ""),
            (601, true, "2 more, at 601, on"),
        ]);
    }
}
