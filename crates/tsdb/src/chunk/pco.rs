//! Columns through pco: numbers in bins, entropy coded. Dense and slow to write: for compaction.
//!
//! Of pco's own format (wrapped, version 4.1) only the metadata and the one page are stored; the
//! version is the tag's, the count the caller's. For integers pco is an entropy coder and nothing
//! else: differences, offset and common divisor are taken off before, so that its bins are written
//! in as few bits as the residues have, and its modes and deltas stay unused. For doubles it may
//! use all it has but dictionaries, lookback and convolution.
//!
//! What a reader refuses keeps hostile bytes from memory they did not bring: beyond the `n` numbers
//! asked for, pco's tables for one variable are bounded by 2^14 bins and states (under 1 MiB).

use std::panic::{AssertUnwindSafe, catch_unwind};

use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec};

use crate::bytes::{Cursor, Malformed, put_varint, put_zigzag};

/// What `FileCompressor::write_header` writes: pco's format 4.1.
const VERSION: [u8; 2] = [4, 1];

/// pco's modes as the low four bits of its metadata.
const MODE_BITS: u8 = 0x0f;
const MODE_DICT: u8 = 4;

/// Fewer numbers than this never pay for pco's metadata.
const NUMBERS_MIN: usize = 16;

const ORDER_MAX: usize = 2;

/// Appends a column of integers, or nothing and says `false` when pco is no use for it.
pub(super) fn put_integers(out: &mut Vec<u8>, values: &[i64]) -> bool {
    let mut residues = values.to_vec();
    let mut seeds: Vec<i64> = Vec::with_capacity(ORDER_MAX);
    let mut best: Option<Vec<u8>> = None;
    loop {
        if residues.len() < NUMBERS_MIN {
            break;
        }
        if let Some(column) = encode_order(&seeds, &residues)
            && best.as_ref().is_none_or(|best| column.len() < best.len())
        {
            best = Some(column);
        }
        let Some(&seed) = residues.first() else { break };
        if seeds.len() == ORDER_MAX {
            break;
        }
        seeds.push(seed);
        residues = super::ints::differences(&residues);
    }
    let Some(column) = best else { return false };
    // What is compacted is deleted after: a codec that is not our own is read back first.
    let mut back = Vec::with_capacity(values.len());
    let mut cursor = Cursor::new(&column);
    let read = get_integers(&mut cursor, values.len(), &mut back);
    if read.and_then(|()| cursor.end()).is_err() || back != values {
        return false;
    }
    out.extend_from_slice(&column);
    true
}

/// One order of differences: head, seeds, base, divisor, pco's metadata and page.
fn encode_order(seeds: &[i64], residues: &[i64]) -> Option<Vec<u8>> {
    let base = residues.iter().copied().min()?;
    let mut offsets: Vec<u64> =
        residues.iter().map(|residue| residue.wrapping_sub(base).cast_unsigned()).collect();
    let divisor = offsets.iter().fold(0, |divisor, offset| gcd(divisor, *offset)).max(1);
    let mut largest = 0;
    for offset in &mut offsets {
        *offset /= divisor;
        largest = largest.max(*offset);
    }
    let (width, numbers) = match largest {
        0..=0xff => (0, compress_narrow::<u8>(&offsets)?),
        0x100..=0xffff => (1, compress_narrow::<u16>(&offsets)?),
        0x1_0000..=0xffff_ffff => (2, compress_narrow::<u32>(&offsets)?),
        _ => (3, compress_narrow::<u64>(&offsets)?),
    };
    let order = u8::try_from(seeds.len()).ok()?;
    let mut column = Vec::with_capacity(numbers.len() + 16);
    column.push(width | order << 2);
    for seed in seeds {
        put_zigzag(&mut column, *seed);
    }
    put_zigzag(&mut column, base);
    put_varint(&mut column, divisor);
    column.extend_from_slice(&numbers);
    Some(column)
}

fn compress_narrow<T: Number + TryFrom<u64>>(offsets: &[u64]) -> Option<Vec<u8>> {
    let narrow: Option<Vec<T>> = offsets.iter().map(|offset| T::try_from(*offset).ok()).collect();
    let config = ChunkConfig::default()
        .with_enable_8_bit(true)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp);
    compress(&narrow?, &config)
}

/// Reads `n` integers.
pub(super) fn get_integers(
    cursor: &mut Cursor<'_>,
    n: usize,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let head = cursor.u8()?;
    let (width, order) = (head & 3, usize::from(head >> 2));
    if order > ORDER_MAX {
        return Err(Malformed("pco order over 2"));
    }
    let residues = n.checked_sub(order).ok_or(Malformed("fewer values than seeds"))?;
    let mut seeds = [0i64; ORDER_MAX];
    for seed in seeds.iter_mut().take(order) {
        *seed = cursor.zigzag()?;
    }
    let base = cursor.zigzag()?;
    let divisor = cursor.varint()?;
    let column = Column { order, seeds, base, divisor };
    match width {
        0 => column.join(&decompress::<u8>(cursor, residues, is_bare)?, out),
        1 => column.join(&decompress::<u16>(cursor, residues, is_bare)?, out),
        2 => column.join(&decompress::<u32>(cursor, residues, is_bare)?, out),
        _ => column.join(&decompress::<u64>(cursor, residues, is_bare)?, out),
    }
    Ok(())
}

/// How residues become values again.
struct Column {
    order: usize,
    seeds: [i64; ORDER_MAX],
    base: i64,
    divisor: u64,
}

impl Column {
    fn join<T: Copy + Into<u64>>(&self, packed: &[T], out: &mut Vec<i64>) {
        let [first, mut step] = self.seeds;
        let residue = |packed: &T| {
            let offset: u64 = (*packed).into();
            self.base.wrapping_add(offset.wrapping_mul(self.divisor).cast_signed())
        };
        let mut value = first;
        match self.order {
            0 => out.extend(packed.iter().map(residue)),
            1 => {
                out.push(value);
                out.extend(packed.iter().map(|packed| {
                    value = value.wrapping_add(residue(packed));
                    value
                }));
            }
            _ => {
                out.push(value);
                value = value.wrapping_add(step);
                out.push(value);
                out.extend(packed.iter().map(|packed| {
                    step = step.wrapping_add(residue(packed));
                    value = value.wrapping_add(step);
                    value
                }));
            }
        }
    }
}

/// Appends doubles as they are, or nothing and says `false` when pco is no use for them.
pub(super) fn put_doubles(out: &mut Vec<u8>, values: &[f64]) -> bool {
    if values.len() < NUMBERS_MIN {
        return false;
    }
    let specs = [DeltaSpec::NoOp, DeltaSpec::TryConsecutive(1)];
    let columns = specs
        .into_iter()
        .filter_map(|delta| compress(values, &ChunkConfig::default().with_delta_spec(delta)));
    let Some(column) = columns.min_by_key(Vec::len) else { return false };
    let mut back = Vec::with_capacity(values.len());
    let mut cursor = Cursor::new(&column);
    let read = get_doubles(&mut cursor, values.len(), &mut back);
    let same = back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits()));
    if read.and_then(|()| cursor.end()).is_err() || !same {
        return false;
    }
    out.extend_from_slice(&column);
    true
}

/// Reads `n` doubles.
pub(super) fn get_doubles(
    cursor: &mut Cursor<'_>,
    n: usize,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let allowed = |mode: &Mode, delta: &DeltaEncoding| {
        !matches!(mode, Mode::Dict(_))
            && matches!(delta, DeltaEncoding::NoOp | DeltaEncoding::Consecutive { .. })
    };
    out.extend(decompress::<f64>(cursor, n, allowed)?);
    Ok(())
}

/// The one form integers are written in.
fn is_bare(mode: &Mode, delta: &DeltaEncoding) -> bool {
    matches!((mode, delta), (Mode::Classic, DeltaEncoding::NoOp))
}

fn compress<T: Number>(numbers: &[T], config: &ChunkConfig) -> Option<Vec<u8>> {
    // A bug in pco must cost a few bytes, not the process.
    let encoded = catch_unwind(AssertUnwindSafe(|| {
        let file = FileCompressor::default();
        if file.write_header(Vec::new()).ok()? != VERSION {
            return None;
        }
        let mut chunk = file.chunk_compressor(numbers, config).ok()?;
        let bytes = chunk.write_meta(Vec::new()).ok()?;
        chunk.write_page(0, bytes).ok()
    }));
    encoded.ok().flatten()
}

fn decompress<T: Number + Default>(
    cursor: &mut Cursor<'_>,
    n: usize,
    allowed: impl Fn(&Mode, &DeltaEncoding) -> bool,
) -> Result<Vec<T>, Malformed> {
    let mode = cursor.peek().ok_or(Malformed("ends early"))? & MODE_BITS;
    // A dictionary is allocated before its bytes are seen.
    if mode >= MODE_DICT {
        return Err(Malformed("pco mode not in use"));
    }
    let bytes = cursor.rest();
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let (file, _) = FileDecompressor::new(VERSION.as_slice()).ok()?;
        let (chunk, page) = file.chunk_decompressor::<T, _>(bytes).ok()?;
        if !allowed(&chunk.meta().mode, &chunk.meta().delta_encoding) {
            return None;
        }
        let mut numbers = vec![T::default(); n];
        let mut scratch = DecompressorScratch::default();
        let mut page = chunk.page_decompressor_with_scratch(page, n, &mut scratch).ok()?;
        let progress = page.read(&mut numbers).ok()?;
        let whole = progress.finished && progress.n_processed == n;
        whole.then(|| (numbers, page.into_src().len()))
    }));
    let (numbers, left) = decoded.ok().flatten().ok_or(Malformed("pco does not decode"))?;
    cursor.take(bytes.len().saturating_sub(left))?;
    Ok(numbers)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
