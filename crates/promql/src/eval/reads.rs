//! Selectors that stand in a query more than once, read once.
//!
//! Before a query is evaluated its expression is walked for selectors with equal matchers. Where the
//! stretches of time they want overlap, the whole is read when the first of them is evaluated, kept for
//! the others, and let go with the last: windows and lookback find their samples by time, so what is
//! around these changes nothing. A query that repeats no selector has no plan and pays nothing for it.
//!
//! It does not know what is read, nor when: see [`super::selector`]. What is kept counts among the bytes of
//! the query ([`super::Tally`]). Series with histograms are not kept: a histogram's hint of a reset depends
//! on the one before it that was read. Nor are selectors planned for that rollups are likely to answer, or that
//! stand where only counts and sums of histograms are wanted: these read for themselves.

use std::cell::RefCell;
use std::collections::HashMap;

use stoa_model::{MatchOp, Matcher, TimestampMs};

use super::call::wanted_by;
use super::selector::{Loaded, hints};
use super::{Evaluator, Steps, Wanted, invariant};
use crate::error::QueryError;
use crate::parse::ast::{Expr, ExprKind};
use crate::storage::Use;

/// What a selector asks for, as far as it can be compared.
type Key = Vec<(String, MatchOp, String)>;

fn key(matchers: &[Matcher]) -> Key {
    let parts = |m: &Matcher| (m.name().to_owned(), m.op(), m.value().to_owned());
    matchers.iter().map(parts).collect()
}

/// A stretch of time that several selectors want something of.
#[derive(Debug)]
struct Shared {
    start: TimestampMs,
    end: TimestampMs,
    /// How many are still to come.
    left: usize,
    held: Option<Vec<Loaded>>,
}

/// What is read for more than one selector.
#[derive(Debug, Default)]
pub(crate) struct Reads(RefCell<HashMap<Key, Vec<Shared>>>);

/// What a selector finds.
pub(super) enum Found {
    /// Nothing is shared: it reads for itself.
    Own,
    /// It is to read that much, for the others too.
    First { start: TimestampMs, end: TimestampMs },
    /// It has been read, and is kept for others.
    Read(Vec<Loaded>),
    /// It has been read, and is kept no longer.
    Last(Vec<Loaded>),
}

impl Reads {
    /// What of a stretch is shared; one selector less is to come.
    pub(super) fn find(&self, matchers: &[Matcher], start: TimestampMs, end: TimestampMs) -> Found {
        let mut all = self.0.borrow_mut();
        if all.is_empty() {
            return Found::Own;
        }
        let Some(stretches) = all.get_mut(&key(matchers)) else { return Found::Own };
        let covers = |shared: &&mut Shared| shared.start <= start && end <= shared.end;
        let Some(shared) = stretches.iter_mut().find(covers) else { return Found::Own };
        shared.left = shared.left.saturating_sub(1);
        match (shared.left, &shared.held) {
            (0, _) => shared.held.take().map_or(Found::Own, Found::Last),
            (_, Some(held)) => Found::Read(held.clone()),
            (_, None) => Found::First { start: shared.start, end: shared.end },
        }
    }

    /// One selector less is to come, which takes nothing: what is kept no longer, if it was the last.
    pub(super) fn pass(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> Option<Vec<Loaded>> {
        let mut all = self.0.borrow_mut();
        let stretches = all.get_mut(&key(matchers))?;
        let covers = |shared: &&mut Shared| shared.start <= start && end <= shared.end;
        let shared = stretches.iter_mut().find(covers)?;
        shared.left = shared.left.saturating_sub(1);
        if shared.left == 0 { shared.held.take() } else { None }
    }

    /// Leaves each of a stretch's selectors to read for itself.
    pub(super) fn give_up(&self, matchers: &[Matcher], start: TimestampMs, end: TimestampMs) {
        if let Some(stretches) = self.0.borrow_mut().get_mut(&key(matchers)) {
            stretches.retain(|shared| (shared.start, shared.end) != (start, end));
        }
    }

    /// Keeps what was read for the others: says whether.
    pub(super) fn keep(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
        read: &[Loaded],
    ) -> bool {
        let mut all = self.0.borrow_mut();
        let Some(stretches) = all.get_mut(&key(matchers)) else { return false };
        let is_it = |shared: &&mut Shared| (shared.start, shared.end) == (start, end);
        let Some(shared) = stretches.iter_mut().find(is_it) else { return false };
        if read.iter().any(Loaded::has_histograms) {
            return false;
        }
        shared.held = Some(read.to_vec());
        true
    }
}

impl Evaluator<'_> {
    /// What the selectors of an expression share at these steps.
    pub(crate) fn plan_reads(&self, expr: &Expr, steps: &Steps) -> Result<Reads, QueryError> {
        let mut times: HashMap<Key, usize> = HashMap::new();
        let mut repeats = false;
        let mut selectors = 0usize;
        expr.visit(&mut |node| selectors += usize::from(selector_of(node).is_some()));
        if selectors < 2 {
            return Ok(Reads::default());
        }
        expr.visit(&mut |node| {
            if let Some(matchers) = selector_of(node) {
                let seen = times.entry(key(matchers)).or_default();
                *seen += 1;
                repeats |= *seen > 1;
            }
        });
        if !repeats {
            return Ok(Reads::default());
        }
        times.retain(|_, times| *times > 1);
        let mut wanted: HashMap<Key, Vec<(TimestampMs, TimestampMs)>> = HashMap::new();
        self.want(expr, steps, &times, &mut wanted)?;
        let together = |mut stretches: Vec<(TimestampMs, TimestampMs)>| {
            stretches.sort_unstable();
            let mut shared: Vec<Shared> = Vec::new();
            for (start, end) in stretches {
                match shared.last_mut() {
                    Some(last) if start <= last.end => {
                        last.end = last.end.max(end);
                        last.left += 1;
                    }
                    _ => shared.push(Shared { start, end, left: 1, held: None }),
                }
            }
            shared.retain(|shared| shared.left > 1);
            shared
        };
        let shared = wanted.into_iter().map(|(key, stretches)| (key, together(stretches)));
        Ok(Reads(RefCell::new(shared.filter(|(_, stretches)| !stretches.is_empty()).collect())))
    }

    /// Lists the stretches that an expression reads, as [`Evaluator::eval`] goes through it.
    fn want(
        &self,
        expr: &Expr,
        steps: &Steps,
        repeated: &HashMap<Key, usize>,
        wanted: &mut HashMap<Key, Vec<(TimestampMs, TimestampMs)>>,
    ) -> Result<(), QueryError> {
        let first = steps.first();
        let is_ranged = matches!(expr.kind, ExprKind::Matrix(_) | ExprKind::Subquery(_));
        let is_once = steps.count > 1 && !is_ranged && invariant::is_constant(expr);
        let steps = if is_once { &first } else { steps };
        let (matchers, stretch) = match &expr.kind {
            ExprKind::Selector(selector) => {
                let made = hints(Use::Newest, self.resolve(&selector.shift)?, steps);
                if self.reads_alone(&made) {
                    return Ok(());
                }
                (&selector.matchers, self.selector_reach(selector, steps)?)
            }
            ExprKind::Matrix(_) if self.wanted.get() == Wanted::Statistics => return Ok(()),
            ExprKind::Matrix(matrix) => {
                (&matrix.selector.matchers, self.matrix_reach(matrix, steps)?)
            }
            ExprKind::Subquery(subquery) => {
                let (inner, _, _) = self.subquery_steps(subquery, steps)?;
                if inner.count > 0 {
                    self.wanting(Wanted::Buckets, || {
                        self.want(&subquery.expr, &inner, repeated, wanted)
                    })?;
                }
                return Ok(());
            }
            ExprKind::Call(call) if self.is_rolled_up(call, steps)? => return Ok(()),
            // Its second argument is no selector of its own.
            ExprKind::Call(call) if call.function.name == "info" => {
                let base = call.args.first();
                return base.map_or(Ok(()), |base| self.want(base, steps, repeated, wanted));
            }
            _ => {
                let mut children = || {
                    let mut each = expr.children().into_iter();
                    each.try_for_each(|child| self.want(child, steps, repeated, wanted))
                };
                let of_histograms = match &expr.kind {
                    ExprKind::Call(call) => wanted_by(call.function.name),
                    _ => None,
                };
                return match of_histograms {
                    Some(wanted) => self.wanting(wanted, children),
                    None => children(),
                };
            }
        };
        let key = key(matchers);
        if repeated.contains_key(&key) {
            wanted.entry(key).or_default().push(stretch);
        }
        Ok(())
    }
}

fn selector_of(expr: &Expr) -> Option<&[Matcher]> {
    match &expr.kind {
        ExprKind::Selector(selector) => Some(&selector.matchers),
        ExprKind::Matrix(matrix) => Some(&matrix.selector.matchers),
        _ => None,
    }
}
