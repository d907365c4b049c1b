//! `deriv`, `predict_linear`, `double_exponential_smoothing`: a trend through a window's floats.

use stoa_model::TimestampMs;

use super::range::Seen;
use crate::error::QueryError;
use crate::eval::Point;
use crate::number::{Kahan, format_fixed, seconds};

type Result = std::result::Result<Option<Point>, QueryError>;

/// Two floats or more; fewer beside histograms are noted.
fn enough(seen: &Seen<'_>) -> bool {
    if !seen.window.values.is_empty() {
        seen.note_ignored_histograms();
    }
    seen.window.values.len() >= 2
}

pub(crate) fn deriv(seen: &Seen<'_>) -> Result {
    let Some(first) = seen.window.times.first().filter(|_| enough(seen)) else { return Ok(None) };
    Ok(Some(Point::Float(least_squares(seen, *first).0)))
}

pub(crate) fn predict_linear(seen: &Seen<'_>) -> Result {
    if !enough(seen) {
        return Ok(None);
    }
    let (slope, intercept) = least_squares(seen, seen.window.at);
    Ok(Some(Point::Float(slope * seen.scalar(0) + intercept)))
}

/// Slope per second, and value at `origin`, of the line closest to the floats.
#[expect(clippy::float_cmp, reason = "a constant series is exactly constant")]
fn least_squares(seen: &Seen<'_>, origin: TimestampMs) -> (f64, f64) {
    let initial = seen.window.values.first().copied().unwrap_or(f64::NAN);
    if seen.window.values.iter().all(|v| *v == initial) {
        return if initial.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, initial) };
    }
    let mut n = 0.0;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Kahan::default(); 4];
    for (t, y) in seen.window.floats() {
        n += 1.0;
        let x = seconds(t - origin);
        x_sum = x_sum.add(x);
        y_sum = y_sum.add(y);
        xy_sum = xy_sum.add(x * y);
        xx_sum = xx_sum.add(x * x);
    }
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|sum| sum.sum + sum.compensation);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

pub(crate) fn double_exponential_smoothing(seen: &Seen<'_>) -> Result {
    let (smoothing, trend) = (seen.scalar(0), seen.scalar(1));
    for (name, factor, letter) in [("smoothing", smoothing, "sf"), ("trend", trend, "tf")] {
        if factor <= 0.0 || factor >= 1.0 {
            return Err(QueryError::Execution(format!(
                "invalid {name} factor. Expected: 0 < {letter} < 1, got: {}",
                format_fixed(factor)
            )));
        }
    }
    if !enough(seen) {
        return Ok(None);
    }
    let mut values = seen.window.values.iter().copied();
    let (Some(first), Some(second)) = (values.next(), values.next()) else { return Ok(None) };
    let (mut before, mut smoothed, mut slope) = (0.0, first, second - first);
    for (i, v) in std::iter::once(second).chain(values).enumerate() {
        if i > 0 {
            slope = trend * (smoothed - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * v + (1.0 - smoothing) * (smoothed + slope);
        before = smoothed;
        smoothed = next;
    }
    Ok(Some(Point::Float(smoothed)))
}
