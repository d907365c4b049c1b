//! A native histogram, which both versions write alike (`Histogram` of their `.proto` files).

use stoa_model::TimestampMs;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};

use super::{Budget, ReadError};
use crate::wire::{Fields, Value, unzigzag};

/// A histogram as it is read.
#[derive(Default)]
struct Parts {
    count: u64,
    zero_count: u64,
    float_count: Option<f64>,
    float_zero_count: f64,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
    custom_values: Vec<f64>,
    reset: ResetHint,
    t_ms: TimestampMs,
    start_ms: TimestampMs,
}

/// The buckets above or below zero.
#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// Reads one, and from when on it counts. It is not checked: [`Histogram::validate`] says whether it is one.
pub(super) fn histogram(
    message: &[u8],
    budget: &mut Budget,
) -> Result<((TimestampMs, Histogram), TimestampMs), ReadError> {
    budget.take_histogram()?;
    let mut fields = Fields(message);
    let mut parts = Parts::default();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => parts.count = value.number(field)?,
            2 => parts.float_count = Some(value.double(field)?),
            3 => parts.sum = value.double(field)?,
            4 => parts.schema = value.small(field)?,
            5 => parts.zero_threshold = value.double(field)?,
            6 => parts.zero_count = value.number(field)?,
            7 => parts.float_zero_count = value.double(field)?,
            8 => parts.negative.spans.push(span(value.bytes(field)?, budget)?),
            9 => numbers(field, value, budget, &mut parts.negative.deltas)?,
            10 => doubles(field, value, budget, &mut parts.negative.counts)?,
            11 => parts.positive.spans.push(span(value.bytes(field)?, budget)?),
            12 => numbers(field, value, budget, &mut parts.positive.deltas)?,
            13 => doubles(field, value, budget, &mut parts.positive.counts)?,
            14 => parts.reset = hint(value.number(field)?),
            15 => parts.t_ms = value.number(field)?.cast_signed(),
            16 => doubles(field, value, budget, &mut parts.custom_values)?,
            17 => parts.start_ms = value.number(field)?.cast_signed(),
            _ => {}
        }
    }
    let (t_ms, start_ms) = (parts.t_ms, parts.start_ms);
    Ok(((t_ms, parts.histogram()), start_ms))
}

impl Parts {
    fn histogram(self) -> Histogram {
        let Self { positive, negative, .. } = self;
        // The one that is there says which kind it is.
        let counts = match self.float_count {
            Some(count) => Counts::Float(BucketCounts {
                count,
                zero_count: self.float_zero_count,
                positive: positive.counts,
                negative: negative.counts,
            }),
            None => Counts::Integer(BucketCounts {
                count: self.count,
                zero_count: self.zero_count,
                positive: added_up(&positive.deltas),
                negative: added_up(&negative.deltas),
            }),
        };
        Histogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive_spans: positive.spans,
            negative_spans: negative.spans,
            custom_values: self.custom_values,
            counts,
            reset: self.reset,
        }
    }
}

/// Each bucket's count by the differences. One below zero becomes a number so large that the
/// histogram is found to be none.
fn added_up(deltas: &[i64]) -> Vec<u64> {
    let add = |last: &mut i64, delta: &i64| {
        *last = last.wrapping_add(*delta);
        Some(last.cast_unsigned())
    };
    deltas.iter().scan(0, add).collect()
}

fn span(message: &[u8], budget: &mut Budget) -> Result<Span, ReadError> {
    budget.take_number()?;
    let mut fields = Fields(message);
    let mut span = Span::default();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => span.offset = value.small(field)?,
            2 => span.length = u32::try_from(value.number(field)?).unwrap_or(u32::MAX),
            _ => {}
        }
    }
    Ok(span)
}

/// `sint64`s, packed or one by one.
fn numbers(
    field: u64,
    value: Value<'_>,
    budget: &mut Budget,
    out: &mut Vec<i64>,
) -> Result<(), ReadError> {
    for number in value.numbers(field)? {
        budget.take_number()?;
        out.push(unzigzag(number?));
    }
    Ok(())
}

/// `double`s, packed or one by one.
fn doubles(
    field: u64,
    value: Value<'_>,
    budget: &mut Budget,
    out: &mut Vec<f64>,
) -> Result<(), ReadError> {
    for bits in value.fixeds(field)? {
        budget.take_number()?;
        out.push(f64::from_bits(bits));
    }
    Ok(())
}

fn hint(number: u64) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}
