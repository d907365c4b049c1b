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
    /// Whether it stays whatever all together take.
    pub(crate) stays: bool,
    /// Whether something it is made of is there and not rolled up: it would be made again.
    pub(crate) is_wanted: bool,
}

/// The room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// What all may take, if that is bounded.
    pub(crate) bytes_max: Option<u64>,
    /// What counts with the blocks.
    pub(crate) other_bytes: u64,
    /// Less is free on the disk than must be: nothing waits.
    pub(crate) is_short: bool,
}

impl Candidate {
    fn is_past(&self, newest: TimestampMs) -> bool {
        self.last_t < newest.saturating_sub(self.kept_ms)
    }

    /// Its age in shares of the time it is kept.
    fn share(&self, newest: TimestampMs) -> i128 {
        let age = i128::from(newest) - i128::from(self.last_t);
        // No time is shorter than a millisecond.
        (age << 32) / i128::from(self.kept_ms.max(1))
    }
}

/// The blocks that are to go and are not rolled up, and since when each waits: from the end of a pass
/// over all tiers that began after it was first seen to, or put it off, or failed. It is known of this
/// start only; the next one begins anew. Bounded by the blocks there are.
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
    /// The blocks to delete, in the order in which they may go: those that have used up most of their
    /// time first. They are those that ended longer before `newest` than they are kept, and, while all
    /// together take more than may be, the next of that order. What is not rolled up waits for one of the
    /// `passes` over all tiers, and when it goes only for its age for [`WAIT_MS`] after it; what waits
    /// because all take too much counts as gone, for else others went in its place.
    pub(crate) fn expired(
        &mut self,
        candidates: &[Candidate],
        newest: TimestampMs,
        passes: u64,
        room: Room,
    ) -> Vec<Candidate> {
        let mut known = std::mem::take(&mut self.0);
        let mut order: Vec<&Candidate> = candidates.iter().collect();
        order.sort_by_key(|one| (Reverse(one.share(newest)), one.last_t, one.sequence));
        let of_blocks = candidates.iter().map(|one| one.bytes);
        // What a meta says of itself may be anything.
        let mut bytes = of_blocks.fold(room.other_bytes, u64::saturating_add);
        let mut expired = Vec::new();
        for one in order {
            let is_over = room.bytes_max.is_some_and(|max| bytes > max) && !one.stays;
            if !is_over && !one.is_past(newest) || one.is_wanted && !room.is_short {
                continue;
            }
            let has_waited = one.is_rolled_up || {
                // One that is under way now may have begun without it.
                let fresh = Wait { passes: passes.saturating_add(2), since: None };
                let mut wait = known.remove(&one.sequence).unwrap_or(fresh);
                let is_tried = passes >= wait.passes;
                if is_tried && wait.since.is_none() {
                    wait.since = Some(newest);
                }
                let waited_ms = wait.since.map_or(0, |since| newest.saturating_sub(since));
                self.0.insert(one.sequence, wait);
                is_tried && (is_over || waited_ms >= WAIT_MS)
            };
            let goes = has_waited || room.is_short;
            if goes || is_over {
                bytes = bytes.saturating_sub(one.bytes);
            }
            if goes {
                expired.push(*one);
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Room, WAIT_MS, Waiting};

    const DAY: i64 = WAIT_MS;

    /// Blocks as `last_t/kept:bytes`, `!` behind for those that are not rolled up; the last is the
    /// newest.
    fn candidates(blocks: &str) -> Vec<Candidate> {
        let number = |text: &str| text.parse::<i64>().unwrap();
        let blocks = (0..).zip(blocks.split_whitespace());
        let mut candidates: Vec<Candidate> = blocks
            .map(|(sequence, text)| {
                let is_rolled_up = !text.ends_with('!');
                let (last_t, rest) = text.trim_end_matches('!').split_once('/').unwrap();
                let (kept, bytes) = rest.split_once(':').unwrap();
                let (last_t, kept_ms) = (number(last_t), number(kept));
                let bytes = number(bytes).cast_unsigned();
                Candidate {
                    last_t,
                    sequence,
                    bytes,
                    kept_ms,
                    is_rolled_up,
                    stays: false,
                    is_wanted: false,
                }
            })
            .collect();
        candidates.last_mut().unwrap().stays = true;
        candidates
    }

    /// Which go at each look; these are of the newest sample, the passes that have ended, and the bytes
    /// all may take.
    #[track_caller]
    fn check(blocks: &str, looks: &[(i64, u64, Option<u64>, &[u64])]) {
        let (candidates, mut waiting) = (candidates(blocks), Waiting::default());
        for (newest, passes, bytes_max, expected) in looks {
            let room = Room { bytes_max: *bytes_max, ..Room::default() };
            let gone = waiting.expired(&candidates, *newest, *passes, room);
            let gone: Vec<u64> = gone.iter().map(|one| one.sequence).collect();
            assert_eq!(gone, *expected, "{blocks}: at {newest} after {passes}");
        }
    }

    #[test]
    fn each_has_its_time() {
        check("1/10:1 5/10:1 9/10:1", &[(14, 0, None, &[0])]);
        check("1/10:1 1/100:1 9/10:1", &[(30, 0, None, &[0, 2])]);
        check("1/10:1! 5/10:1 9/10:1", &[(14, 0, None, &[]), (16, 9, None, &[1])]);
    }

    #[test]
    fn the_wait_begins_when_it_was_tried() {
        let looks: [(i64, u64, Option<u64>, &[u64]); 7] = [
            // It has not had its time yet, and is not known.
            (11, 5, None, &[]),
            (9 * DAY, 5, None, &[]),
            (9 * DAY, 6, None, &[]),
            (9 * DAY, 7, None, &[]),
            (10 * DAY - 1, 8, None, &[]),
            (10 * DAY, 8, None, &[0]),
            (10 * DAY, 8, None, &[0]),
        ];
        check("1/10:1! 9/9999999999:1", &looks);
        let mut waiting = Waiting::default();
        let one = candidates("1/10:1!");
        waiting.expired(&one, 9 * DAY, 5, Room::default());
        waiting.expired(&[], 9 * DAY, 7, Room::default());
        assert_eq!(waiting.expired(&one, 20 * DAY, 7, Room::default()), [], "forgotten");
    }

    #[test]
    fn what_is_made_of_something_that_is_not_done_waits_for_it() {
        let mut candidates = candidates("1/10:5 2/10:5 9/10:5");
        candidates.first_mut().unwrap().is_wanted = true;
        let gone = |bytes_max, is_short| {
            let room = Room { bytes_max, other_bytes: 0, is_short };
            let gone = Waiting::default().expired(&candidates, 14, 0, room);
            gone.iter().map(|one| one.sequence).collect::<Vec<_>>()
        };
        assert_eq!(gone(None, false), [1]);
        assert_eq!(gone(Some(1), false), [1]);
        assert_eq!(gone(None, true), [0, 1]);
    }

    #[test]
    fn over_the_limit_all_give_their_share() {
        check("1/10:5 5/10:5 9/10:5", &[(10, 0, Some(11), &[0])]);
        check("1/10:5 5/10:5 9/10:50", &[(10, 0, Some(1), &[0, 1])]);
        // The one of a tier is older and has used up less.
        check("5/100:5 4/10:5 9/10:5", &[(10, 0, Some(11), &[1])]);
        check("5/100:5 4/10:5 9/10:5", &[(10, 0, Some(6), &[1, 0])]);
    }

    #[test]
    fn over_the_limit_what_is_not_rolled_up_waits_for_one_pass_and_nothing_goes_instead() {
        let over: &[u64] = &[1];
        let looks = [(10, 3, Some(11), &[][..]), (10, 4, Some(11), &[]), (10, 5, Some(11), over)];
        check("5/100:5 4/10:5! 9/10:5", &looks);
        check("5/100:5 4/10:5! 9/10:5", &[(10, 3, Some(6), &[0]), (10, 5, Some(6), &[1, 0])]);
        // What goes for its age and was not over the limit waits its day.
        check("1/10:5! 9/10:5", &[(12, 3, Some(11), &[]), (12, 5, Some(11), &[])]);
        check("1/10:5! 9/10:5", &[(12, 3, Some(9), &[]), (12, 5, Some(9), &[0])]);
    }

    #[test]
    fn where_room_is_short_nothing_waits() {
        let candidates = candidates("5/100:5 4/10:5! 1/10:1! 9/10:5");
        let gone = |newest, bytes_max| {
            let room = Room { bytes_max, other_bytes: 0, is_short: true };
            let gone = Waiting::default().expired(&candidates, newest, 0, room);
            gone.iter().map(|one| one.sequence).collect::<Vec<_>>()
        };
        assert_eq!(gone(10, Some(11)), [2, 1]);
        assert_eq!(gone(12, None), [2], "what may stay stays");
    }
}
