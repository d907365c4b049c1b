//! Writing what `super` reads, as Prometheus does: a chunk ends where the layout changes, where a
//! counter starts anew, and after a stale marker.

use std::cmp::Ordering;

use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span,
};

use super::super::bits::BitWriter;
use super::super::xor::put_value;
use super::{ENCODING_FLOAT, ENCODING_INTEGER, WIDTHS, power_of_two};

const HEADER_RESET: u64 = 2;
const HEADER_GAUGE: u64 = 3;

/// Bounds of custom buckets are written in thousandths up to this one.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Cuts samples into chunks of at most so many.
pub(in super::super) fn cut(
    samples: &[(i64, Histogram)],
    max: usize,
) -> impl Iterator<Item = &[(i64, Histogram)]> {
    samples.chunk_by(|(_, a), (_, b)| continues(a, b)).flat_map(move |part| part.chunks(max))
}

/// Whether a histogram goes into the chunk of the one before.
fn continues(before: &Histogram, next: &Histogram) -> bool {
    if before.is_stale() || next.is_stale() {
        return !before.is_stale();
    }
    let is_gauge = |histogram: &Histogram| histogram.reset == ResetHint::Gauge;
    before.same_layout(next)
        && is_gauge(before) == is_gauge(next)
        && (is_gauge(next) || (next.reset != ResetHint::Reset && !shrank(before, next)))
}

/// Whether anything counts less than before, in the same layout.
fn shrank(before: &Histogram, next: &Histogram) -> bool {
    fn any_less<C: PartialOrd>(before: &BucketCounts<C>, next: &BucketCounts<C>) -> bool {
        let is_less = |(a, b): (&C, &C)| b.partial_cmp(a) == Some(Ordering::Less);
        is_less((&before.count, &next.count))
            || is_less((&before.zero_count, &next.zero_count))
            || before.positive.iter().zip(&next.positive).any(is_less)
            || before.negative.iter().zip(&next.negative).any(is_less)
    }
    match (&before.counts, &next.counts) {
        (Counts::Integer(before), Counts::Integer(next)) => any_less(before, next),
        (Counts::Float(before), Counts::Float(next)) => any_less(before, next),
        _ => true,
    }
}

/// One chunk with its encoding, of samples that [`cut`] gave; `before` is the histogram before them.
pub(in super::super) fn encode(
    before: Option<&Histogram>,
    samples: &[(i64, Histogram)],
) -> (u8, Vec<u8>) {
    let count = u16::try_from(samples.len()).unwrap_or(u16::MAX);
    let mut bits = BitWriter::after(count.to_be_bytes().to_vec());
    let samples = samples.get(..usize::from(count)).unwrap_or_default();
    let Some((_, first)) = samples.first() else {
        bits.bits(0, 8);
        return (ENCODING_INTEGER, bits.bytes);
    };
    let is_reset = |before: &Histogram| {
        !before.is_stale()
            && !first.is_stale()
            && before.same_layout(first)
            && shrank(before, first)
    };
    let header = match first.reset {
        ResetHint::Gauge => HEADER_GAUGE,
        ResetHint::Reset => HEADER_RESET,
        ResetHint::Unknown | ResetHint::NotReset => {
            if before.is_some_and(is_reset) {
                HEADER_RESET
            } else {
                0
            }
        }
    };
    bits.bits(header << 6, 8);
    layout(first, &mut bits);
    let is_float = matches!(first.counts, Counts::Float(_));
    if is_float {
        floats(samples, &mut bits);
    } else {
        integers(samples, &mut bits);
    }
    (if is_float { ENCODING_FLOAT } else { ENCODING_INTEGER }, bits.bytes)
}

fn layout(histogram: &Histogram, bits: &mut BitWriter) {
    let threshold = histogram.zero_threshold;
    let is_power =
        |power: &u8| power_of_two(i32::from(*power) - 244).to_bits() == threshold.to_bits();
    match (1..=254).find(is_power) {
        _ if threshold.to_bits() == 0 => bits.bits(0, 8),
        Some(power) => bits.bits(power.into(), 8),
        None => {
            bits.bits(255, 8);
            bits.bits(threshold.to_bits(), 64);
        }
    }
    put_signed(bits, histogram.schema.into());
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        put_unsigned(bits, spans.len() as u64);
        for Span { offset, length } in spans {
            put_unsigned(bits, u64::from(*length));
            put_signed(bits, i64::from(*offset));
        }
    }
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        put_unsigned(bits, histogram.custom_values.len() as u64);
        histogram.custom_values.iter().for_each(|bound| put_bound(bits, *bound));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 0 to 2^25 by then"
)]
fn put_bound(bits: &mut BitWriter, bound: f64) {
    let thousandths = (bound * 1000.0).round();
    let is_whole = (thousandths / 1000.0).to_bits() == bound.to_bits();
    if is_whole && (0.0..=THOUSANDTHS_MAX).contains(&thousandths) {
        put_unsigned(bits, thousandths as u64 + 1);
    } else {
        bits.bits(0, 1);
        bits.bits(bound.to_bits(), 64);
    }
}

/// A number and by how much it grew last.
#[derive(Clone, Copy, Default)]
struct Growing {
    value: i64,
    delta: i64,
}

impl Growing {
    fn step(&mut self, next: i64, bits: &mut BitWriter) {
        let delta = next.wrapping_sub(self.value);
        put_signed(bits, delta.wrapping_sub(self.delta));
        *self = Self { value: next, delta };
    }
}

/// A double that is written as the exclusive or with its last.
#[derive(Clone, Copy, Default)]
struct Changing {
    value: u64,
    window: Option<(u32, u32)>,
}

impl Changing {
    fn step(&mut self, next: f64, bits: &mut BitWriter) {
        put_value(bits, next.to_bits() ^ self.value, &mut self.window);
        self.value = next.to_bits();
    }
}

fn integers(samples: &[(i64, Histogram)], bits: &mut BitWriter) {
    let (mut t, mut all, mut zero) = (Growing::default(), Growing::default(), Growing::default());
    let mut sum = Changing::default();
    let mut buckets: Vec<Growing> = Vec::new();
    for (number, (at, histogram)) in samples.iter().enumerate() {
        let Counts::Integer(counts) = &histogram.counts else { continue };
        let deltas = [&counts.positive, &counts.negative].into_iter().flat_map(|side| {
            let before = [0].into_iter().chain(side.iter().copied());
            side.iter().zip(before).map(|(b, a)| b.wrapping_sub(a).cast_signed())
        });
        if number == 0 {
            let first = |value| Growing { value, delta: 0 };
            put_signed(bits, *at);
            put_unsigned(bits, counts.count);
            put_unsigned(bits, counts.zero_count);
            bits.bits(histogram.sum.to_bits(), 64);
            t = first(*at);
            all = first(counts.count.cast_signed());
            zero = first(counts.zero_count.cast_signed());
            sum.value = histogram.sum.to_bits();
            buckets.extend(deltas.inspect(|delta| put_signed(bits, *delta)).map(first));
            continue;
        }
        t.step(*at, bits);
        if histogram.is_stale() {
            // The last of its chunk: nothing follows from it.
            put_signed(bits, 0);
            put_signed(bits, 0);
            sum.step(histogram.sum, bits);
            continue;
        }
        all.step(counts.count.cast_signed(), bits);
        zero.step(counts.zero_count.cast_signed(), bits);
        sum.step(histogram.sum, bits);
        buckets.iter_mut().zip(deltas).for_each(|(bucket, delta)| bucket.step(delta, bits));
    }
}

fn floats(samples: &[(i64, Histogram)], bits: &mut BitWriter) {
    let mut t = Growing::default();
    let mut own = [Changing::default(); 3];
    let mut buckets: Vec<Changing> = Vec::new();
    let none = BucketCounts::default();
    for (number, (at, histogram)) in samples.iter().enumerate() {
        let counts = match &histogram.counts {
            Counts::Float(counts) => counts,
            Counts::Integer(_) => &none,
        };
        let values = [counts.count, counts.zero_count, histogram.sum];
        let in_buckets = counts.positive.iter().chain(&counts.negative);
        if number == 0 {
            put_signed(bits, *at);
            t.value = *at;
            for (own, value) in own.iter_mut().zip(values) {
                own.value = value.to_bits();
                bits.bits(own.value, 64);
            }
            for value in in_buckets {
                buckets.push(Changing { value: value.to_bits(), window: None });
                bits.bits(value.to_bits(), 64);
            }
            continue;
        }
        t.step(*at, bits);
        own.iter_mut().zip(values).for_each(|(own, value)| own.step(value, bits));
        buckets.iter_mut().zip(in_buckets).for_each(|(bucket, value)| bucket.step(*value, bits));
    }
}

/// A number with a prefix that says its width, the least that holds it.
fn put_prefixed(bits: &mut BitWriter, number: u64, fits: impl Fn(u32) -> bool) {
    if number == 0 {
        return bits.bits(0, 1);
    }
    for (ones, width) in (1u32..).zip(WIDTHS) {
        if fits(width) {
            bits.bits((1 << (ones + 1)) - 2, ones + 1);
            return bits.bits(number & ((1 << width) - 1), width);
        }
    }
    bits.bits(0xff, 8);
    bits.bits(number, 64);
}

fn put_unsigned(bits: &mut BitWriter, number: u64) {
    put_prefixed(bits, number, |width| number < 1 << width);
}

fn put_signed(bits: &mut BitWriter, number: i64) {
    put_prefixed(bits, number.cast_unsigned(), |width| {
        let half = 1i64 << (width - 1);
        1 - half <= number && number <= half
    });
}

#[cfg(test)]
mod tests {
    use super::super::super::bits::Cursor;
    use super::super::decode;
    use super::*;

    /// The chunks of a segment: encoding and data.
    fn chunks(segment: &[u8]) -> Vec<(u8, &[u8])> {
        let mut cursor = Cursor::new(&segment[8..]);
        let mut chunks = Vec::new();
        while cursor.len() > 0 {
            let len = usize::try_from(cursor.uvarint().unwrap()).unwrap();
            let encoding = cursor.u8().unwrap();
            chunks.push((encoding, cursor.take(len).unwrap()));
            cursor.u32().unwrap();
        }
        chunks
    }

    #[test]
    fn prometheus_s_own_chunks_are_written_bit_by_bit() {
        let segment = include_bytes!("../../../tests/native_histograms/chunks");
        let mut compared = 0;
        for (encoding, chunk) in chunks(segment) {
            if ![ENCODING_INTEGER, ENCODING_FLOAT].contains(&encoding) {
                continue;
            }
            let mut samples = Vec::new();
            decode(encoding, chunk, &mut samples).unwrap();
            assert_eq!(cut(&samples, 1000).count(), 1);
            let (written_as, mut written) = encode(None, &samples);
            // That there was no reset before a chunk is not read.
            if chunk[2] == 1 << 6 {
                written[2] = chunk[2];
            }
            assert_eq!(written_as, encoding);
            assert_eq!(written, chunk);
            compared += 1;
        }
        assert!(compared >= 4, "{compared}");
    }
}
