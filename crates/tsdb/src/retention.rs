//! Which blocks have had their time.

use std::cmp::Reverse;

use stoa_model::TimestampMs;

/// How much longer than they are to be kept blocks wait to be rolled up, at most: a tier that cannot
/// be made must not fill the disk.
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
    pub(crate) is_newest: bool,
}

/// The sequence numbers of the blocks to delete, in the order in which they may go: those that ended
/// longer before `newest` than they are kept; then, while all together with `other_bytes` take more than
/// may be, those that have used up most of their time. What is not rolled up waits for that at least
/// [`WAIT_MS`] longer, and goes last.
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
        let wait = if one.is_rolled_up { 0 } else { WAIT_MS };
        let oldest_kept = newest.saturating_sub(one.kept_ms).saturating_sub(wait);
        let is_over = bytes_max.is_some_and(|max| bytes > max) && !one.is_newest;
        if one.last_t < oldest_kept || is_over {
            bytes -= one.bytes;
            expired.push(*one);
        }
    }
    expired
}

#[cfg(test)]
mod tests {
    use super::{Candidate, WAIT_MS, expired};

    /// Blocks as `last_t/kept:bytes`, `!` behind for those that are not rolled up; which go.
    #[track_caller]
    fn check(blocks: &str, newest: i64, bytes_max: Option<u64>, expected: &[u64]) {
        let number = |text: &str| text.parse::<i64>().unwrap();
        let mut candidates: Vec<Candidate> = (0..)
            .zip(blocks.split_whitespace())
            .map(|(sequence, text)| {
                let (text, is_rolled_up) =
                    text.strip_suffix('!').map_or((text, true), |text| (text, false));
                let (last_t, rest) = text.split_once('/').unwrap();
                let (kept, bytes) = rest.split_once(':').unwrap();
                let (last_t, kept_ms) = (number(last_t), number(kept));
                let bytes = number(bytes).cast_unsigned();
                Candidate { last_t, sequence, bytes, kept_ms, is_rolled_up, is_newest: false }
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
        check("1/10:1! 5/10:1", 12 + WAIT_MS, None, &[1, 0]);
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
