//! What a query costs, counted as Prometheus counts it, and the limits on that.
//!
//! **Live** are the samples that values hold at a time: operands while an operator works on them, what it
//! has made so far, and of a range vector the window of the one series at hand. Their peak is what the
//! sample limit is about, so that a query that Prometheus answers is answered here. Samples are read for
//! a whole range at once, which Prometheus does not do: **bytes** bound what that takes.
//!
//! **Queryable** are the samples a selector gives its expression, once for each step; **read** are the
//! same, where windows overlap each sample once. What is inside a subquery counts as live only: its
//! result is what the windows over it give.
//!
//! It knows nothing of series. Bounds: one pair of numbers per step of the query, if asked for.

use std::cell::{Cell, RefCell};

use super::column::Bits;
use crate::engine::Limits;
use crate::error::QueryError;

/// What selectors gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) queryable: u64,
    pub(crate) read: u64,
    /// The same at each step, if asked for.
    pub(crate) by_step: Option<Vec<(u64, u64)>>,
}

/// How much was held at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    live: usize,
    bytes: usize,
}

/// The counts of one query.
#[derive(Debug)]
pub(crate) struct Tally {
    samples_max: usize,
    bytes_max: usize,
    live: Cell<usize>,
    peak: Cell<usize>,
    bytes: Cell<usize>,
    /// Those that stay when a mark is returned to.
    pinned: Cell<usize>,
    loaded: Cell<u64>,
    /// Series that are operands of the expression at hand.
    operands: Cell<usize>,
    counts: RefCell<Counts>,
}

/// What the windows over some times hold, at all steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct WindowCounts {
    queryable: u64,
    read: u64,
    most: usize,
    last: usize,
    by_step: Vec<(u64, u64)>,
}

impl WindowCounts {
    /// Of the windows from and to these positions at each step, positions ascending; `weight` says how
    /// many samples are between two.
    pub(crate) fn of(
        windows: impl Iterator<Item = (usize, usize)>,
        weight: impl Fn(usize, usize) -> usize,
        by_step: bool,
    ) -> Self {
        let mut counts = Self::default();
        let mut known = 0;
        for (from, to) in windows {
            let (all, new) = (weight(from, to), weight(from.max(known), to.max(known)));
            known = known.max(to);
            counts.queryable += to_u64(all);
            counts.read += to_u64(new);
            counts.most = counts.most.max(all);
            counts.last = all;
            if by_step {
                counts.by_step.push((to_u64(all), to_u64(new)));
            }
        }
        counts
    }

    /// How many samples the largest window has.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// How many the last one has.
    pub(crate) fn last(&self) -> usize {
        self.last
    }
}

impl Tally {
    /// Of a query of so many steps.
    pub(crate) fn new(limits: &Limits, steps: usize, by_step: bool) -> Self {
        let by_step = by_step.then(|| vec![(0, 0); steps]);
        Self {
            samples_max: limits.samples_max,
            bytes_max: limits.bytes_max,
            live: Cell::new(0),
            peak: Cell::new(0),
            bytes: Cell::new(0),
            pinned: Cell::new(0),
            loaded: Cell::new(0),
            operands: Cell::new(0),
            counts: RefCell::new(Counts { by_step, ..Counts::default() }),
        }
    }

    /// What is held now.
    pub(crate) fn mark(&self) -> Mark {
        Mark { live: self.live.get(), bytes: self.bytes.get() }
    }

    /// So many samples more than before the expression at hand are held, its operands left out.
    pub(crate) fn peek(&self, samples: usize) -> Result<(), QueryError> {
        let live = self.live.get().saturating_add(samples);
        self.peak.set(self.peak.get().max(live));
        if live > self.samples_max {
            return Err(QueryError::TooManySamples { max: self.samples_max });
        }
        Ok(())
    }

    /// More bytes are held, until a mark is returned to.
    pub(crate) fn hold_bytes(&self, bytes: usize) -> Result<(), QueryError> {
        self.peek_bytes(bytes)?;
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        Ok(())
    }

    /// More bytes are about to be held.
    pub(crate) fn peek_bytes(&self, bytes: usize) -> Result<(), QueryError> {
        if bytes > self.bytes_left() {
            return Err(QueryError::TooManyBytes { max: self.bytes_max });
        }
        Ok(())
    }

    /// How many bytes may still be held.
    pub(crate) fn bytes_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.get().saturating_add(self.pinned.get()))
    }

    /// More bytes are held, until they are let go.
    pub(crate) fn pin(&self, bytes: usize) -> Result<(), QueryError> {
        self.peek_bytes(bytes)?;
        self.pinned.set(self.pinned.get().saturating_add(bytes));
        Ok(())
    }

    /// Lets go what was held so.
    pub(crate) fn unpin(&self, bytes: usize) {
        self.pinned.set(self.pinned.get().saturating_sub(bytes));
    }

    /// Ends what has begun at a mark: of all that is held since, a value of so many samples and bytes is
    /// left.
    pub(crate) fn settle(
        &self,
        mark: Mark,
        samples: usize,
        bytes: usize,
    ) -> Result<(), QueryError> {
        self.peek(samples)?;
        self.live.set(mark.live.saturating_add(samples));
        self.bytes.set(mark.bytes);
        self.hold_bytes(bytes)
    }

    /// Returns to a mark.
    pub(crate) fn release(&self, mark: Mark) {
        self.live.set(mark.live);
        self.bytes.set(mark.bytes);
    }

    /// Forgets the operands of the expression around, and says how many there were.
    pub(crate) fn take_operands(&self) -> usize {
        self.operands.take()
    }

    /// Sets how many operands there are.
    pub(crate) fn set_operands(&self, series: usize) {
        self.operands.set(series);
    }

    /// Storage has handed over so many.
    pub(crate) fn load(&self, samples: usize) {
        self.loaded.set(self.loaded.get().saturating_add(to_u64(samples)));
    }

    /// A selector gives one sample at each of some steps.
    pub(crate) fn count_newest(&self, steps: &Bits, samples: usize) {
        let mut counts = self.counts.borrow_mut();
        counts.queryable += to_u64(samples);
        counts.read += to_u64(samples);
        if let Some(by_step) = &mut counts.by_step {
            steps.each(|step| {
                if let Some((queryable, read)) = by_step.get_mut(step) {
                    *queryable += 1;
                    *read += 1;
                }
            });
        }
    }

    /// A selector gives so many samples at a step, so many of them for the first time.
    pub(crate) fn count_at(&self, step: usize, queryable: usize, read: usize) {
        let mut counts = self.counts.borrow_mut();
        counts.queryable += to_u64(queryable);
        counts.read += to_u64(read);
        let at = counts.by_step.as_mut().and_then(|by_step| by_step.get_mut(step));
        if let Some(at) = at {
            at.0 += to_u64(queryable);
            at.1 += to_u64(read);
        }
    }

    /// A selector gives windows.
    pub(crate) fn count_windows(&self, windows: &WindowCounts) {
        let mut counts = self.counts.borrow_mut();
        counts.queryable += windows.queryable;
        counts.read += windows.read;
        if let Some(by_step) = &mut counts.by_step {
            for (all, of_one) in by_step.iter_mut().zip(&windows.by_step) {
                all.0 += of_one.0;
                all.1 += of_one.1;
            }
        }
    }

    /// Whether it is counted at each step.
    pub(crate) fn is_by_step(&self) -> bool {
        self.counts.borrow().by_step.is_some()
    }

    /// Evaluates what has steps of its own, and says what was counted there instead of counting it.
    pub(crate) fn apart<T>(&self, evaluate: impl FnOnce() -> T) -> (T, Counts) {
        let outside = self.counts.take();
        let made = evaluate();
        (made, self.counts.replace(outside))
    }

    /// Counts at each of so many steps what was counted apart.
    pub(crate) fn count_at_each(&self, steps: usize, apart: &Counts) {
        let mut counts = self.counts.borrow_mut();
        counts.queryable += apart.queryable.saturating_mul(to_u64(steps));
        counts.read += apart.read.saturating_mul(to_u64(steps));
        for (queryable, read) in counts.by_step.iter_mut().flatten() {
            *queryable += apart.queryable;
            *read += apart.read;
        }
    }

    /// All that was counted, the peak, and what storage handed over.
    pub(crate) fn finish(self) -> (Counts, u64, u64) {
        (self.counts.into_inner(), to_u64(self.peak.get()), self.loaded.get())
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
