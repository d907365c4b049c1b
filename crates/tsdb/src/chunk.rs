//! Chunks: a column of values or of timestamps in as few bytes as it needs, lossless to the bit.
//!
//! A chunk stores no count and no time: whoever names it knows how many values it holds, and a
//! series' timestamps are a chunk of their own, shared by all series that have the same. The first
//! byte is a tag; `docs/formats/chunk.md` has every byte. Stale markers are a bitmap beside the
//! values, so that one does not turn a column of integers into one of doubles.
//!
//! Bounds: a chunk holds at most [`CHUNK_SAMPLES_MAX`] values; decoding allocates for the count its
//! caller asks for and reads nothing past the chunk.

mod decimal;
mod ints;
mod scalar;
mod xor;

use stoa_model::{is_stale, stale_nan};

pub(crate) use self::scalar::{get_scalar, put_scalar};
use crate::bytes::{Cursor, Malformed};

/// The most values one chunk holds.
pub(crate) const CHUNK_SAMPLES_MAX: usize = 65_535;

/// All values equal: one scalar.
const TAG_CONST: u8 = 0;
/// Short decimals on a straight line: scale, first, step.
const TAG_LINEAR: u8 = 1;
/// Short decimals, differences bit-packed: scale, packed column.
const TAG_PACKED: u8 = 2;
// 3 and 4 are kept for pco (i64, f64) in compacted blocks, 6 for native histograms.
/// Doubles, each the exclusive or with the last.
const TAG_XOR: u8 = 5;
/// Doubles as they are.
const TAG_RAW: u8 = 7;
/// Set in the tag when a bitmap of stale markers stands before the rest.
const FLAG_STALE: u8 = 0x80;

/// Packed decimals over this many bytes a value are compared with the XOR form before being taken.
const PACKED_BYTES_FINE: usize = 4;

/// Appends the values as one chunk.
pub(crate) fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    if !values.iter().any(|v| is_stale(*v)) {
        let at = out.len();
        out.push(0);
        let tag = encode_live(values, out);
        if let Some(first) = out.get_mut(at) {
            *first = tag;
        }
        return;
    }
    let at = out.len();
    out.push(0);
    for eight in values.chunks(8) {
        let bits = eight.iter().enumerate().map(|(i, v)| u8::from(is_stale(*v)) << i);
        out.push(bits.fold(0, |byte, bit| byte | bit));
    }
    let live: Vec<f64> = values.iter().copied().filter(|v| !is_stale(*v)).collect();
    let tag = encode_live(&live, out) | FLAG_STALE;
    if let Some(first) = out.get_mut(at) {
        *first = tag;
    }
}

/// Appends the body for values without stale markers and says its tag.
fn encode_live(values: &[f64], out: &mut Vec<u8>) -> u8 {
    let Some(first) = values.first() else {
        put_scalar(out, 0.0);
        return TAG_CONST;
    };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        put_scalar(out, *first);
        return TAG_CONST;
    }
    let start = out.len();
    if let Some((scale, mantissas)) = decimal::split_all(values) {
        out.push(scale);
        if let Some(line) = ints::line(&mantissas) {
            ints::put_line(out, line);
            return TAG_LINEAR;
        }
        ints::put_packed(out, &mantissas);
        if out.len() - start <= values.len() * PACKED_BYTES_FINE {
            return TAG_PACKED;
        }
    }
    let packed = out.split_off(start);
    xor::put_xor(out, values);
    let xor_bytes = out.len() - start;
    if !packed.is_empty() && packed.len() <= xor_bytes {
        out.truncate(start);
        out.extend_from_slice(&packed);
        return TAG_PACKED;
    }
    if xor_bytes < values.len() * 8 {
        return TAG_XOR;
    }
    out.truncate(start);
    for v in values {
        out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
    TAG_RAW
}

/// Appends the `n` values of a chunk to `out`.
///
/// # Errors
/// [`Malformed`] when the bytes are no chunk of `n` values; `out` may then hold some of them.
pub(crate) fn decode_values(chunk: &[u8], n: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    if n > CHUNK_SAMPLES_MAX {
        return Err(Malformed("chunk of too many values"));
    }
    let mut cursor = Cursor::new(chunk);
    let tag = cursor.u8()?;
    out.reserve(n);
    if tag & FLAG_STALE == 0 {
        decode_live(&mut cursor, tag, n, out)?;
        return cursor.end();
    }
    let bitmap = cursor.take(n.div_ceil(8))?;
    let is_stale_at = |i: usize| bitmap.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
    let live_count = (0..n).filter(|i| !is_stale_at(*i)).count();
    let mut live = Vec::with_capacity(live_count);
    decode_live(&mut cursor, tag & !FLAG_STALE, live_count, &mut live)?;
    let mut live = live.into_iter();
    for i in 0..n {
        let value = if is_stale_at(i) { Some(stale_nan()) } else { live.next() };
        out.push(value.ok_or(Malformed("fewer values than the bitmap says"))?);
    }
    cursor.end()
}

fn decode_live(
    cursor: &mut Cursor<'_>,
    tag: u8,
    n: usize,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    match tag {
        TAG_CONST => {
            let value = get_scalar(cursor)?;
            out.resize(out.len() + n, value);
        }
        TAG_LINEAR | TAG_PACKED => {
            let scale = cursor.u8()?;
            let mut mantissas = Vec::with_capacity(n);
            if tag == TAG_LINEAR {
                ints::get_line(cursor, n, &mut mantissas)?;
            } else {
                ints::get_packed(cursor, n, &mut mantissas)?;
            }
            for m in mantissas {
                out.push(decimal::join(m, scale).ok_or(Malformed("scale too large"))?);
            }
        }
        TAG_XOR => xor::get_xor(cursor, n, out)?,
        TAG_RAW => {
            for _ in 0..n {
                out.push(f64::from_bits(cursor.u64()?));
            }
        }
        _ => return Err(Malformed("unknown chunk tag")),
    }
    Ok(())
}

/// Appends timestamps as one chunk: a line, or differences bit-packed.
pub(crate) fn encode_times(times: &[i64], out: &mut Vec<u8>) {
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
pub(crate) fn decode_times(chunk: &[u8], n: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
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
