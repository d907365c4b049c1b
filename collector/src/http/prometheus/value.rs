//! The value of a query as JSON: `"resultType":"vector","result":[…]`.

use stoa_model::TimestampMs;
use stoa_promql::{Histogram, Value};

use super::json;

/// Writes a value's two members, `resultType` first: Grafana buffers otherwise.
pub(super) fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Scalar { t, v } => {
            head(out, "scalar");
            json::sample(out, *t, *v);
        }
        Value::String { t, s } => {
            head(out, "string");
            out.push(b'[');
            json::timestamp(out, *t);
            out.push(b',');
            json::string(out, s);
            out.push(b']');
        }
        Value::Vector(list) => {
            head(out, "vector");
            each(out, list, |out, item| {
                out.extend_from_slice(b"{\"metric\":");
                json::labels(out, &item.labels);
                if let Some(found) = &item.histogram {
                    out.extend_from_slice(b",\"histogram\":");
                    histogram(out, item.t, found);
                } else {
                    out.extend_from_slice(b",\"value\":");
                    json::sample(out, item.t, item.v);
                }
                out.push(b'}');
            });
        }
        Value::Matrix(list) => {
            head(out, "matrix");
            each(out, list, |out, item| {
                out.extend_from_slice(b"{\"metric\":");
                json::labels(out, &item.labels);
                if !item.points.is_empty() {
                    out.extend_from_slice(b",\"values\":");
                    json::samples(out, &item.points);
                }
                if !item.histograms.is_empty() {
                    out.extend_from_slice(b",\"histograms\":");
                    each(out, &item.histograms, |out, (t, found)| histogram(out, *t, found));
                }
                out.push(b'}');
            });
        }
    }
}

fn head(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(b"\"resultType\":");
    json::string(out, kind);
    out.extend_from_slice(b",\"result\":");
}

fn each<T>(out: &mut Vec<u8>, list: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, one) in list.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(out, one);
    }
    out.push(b']');
}

/// Writes `[t,{"count":"…","sum":"…","buckets":[[rule,"lower","upper","count"]]}]`; empty buckets are
/// left out. The rule says which bounds belong: 0 the upper, 1 the lower, 2 none, 3 both.
fn histogram(out: &mut Vec<u8>, t: TimestampMs, found: &Histogram) {
    out.push(b'[');
    json::timestamp(out, t);
    out.extend_from_slice(b",{\"count\":");
    quoted(out, found.count);
    out.extend_from_slice(b",\"sum\":");
    quoted(out, found.sum);
    let mut buckets = found.buckets();
    buckets.retain(|bucket| bucket.count != 0.0);
    if !buckets.is_empty() {
        out.extend_from_slice(b",\"buckets\":");
        each(out, &buckets, |out, bucket| {
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => b"[0",
                (true, false) => b"[1",
                (false, false) => b"[2",
                (true, true) => b"[3",
            };
            out.extend_from_slice(rule);
            for number in [bucket.lower, bucket.upper, bucket.count] {
                out.push(b',');
                quoted(out, number);
            }
            out.push(b']');
        });
    }
    out.extend_from_slice(b"}]");
}

fn quoted(out: &mut Vec<u8>, number: f64) {
    out.push(b'"');
    json::float(out, number);
    out.push(b'"');
}
