//! Which blocks of tiers are to be made next.
//!
//! Time is cut into **base spans**, for minutes those of the first compaction (8 h), for hours three of
//! these. A span of minutes is made as soon as the blocks of samples behind it are cut, so that a query of
//! many days has few samples to read; what comes late makes it stale, and it is made again once nothing
//! late can come any more. A span of hours waits for that, and for its minutes. Base spans side by side
//! are made into one block of a **merged span** (a week, four weeks) when nothing late can come, unless that is over a quarter of what is kept. Those of samples never span more than blocks of samples do: one of
//! these that goes seals them.
//!
//! Minutes are also made of samples older than minutes are kept, if hours are kept longer: hours are made
//! of them, and then they go.

use std::collections::BTreeSet;

use stoa_model::TimestampMs;

use super::{Tier, Tiers};
use crate::Options;

/// Base spans of minutes in one of hours.
const HOUR_BASES: i64 = 3;
/// Base spans in a merged one.
const MINUTE_MERGED: i64 = 21;
const HOUR_MERGED: i64 = 28;

/// What rollups are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Samples,
    Tier(Tier),
}

/// A block to make of the span `start < t ≤ end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) tier: Tier,
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) source: Source,
    /// The sequence numbers of those it replaces.
    pub(crate) replaces: Vec<u64>,
}

/// A block of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Samples {
    pub(crate) first_t: TimestampMs,
    pub(crate) last_t: TimestampMs,
    pub(crate) sequence: u64,
}

/// All that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    pub(crate) samples: &'a [Samples],
    pub(crate) tiers: &'a Tiers,
    pub(crate) options: &'a Options,
    pub(crate) now_ms: TimestampMs,
    /// The newest sample, or the time now if that is before it.
    pub(crate) newest: TimestampMs,
}

/// How a tier cuts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) base_ms: i64,
    pub(crate) merged_ms: i64,
}

impl Spans {
    pub(crate) fn of(tier: Tier, options: &Options) -> Self {
        let first = options.compaction_spans().first().copied().unwrap_or(options.block_ms());
        let whole = |ms: i64, window: i64| ms.div_euclid(window).max(1).saturating_mul(window);
        let minute = whole(first, Tier::Minute.window_ms());
        let (base_ms, merged) = match tier {
            Tier::Minute => (minute, MINUTE_MERGED),
            Tier::Hour => (whole(minute * HOUR_BASES, Tier::Hour.window_ms()), HOUR_MERGED),
        };
        let mut merged_ms = base_ms.saturating_mul(merged);
        if source(tier, options) == Source::Samples {
            let longest = options.compaction_spans().last().copied().unwrap_or(first);
            merged_ms = merged_ms.min(whole(longest, base_ms));
        }
        // A block goes as a whole: one that spans much of what is kept would be kept too long.
        let kept = tier.retention_ms(options).unwrap_or(0);
        let is_short = merged_ms <= kept / 4;
        Self { base_ms, merged_ms: if is_short { merged_ms } else { base_ms } }
    }

    /// The starts of the base spans that samples from `first` to `last` lie in.
    fn bases(self, first: TimestampMs, last: TimestampMs) -> impl Iterator<Item = TimestampMs> {
        let number = move |t: TimestampMs| t.saturating_sub(1).div_euclid(self.base_ms);
        (number(first)..=number(last)).map(move |n| n.saturating_mul(self.base_ms))
    }
}

/// What a tier is made of.
pub(crate) fn source(tier: Tier, options: &Options) -> Source {
    match tier {
        Tier::Hour if Tier::Minute.retention_ms(options).is_some() => Source::Tier(Tier::Minute),
        Tier::Minute | Tier::Hour => Source::Samples,
    }
}

/// All that is due, in the order in which it is to be done. After a job is done the rest is to be asked
/// for again.
pub(crate) fn due(world: World<'_>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for tier in Tier::ALL {
        if tier.retention_ms(world.options).is_some() {
            world.fresh(tier, &mut jobs);
            world.stale(tier, &mut jobs);
            world.merges(tier, &mut jobs);
        }
    }
    // Span by span, so that what is made of long history goes again as soon as it may.
    jobs.sort_by_key(|job| (job.end, job.tier));
    jobs
}

/// Whether a tier has all there is of the samples from `first` to `last`, or is not to have it.
pub(crate) fn is_rolled_up(
    world: World<'_>,
    tier: Tier,
    first: TimestampMs,
    last: TimestampMs,
) -> bool {
    let Some(oldest) = world.oldest_made(tier) else { return true };
    let spans = Spans::of(tier, world.options);
    last <= oldest
        || spans.bases(first.max(oldest), last).all(|start| {
            let end = start.saturating_add(spans.base_ms);
            world.covered(tier, start, end) || world.is_empty(tier, start, end)
        })
}

impl<'a> World<'a> {
    /// What a tier has that is older is deleted.
    fn oldest_kept(self, tier: Tier) -> Option<TimestampMs> {
        Some(self.newest.saturating_sub(tier.retention_ms(self.options)?))
    }

    /// What is older is not made: neither this tier nor one that is made of it keeps it.
    fn oldest_made(self, tier: Tier) -> Option<TimestampMs> {
        let own = self.oldest_kept(tier)?;
        let above = Tier::ALL.into_iter().filter(|above| *above > tier);
        let above = above.filter_map(|above| self.oldest_kept(above));
        Some(above.fold(own, TimestampMs::min))
    }

    /// Up to where blocks are cut.
    fn boundary(self) -> TimestampMs {
        self.options.block_start(self.now_ms.saturating_sub(self.options.grace_ms))
    }

    /// Whether nothing late can come before `end`.
    fn is_closed(self, end: TimestampMs) -> bool {
        end.saturating_add(self.options.out_of_order_ms) <= self.boundary()
    }

    fn covered(self, tier: Tier, start: TimestampMs, end: TimestampMs) -> bool {
        self.tiers.of(tier).any(|held| {
            let span = held.span();
            span.0 <= start && end <= span.1 && !held.is_stale()
        })
    }

    /// The blocks of samples with something in a span, by sequence number.
    pub(crate) fn samples_in(
        self,
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = &'a Samples> {
        self.samples.iter().filter(move |block| block.first_t <= end && block.last_t > start)
    }

    fn is_empty(self, tier: Tier, start: TimestampMs, end: TimestampMs) -> bool {
        let known = self.tiers.empty.get(&(tier, start));
        known.is_some_and(|known| {
            self.samples_in(start, end).map(|block| block.sequence).eq(known.iter().copied())
        })
    }

    /// Whether the tier that hours are made of has all of a span.
    fn source_is_ready(self, tier: Tier, start: TimestampMs, end: TimestampMs) -> bool {
        let Source::Tier(finer) = source(tier, self.options) else { return true };
        self.is_complete(finer, start, end)
    }

    fn is_complete(self, tier: Tier, start: TimestampMs, end: TimestampMs) -> bool {
        let stale = |held: &super::TierBlock| held.is_stale() && held.overlaps(start + 1, end);
        !self.tiers.of(tier).any(|held| stale(held))
            && self.samples_in(start, end).all(|block| {
                let (first, last) = (block.first_t.max(start + 1), block.last_t.min(end));
                is_rolled_up(self, tier, first, last)
            })
    }

    fn fresh(self, tier: Tier, jobs: &mut Vec<Job>) {
        let Some(oldest) = self.oldest_made(tier) else { return };
        let (spans, source) = (Spans::of(tier, self.options), source(tier, self.options));
        let from = |t: TimestampMs| t.max(oldest);
        let to = |t: TimestampMs| t.min(self.boundary());
        let mut starts = BTreeSet::new();
        match source {
            Source::Samples => {
                for block in self.samples {
                    starts.extend(spans.bases(from(block.first_t), to(block.last_t)));
                }
            }
            Source::Tier(finer) => {
                for (start, end) in self.tiers.of(finer).map(|held| held.span()) {
                    starts.extend(spans.bases(from(start.saturating_add(1)), to(end)));
                }
            }
        }
        for start in starts {
            let end = start.saturating_add(spans.base_ms);
            let is_there = |held: &super::TierBlock| held.overlaps(start + 1, end);
            let is_over = match source {
                Source::Samples => end.saturating_add(self.options.block_ms()) <= self.boundary(),
                Source::Tier(_) => self.is_closed(end) && self.source_is_ready(tier, start, end),
            };
            let is_done = || {
                self.tiers.of(tier).any(|held| is_there(held)) || self.is_empty(tier, start, end)
            };
            if is_over && !is_done() {
                jobs.push(Job { tier, start, end, source, replaces: Vec::new() });
            }
        }
    }

    fn stale(self, tier: Tier, jobs: &mut Vec<Job>) {
        let source = source(tier, self.options);
        let expires = self.newest.saturating_sub(self.options.retention_ms);
        for held in self.tiers.of(tier).filter(|held| held.is_stale()) {
            let (start, end) = held.span();
            if (self.is_closed(end) || end <= expires) && self.source_is_ready(tier, start, end) {
                jobs.push(remake(tier, source, held));
            }
        }
    }

    fn merges(self, tier: Tier, jobs: &mut Vec<Job>) {
        let span = Spans::of(tier, self.options).merged_ms;
        let numbers: BTreeSet<i64> =
            self.tiers.of(tier).map(|held| held.span().0.div_euclid(span)).collect();
        for start in numbers.into_iter().map(|number| number.saturating_mul(span)) {
            let end = start.saturating_add(span);
            let within = |held: &&std::sync::Arc<super::TierBlock>| {
                let span = held.span();
                start <= span.0 && span.1 <= end
            };
            let members: Vec<_> = self.tiers.of(tier).filter(within).collect();
            let is_due = members.len() > 1 && self.is_closed(end);
            if is_due
                && self.is_complete(tier, start, end)
                && self.source_is_ready(tier, start, end)
            {
                let replaces = members.iter().map(|held| held.block.meta.sequence).collect();
                jobs.push(Job { tier, start, end, source: Source::Tier(tier), replaces });
            }
        }
    }
}

/// A block as it would be made now.
pub(crate) fn remake(tier: Tier, source: Source, held: &super::TierBlock) -> Job {
    let (start, end) = held.span();
    Job { tier, start, end, source, replaces: vec![held.block.meta.sequence] }
}
