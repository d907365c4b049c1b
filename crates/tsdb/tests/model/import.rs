//! History imported while all else goes on.

use std::collections::BTreeMap;

use stoa_model::Labels;

use crate::MINUTE_MS;
use crate::data::{Samples, Value};
use crate::world::{Pending, World, series_labels};

/// What is imported, in this order; the first of one instant counts.
#[derive(Clone)]
pub(crate) struct Import {
    now: i64,
    samples: Vec<(Labels, i64, Value)>,
    too_old: u64,
    too_new: u64,
}

impl World {
    /// Samples of series of their own, whatever is there already, and of those that agents send. Of the
    /// latter none contradicts what is there: what is in the head counts only from when it is in a block.
    pub(crate) fn import(&mut self) {
        self.finish();
        let kept_ms = self.kind.options().retention_ms;
        let back_ms = (kept_ms * 3 / 4).min(120 * MINUTE_MS);
        let mut import = Import { now: self.now, samples: Vec::new(), too_old: 0, too_new: 0 };
        let known: Samples = self.states.last().unwrap().samples.clone();
        let mut taken = Samples::new();
        for _ in 0..1 + self.dice.below(3) {
            // Windows tell series of two groups apart: where there are any, imported ones are their own.
            let is_shared = !self.kind.has_tiers && self.dice.below(2) == 0;
            let labels = if is_shared {
                series_labels(self.dice.below(2), self.dice.below(4))
            } else {
                series_labels(9, self.dice.below(4))
            };
            let start = self.now - self.dice.ms(back_ms.cast_unsigned());
            let start = if self.dice.below(2) == 0 { start - start % 1000 } else { start };
            let of_histograms = self.dice.below(4) == 0;
            for tick in 0..self.dice.ms(40) {
                let t = match self.dice.below(40) {
                    0 => self.now - kept_ms - 1 - self.dice.ms(1000),
                    1 => self.now + 5 * MINUTE_MS + 1 + self.dice.ms(1000),
                    2 => start,
                    _ => (start + tick * 1000 * (1 + self.dice.ms(20))).min(self.now),
                };
                let value = if of_histograms {
                    Value::Histogram(self.dice.histogram().into())
                } else {
                    Value::Float(self.float().to_bits())
                };
                let key = (labels.clone(), t);
                let there = known.get(&key);
                let value = match there {
                    Some(there) if is_shared && self.dice.below(2) == 0 => there.clone(),
                    Some(_) if is_shared => continue,
                    _ => value,
                };
                // Of floats and histograms in one import the floats come first.
                let other = taken
                    .get(&key)
                    .or(there)
                    .is_some_and(|known| known.is_histogram() != value.is_histogram());
                if other {
                    continue;
                }
                import.too_old += u64::from(t < self.now - kept_ms);
                import.too_new += u64::from(t > self.now + 5 * MINUTE_MS);
                taken.entry(key).or_insert(value.clone());
                import.samples.push((labels.clone(), t, value));
            }
        }
        if self.dice.below(3) == 0 {
            import.samples.reverse();
        }
        self.pending = Some(Pending::Import(import));
        self.try_pending();
    }

    pub(crate) fn try_import(&mut self, import: &Import) -> bool {
        let Import { now, samples, too_old, too_new } = import;
        let mut bulk = self.db().bulk(*now, 0);
        for (labels, t, value) in samples {
            let series = bulk.series(labels).unwrap();
            match value {
                Value::Float(bits) => bulk.push(series, *t, f64::from_bits(*bits)).unwrap(),
                Value::Histogram(histogram) => {
                    let histogram = histogram.as_ref().clone();
                    assert!(bulk.push_histogram(series, *t, histogram).unwrap());
                }
            }
        }
        let counts = bulk.counts();
        assert_eq!((counts.too_old, counts.too_new), (*too_old, *too_new), "seed {}", self.seed);
        let Ok(written) = self.db().write_bulk(bulk, *now, |_, _| ()) else { return false };
        let kept_ms = self.kind.options().retention_ms;
        let is_taken = |t: i64| (now - kept_ms..=now + 5 * MINUTE_MS).contains(&t);
        let mut first = BTreeMap::new();
        for (labels, t, value) in samples.iter().filter(|(_, t, _)| is_taken(*t)) {
            first.entry((labels.clone(), *t)).or_insert(value);
        }
        assert_eq!(written.written, first.len() as u64, "seed {}", self.seed);
        for state in &mut self.states {
            for (key, value) in &first {
                state.samples.entry(key.clone()).or_insert((*value).clone());
            }
        }
        let newest = first.keys().map(|(_, t)| *t).max();
        self.newest = self.newest.max(newest.unwrap_or(i64::MIN));
        self.count("samples imported", written.written);
        true
    }
}
