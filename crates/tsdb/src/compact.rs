//! Which blocks to merge next.
//!
//! Time is cut into ranges of each span of [`Options::compaction_ms`], in order of length; the blocks
//! that lie within one are merged once the range is over. The shortest ranges are merged at once,
//! longer ones when no late samples can come any more, so that nothing long is written twice. A late
//! block waits until it weighs something or its window is over.
//!
//! Blocks that overlap keep their order: none is merged with one of lower and one of higher rank than
//! a third that stays.

use stoa_model::TimestampMs;

use crate::Options;
use crate::block::{Block, LEVEL_HEAD};

/// A late block waits while it is lighter than the merged one divided by this.
const LATE_WEIGHT: u64 = 8;

/// What is asked of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) rank: u64,
    pub(crate) level: u8,
    pub(crate) bytes: u64,
}

impl From<&Block> for Candidate {
    fn from(block: &Block) -> Self {
        let meta = &block.meta;
        let (start, end, rank, level) = (meta.start, meta.end, meta.rank, meta.level);
        Self { start, end, rank, level, bytes: block.bytes() }
    }
}

/// Blocks to be merged into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) level: u8,
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    /// The ranks of those to merge.
    pub(crate) ranks: Vec<u64>,
}

/// All that is due, the shortest and oldest ranges first. After a job is done the rest is to be asked
/// for again.
pub(crate) fn due(blocks: &[Candidate], options: &Options, now: TimestampMs) -> Vec<Job> {
    let spans = options.compaction_spans();
    let boundary = options.block_start(now.saturating_sub(options.grace_ms));
    let mut jobs = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        let is_last = at + 1 == spans.len();
        let range = |block: &Candidate| block.start.div_euclid(*span);
        let fits =
            |block: &&Candidate| block.end <= range(block).saturating_add(1).saturating_mul(*span);
        let mut ranges: Vec<i64> = blocks.iter().filter(fits).map(range).collect();
        ranges.sort_unstable();
        ranges.dedup();
        for number in ranges {
            let end = number.saturating_add(1).saturating_mul(*span);
            let is_closed = end.saturating_add(options.out_of_order_ms) <= boundary;
            if end > boundary || (at > 0 && !is_closed) {
                continue;
            }
            let members: Vec<Candidate> = blocks
                .iter()
                .filter(fits)
                .filter(|block| range(block) == number)
                .copied()
                .collect();
            let is_due = match members.as_slice() {
                [] => false,
                // The last chance to be compressed well.
                [one] => is_last && is_closed && one.level == LEVEL_HEAD,
                all => is_closed || !waits(all),
            };
            if is_due && keeps_order(&members, blocks) {
                let level = u8::try_from(at + 2).unwrap_or(u8::MAX);
                jobs.push(job(level, &members));
            }
        }
    }
    jobs
}

/// Whether all but one of the blocks are too light to write that one again.
fn waits(members: &[Candidate]) -> bool {
    let all: u64 = members.iter().map(|block| block.bytes).sum();
    let heaviest = members.iter().max_by_key(|block| block.bytes);
    heaviest.is_some_and(|block| {
        block.level > LEVEL_HEAD && (all - block.bytes).saturating_mul(LATE_WEIGHT) < block.bytes
    })
}

/// Whether no other block that overlaps stands between the members.
fn keeps_order(members: &[Candidate], blocks: &[Candidate]) -> bool {
    let ranks = || members.iter().map(|block| block.rank);
    let (Some(low), Some(high)) = (ranks().min(), ranks().max()) else { return false };
    let is_between = |block: &&Candidate| low < block.rank && block.rank < high;
    let outside = blocks.iter().filter(is_between).filter(|block| !members.contains(block));
    let overlaps =
        |a: &Candidate| members.iter().any(|block| a.start < block.end && block.start < a.end);
    !outside.into_iter().any(overlaps)
}

fn job(level: u8, members: &[Candidate]) -> Job {
    Job {
        level,
        start: members.iter().map(|block| block.start).min().unwrap_or_default(),
        end: members.iter().map(|block| block.end).max().unwrap_or_default(),
        ranks: members.iter().map(|block| block.rank).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, due};
    use crate::Options;

    /// Blocks as `level:start-end@rank*bytes`, in units of two hours; which are merged at a time.
    #[track_caller]
    fn check(blocks: &str, now: i64, expected: &[&str]) {
        const UNIT_MS: i64 = 7_200_000;
        let number = |text: &str| text.parse::<i64>().unwrap();
        let blocks: Vec<Candidate> = blocks
            .split_whitespace()
            .map(|text| {
                let (level, rest) = text.split_once(':').unwrap();
                let (span, rest) = rest.split_once('@').unwrap();
                let (start, end) = span.split_once('-').unwrap();
                let (rank, bytes) = rest.split_once('*').unwrap_or((rest, "10"));
                Candidate {
                    start: number(start) * UNIT_MS,
                    end: number(end) * UNIT_MS,
                    rank: number(rank).cast_unsigned(),
                    level: u8::try_from(number(level)).unwrap(),
                    bytes: number(bytes).cast_unsigned(),
                }
            })
            .collect();
        let options = Options { grace_ms: 0, ..Options::default() };
        let jobs: Vec<String> = due(&blocks, &options, now * UNIT_MS)
            .iter()
            .map(|job| format!("{}:{:?}", job.level, job.ranks))
            .collect();
        assert_eq!(jobs, expected, "{blocks:?} at {now}");
    }

    #[test]
    fn ranges_are_merged_when_they_are_over() {
        check("1:0-1@1 1:1-2@2 1:2-3@3", 3, &[]);
        check("1:0-1@1 1:1-2@2 1:2-3@3", 4, &["2:[1, 2, 3]"]);
        check("1:0-1@1 1:1-2@2 1:4-5@3 1:7-8@4", 8, &["2:[1, 2]", "2:[3, 4]"]);
        check("1:3-4@1 1:4-5@2", 8, &[]);
        check("1:0-1@1", 8, &[]);
        // A day waits until nothing late can come.
        check("2:0-4@1 2:4-8@5 2:8-12@9", 23, &[]);
        check("2:0-4@1 2:4-8@5 2:8-12@9", 24, &["3:[1, 5, 9]"]);
        check("3:0-12@1 3:12-24@13", 83, &[]);
        check("3:0-12@1 3:12-24@13", 96, &["4:[1, 13]"]);
        // One that stayed alone is compressed in the end.
        check("1:3-4@1", 96, &["4:[1]"]);
        check("4:0-84@1", 500, &[]);
    }

    #[test]
    fn late_blocks_wait_until_they_weigh_something() {
        check("2:0-4@1*800 1:1-2@9*99", 8, &[]);
        check("2:0-4@1*800 1:1-2@9*100", 8, &["2:[1, 9]"]);
        check("2:0-4@1*800 1:1-2@9*1", 16, &["2:[1, 9]"]);
        check("1:1-2@5*800 1:1-2@9*1", 4, &["2:[5, 9]"]);
    }

    #[test]
    fn blocks_that_overlap_keep_their_order() {
        // A longer one stands between the two.
        check("1:0-1@1 3:0-12@2 1:1-2@3", 4, &[]);
        check("1:0-1@1 3:4-12@2 1:1-2@3", 4, &["2:[1, 3]"]);
        check("1:0-1@2 3:0-12@1 1:1-2@3", 4, &["2:[2, 3]"]);
    }
}
