//! Messages written: what a [`Writer`] is handed, in the order of [`super::Visitor`], as protobuf.

use super::{
    Attribute, Attributes, Buckets, Kind, Measure, Metric, Point, Resource, Scope, Temporality,
    Visitor,
};
use crate::wire::{put_bytes, put_double, put_fixed, put_number, put_varint, zigzag};

/// Writes a message. What stands without points is left out, and so are attributes that cannot be kept.
#[derive(Debug, Default)]
pub struct Writer {
    message: Vec<u8>,
    /// The level that is being written, of each kind; nothing is where there is none.
    resource: Option<Vec<u8>>,
    scope: Option<Vec<u8>>,
    metric: Option<OfMetric>,
    points: u64,
}

/// A metric so far.
#[derive(Debug)]
struct OfMetric {
    fields: Vec<u8>,
    kind: Kind,
    temporality: Temporality,
    monotonic: bool,
    points: Vec<u8>,
}

impl Writer {
    /// How many points there are so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.points
    }

    /// The message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.end_resource();
        self.message
    }

    fn end_resource(&mut self) {
        self.end_scope();
        let written = self.resource.as_ref().is_some_and(|resource| !resource.is_empty());
        if let Some(resource) = self.resource.take().filter(|_| written) {
            put_bytes(&mut self.message, 1, &resource);
        }
    }

    fn end_scope(&mut self) {
        self.end_metric();
        if let (Some(scope), Some(resource)) = (self.scope.take(), &mut self.resource) {
            put_bytes(resource, 2, &scope);
        }
    }

    fn end_metric(&mut self) {
        let Some(OfMetric { mut fields, kind, temporality, monotonic, points }) =
            self.metric.take().filter(|metric| !metric.points.is_empty())
        else {
            return;
        };
        let mut data = points;
        if matches!(kind, Kind::Sum | Kind::Histogram | Kind::ExponentialHistogram) {
            let number = match temporality {
                Temporality::Unspecified => 0,
                Temporality::Delta => 1,
                Temporality::Cumulative => 2,
            };
            put_number(&mut data, 2, number);
        }
        if kind == Kind::Sum && monotonic {
            put_number(&mut data, 3, 1);
        }
        let field = match kind {
            Kind::Gauge => 5,
            Kind::Sum => 7,
            Kind::Histogram => 9,
            Kind::ExponentialHistogram => 10,
            Kind::Summary => 11,
        };
        put_bytes(&mut fields, field, &data);
        if let Some(scope) = &mut self.scope {
            put_bytes(scope, 2, &fields);
        }
    }
}

impl Visitor for Writer {
    fn resource(&mut self, resource: &Resource<'_>) {
        self.end_resource();
        let mut said = Vec::new();
        put_attributes(&mut said, 1, resource.attributes);
        let mut fields = Vec::new();
        put_bytes(&mut fields, 1, &said);
        self.resource = Some(fields);
    }

    fn scope(&mut self, scope: &Scope<'_>) {
        self.end_scope();
        let mut said = Vec::new();
        put_text(&mut said, 1, scope.name);
        put_text(&mut said, 2, scope.version);
        put_attributes(&mut said, 3, scope.attributes);
        let mut fields = Vec::new();
        put_bytes(&mut fields, 1, &said);
        put_text(&mut fields, 3, scope.schema_url);
        self.scope = Some(fields);
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.end_metric();
        let Metric { name, description, unit, kind, temporality, monotonic } = *metric;
        let mut fields = Vec::new();
        for (field, text) in [(1, name), (2, description), (3, unit)] {
            put_text(&mut fields, field, text);
        }
        self.metric = Some(OfMetric { fields, kind, temporality, monotonic, points: Vec::new() });
    }

    fn point(&mut self, point: &Point<'_>) {
        let Some(metric) = &mut self.metric else { return };
        let mut out = Vec::new();
        put_fixed(&mut out, 2, point.start_ns);
        put_fixed(&mut out, 3, point.time_ns);
        let (attributes, flags) = match metric.kind {
            Kind::Gauge | Kind::Sum | Kind::Summary => (7, 8),
            Kind::Histogram => (9, 10),
            Kind::ExponentialHistogram => (1, 10),
        };
        put_attributes(&mut out, attributes, point.attributes);
        if point.ended {
            put_number(&mut out, flags, 1);
        }
        match (metric.kind, point.measure) {
            (Kind::Gauge | Kind::Sum, Measure::Integer(value)) => {
                put_fixed(&mut out, 6, value.cast_unsigned());
            }
            (Kind::Gauge | Kind::Sum, Measure::Double(value)) => put_double(&mut out, 4, value),
            (Kind::Histogram, Measure::Histogram(histogram)) => {
                put_fixed(&mut out, 4, histogram.count);
                put_sum(&mut out, histogram.sum);
                put_packed(&mut out, 6, histogram.counts.iter().copied());
                put_packed(&mut out, 7, histogram.bounds.iter().map(|bound| bound.to_bits()));
            }
            (Kind::ExponentialHistogram, Measure::Exponential(histogram)) => {
                put_fixed(&mut out, 4, histogram.count);
                put_sum(&mut out, histogram.sum);
                put_number(&mut out, 6, zigzag(i64::from(histogram.scale)));
                put_fixed(&mut out, 7, histogram.zero_count);
                put_buckets(&mut out, 8, histogram.positive);
                put_buckets(&mut out, 9, histogram.negative);
                put_double(&mut out, 14, histogram.zero_threshold);
            }
            (Kind::Summary, Measure::Summary(summary)) => {
                put_fixed(&mut out, 4, summary.count);
                put_double(&mut out, 5, summary.sum);
                for (quantile, value) in summary.quantiles {
                    let mut of = Vec::new();
                    put_double(&mut of, 1, *quantile);
                    put_double(&mut of, 2, *value);
                    put_bytes(&mut out, 6, &of);
                }
            }
            // A point without what its kind measures.
            _ => {}
        }
        put_bytes(&mut metric.points, 1, &out);
        self.points += 1;
    }
}

fn put_attributes(out: &mut Vec<u8>, field: u64, attributes: Attributes<'_>) {
    for Attribute { key, value } in attributes.unwrap_or_default() {
        let (mut pair, mut any) = (Vec::new(), Vec::new());
        put_text(&mut pair, 1, key);
        put_bytes(&mut any, 1, value.as_bytes());
        put_bytes(&mut pair, 2, &any);
        put_bytes(out, field, &pair);
    }
}

/// Empty text is not written, as proto3 has it.
fn put_text(out: &mut Vec<u8>, field: u64, text: &str) {
    if !text.is_empty() {
        put_bytes(out, field, text.as_bytes());
    }
}

fn put_sum(out: &mut Vec<u8>, sum: Option<f64>) {
    if let Some(sum) = sum {
        put_double(out, 5, sum);
    }
}

fn put_packed(out: &mut Vec<u8>, field: u64, numbers: impl Iterator<Item = u64>) {
    let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    if !bytes.is_empty() {
        put_bytes(out, field, &bytes);
    }
}

fn put_buckets(out: &mut Vec<u8>, field: u64, buckets: Buckets<'_>) {
    let (mut of, mut counts) = (Vec::new(), Vec::new());
    for count in buckets.counts {
        put_varint(&mut counts, *count);
    }
    put_number(&mut of, 1, zigzag(i64::from(buckets.offset)));
    if !counts.is_empty() {
        put_bytes(&mut of, 2, &counts);
    }
    put_bytes(out, field, &of);
}
