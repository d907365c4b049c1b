//! Which points may be added up: what is wrong in one would be wrong in all that come after it.

use stoa_model::histogram::SCHEMA_MIN;

use super::DeltaFault;
use crate::otlp::{Buckets, Explicit, Exponential, Measure};

/// Doubles lie between 2 to the power of these.
const POWERS: (f64, f64) = (-1075.0, 1024.0);

/// What a point says by itself. `grows` where its sum only grows.
pub(super) fn measured(measure: &Measure<'_>, grows: bool) -> Result<(), DeltaFault> {
    match measure {
        Measure::Absent | Measure::Summary(_) => Ok(()),
        Measure::Integer(value) if grows && *value < 0 => Err(DeltaFault::Negative),
        Measure::Integer(_) => Ok(()),
        Measure::Double(value) if !value.is_finite() => Err(DeltaFault::NotFinite),
        Measure::Double(value) if grows && *value < 0.0 => Err(DeltaFault::Negative),
        Measure::Double(_) => Ok(()),
        Measure::Histogram(histogram) => finite(histogram.sum).and_then(|()| explicit(histogram)),
        Measure::Exponential(histogram) => {
            finite(histogram.sum).and_then(|()| exponential(histogram))
        }
    }
}

fn finite(sum: Option<f64>) -> Result<(), DeltaFault> {
    if sum.is_none_or(f64::is_finite) { Ok(()) } else { Err(DeltaFault::NotFinite) }
}

fn explicit(histogram: &Explicit<'_>) -> Result<(), DeltaFault> {
    let Explicit { count, bounds, counts, .. } = histogram;
    let ordered = bounds.is_sorted_by(|a, b| a < b) && !bounds.iter().any(|bound| bound.is_nan());
    // Without buckets the count is all there is.
    let alike = if counts.is_empty() {
        bounds.is_empty()
    } else {
        counts.len() == bounds.len() + 1 && sum(0, [*counts]) == Some(*count)
    };
    if ordered && alike { Ok(()) } else { Err(DeltaFault::Inconsistent) }
}

fn exponential(histogram: &Exponential<'_>) -> Result<(), DeltaFault> {
    let Exponential { scale, count, zero_count, zero_threshold, positive, negative, .. } =
        *histogram;
    if scale < SCHEMA_MIN {
        return Err(DeltaFault::TooCoarse);
    }
    let sides = [positive, negative];
    let all = sum(zero_count, sides.map(|side| side.counts));
    let threshold = zero_threshold.is_finite() && zero_threshold >= 0.0;
    let placed = sides.iter().all(|side| are_doubles(side, scale));
    if all == Some(count) && threshold && placed { Ok(()) } else { Err(DeltaFault::Inconsistent) }
}

/// `None` for more than can be counted.
fn sum<const N: usize>(first: u64, lists: [&[u64]; N]) -> Option<u64> {
    let mut counts = lists.into_iter().flatten();
    counts.try_fold(first, |sum, count| sum.checked_add(*count))
}

/// Whether buckets that hold something are of doubles, others than which would make the sum too coarse.
fn are_doubles(side: &Buckets<'_>, scale: i32) -> bool {
    let fine = f64::from(scale).exp2();
    let held = (i64::from(side.offset)..).zip(side.counts).filter(|(_, count)| **count > 0);
    held.map(|(index, _)| index as f64 / fine).all(|power| power >= POWERS.0 && power < POWERS.1)
}
