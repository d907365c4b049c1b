//! The value of a query as JSON, `"resultType":"vector","result":[…]`, in pieces.
//!
//! A value is printed as far as it goes into a piece, and the rest when the one who asked has read that:
//! beside the value itself an answer takes a piece or two of memory, however long it is. Printing has no
//! failure, so that what has begun ends well.

use std::vec::IntoIter;

use stoa_model::TimestampMs;
use stoa_promql::{Histogram, MatrixSeries, Value, VectorSample};

use super::json;

/// Samples written between two looks at how long the piece is.
const SAMPLES_AT_ONCE: usize = 512;

/// What of a value is not printed yet. Its members come first in what it prints, `resultType` before
/// `result`: Grafana buffers otherwise.
#[derive(Debug)]
pub(super) struct Printing {
    left: Left,
    /// Something of the list has been printed.
    begun: bool,
}

#[derive(Debug)]
enum Left {
    Nothing,
    /// What has no list.
    Single(Value),
    Vector(IntoIter<VectorSample>),
    Matrix {
        series: IntoIter<MatrixSeries>,
        open: Option<Open>,
    },
}

/// A series that is printed in part.
#[derive(Debug)]
struct Open {
    series: MatrixSeries,
    floats: usize,
    histograms: usize,
}

impl Printing {
    pub(super) fn new(value: Value) -> Self {
        let left = match value {
            Value::Vector(list) => Left::Vector(list.into_iter()),
            Value::Matrix(list) => Left::Matrix { series: list.into_iter(), open: None },
            single @ (Value::Scalar { .. } | Value::String { .. }) => Left::Single(single),
        };
        Self { left, begun: false }
    }

    /// Prints until `out` is as long as a piece, or a little longer; whether that was all.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, piece: usize) -> bool {
        let head = !self.begun;
        match &mut self.left {
            Left::Nothing => return true,
            Left::Single(value) => {
                single(out, value);
                self.left = Left::Nothing;
                return true;
            }
            Left::Vector(list) => {
                if head {
                    begin(out, "vector");
                }
                for item in list {
                    comma(out, &mut self.begun);
                    sample(out, &item);
                    if out.len() >= piece {
                        return false;
                    }
                }
            }
            Left::Matrix { series, open } => {
                if head {
                    begin(out, "matrix");
                }
                while let Some(mut one) = open.take().or_else(|| {
                    let series = series.next()?;
                    comma(out, &mut self.begun);
                    out.extend_from_slice(b"{\"metric\":");
                    json::labels(out, &series.labels);
                    Some(Open { series, floats: 0, histograms: 0 })
                }) {
                    if !one.fill(out, piece) {
                        *open = Some(one);
                        return false;
                    }
                }
            }
        }
        self.left = Left::Nothing;
        out.push(b']');
        true
    }
}

impl Open {
    /// Prints the series until a piece is full; whether that was all of it.
    fn fill(&mut self, out: &mut Vec<u8>, piece: usize) -> bool {
        let points = &self.series.points;
        while self.floats < points.len() {
            if out.len() >= piece {
                return false;
            }
            let end = points.len().min(self.floats + SAMPLES_AT_ONCE);
            out.extend_from_slice(if self.floats == 0 { b",\"values\":[" } else { b"," });
            json::samples(out, points.get(self.floats..end).unwrap_or_default());
            self.floats = end;
            if end == points.len() {
                out.push(b']');
            }
        }
        let histograms = &self.series.histograms;
        while let Some((t, found)) = histograms.get(self.histograms) {
            if out.len() >= piece {
                return false;
            }
            let is_first = self.histograms == 0;
            out.extend_from_slice(if is_first { b",\"histograms\":[" } else { b"," });
            histogram(out, *t, found);
            self.histograms += 1;
            if self.histograms == histograms.len() {
                out.push(b']');
            }
        }
        out.push(b'}');
        true
    }
}

fn comma(out: &mut Vec<u8>, begun: &mut bool) {
    if std::mem::replace(begun, true) {
        out.push(b',');
    }
}

fn single(out: &mut Vec<u8>, value: &Value) {
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
        Value::Vector(_) | Value::Matrix(_) => {}
    }
}

fn sample(out: &mut Vec<u8>, item: &VectorSample) {
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
}

fn begin(out: &mut Vec<u8>, kind: &str) {
    head(out, kind);
    out.push(b'[');
}

fn head(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(b"\"resultType\":");
    json::string(out, kind);
    out.extend_from_slice(b",\"result\":");
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
        json::each(out, &buckets, |out, bucket| {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use stoa_model::Labels;

    use super::*;

    fn labels(n: usize) -> Labels {
        Labels::from_pairs([("n", n.to_string())]).unwrap()
    }

    fn printed(value: &Value, piece: usize) -> String {
        let mut printing = Printing::new(value.clone());
        let (mut all, mut out) = (Vec::new(), Vec::new());
        loop {
            let is_all = printing.fill(&mut out, piece);
            assert!(is_all || out.len() >= piece);
            // Samples, labels and one histogram more, at most.
            assert!(
                out.len() < piece + SAMPLES_AT_ONCE * 64,
                "{} in a piece of {piece}",
                out.len()
            );
            all.append(&mut out);
            if is_all {
                return String::from_utf8(all).unwrap();
            }
        }
    }

    /// `"resultType":…,"result":…`, read back.
    fn read(text: &str) -> serde_json::Value {
        serde_json::from_str(&format!("{{{text}}}")).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn pieces_are_the_whole(
            series in vec((0usize..2000, 0usize..4), 0..6), piece in 1usize..20_000,
        ) {
            let all = series.iter().zip(0..).map(|((floats, histograms), n)| MatrixSeries {
                labels: labels(n),
                points: (0i64..).take(*floats).map(|t| (t * 1000, f64::from(u8::try_from(t % 7).unwrap()))).collect(),
                histograms: (0i64..).take(*histograms).map(|t| (t, Arc::new(Histogram::default()))).collect(),
            });
            let matrix = Value::Matrix(all.collect());
            let text = printed(&matrix, piece);
            proptest::prop_assert_eq!(&text, &printed(&matrix, usize::MAX / 2));
            let read = read(&text);
            proptest::prop_assert_eq!(&read["resultType"], "matrix");
            let result = read["result"].as_array().unwrap();
            proptest::prop_assert_eq!(result.len(), series.len());
            for (at, (one, (floats, histograms))) in result.iter().zip(&series).enumerate() {
                proptest::prop_assert_eq!(&one["metric"]["n"], &at.to_string());
                let len = |key: &str| one[key].as_array().map_or(0, Vec::len);
                proptest::prop_assert_eq!((len("values"), len("histograms")), (*floats, *histograms));
            }
            let samples = series.iter().enumerate().map(|(n, (floats, histograms))| VectorSample {
                labels: labels(n),
                t: 1500,
                v: 0.5 + f64::from(u32::try_from(*floats).unwrap()),
                histogram: (*histograms == 3).then(|| Arc::new(Histogram::default())),
            });
            let vector = Value::Vector(samples.collect());
            let text = printed(&vector, piece);
            proptest::prop_assert_eq!(&text, &printed(&vector, usize::MAX / 2));
            proptest::prop_assert_eq!(read["result"].as_array().unwrap().len(), series.len());
        }
    }

    #[test]
    fn what_is_no_list_is_one_piece() {
        let scalar = Value::Scalar { t: 1500, v: 2.5 };
        assert_eq!(printed(&scalar, 1), r#""resultType":"scalar","result":[1.500,"2.5"]"#);
        let text = Value::String { t: 0, s: "a\"b".to_owned() };
        assert_eq!(printed(&text, 1), r#""resultType":"string","result":[0,"a\"b"]"#);
        assert_eq!(printed(&Value::Vector(Vec::new()), 1), r#""resultType":"vector","result":[]"#);
    }
}
