//! Chunks of native histograms: one layout a chunk, then sample after sample by differences.
//!
//! Of whole numbers (encoding 2) counts and buckets are differences of differences; of floats
//! (encoding 3) each number is the exclusive or with its last. A stale marker has no buckets.
//!
//! Source: `tsdb/docs/format/chunks.md`, "Histogram chunk data" and "Float histogram chunk data";
//! `tsdb/chunkenc/{histogram,float_histogram,histogram_meta,varbit}.go` of prometheus/prometheus.

mod encode;

use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span,
};
use stoa_model::is_stale;

use super::bits::{BitReader, Ended};
use super::xor::XorValue;

pub(super) use self::encode::{cut, encode};

/// The encoding of whole numbers.
pub(super) const ENCODING_INTEGER: u8 = 2;
/// Of floats.
pub(super) const ENCODING_FLOAT: u8 = 3;

/// Bits of a number after its prefix: `0` is zero, `10` three bits, `110` six and so on.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// What is read of a chunk allocates at most so many numbers for each of its bytes: a bucket that stays
/// as it was takes a bit.
const NUMBERS_PER_BYTE: usize = 8;

/// What all samples of a chunk share.
struct Layout {
    schema: i32,
    zero_threshold: f64,
    positive_spans: Vec<Span>,
    negative_spans: Vec<Span>,
    custom_values: Vec<f64>,
    positive: usize,
    negative: usize,
}

/// Appends the histograms of a chunk.
pub(crate) fn decode(
    encoding: u8,
    chunk: &[u8],
    out: &mut Vec<(i64, Histogram)>,
) -> Result<(), Ended> {
    let mut bits = BitReader::new(chunk);
    let count = bits.bits(16)?;
    let header = bits.bits(8)? >> 6;
    if count == 0 {
        return Ok(());
    }
    let layout = Layout::read(&mut bits, chunk.len() * NUMBERS_PER_BYTE)?;
    let before = out.len();
    if encoding == ENCODING_FLOAT {
        floats(&mut bits, count, &layout, out)?;
    } else {
        integers(&mut bits, count, &layout, out)?;
    }
    for (number, (_, histogram)) in out.iter_mut().skip(before).enumerate() {
        // Where a counter was reset a chunk begins.
        histogram.reset = match (header, number) {
            (3, _) => ResetHint::Gauge,
            (2, 0) => ResetHint::Reset,
            (_, 0) => ResetHint::Unknown,
            _ => ResetHint::NotReset,
        };
    }
    Ok(())
}

impl Layout {
    fn read(bits: &mut BitReader<'_>, numbers_max: usize) -> Result<Self, Ended> {
        let zero_threshold = match bits.bits(8)? {
            0 => 0.0,
            255 => f64::from_bits(bits.u64()?),
            power => power_of_two(i32::try_from(power).map_err(|_wide| Ended)? - 244),
        };
        let schema = i32::try_from(signed(bits)?).map_err(|_wide| Ended)?;
        let (positive_spans, positive) = spans(bits, numbers_max)?;
        let (negative_spans, negative) = spans(bits, numbers_max)?;
        let mut custom_values = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            let bounds = length(unsigned(bits)?, numbers_max)?;
            for _ in 0..bounds {
                custom_values.push(match unsigned(bits)? {
                    0 => f64::from_bits(bits.u64()?),
                    thousandths => number(thousandths - 1) / 1000.0,
                });
            }
        }
        Ok(Self {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values,
            positive,
            negative,
        })
    }

    fn histogram(&self, sum: f64, counts: Counts) -> Histogram {
        if is_stale(sum) {
            return Histogram::stale();
        }
        Histogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            custom_values: self.custom_values.clone(),
            counts,
            reset: ResetHint::Unknown,
        }
    }
}

/// A number and by how much it grew last.
#[derive(Clone, Copy, Default)]
struct Growing {
    value: i64,
    delta: i64,
}

impl Growing {
    fn step(&mut self, bits: &mut BitReader<'_>) -> Result<(), Ended> {
        self.delta = self.delta.wrapping_add(signed(bits)?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

fn integers(
    bits: &mut BitReader<'_>,
    count: u64,
    layout: &Layout,
    out: &mut Vec<(i64, Histogram)>,
) -> Result<(), Ended> {
    let first = |value| Growing { value, delta: 0 };
    let mut t = first(signed(bits)?);
    let mut all = first(unsigned(bits)?.cast_signed());
    let mut zero = first(unsigned(bits)?.cast_signed());
    let mut sum = XorValue::new(bits.u64()?);
    let mut buckets = Vec::with_capacity(layout.positive + layout.negative);
    for _ in 0..layout.positive + layout.negative {
        buckets.push(first(signed(bits)?));
    }
    for number in 0..count {
        if number > 0 {
            t.step(bits)?;
            all.step(bits)?;
            zero.step(bits)?;
            sum.step(bits)?;
            if !is_stale(sum.value()) {
                buckets.iter_mut().try_for_each(|bucket| bucket.step(bits))?;
            }
        }
        let (positive, negative) = buckets.split_at_checked(layout.positive).ok_or(Ended)?;
        let counts = BucketCounts {
            count: all.value.cast_unsigned(),
            zero_count: zero.value.cast_unsigned(),
            positive: added_up(positive),
            negative: added_up(negative),
        };
        out.push((t.value, layout.histogram(sum.value(), Counts::Integer(counts))));
    }
    Ok(())
}

/// Each bucket stands as the difference from its neighbour.
fn added_up(deltas: &[Growing]) -> Vec<u64> {
    let mut last = 0i64;
    let add = |delta: &Growing| {
        last = last.wrapping_add(delta.value);
        last.cast_unsigned()
    };
    deltas.iter().map(add).collect()
}

fn floats(
    bits: &mut BitReader<'_>,
    count: u64,
    layout: &Layout,
    out: &mut Vec<(i64, Histogram)>,
) -> Result<(), Ended> {
    let mut t = Growing { value: signed(bits)?, delta: 0 };
    let mut own = [0; 3];
    for value in &mut own {
        *value = bits.u64()?;
    }
    let [mut all, mut zero, mut sum] = own.map(XorValue::new);
    let mut buckets = Vec::with_capacity(layout.positive + layout.negative);
    for _ in 0..layout.positive + layout.negative {
        buckets.push(XorValue::new(bits.u64()?));
    }
    for number in 0..count {
        if number > 0 {
            t.step(bits)?;
            for value in [&mut all, &mut zero, &mut sum] {
                value.step(bits)?;
            }
            if !is_stale(sum.value()) {
                buckets.iter_mut().try_for_each(|bucket| bucket.step(bits))?;
            }
        }
        let values: Vec<f64> = buckets.iter().map(XorValue::value).collect();
        let (positive, negative) = values.split_at_checked(layout.positive).ok_or(Ended)?;
        let counts = BucketCounts {
            count: all.value(),
            zero_count: zero.value(),
            positive: positive.to_vec(),
            negative: negative.to_vec(),
        };
        out.push((t.value, layout.histogram(sum.value(), Counts::Float(counts))));
    }
    Ok(())
}

/// Spans, and how many buckets they name.
fn spans(bits: &mut BitReader<'_>, numbers_max: usize) -> Result<(Vec<Span>, usize), Ended> {
    let count = length(unsigned(bits)?, numbers_max)?;
    let (mut spans, mut buckets) = (Vec::new(), 0usize);
    for _ in 0..count {
        let length = u32::try_from(unsigned(bits)?).map_err(|_wide| Ended)?;
        let offset = i32::try_from(signed(bits)?).map_err(|_wide| Ended)?;
        spans.push(Span { offset, length });
        buckets = buckets.saturating_add(length as usize);
    }
    if buckets > numbers_max { Err(Ended) } else { Ok((spans, buckets)) }
}

fn length(number: u64, max: usize) -> Result<usize, Ended> {
    usize::try_from(number).ok().filter(|length| *length <= max).ok_or(Ended)
}

/// A number of as many bits as its prefix says, and how many these are.
fn prefixed(bits: &mut BitReader<'_>) -> Result<(u64, u32), Ended> {
    if !bits.bit()? {
        return Ok((0, 0));
    }
    for width in WIDTHS {
        if !bits.bit()? {
            return Ok((bits.bits(width)?, width));
        }
    }
    Ok((bits.u64()?, 64))
}

fn unsigned(bits: &mut BitReader<'_>) -> Result<u64, Ended> {
    Ok(prefixed(bits)?.0)
}

fn signed(bits: &mut BitReader<'_>) -> Result<i64, Ended> {
    let (raw, width) = prefixed(bits)?;
    let raw = raw.cast_signed();
    let is_negative = (1..64).contains(&width) && raw > 1 << (width - 1);
    Ok(if is_negative { raw - (1 << width) } else { raw })
}

/// 2 to the power of `exponent`, of which no more are written than doubles have.
fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a bound in thousandths, below 2^25 as it is written"
)]
fn number(thousandths: u64) -> f64 {
    thousandths as f64
}
