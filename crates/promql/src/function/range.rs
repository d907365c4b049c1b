//! Functions of one window: what each sees and the table of them.

use crate::annotation::Note;
use crate::error::QueryError;
use crate::eval::{Point, Window};
use crate::parse::ast::Extension;

use super::{extrapolate, instant, over_time, regression};

/// What a range function sees of one series at one step.
pub(crate) struct Seen<'a> {
    pub(crate) window: Window<'a>,
    /// The scalar arguments at this step, in order.
    pub(crate) scalars: &'a [f64],
    /// The range, in seconds.
    pub(crate) range_seconds: f64,
    pub(crate) extension: Option<Extension>,
    pub(crate) metric: &'a str,
    /// Adds an annotation about the range vector.
    pub(crate) note: Noted<'a>,
}

/// Adds an annotation.
pub(crate) type Noted<'a> = &'a dyn Fn(Note<'_>);

impl Seen<'_> {
    pub(crate) fn scalar(&self, at: usize) -> f64 {
        self.scalars.get(at).copied().unwrap_or(f64::NAN)
    }

    /// Notes that only the floats of a mixed window are looked at.
    pub(crate) fn note_ignored_histograms(&self) {
        if !self.window.histograms.is_empty() {
            (self.note)(Note::HistogramIgnoredInRange { metric: self.metric });
        }
    }

    /// Whether the window holds both kinds, which is noted.
    pub(crate) fn is_mixed(&self) -> bool {
        let mixed = !self.window.histograms.is_empty() && !self.window.values.is_empty();
        if mixed {
            (self.note)(Note::MixedFloatsHistograms { metric: self.metric });
        }
        mixed
    }
}

/// A function of one window; none when it has no value.
pub(crate) type RangeFunction = fn(&Seen<'_>) -> Result<Option<Point>, QueryError>;

/// The range function of that name.
pub(crate) fn find(name: &str) -> Option<RangeFunction> {
    Some(match name {
        "rate" => extrapolate::rate,
        "increase" => extrapolate::increase,
        "delta" => extrapolate::delta,
        "irate" => instant::irate,
        "idelta" => instant::idelta,
        "resets" => instant::resets,
        "changes" => instant::changes,
        "deriv" => regression::deriv,
        "predict_linear" => regression::predict_linear,
        "double_exponential_smoothing" => regression::double_exponential_smoothing,
        "avg_over_time" => over_time::avg,
        "sum_over_time" => over_time::sum,
        "count_over_time" => over_time::count,
        "min_over_time" => over_time::min,
        "max_over_time" => over_time::max,
        "first_over_time" => over_time::first,
        "last_over_time" => over_time::last,
        "present_over_time" | "absent_over_time" => over_time::present,
        "stddev_over_time" => over_time::stddev,
        "stdvar_over_time" => over_time::stdvar,
        "quantile_over_time" => over_time::quantile,
        "mad_over_time" => over_time::mad,
        "ts_of_first_over_time" => over_time::time_of_first,
        "ts_of_last_over_time" => over_time::time_of_last,
        "ts_of_min_over_time" => over_time::time_of_min,
        "ts_of_max_over_time" => over_time::time_of_max,
        _ => return None,
    })
}
