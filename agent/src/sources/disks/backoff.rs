//! How long what refuses to answer is let alone: longer each time.

use std::time::Duration;

use crate::sources::Now;

const FIRST: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Whether to ask again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    refused_at: Option<Now>,
    wait: Duration,
}

impl Backoff {
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.refused_at.is_none_or(|at| now.is_past(at, self.wait))
    }

    pub(super) fn refused(&mut self, now: Now) {
        self.refused_at = Some(now);
        self.wait = (self.wait * 2).clamp(FIRST, LONGEST);
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_refusals_is_nine_questions() {
        let mut backoff = Backoff::default();
        let minute = |minute: i64| Now { unix_micros: minute * 60_000_000 };
        let mut asked = Vec::new();
        for now in (0..24 * 60).step_by(5) {
            if backoff.is_due(minute(now)) {
                asked.push(now);
                backoff.refused(minute(now));
            }
        }
        assert_eq!(asked, [0, 10, 30, 70, 150, 310, 630, 990, 1350]);
        backoff.answered();
        assert!(backoff.is_due(minute(1351)));
    }
}
