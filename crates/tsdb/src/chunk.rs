//! Chunks: a column of values or of timestamps in as few bytes as it needs, lossless to the bit.
//!
//! A chunk stores no count and no time: whoever names it knows how many values it holds, and a
//! series' timestamps are a chunk of their own, shared by all series that have the same. The first
//! byte is a tag; `docs/formats/chunk.md` has every byte. Stale markers are a bitmap beside the
//! values, so that one does not turn a column of integers into one of doubles. Native histograms are
//! columns too: one for each bucket; so are the windows of a tier: one for each number they are told in.
//!
//! Open to tools that measure, fuzz or read blocks; a store is reached through [`crate::Db`].
//!
//! Bounds: a chunk holds at most [`CHUNK_SAMPLES_MAX`] values; decoding allocates for the count its
//! caller asks for, and a fixed sum for pco's tables, and reads nothing past the chunk.

mod codec;
mod decimal;
mod histograms;
mod ints;
mod pco;
mod rollups;
mod scalar;
mod xor;

use stoa_model::{is_stale, stale_nan};

pub use self::codec::{Codec, Effort};
pub(crate) use self::decimal::{join, scale_after, split_at};
pub use self::histograms::{
    HISTOGRAM_CELLS_MAX, HISTOGRAMS_MAX, HistogramsError, decode_histograms, encode_histograms,
    holds_histograms,
};
pub use self::rollups::{decode_rollups, encode_rollups};
pub(crate) use self::scalar::{get_scalar, put_scalar};
use crate::bytes::Cursor;
pub use crate::bytes::Malformed;

/// The most values one chunk holds.
pub const CHUNK_SAMPLES_MAX: usize = 65_535;

/// Timestamps on a straight line.
const TAG_LINEAR: u8 = 1;
/// Timestamps, differences bit-packed.
const TAG_PACKED: u8 = 2;
/// Set in the tag when a bitmap of stale markers stands before the rest.
const FLAG_STALE: u8 = 0x80;

/// Appends the values as one chunk, with [`Effort::Fresh`].
pub fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    encode_values_with(Effort::Fresh, values, out);
}

/// Appends the values as one chunk in the codec that suits them.
pub fn encode_values_with(effort: Effort, values: &[f64], out: &mut Vec<u8>) {
    put_masked(
        out,
        values,
        |v| is_stale(*v),
        |live, out| Some(codec::put_best(live, effort, out).tag()),
    );
}

/// Appends the values as one chunk in `codec`, or nothing and says `false` when they have no such
/// form. For measuring and for tests: [`encode_values_with`] chooses.
pub fn encode_values_as(codec: Codec, values: &[f64], out: &mut Vec<u8>) -> bool {
    put_masked(out, values, |v| is_stale(*v), |live, out| codec.put(live, out).then(|| codec.tag()))
}

/// Appends tag, bitmap of stale markers if there are any, and what `body` makes of the others;
/// nothing when that is `None`.
fn put_masked<T: Clone>(
    out: &mut Vec<u8>,
    entries: &[T],
    is_stale: impl Fn(&T) -> bool,
    body: impl FnOnce(&[T], &mut Vec<u8>) -> Option<u8>,
) -> bool {
    let at = out.len();
    out.push(0);
    let tag = if entries.iter().any(&is_stale) {
        for eight in entries.chunks(8) {
            let bits = eight.iter().enumerate().map(|(i, entry)| u8::from(is_stale(entry)) << i);
            out.push(bits.fold(0, |byte, bit| byte | bit));
        }
        let live: Vec<T> = entries.iter().filter(|entry| !is_stale(entry)).cloned().collect();
        body(&live, out).map(|tag| tag | FLAG_STALE)
    } else {
        body(entries, out)
    };
    match (tag, out.get_mut(at)) {
        (Some(tag), Some(first)) => {
            *first = tag;
            true
        }
        _ => {
            out.truncate(at);
            false
        }
    }
}

/// Reads tag and bitmap, has `body` read the entries that are no stale markers, and appends all.
fn get_masked<T: Clone>(
    cursor: &mut Cursor<'_>,
    n: usize,
    stale: &T,
    out: &mut Vec<T>,
    body: impl FnOnce(&mut Cursor<'_>, u8, usize, &mut Vec<T>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let tag = cursor.u8()?;
    if tag & FLAG_STALE == 0 {
        return body(cursor, tag, n, out);
    }
    let bitmap = cursor.take(n.div_ceil(8))?;
    let is_stale_at = |i: usize| bitmap.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
    let live_count = (0..n).filter(|i| !is_stale_at(*i)).count();
    let mut live = Vec::new();
    body(cursor, tag & !FLAG_STALE, live_count, &mut live)?;
    let mut live = live.into_iter();
    for i in 0..n {
        let entry = if is_stale_at(i) { Some(stale.clone()) } else { live.next() };
        out.push(entry.ok_or(Malformed("fewer values than the bitmap says"))?);
    }
    Ok(())
}

/// Appends the `n` values of a chunk to `out`.
///
/// # Errors
/// [`Malformed`] when the bytes are no chunk of `n` values; `out` may then hold some of them.
pub fn decode_values(chunk: &[u8], n: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    if n > CHUNK_SAMPLES_MAX {
        return Err(Malformed("chunk of too many values"));
    }
    let mut cursor = Cursor::new(chunk);
    out.reserve(n);
    get_masked(&mut cursor, n, &stale_nan(), out, |cursor, tag, n, out| {
        Codec::of_tag(tag).ok_or(Malformed("unknown chunk tag"))?.get(cursor, n, out)
    })?;
    cursor.end()
}

/// Appends timestamps as one chunk: a line, or differences bit-packed.
pub fn encode_times(times: &[i64], out: &mut Vec<u8>) {
    if let Some(line) = ints::line(times) {
        out.push(TAG_LINEAR);
        ints::put_line(out, line);
    } else {
        out.push(TAG_PACKED);
        ints::put_packed(out, times);
    }
}

/// Appends the `n` timestamps of a chunk to `out`; they ascend strictly.
///
/// # Errors
/// [`Malformed`] when the bytes are no chunk of `n` ascending timestamps.
pub fn decode_times(chunk: &[u8], n: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    if n > CHUNK_SAMPLES_MAX {
        return Err(Malformed("chunk of too many timestamps"));
    }
    let start = out.len();
    let mut cursor = Cursor::new(chunk);
    let tag = cursor.u8()?;
    out.reserve(n);
    match tag {
        TAG_LINEAR => ints::get_line(&mut cursor, n, out)?,
        TAG_PACKED => ints::get_packed(&mut cursor, n, out)?,
        _ => return Err(Malformed("unknown tag of timestamps")),
    }
    cursor.end()?;
    let ascending = out.get(start..).unwrap_or_default().is_sorted_by(|a, b| a < b);
    if ascending { Ok(()) } else { Err(Malformed("timestamps do not ascend")) }
}

#[cfg(test)]
mod tests;
