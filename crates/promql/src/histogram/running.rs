//! Sums and means of many histograms, every number of them summed with compensation.

use super::arithmetic::{combined_hint, common_layout};
use super::{Combined, Histogram, Incompatible};
use crate::number::Kahan;

/// What has been added up so far. The mean is that of the plain sum, and once that would overflow an
/// incremental one.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    average: bool,
    incremental: bool,
    count: f64,
    sum: Histogram,
    /// What each number of `sum` lacks, in the same layout.
    compensation: Histogram,
}

impl Running {
    pub(crate) fn of(first: &Histogram, average: bool) -> Self {
        let compensation = Histogram {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            custom_bounds: first.custom_bounds.clone(),
            ..Histogram::default()
        };
        Self { average, incremental: false, count: 1.0, sum: first.clone(), compensation }
    }

    /// Adds another one.
    ///
    /// # Errors
    /// [`Incompatible`] when one has custom bounds and the others have not; nothing is added then.
    pub(crate) fn add(&mut self, other: &Histogram) -> Result<Combined, Incompatible> {
        let before = self.count;
        if !self.average {
            let combined = self.add_up(other.clone())?;
            self.count = before + 1.0;
            return Ok(combined);
        }
        let count = before + 1.0;
        if !self.incremental {
            let mut next = self.clone();
            let combined = next.add_up(other.clone())?;
            if !next.sum.has_overflow() {
                *self = Self { count, ..next };
                return Ok(combined);
            }
            self.incremental = true;
            self.scale(|v| v / before);
        }
        self.scale(|v| v * (before / count));
        let combined = self.add_up(other.clone().divided_by(count))?;
        self.count = count;
        Ok(combined)
    }

    pub(crate) fn finish(mut self) -> Histogram {
        if self.average && !self.incremental {
            let count = self.count;
            self.scale(|v| v / count);
        }
        let total = |sum, compensation| Kahan { sum, compensation }.total();
        let Self { sum, compensation, .. } = self;
        let buckets = |sums: Vec<(i32, f64)>, parts: &[(i32, f64)]| {
            with_those_of(sums, parts).map(|(index, v, part)| (index, total(v, part))).collect()
        };
        Histogram {
            count: total(sum.count, compensation.count),
            sum: total(sum.sum, compensation.sum),
            zero_count: total(sum.zero_count, compensation.zero_count),
            positive: buckets(sum.positive, &compensation.positive),
            negative: buckets(sum.negative, &compensation.negative),
            ..sum
        }
    }

    fn scale(&mut self, f: impl Fn(f64) -> f64) {
        self.sum.scale(&f);
        self.compensation.scale(&f);
    }

    fn add_up(&mut self, other: Histogram) -> Result<Combined, Incompatible> {
        if self.sum.has_custom_bounds() != other.has_custom_bounds() {
            return Err(Incompatible);
        }
        let (hint, reset_collision) = combined_hint(self.sum.reset_hint, other.reset_hint);
        let (sum, other, bounds_reconciled) = common_layout(std::mem::take(&mut self.sum), other);
        let parts = std::mem::take(&mut self.compensation).in_layout_of(&sum);
        let add = |sum, compensation, v| Kahan { sum, compensation }.add(v);
        let count = add(sum.count, parts.count, other.count);
        let total = add(sum.sum, parts.sum, other.sum);
        let zero = add(sum.zero_count, parts.zero_count, other.zero_count);
        let buckets = |sums: Vec<(i32, f64)>, parts: &[(i32, f64)], others: &[(i32, f64)]| {
            let missing = others.iter().filter(|(index, _)| at(&sums, *index).is_none());
            let mut all: Vec<(i32, f64)> = missing.map(|(index, _)| (*index, 0.0)).collect();
            let in_order = all.is_empty();
            all.extend(sums);
            if !in_order {
                all.sort_by_key(|(index, _)| *index);
            }
            let summed = with_those_of(all, parts).map(|(index, sum, part)| {
                (index, add(sum, part, at(others, index).unwrap_or(0.0)))
            });
            summed.map(|(index, v)| ((index, v.sum), (index, v.compensation))).unzip()
        };
        let (positive, positive_parts) = buckets(sum.positive, &parts.positive, &other.positive);
        let (negative, negative_parts) = buckets(sum.negative, &parts.negative, &other.negative);
        self.sum = Histogram {
            count: count.sum,
            sum: total.sum,
            zero_count: zero.sum,
            positive,
            negative,
            reset_hint: hint,
            ..sum
        };
        self.compensation = Histogram {
            count: count.compensation,
            sum: total.compensation,
            zero_count: zero.compensation,
            positive: positive_parts,
            negative: negative_parts,
            ..parts
        };
        Ok(Combined { reset_collision, bounds_reconciled })
    }
}

/// Each bucket with what belongs to it among others.
fn with_those_of(
    buckets: Vec<(i32, f64)>,
    others: &[(i32, f64)],
) -> impl Iterator<Item = (i32, f64, f64)> {
    buckets.into_iter().map(|(index, v)| (index, v, at(others, index).unwrap_or(0.0)))
}

fn at(buckets: &[(i32, f64)], index: i32) -> Option<f64> {
    let place = buckets.binary_search_by_key(&index, |(index, _)| *index).ok()?;
    buckets.get(place).map(|(_, v)| *v)
}
