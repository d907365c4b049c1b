//! The series a request asks for, read one after another under the labels others know them by.
//!
//! Bounds, over all queries of a request together: the patterns of one query of PromQL, its samples
//! (`query.samples_max`), its series (`query.series_max`, of each query by itself), and its bytes
//! (`query.bytes_max`): the list of series, the series at hand, and what the caller holds. What is seen
//! to be too much before anything is read is refused then.

use std::sync::Arc;

use stoa_exchange::remote_read::{Query, Series};
use stoa_model::{Labels, MatchOp, Matcher, PatternBudget, TimestampMs};
use stoa_tsdb::{Listing, SelectError, Whole};

use super::super::Stop;
use super::super::outward::{Outward, unlisted};
use super::super::reply::{ApiError, ErrorKind};
use crate::store::StoreView;

/// What a sample takes in memory, and written: 16 bytes, and at most some 20.
const SAMPLE_BYTES: usize = 36;

/// What a series takes in the order of a query, and a label it got here.
const ENTRY_BYTES: usize = 32;

/// What is still to be read for a request.
pub(super) struct Walk {
    outward: Arc<Outward>,
    queries: Vec<Query>,
    /// Compiled at the first reading: it may take a while.
    matchers: Vec<Vec<Matcher>>,
    view: Option<StoreView>,
    /// The query at hand.
    at: usize,
    open: Option<Open>,
    samples_left: usize,
}

/// A query that is being read.
struct Open {
    listing: Listing,
    /// Series of the listing in order of what they are called elsewhere; some may be called the same.
    order: Vec<(Labels, usize)>,
    next: usize,
    bytes: usize,
}

/// What is met on the way.
pub(super) enum Met<'a> {
    /// A series of the query of a number.
    Series(usize, Series<'a>),
    /// The query has no more.
    QueryEnd,
}

/// Whether to go on, and what the caller holds by then.
pub(super) enum Next {
    /// Go on; it holds so many bytes.
    On(usize),
    /// Pause here.
    Pause,
}

impl Walk {
    pub(super) fn new(outward: Arc<Outward>, queries: Vec<Query>) -> Self {
        let samples_left = outward.prometheus.samples_max;
        let (matchers, view, at, open) = (Vec::new(), None, 0, None);
        Self { outward, queries, matchers, view, at, open, samples_left }
    }

    /// How much may be held.
    pub(super) fn bytes_max(&self) -> usize {
        self.outward.prometheus.bytes_max
    }

    /// Why what was read may be incomplete.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.view.as_ref().map(StoreView::warnings).unwrap_or_default()
    }

    /// Reads on, and hands what it meets to `put`, until that pauses it; whether that was all.
    pub(super) fn go(
        &mut self,
        stop: &Stop,
        put: &mut dyn FnMut(Met<'_>) -> Result<Next, ApiError>,
    ) -> Result<bool, ApiError> {
        if self.view.is_none() {
            let mut budget = PatternBudget::default();
            let each = self.queries.iter().map(|query| self.outward.matchers(query, &mut budget));
            self.matchers = each.collect::<Result<_, _>>()?;
            self.view = Some(self.outward.prometheus.store.view().until(stop.flag()));
        }
        let mut held = 0;
        while self.at < self.queries.len() {
            if self.open.is_none() {
                if stop.asked() {
                    return Err(unlisted(&SelectError::Stopped));
                }
                self.open = Some(self.list(held)?);
            }
            match self.go_through(stop, &mut held, put)? {
                Next::Pause => return Ok(false),
                // The end of the query says how many are held.
                Next::On(_) => {}
            }
            (self.open, self.at) = (None, self.at + 1);
            match put(Met::QueryEnd)? {
                Next::Pause => return Ok(self.at == self.queries.len()),
                Next::On(bytes) => held = bytes,
            }
        }
        Ok(true)
    }

    /// Lists what the query at hand asks for.
    fn list(&self, held: usize) -> Result<Open, ApiError> {
        let (shared, query) = (&self.outward.prometheus, self.queries.get(self.at));
        let (Some(view), Some(query)) = (&self.view, query) else { return Err(ended()) };
        let matchers = self.matchers.get(self.at).map(Vec::as_slice).unwrap_or_default();
        let bytes_max = shared.bytes_max.saturating_sub(held);
        let (start, end) = (query.start_ms, query.end_ms);
        let listing = view.list(matchers, start, end, shared.series_max, bytes_max);
        let listing = listing.map_err(|error| unlisted(&error))?;
        if listing.samples_min() > self.samples_left {
            return Err(too_many_samples(shared.samples_max));
        }
        let mut bytes = listing.bytes() + listing.labels().len() * ENTRY_BYTES;
        let mut order = Vec::with_capacity(listing.labels().len());
        for (at, labels) in listing.labels().enumerate() {
            let labelled = self.outward.labelled(labels);
            if labelled.len() > labels.len() {
                bytes += labelled.len() * ENTRY_BYTES;
            }
            if bytes > bytes_max {
                return Err(too_many_bytes());
            }
            order.push((labelled, at));
        }
        order.sort_unstable();
        Ok(Open { listing, order, next: 0, bytes })
    }

    fn go_through(
        &mut self,
        stop: &Stop,
        held: &mut usize,
        put: &mut dyn FnMut(Met<'_>) -> Result<Next, ApiError>,
    ) -> Result<Next, ApiError> {
        let shared = &self.outward.prometheus;
        let (Some(view), Some(open)) = (&self.view, &mut self.open) else { return Err(ended()) };
        let mut reader = view.reader(&open.listing);
        while let Some((labels, _)) = open.order.get(open.next) {
            let mut whole = Whole::default();
            while let Some((_, at)) = open.order.get(open.next).filter(|(own, _)| own == labels) {
                if stop.asked() {
                    return Err(unlisted(&SelectError::Stopped));
                }
                let bytes_left = shared.bytes_max.saturating_sub(*held).saturating_sub(open.bytes);
                let room = (bytes_left / SAMPLE_BYTES).saturating_sub(whole.weight);
                let most = self.samples_left.min(room);
                let read = reader.read(*at, most).map_err(|error| match error {
                    SelectError::TooManySamples { .. } if most < self.samples_left => {
                        too_many_bytes()
                    }
                    SelectError::TooManySamples { .. } => too_many_samples(shared.samples_max),
                    other => unlisted(&other),
                })?;
                self.samples_left = self.samples_left.saturating_sub(read.weight);
                whole = united(whole, read);
                open.next += 1;
            }
            if whole.floats.is_empty() && whole.histograms.is_empty() {
                continue;
            }
            let Whole { floats, histograms, .. } = &whole;
            match put(Met::Series(self.at, Series { labels, floats, histograms }))? {
                Next::On(bytes) => *held = bytes,
                Next::Pause => return Ok(Next::Pause),
            }
        }
        Ok(Next::On(*held))
    }
}

fn too_many_samples(max: usize) -> ApiError {
    ApiError::new(ErrorKind::Execution, format!("exceeded sample limit ({max})"))
}

fn too_many_bytes() -> ApiError {
    unlisted(&SelectError::TooManyBytes { max: 0 })
}

/// A walk goes on only from where it is.
fn ended() -> ApiError {
    ApiError::new(ErrorKind::Internal, "the reading has no place to go on from")
}

/// Two series that external labels make one; of two samples of one time the first, and of a float and a
/// histogram the float.
fn united(one: Whole, other: Whole) -> Whole {
    if one.weight == 0 {
        return other;
    }
    let weight = one.weight + other.weight;
    let floats = merged(one.floats, other.floats);
    let mut histograms = merged(one.histograms, other.histograms);
    histograms.retain(|(t_ms, _)| floats.binary_search_by_key(t_ms, |(t, _)| *t).is_err());
    Whole { floats, histograms, weight }
}

fn merged<V>(
    mut one: Vec<(TimestampMs, V)>,
    other: Vec<(TimestampMs, V)>,
) -> Vec<(TimestampMs, V)> {
    if one.is_empty() {
        return other;
    }
    one.extend(other);
    one.sort_by_key(|(t_ms, _)| *t_ms);
    one.dedup_by_key(|(t_ms, _)| *t_ms);
    one
}

impl Outward {
    /// The matchers as they hold for what is stored, which has no external labels.
    fn matchers(
        &self,
        query: &Query,
        budget: &mut PatternBudget,
    ) -> Result<Vec<Matcher>, ApiError> {
        let each = query.matchers.iter().map(|matcher| {
            let own = self.external.get(&matcher.name);
            let is_ours = matcher.op == MatchOp::Equal && own == Some(matcher.value.as_str());
            let value = if is_ours { "" } else { &matcher.value };
            Matcher::within(&*matcher.name, matcher.op, value, budget)
                .map_err(|error| ApiError::bad_data(stoa_daemon::error_chain(&error)))
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_become_one_keep_what_each_has() {
        let one = vec![(1, 'a'), (3, 'a')];
        assert_eq!(merged(one.clone(), Vec::new()), one);
        assert_eq!(merged(Vec::new(), one.clone()), one);
        let both = merged(one, vec![(0, 'b'), (1, 'b'), (4, 'b')]);
        assert_eq!(both, [(0, 'b'), (1, 'a'), (3, 'a'), (4, 'b')]);
    }
}
