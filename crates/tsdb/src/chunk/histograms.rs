//! Chunks of native histograms: runs of one layout each, and in a run a column for every bucket.
//!
//! A layout is what a series' histograms share from tick to tick: kind of counts, schema, zero
//! threshold, spans, custom bounds. It is written once a run; a series that grows a bucket begins
//! another. Stale markers are the bitmap all chunks have, and nothing else of them is kept.
//!
//! Bounds: [`HISTOGRAMS_MAX`] in a chunk and [`HISTOGRAM_CELLS_MAX`] numbers in them; a reader
//! allocates no more than that whatever the bytes say.

use std::borrow::Borrow;

use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};

use super::codec::{Codec, Effort, put_best};
use super::{get_masked, get_scalar, ints, pco, put_masked, put_scalar};
use crate::bytes::{Cursor, Malformed, put_varint, put_zigzag};

/// Names a chunk of histograms.
const TAG_HISTOGRAMS: u8 = 6;

/// The most histograms one chunk holds.
pub const HISTOGRAMS_MAX: usize = 8_192;

/// The most numbers one chunk holds: per histogram its spans, bounds and buckets, and four more.
pub const HISTOGRAM_CELLS_MAX: usize = 1 << 21;

/// Numbers of a histogram besides spans, bounds and buckets: count, zero count, sum, hint.
const CELLS_FIXED: usize = 4;

/// Columns of integers: on a line.
const COLUMN_LINE: u8 = 1;
/// Columns of integers: differences bit-packed.
const COLUMN_PACKED: u8 = 2;
/// Columns of integers: through pco.
const COLUMN_PCO: u8 = 3;

const KIND_INTEGER: u8 = 0;
const KIND_FLOAT: u8 = 1;

/// Why histograms cannot be a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramsError {
    /// More than [`HISTOGRAMS_MAX`] or [`HISTOGRAM_CELLS_MAX`].
    #[error("too many or too large histograms for one chunk: cut it")]
    TooLarge,
    /// A histogram whose spans name more or fewer buckets than it has.
    #[error("a histogram has other buckets than its spans name: validate it first")]
    SpansMismatch,
}

/// Whether a chunk holds histograms, not values.
#[must_use]
pub fn holds_histograms(chunk: &[u8]) -> bool {
    chunk.first().is_some_and(|tag| tag & !super::FLAG_STALE == TAG_HISTOGRAMS)
}

/// Appends the histograms as one chunk.
///
/// # Errors
/// [`HistogramsError`], and then nothing was appended.
pub fn encode_histograms<H: Borrow<Histogram>>(
    histograms: &[H],
    effort: Effort,
    out: &mut Vec<u8>,
) -> Result<(), HistogramsError> {
    if histograms.len() > HISTOGRAMS_MAX {
        return Err(HistogramsError::TooLarge);
    }
    let live = || histograms.iter().map(H::borrow).filter(|histogram| !histogram.is_stale());
    let mut cells_left = HISTOGRAM_CELLS_MAX;
    for histogram in live() {
        let Histogram { positive_spans, negative_spans, custom_values, .. } = histogram;
        let (positive, negative) = match &histogram.counts {
            Counts::Integer(counts) => (counts.positive.len(), counts.negative.len()),
            Counts::Float(counts) => (counts.positive.len(), counts.negative.len()),
        };
        let named = |spans: &[Span]| spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
        if named(positive_spans) != positive as u64 || named(negative_spans) != negative as u64 {
            return Err(HistogramsError::SpansMismatch);
        }
        let spans = positive_spans.len() + negative_spans.len();
        let cells = spans + custom_values.len() + positive + negative + CELLS_FIXED;
        cells_left = cells_left.checked_sub(cells).ok_or(HistogramsError::TooLarge)?;
    }
    let entries: Vec<&Histogram> = histograms.iter().map(H::borrow).collect();
    put_masked(
        out,
        &entries,
        |histogram| histogram.is_stale(),
        |live, out| {
            if !live.is_empty() {
                let hints: Vec<i64> = live.iter().map(|h| hint_number(h.reset)).collect();
                put_column(&hints, effort, out);
            }
            for run in live.chunk_by(|a, b| a.same_layout(b)) {
                put_run(run, effort, out);
            }
            Some(TAG_HISTOGRAMS)
        },
    );
    Ok(())
}

/// Appends the `n` histograms of a chunk to `out`.
///
/// # Errors
/// [`Malformed`] when the bytes are no chunk of `n` histograms; `out` may then hold some of them.
pub fn decode_histograms(
    chunk: &[u8],
    n: usize,
    out: &mut Vec<Histogram>,
) -> Result<(), Malformed> {
    if n > HISTOGRAMS_MAX {
        return Err(Malformed("chunk of too many histograms"));
    }
    let mut cursor = Cursor::new(chunk);
    get_masked(&mut cursor, n, &Histogram::stale(), out, |cursor, tag, n, out| {
        if tag != TAG_HISTOGRAMS {
            return Err(Malformed("no chunk of histograms"));
        }
        if n == 0 {
            return Ok(());
        }
        let mut hints = Vec::with_capacity(n);
        get_column(cursor, n, &mut hints)?;
        let start = out.len();
        let (mut left, mut cells_left) = (n, HISTOGRAM_CELLS_MAX);
        while left > 0 {
            left -= get_run(cursor, left, &mut cells_left, out)?;
        }
        for (histogram, hint) in out.iter_mut().skip(start).zip(hints) {
            histogram.reset = hint_of(hint).ok_or(Malformed("unknown reset hint"))?;
        }
        Ok(())
    })?;
    cursor.end()
}

fn put_run(run: &[&Histogram], effort: Effort, out: &mut Vec<u8>) {
    let Some(layout) = run.first() else { return };
    put_varint(out, run.len() as u64);
    let is_float = matches!(layout.counts, Counts::Float(_));
    out.push(if is_float { KIND_FLOAT } else { KIND_INTEGER });
    put_zigzag(out, layout.schema.into());
    put_scalar(out, layout.zero_threshold);
    for spans in [&layout.positive_spans, &layout.negative_spans] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_zigzag(out, span.offset.into());
            put_varint(out, span.length.into());
        }
    }
    put_varint(out, layout.custom_values.len() as u64);
    if !layout.custom_values.is_empty() {
        put_doubles(&layout.custom_values, effort, out);
    }
    let integers: Vec<&BucketCounts<u64>> = run.iter().filter_map(|h| integers_of(h)).collect();
    if let Some(first) = integers.first() {
        let mut column: Vec<i64> = Vec::with_capacity(run.len());
        // What no bucket accounts for: observations of NaN, mostly none.
        let mut rest: Vec<u64> = integers.iter().map(|counts| counts.count).collect();
        let mut put = |pick: &dyn Fn(&BucketCounts<u64>) -> u64| {
            column.clear();
            for (counts, rest) in integers.iter().zip(&mut rest) {
                let number = pick(counts);
                *rest = rest.wrapping_sub(number);
                column.push(number.cast_signed());
            }
            put_column(&column, effort, out);
        };
        put(&|counts| counts.zero_count);
        for at in 0..first.positive.len() {
            put(&|counts| counts.positive.get(at).copied().unwrap_or(0));
        }
        for at in 0..first.negative.len() {
            put(&|counts| counts.negative.get(at).copied().unwrap_or(0));
        }
        let rest: Vec<i64> = rest.into_iter().map(u64::cast_signed).collect();
        put_column(&rest, effort, out);
    }
    let floats: Vec<&BucketCounts<f64>> = run.iter().filter_map(|h| floats_of(h)).collect();
    if let Some(first) = floats.first() {
        let mut put = |pick: &dyn Fn(&BucketCounts<f64>) -> f64| {
            let column: Vec<f64> = floats.iter().map(|counts| pick(counts)).collect();
            put_doubles(&column, effort, out);
        };
        put(&|counts| counts.zero_count);
        for at in 0..first.positive.len() {
            put(&|counts| counts.positive.get(at).copied().unwrap_or(0.0));
        }
        for at in 0..first.negative.len() {
            put(&|counts| counts.negative.get(at).copied().unwrap_or(0.0));
        }
        put(&|counts| counts.count);
    }
    let sums: Vec<f64> = run.iter().map(|histogram| histogram.sum).collect();
    put_doubles(&sums, effort, out);
}

/// Reads one run, at most `left` histograms, and says how many they were.
fn get_run(
    cursor: &mut Cursor<'_>,
    left: usize,
    cells_left: &mut usize,
    out: &mut Vec<Histogram>,
) -> Result<usize, Malformed> {
    let length =
        usize::try_from(cursor.varint()?).ok().filter(|length| (1..=left).contains(length));
    let length = length.ok_or(Malformed("run longer than the chunk, or empty"))?;
    let kind = cursor.u8()?;
    let schema = i32::try_from(cursor.zigzag()?).ok().ok_or(Malformed("schema over 32 bits"))?;
    let zero_threshold = get_scalar(cursor)?;
    let (positive_spans, positive) = get_spans(cursor)?;
    let (negative_spans, negative) = get_spans(cursor)?;
    let bounds = usize::try_from(cursor.varint()?).ok().ok_or(Malformed("too many bounds"))?;
    // Every bucket has a column of two bytes at least, before anything is allocated for it.
    let buckets = positive.saturating_add(negative);
    if buckets > cursor.len() {
        return Err(Malformed("more buckets than bytes"));
    }
    let spans = positive_spans.len() + negative_spans.len();
    let cells = bounds.saturating_add(spans + buckets + CELLS_FIXED).saturating_mul(length);
    *cells_left = cells_left.checked_sub(cells).ok_or(Malformed("histograms too large"))?;
    let mut custom_values = Vec::new();
    if bounds > 0 {
        get_doubles(cursor, bounds, &mut custom_values)?;
    }
    let counts = match kind {
        KIND_INTEGER => get_integer_counts(cursor, length, positive, negative)?,
        KIND_FLOAT => get_float_counts(cursor, length, positive, negative)?,
        _ => return Err(Malformed("unknown kind of counts")),
    };
    let mut sums = Vec::with_capacity(length);
    get_doubles(cursor, length, &mut sums)?;
    out.extend(counts.into_iter().zip(sums).map(|(counts, sum)| Histogram {
        schema,
        zero_threshold,
        sum,
        positive_spans: positive_spans.clone(),
        negative_spans: negative_spans.clone(),
        custom_values: custom_values.clone(),
        counts,
        reset: ResetHint::Unknown,
    }));
    Ok(length)
}

/// Spans, and how many buckets they name.
fn get_spans(cursor: &mut Cursor<'_>) -> Result<(Vec<Span>, usize), Malformed> {
    let n = cursor.count(2)?;
    let mut spans = Vec::with_capacity(n);
    let mut buckets = 0usize;
    for _ in 0..n {
        let offset =
            i32::try_from(cursor.zigzag()?).ok().ok_or(Malformed("offset over 32 bits"))?;
        let length = cursor.varint_u32()?;
        buckets = buckets.saturating_add(length as usize);
        spans.push(Span { offset, length });
    }
    Ok((spans, buckets))
}

fn empty_counts<C: Clone + Default>(
    length: usize,
    positive: usize,
    negative: usize,
) -> Vec<BucketCounts<C>> {
    let empty = || BucketCounts {
        count: C::default(),
        zero_count: C::default(),
        positive: Vec::with_capacity(positive),
        negative: Vec::with_capacity(negative),
    };
    std::iter::repeat_with(empty).take(length).collect()
}

fn get_integer_counts(
    cursor: &mut Cursor<'_>,
    length: usize,
    positive: usize,
    negative: usize,
) -> Result<Vec<Counts>, Malformed> {
    let mut all = empty_counts::<u64>(length, positive, negative);
    let mut column = Vec::with_capacity(length);
    let columns = 1 + positive + negative + 1;
    for at in 0..columns {
        column.clear();
        get_column(cursor, length, &mut column)?;
        for (counts, number) in all.iter_mut().zip(&column) {
            let number = number.cast_unsigned();
            counts.count = counts.count.wrapping_add(number);
            if at == 0 {
                counts.zero_count = number;
            } else if at <= positive {
                counts.positive.push(number);
            } else if at <= positive + negative {
                counts.negative.push(number);
            }
        }
    }
    Ok(all.into_iter().map(Counts::Integer).collect())
}

fn get_float_counts(
    cursor: &mut Cursor<'_>,
    length: usize,
    positive: usize,
    negative: usize,
) -> Result<Vec<Counts>, Malformed> {
    let mut all = empty_counts::<f64>(length, positive, negative);
    let mut column = Vec::with_capacity(length);
    let columns = 1 + positive + negative + 1;
    for at in 0..columns {
        column.clear();
        get_doubles(cursor, length, &mut column)?;
        for (counts, number) in all.iter_mut().zip(&column) {
            if at == 0 {
                counts.zero_count = *number;
            } else if at <= positive {
                counts.positive.push(*number);
            } else if at <= positive + negative {
                counts.negative.push(*number);
            } else {
                counts.count = *number;
            }
        }
    }
    Ok(all.into_iter().map(Counts::Float).collect())
}

/// Appends tag and integers.
fn put_column(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    if let Some(line) = ints::line(values) {
        out.push(COLUMN_LINE);
        ints::put_line(out, line);
        return;
    }
    let start = out.len();
    out.push(COLUMN_PACKED);
    ints::put_packed(out, values);
    if effort == Effort::Fresh {
        return;
    }
    let at = out.len();
    out.push(COLUMN_PCO);
    let smaller = pco::put_integers(out, values) && (out.len() - at) * 100 < (at - start) * 95;
    if smaller {
        out.drain(start..at);
    } else {
        out.truncate(at);
    }
}

fn get_column(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    match cursor.u8()? {
        COLUMN_LINE => ints::get_line(cursor, n, out),
        COLUMN_PACKED => ints::get_packed(cursor, n, out),
        COLUMN_PCO => pco::get_integers(cursor, n, out),
        _ => Err(Malformed("unknown tag of a column")),
    }
}

/// Appends tag and doubles: a chunk of values without bitmap.
fn put_doubles(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let at = out.len();
    out.push(0);
    let codec = put_best(values, effort, out);
    if let Some(tag) = out.get_mut(at) {
        *tag = codec.tag();
    }
}

fn get_doubles(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    let codec = Codec::of_tag(cursor.u8()?).ok_or(Malformed("unknown chunk tag"))?;
    codec.get(cursor, n, out)
}

fn integers_of(histogram: &Histogram) -> Option<&BucketCounts<u64>> {
    match &histogram.counts {
        Counts::Integer(counts) => Some(counts),
        Counts::Float(_) => None,
    }
}

fn floats_of(histogram: &Histogram) -> Option<&BucketCounts<f64>> {
    match &histogram.counts {
        Counts::Integer(_) => None,
        Counts::Float(counts) => Some(counts),
    }
}

fn hint_number(hint: ResetHint) -> i64 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

fn hint_of(number: i64) -> Option<ResetHint> {
    Some(match number {
        0 => ResetHint::Unknown,
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
