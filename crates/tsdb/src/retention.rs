//! Which blocks have had their time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use stoa_model::TimestampMs;

/// How much longer than they are to be kept blocks wait to be rolled up, at most, once that was tried:
/// a tier that cannot be made must not fill the disk.
pub(crate) const WAIT_MS: i64 = 24 * 3_600_000;

/// What is asked of a block, of samples or of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) last_t: TimestampMs,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    /// How long such blocks are kept.
    pub(crate) kept_ms: i64,
    /// Whether the tier made of it has what it has.
    pub(crate) is_rolled_up: bool,
    /// Whether it has waited for that as long as it may.
    pub(crate) has_waited: bool,
    /// Whether it stays whatever all together take.
    pub(crate) is_newest: bool,
}

/// The sequence numbers of the blocks to delete, in the order in which they may go: those that ended
/// longer before `newest` than they are kept; then, while all together with `other_bytes` take more than
/// may be, those that have used up most of their time. What is not rolled up goes for its age only when
/// it has waited, and last.
pub(crate) fn expired(
    candidates: &[Candidate],
    newest: TimestampMs,
    other_bytes: u64,
    bytes_max: Option<u64>,
) -> Vec<Candidate> {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    // Age in shares of the time it is kept; no time is shorter than a millisecond.
    let share = |one: &Candidate| {
        let age = i128::from(newest) - i128::from(one.last_t);
        (age << 32) / i128::from(one.kept_ms.max(1))
    };
    order.sort_by_key(|one| (!one.is_rolled_up, Reverse(share(one)), one.last_t, one.sequence));
    let mut bytes = other_bytes + candidates.iter().map(|one| one.bytes).sum::<u64>();
    let mut expired = Vec::new();
    for one in order {
        let is_old = one.is_past(newest) && (one.is_rolled_up || one.has_waited);
        let is_over = bytes_max.is_some_and(|max| bytes > max) && !one.is_newest;
        if is_old || is_over {
            bytes -= one.bytes;
            expired.push(*one);
        }
    }
    expired
}

impl Candidate {
    fn is_past(&self, newest: TimestampMs) -> bool {
        self.last_t < newest.saturating_sub(self.kept_ms)
    }
}

/// The blocks that have had their time and are not rolled up, and since when each waits: from the end
/// of a pass over all tiers that began after it was first seen to, or put it off, or failed. It is known
/// of this start only; the next one begins anew. Bounded by the blocks there are.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BTreeMap<u64, Wait>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// How many passes must have ended.
    passes: u64,
    /// The newest sample when they had.
    since: Option<TimestampMs>,
}

impl Waiting {
    /// Says of each candidate whether it has waited; `passes` over all tiers have ended.
    pub(crate) fn tell(&mut self, candidates: &mut [Candidate], newest: TimestampMs, passes: u64) {
        let mut known = std::mem::take(&mut self.0);
        for one in candidates.iter_mut().filter(|one| !one.is_rolled_up && one.is_past(newest)) {
            // One that is under way now may have begun without it.
            let fresh = Wait { passes: passes.saturating_add(2), since: None };
            let mut wait = known.remove(&one.sequence).unwrap_or(fresh);
            if passes >= wait.passes {
                let since = *wait.since.get_or_insert(newest);
                one.has_waited = newest.saturating_sub(since) >= WAIT_MS;
            }
            self.0.insert(one.sequence, wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, WAIT_MS, Waiting, expired};

    /// Blocks as `last_t/kept:bytes`, `!` behind for those that are not rolled up, `!!` if they have
    /// waited; which go.
    #[track_caller]
    fn check(blocks: &str, newest: i64, bytes_max: Option<u64>, expected: &[u64]) {
        let number = |text: &str| text.parse::<i64>().unwrap();
        let mut candidates: Vec<Candidate> = (0..)
            .zip(blocks.split_whitespace())
            .map(|(sequence, text)| {
                let has_waited = text.ends_with("!!");
                let is_rolled_up = !text.ends_with('!');
                let text = text.trim_end_matches('!');
                let (last_t, rest) = text.split_once('/').unwrap();
                let (kept, bytes) = rest.split_once(':').unwrap();
                let (last_t, kept_ms) = (number(last_t), number(kept));
                let bytes = number(bytes).cast_unsigned();
                let is_newest = false;
                Candidate { last_t, sequence, bytes, kept_ms, is_rolled_up, has_waited, is_newest }
            })
            .collect();
        candidates.last_mut().unwrap().is_newest = true;
        let gone = expired(&candidates, newest, 0, bytes_max);
        assert_eq!(gone.iter().map(|one| one.sequence).collect::<Vec<_>>(), expected, "{blocks}");
    }

    #[test]
    fn each_has_its_time() {
        check("1/10:1 5/10:1 9/10:1", 14, None, &[0]);
        check("1/10:1 1/100:1 9/10:1", 30, None, &[0, 2]);
        check("1/10:1! 5/10:1 9/10:1", 14, None, &[]);
        check("1/10:1! 5/10:1", 12 + WAIT_MS, None, &[1]);
        check("1/10:1!! 5/10:1", 16, None, &[1, 0]);
        check("7/10:1!! 5/10:1", 16, None, &[1]);
    }

    #[test]
    fn the_wait_begins_when_it_was_tried() {
        let one = Candidate {
            last_t: 1,
            sequence: 3,
            bytes: 1,
            kept_ms: 10,
            is_rolled_up: false,
            has_waited: false,
            is_newest: false,
        };
        let mut waiting = Waiting::default();
        // Whether it may go after each look, by newest sample and passes that have ended.
        let day = WAIT_MS;
        let looks = [
            (11, 5, false),
            (9 * day, 5, false),
            (9 * day, 6, false),
            (9 * day, 7, false),
            (10 * day - 1, 8, false),
            (10 * day, 8, true),
        ];
        for (newest, passes, expected) in looks {
            let mut both = [one, Candidate { sequence: 4, is_rolled_up: true, ..one }];
            waiting.tell(&mut both, newest, passes);
            let told = both.map(|one| one.has_waited);
            // At 11 it has not had its time yet, and is not known.
            assert_eq!(told, [expected && newest != 11, false], "{newest} {passes}");
        }
        waiting.tell(&mut [], 11 * day, 9);
        let mut again = [one];
        waiting.tell(&mut again, 20 * day, 9);
        assert!(!again[0].has_waited, "forgotten when it was gone");
    }

    #[test]
    fn over_the_limit_all_give_their_share() {
        check("1/10:5 5/10:5 9/10:5", 10, Some(11), &[0]);
        check("1/10:5 5/10:5 9/10:50", 10, Some(1), &[0, 1]);
        // The one of a tier is older and has used up less.
        check("5/100:5 4/10:5 9/10:5", 10, Some(11), &[1]);
        check("5/100:5 4/10:5! 9/10:5", 10, Some(11), &[0]);
        check("5/100:5 4/10:5! 9/10:5", 10, Some(6), &[0, 1]);
    }
}
