//! Exemplars: the newest ones, in memory, by Prometheus's rules. A restart forgets them.
//!
//! Constraints: at most as many of them as `storage.exemplars_max` says and [`EACH_BYTES`] each, all
//! together, of labels and values; the oldest to come goes first. The labels of one have at most [`LABEL_CHARS_MAX`] characters. Of one series they come
//! in order of time; one that is as the last is passed over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stoa_model::{Labels, Matcher, TimestampMs};

/// Bytes that there are for each, with the labels of its series: 64 MiB for 100,000.
pub const EACH_BYTES: usize = 671;

/// Most characters of an exemplar's names and values together, as OpenMetrics has it.
pub const LABEL_CHARS_MAX: usize = 128;

/// What one takes beside its characters, about; and so for a series.
const ENTRY_BYTES: usize = 160;

/// What a label takes beside its characters.
const LABEL_BYTES: usize = 64;

/// An example of what a series counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What names it, mostly a trace.
    pub labels: Labels,
    /// What was measured.
    pub value: f64,
    /// When.
    pub t_ms: TimestampMs,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    New,
    /// It is the last one of its series, which is there.
    Duplicate,
    /// It is older than the last one of its series.
    OutOfOrder,
    /// Its labels are too long.
    TooLong,
}

/// All exemplars, shared by everyone.
#[derive(Debug)]
pub struct Exemplars {
    /// Held to add or to look only.
    ring: Mutex<Ring>,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Ring {
    by_series: HashMap<Labels, VecDeque<Exemplar>>,
    /// Whose the exemplars are, in the order in which they came.
    order: VecDeque<Labels>,
    bytes: usize,
}

impl Exemplars {
    /// Room for so many, of so many bytes.
    #[must_use]
    pub fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { ring: Mutex::default(), count_max, bytes_max }
    }

    /// Room for so many of usual size.
    #[must_use]
    pub fn of(count_max: usize) -> Self {
        Self::new(count_max, count_max.saturating_mul(EACH_BYTES))
    }

    /// How many there may be.
    #[must_use]
    pub fn count_max(&self) -> usize {
        self.count_max
    }

    /// Takes one.
    pub fn add(&self, series: &Labels, exemplar: Exemplar) -> Kept {
        let chars = exemplar.labels.iter();
        let chars = chars.map(|label| label.name.chars().count() + label.value.chars().count());
        if chars.sum::<usize>() > LABEL_CHARS_MAX {
            return Kept::TooLong;
        }
        let mut ring = self.ring();
        if let Some(last) = ring.by_series.get(series).and_then(VecDeque::back) {
            match exemplar.after(last) {
                None => return Kept::Duplicate,
                Some(false) => return Kept::OutOfOrder,
                Some(true) => {}
            }
        }
        ring.push(series, exemplar);
        while ring.order.len() > self.count_max || ring.bytes > self.bytes_max {
            ring.pop();
        }
        Kept::New
    }

    /// Those from `start_ms` to `end_ms`, both included, of the series that every matcher of one of the
    /// sets holds for; in order of labels, those of a series in order of time. `None` once `stop` says so.
    #[must_use]
    pub fn select(
        &self,
        sets: &[Vec<Matcher>],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        stop: &dyn Fn() -> bool,
    ) -> Option<Vec<(Labels, Vec<Exemplar>)>> {
        // Looked through without the lock, for which those who write wait.
        let all: Vec<Labels> = self.ring().by_series.keys().cloned().collect();
        let holds = |labels: &Labels, matcher: &Matcher| {
            matcher.matches(labels.get(matcher.name()).unwrap_or(""))
        };
        let mut found = Vec::new();
        for labels in all {
            if stop() {
                return None;
            }
            if sets.iter().any(|set| set.iter().all(|matcher| holds(&labels, matcher))) {
                let wanted = |exemplar: &&Exemplar| (start_ms..=end_ms).contains(&exemplar.t_ms);
                let ring = self.ring();
                let own = ring.by_series.get(&labels).into_iter().flatten();
                let own: Vec<Exemplar> = own.filter(wanted).cloned().collect();
                drop(ring);
                if !own.is_empty() {
                    found.push((labels, own));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Some(found)
    }

    /// How many there are, and of how many series.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let ring = self.ring();
        (ring.order.len() as u64, ring.by_series.len() as u64)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // An exemplar is in both lists or in none, but for a panic in between, after which one of them
        // has one too many: it is passed over.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, series: &Labels, exemplar: Exemplar) {
        self.bytes += bytes(&exemplar.labels);
        match self.by_series.get_mut(series) {
            Some(own) => own.push_back(exemplar),
            None => {
                self.bytes += bytes(series);
                self.by_series.insert(series.clone(), VecDeque::from([exemplar]));
            }
        }
        // The labels the map has: they are shared, not copied.
        let known = self.by_series.get_key_value(series).map(|(labels, _)| labels.clone());
        self.order.extend(known);
    }

    fn pop(&mut self) {
        let Some(series) = self.order.pop_front() else {
            self.bytes = 0;
            return;
        };
        let Some(own) = self.by_series.get_mut(&series) else { return };
        if let Some(oldest) = own.pop_front() {
            self.bytes = self.bytes.saturating_sub(bytes(&oldest.labels));
        }
        if own.is_empty() {
            self.by_series.remove(&series);
            self.bytes = self.bytes.saturating_sub(bytes(&series));
        }
    }
}

impl Exemplar {
    /// Whether it comes after the last one; `None` when it is the same.
    fn after(&self, last: &Self) -> Option<bool> {
        let of = |exemplar: &Self| (exemplar.t_ms, exemplar.value.to_bits());
        if of(self) == of(last) && self.labels == last.labels {
            return None;
        }
        // As in Prometheus, what is of one instant stands in order of values, then of labels.
        let in_order = self
            .t_ms
            .cmp(&last.t_ms)
            .then_with(|| self.value.total_cmp(&last.value))
            .then_with(|| self.labels.cmp(&last.labels));
        Some(in_order.is_gt())
    }
}

/// What labels take, about.
fn bytes(labels: &Labels) -> usize {
    labels.text_bytes() + labels.len() * LABEL_BYTES + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)]).unwrap()
    }

    fn exemplar(trace: &str, value: f64, t_ms: i64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", trace)]).unwrap(), value, t_ms }
    }

    /// Traces by series.
    fn found(exemplars: &Exemplars, start_ms: i64, end_ms: i64) -> Vec<String> {
        let set = vec![Matcher::new("__name__", stoa_model::MatchOp::Regex, "a|b").unwrap()];
        let found = exemplars.select(&[set], start_ms, end_ms, &|| false).unwrap();
        let each = found.into_iter();
        let traces = |own: &[Exemplar]| -> Vec<String> {
            own.iter().map(|e| e.labels.get("trace_id").unwrap_or("").to_owned()).collect()
        };
        each.map(|(labels, own)| {
            format!("{} {}", labels.metric_name().unwrap(), traces(&own).join(","))
        })
        .collect()
    }

    #[test]
    fn what_was_taken_is_found_by_series_and_time() {
        let exemplars = Exemplars::of(100);
        for (name, trace, value, t_ms, kept) in [
            ("b", "1", 1.0, 1000, Kept::New),
            ("b", "1", 1.0, 1000, Kept::Duplicate),
            ("b", "2", 0.5, 1000, Kept::OutOfOrder),
            ("b", "2", 1.5, 1000, Kept::New),
            ("b", "3", 9.0, 999, Kept::OutOfOrder),
            ("b", "3", 9.0, 2000, Kept::New),
            ("a", "4", f64::NAN, 1500, Kept::New),
            ("c", "5", 1.0, 1500, Kept::New),
        ] {
            assert_eq!(exemplars.add(&series(name), exemplar(trace, value, t_ms)), kept, "{trace}");
        }
        assert_eq!(found(&exemplars, 0, 9999), ["a 4", "b 1,2,3"]);
        assert_eq!(found(&exemplars, 1001, 1999), ["a 4"]);
        assert_eq!(found(&exemplars, 2001, 9999), [""; 0]);
        assert_eq!(exemplars.counts(), (5, 3));
    }

    #[test]
    fn labels_have_so_many_characters_and_no_more() {
        let exemplars = Exemplars::of(100);
        let fits = "ä".repeat(LABEL_CHARS_MAX - "trace_id".len());
        assert_eq!(exemplars.add(&series("a"), exemplar(&fits, 1.0, 1)), Kept::New);
        assert_eq!(exemplars.add(&series("a"), exemplar(&(fits + "ä"), 1.0, 2)), Kept::TooLong);
    }

    #[test]
    fn the_oldest_makes_room() {
        let exemplars = Exemplars::of(3);
        for (name, trace, t_ms) in [("a", "1", 1), ("b", "2", 1), ("a", "3", 2), ("b", "4", 2)] {
            exemplars.add(&series(name), exemplar(trace, 1.0, t_ms));
        }
        assert_eq!(found(&exemplars, 0, 9), ["a 3", "b 2,4"]);
        exemplars.add(&series("b"), exemplar("5", 1.0, 3));
        exemplars.add(&series("b"), exemplar("6", 1.0, 4));
        assert_eq!(found(&exemplars, 0, 9), ["b 4,5,6"]);
        assert_eq!(exemplars.counts(), (3, 1));
    }

    #[test]
    fn they_take_no_more_than_they_may() {
        let exemplars = Exemplars::new(usize::MAX, 100_000);
        for number in 0..1000 {
            exemplars.add(&series(&format!("{number:0>1000}")), exemplar("x", 1.0, number));
        }
        let bytes = exemplars.ring().bytes;
        let (count, of_series) = exemplars.counts();
        assert!((90_000..=100_000).contains(&bytes), "{bytes} bytes");
        assert!((60..90).contains(&count) && count == of_series, "{count} of {of_series}");
        let none = Exemplars::of(0);
        none.add(&series("a"), exemplar("x", 1.0, 1));
        assert_eq!((none.counts(), none.ring().bytes), ((0, 0), 0));
    }
}
