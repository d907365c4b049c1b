//! What a server hands out of what it has, for another to scrape: families as protobuf, each behind its
//! length (`io.prometheus.client.MetricFamily`, `encoding=delimited`), as `/federate` does.
//!
//! Text does the same but for native histograms, which it has no form for. All samples carry their time.
//! Source: `io/prometheus/client/metrics.proto` of `prometheus/client_model`.

use stoa_model::TimestampMs;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};

use crate::wire::{put_bytes, put_double, put_number, put_varint, zigzag};

/// The `Content-Type` of what [`Families`] writes.
pub const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
     proto=io.prometheus.client.MetricFamily; encoding=delimited";

const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;
const GAUGE_HISTOGRAM: u64 = 5;

/// One sample.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A float, of which no more is said.
    Float(f64),
    /// A native histogram; its counts are written as floats, as Prometheus federates them.
    Histogram(&'a Histogram),
}

impl Value<'_> {
    fn kind(&self) -> u64 {
        match self {
            Self::Float(_) => UNTYPED,
            Self::Histogram(histogram) if histogram.reset == ResetHint::Gauge => GAUGE_HISTOGRAM,
            Self::Histogram(_) => HISTOGRAM,
        }
    }
}

/// Families under construction; samples of one name are to stand together.
#[derive(Debug, Default)]
pub struct Families {
    out: Vec<u8>,
    /// The family at hand: its name and kind.
    open: Option<(String, u64)>,
    family: Vec<u8>,
}

impl Families {
    /// Adds a sample of the metric `name`; labels come in the order in which they are to stand, values
    /// may be empty.
    pub fn sample<'p>(
        &mut self,
        name: &str,
        pairs: impl IntoIterator<Item = (&'p str, &'p str)>,
        value: Value<'_>,
        t_ms: TimestampMs,
    ) {
        let kind = value.kind();
        if self.open.as_ref().is_none_or(|(open, of)| open != name || *of != kind) {
            self.end();
            put_bytes(&mut self.family, 1, name.as_bytes());
            put_number(&mut self.family, 3, kind);
            self.open = Some((name.to_owned(), kind));
        }
        let mut metric = Vec::new();
        for (name, value) in pairs {
            let mut pair = Vec::with_capacity(name.len() + value.len() + 4);
            put_bytes(&mut pair, 1, name.as_bytes());
            put_bytes(&mut pair, 2, value.as_bytes());
            put_bytes(&mut metric, 1, &pair);
        }
        match value {
            Value::Float(value) => {
                let mut untyped = Vec::with_capacity(9);
                put_double(&mut untyped, 1, value);
                put_bytes(&mut metric, 5, &untyped);
            }
            Value::Histogram(histogram) => put_bytes(&mut metric, 7, &message(histogram)),
        }
        put_number(&mut metric, 6, t_ms.cast_unsigned());
        put_bytes(&mut self.family, 4, &metric);
    }

    /// All of it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.end();
        self.out
    }

    fn end(&mut self) {
        if self.open.take().is_some() {
            put_varint(&mut self.out, self.family.len() as u64);
            self.out.append(&mut self.family);
        }
    }
}

/// A `Histogram` of floats.
fn message(histogram: &Histogram) -> Vec<u8> {
    let integer;
    let counts = match &histogram.counts {
        Counts::Float(counts) => counts,
        Counts::Integer(counts) => {
            let all = |counts: &[u64]| counts.iter().copied().map(float).collect();
            integer = BucketCounts {
                count: float(counts.count),
                zero_count: float(counts.zero_count),
                positive: all(&counts.positive),
                negative: all(&counts.negative),
            };
            &integer
        }
    };
    let mut out = Vec::new();
    put_double(&mut out, 2, histogram.sum);
    put_double(&mut out, 4, counts.count);
    put_number(&mut out, 5, zigzag(histogram.schema.into()));
    put_double(&mut out, 6, histogram.zero_threshold);
    put_double(&mut out, 8, counts.zero_count);
    for (field, spans) in [(9, &histogram.negative_spans), (12, &histogram.positive_spans)] {
        for span in spans {
            put_bytes(&mut out, field, &span_message(span));
        }
    }
    for (field, counts) in [(11, &counts.negative), (14, &counts.positive)] {
        for count in counts {
            put_double(&mut out, field, *count);
        }
    }
    out
}

fn span_message(span: &Span) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    put_number(&mut out, 1, zigzag(span.offset.into()));
    put_number(&mut out, 2, span.length.into());
    out
}

#[expect(clippy::cast_precision_loss, reason = "as Prometheus federates counts")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Fields;

    /// Families as text: name, kind, and each metric's labels and field numbers.
    fn shown(bytes: &[u8]) -> Vec<String> {
        let mut rest = Fields(bytes);
        let mut found = Vec::new();
        while !rest.0.is_empty() {
            let len = usize::try_from(rest.number().unwrap()).unwrap();
            let (message, after) = rest.0.split_at(len);
            rest.0 = after;
            let mut line = String::new();
            let mut fields = Fields(message);
            while let Some((field, value)) = fields.next().unwrap() {
                match field {
                    1 => line.push_str(str::from_utf8(value.bytes(field).unwrap()).unwrap()),
                    3 => line.push_str(&format!(" {}:", value.number(field).unwrap())),
                    _ => {
                        let mut metric = Fields(value.bytes(field).unwrap());
                        line.push_str(" [");
                        while let Some((field, value)) = metric.next().unwrap() {
                            match field {
                                1 => {
                                    let text = String::from_utf8_lossy(value.bytes(1).unwrap());
                                    line.push_str(&text.replace(|c: char| c.is_control(), "."));
                                }
                                6 => line.push_str(&format!("@{}", value.number(6).unwrap())),
                                other => line.push_str(&format!("({other})")),
                            }
                        }
                        line.push(']');
                    }
                }
            }
            found.push(line);
        }
        found
    }

    #[test]
    fn a_family_is_samples_of_one_name_and_kind() {
        let histogram = Histogram::stale();
        let gauge = Histogram { reset: ResetHint::Gauge, ..Histogram::stale() };
        let mut families = Families::default();
        families.sample("up", [("job", "a")], Value::Float(1.0), 1000);
        families.sample("up", [("job", "b"), ("i", "")], Value::Float(0.0), 2000);
        families.sample("x", [], Value::Histogram(&histogram), 3000);
        families.sample("x", [], Value::Histogram(&gauge), 3000);
        let expected = [
            "up 3: [..job..a(5)@1000] [..job..b..i..(5)@2000]",
            "x 4: [(7)@3000]",
            "x 5: [(7)@3000]",
        ];
        assert_eq!(shown(&families.finish()), expected);
        assert!(Families::default().finish().is_empty());
    }
}
