//! `status/self_metrics`: the collector's own figures as `io.prometheus.client.MetricFamily`, in the
//! JSON of protobuf: whole numbers of 64 bits are texts, what JSON has no number for is too.

use std::sync::Arc;

use axum::extract::State;
use stoa_model::{Family, Labels, METRIC_NAME, MatchOp, Matcher, Metric, MetricKind};

use super::around::{self, About};
use super::json;
use super::params::Params;
use super::reply::{ApiError, Success};

const PATTERN: &str = "metric_name_pattern";

/// The families whose names match the whole of `metric_name_pattern`.
///
/// # Errors
/// When the pattern is no expression.
pub(super) async fn self_metrics(
    State(about): State<Arc<About>>,
    params: Params,
) -> Result<Success, ApiError> {
    let pattern = params.get(PATTERN).map(str::to_owned);
    let families = around::ask(&about, move |around| {
        // Compiled here: it may take a while.
        let pattern = pattern.map(|text| Matcher::new(METRIC_NAME, MatchOp::Regex, &*text));
        let pattern = pattern.transpose().map_err(|error| ApiError::invalid(PATTERN, error))?;
        let mut families = around.families();
        families.retain(|family| pattern.as_ref().is_none_or(|p| p.matches(&family.name)));
        Ok(families)
    });
    let families = families.await??;
    Ok(Success::data(|out| json::each(out, &families, print)))
}

fn print(out: &mut Vec<u8>, family: &Family) {
    let kind = match family.kind {
        MetricKind::Counter => "COUNTER",
        MetricKind::Gauge => "GAUGE",
        MetricKind::Histogram => "HISTOGRAM",
        MetricKind::Summary => "SUMMARY",
        MetricKind::Untyped => "UNTYPED",
    };
    for (key, text) in [
        (&b"{\"name\":"[..], family.name.as_str()),
        (b",\"help\":", &family.help),
        (b",\"type\":", kind),
    ] {
        out.extend_from_slice(key);
        json::string(out, text);
    }
    out.extend_from_slice(b",\"metric\":");
    match family.kind {
        MetricKind::Histogram | MetricKind::Summary => {
            json::each(out, &Distribution::all(family), |out, found| found.print(out));
        }
        MetricKind::Counter | MetricKind::Gauge | MetricKind::Untyped => {
            json::each(out, &family.metrics, |out, metric| {
                labels(out, &metric.labels);
                json::string(out, &kind.to_ascii_lowercase());
                out.extend_from_slice(b":{\"value\":");
                json::proto_double(out, metric.value);
                out.extend_from_slice(b"}}");
            });
        }
    }
    out.push(b'}');
}

/// Begins a metric: its labels, if there are any.
fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    let each: Vec<_> = labels.iter().collect();
    if each.is_empty() {
        return;
    }
    out.extend_from_slice(b"\"label\":");
    json::each(out, &each, |out, label| {
        out.extend_from_slice(b"{\"name\":");
        json::string(out, &label.name);
        out.extend_from_slice(b",\"value\":");
        json::string(out, &label.value);
        out.push(b'}');
    });
    out.push(b',');
}

/// One histogram or summary, put together from the series that are printed of it.
struct Distribution<'f> {
    labels: Labels,
    kind: MetricKind,
    count: f64,
    sum: f64,
    /// Buckets by upper bound, or quantiles.
    parts: Vec<(f64, &'f Metric)>,
}

impl<'f> Distribution<'f> {
    fn all(family: &'f Family) -> Vec<Self> {
        let bound = if family.kind == MetricKind::Histogram { "le" } else { "quantile" };
        let mut all: Vec<Self> = Vec::new();
        for metric in &family.metrics {
            let labels = metric.labels.without(METRIC_NAME).without(bound);
            let at = all.iter().position(|found| found.labels == labels).unwrap_or(all.len());
            if at == all.len() {
                let (kind, parts) = (family.kind, Vec::new());
                all.push(Self { labels, kind, count: 0.0, sum: 0.0, parts });
            }
            let Some(found) = all.get_mut(at) else { continue };
            let name = metric.labels.metric_name().unwrap_or_default();
            match metric.labels.get(bound).and_then(|text| text.parse().ok()) {
                Some(bound) => found.parts.push((bound, metric)),
                None if name.ends_with("_count") => found.count = metric.value,
                None => found.sum = metric.value,
            }
        }
        all
    }

    fn print(&self, out: &mut Vec<u8>) {
        labels(out, &self.labels);
        let is_histogram = self.kind == MetricKind::Histogram;
        out.extend_from_slice(if is_histogram { b"\"histogram\"" } else { b"\"summary\"" });
        out.extend_from_slice(b":{\"sampleCount\":\"");
        json::float(out, self.count);
        out.extend_from_slice(b"\",\"sampleSum\":");
        json::proto_double(out, self.sum);
        out.extend_from_slice(if is_histogram { b",\"bucket\":" } else { b",\"quantile\":" });
        json::each(out, &self.parts, |out, (bound, metric)| {
            if is_histogram {
                out.extend_from_slice(b"{\"cumulativeCount\":\"");
                json::float(out, metric.value);
                out.extend_from_slice(b"\",\"upperBound\":");
                json::proto_double(out, *bound);
            } else {
                out.extend_from_slice(b"{\"quantile\":");
                json::proto_double(out, *bound);
                out.extend_from_slice(b",\"value\":");
                json::proto_double(out, metric.value);
            }
            out.push(b'}');
        });
        out.extend_from_slice(b"}}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_one_again() {
        let mut family = Family::new("x_seconds", "How \"long\".", MetricKind::Histogram);
        let series = |name: &str, bound: &[(&str, &str)]| {
            let own = [("__name__", name), ("part", "a")];
            Labels::from_pairs_last_wins(own.into_iter().chain(bound.iter().copied()))
        };
        family.push(series("x_seconds_bucket", &[("le", "0.1")]), 2.0);
        family.push(series("x_seconds_bucket", &[("le", "+Inf")]), 3.0);
        family.push(series("x_seconds_sum", &[]), 0.5);
        family.push(series("x_seconds_count", &[]), 3.0);
        let mut out = Vec::new();
        print(&mut out, &family);
        let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "name": "x_seconds", "help": "How \"long\".", "type": "HISTOGRAM",
            "metric": [{
                "label": [{ "name": "part", "value": "a" }],
                "histogram": {
                    "sampleCount": "3", "sampleSum": 0.5,
                    "bucket": [
                        { "cumulativeCount": "2", "upperBound": 0.1 },
                        { "cumulativeCount": "3", "upperBound": "Infinity" },
                    ],
                },
            }],
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_json_has_no_number_for_is_a_text() {
        let mut family = Family::new("x", "", MetricKind::Gauge);
        family.push(Labels::empty(), f64::NAN);
        let mut out = Vec::new();
        print(&mut out, &family);
        let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "name": "x", "help": "", "type": "GAUGE", "metric": [{ "gauge": { "value": "NaN" } }],
        });
        assert_eq!(found, expected);
    }
}
