//! Columns of `i64`: a straight line, or differences packed to the bits they need.
//!
//! Both are exact for every input (arithmetic wraps). The number of values is never stored here: the
//! directory that names the column knows it.

use crate::bytes::{Cursor, Malformed, put_zigzag, varint_len, zigzag};

/// Residues packed together under one width; small enough that one outlier costs little.
const MINIBLOCK: usize = 32;

/// The first value and the step, when every value follows from them.
pub(crate) fn line(values: &[i64]) -> Option<(i64, i64)> {
    let first = *values.first()?;
    let step = values.get(1).map_or(0, |second| second.wrapping_sub(first));
    values
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if b.wrapping_sub(*a) == step))
        .then_some((first, step))
}

/// Appends a line: zigzag first, zigzag step.
pub(crate) fn put_line(out: &mut Vec<u8>, (first, step): (i64, i64)) {
    put_zigzag(out, first);
    put_zigzag(out, step);
}

/// Reads `n` values of a line.
pub(crate) fn get_line(
    cursor: &mut Cursor<'_>,
    n: usize,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let first = cursor.zigzag()?;
    let step = cursor.zigzag()?;
    out.extend(std::iter::successors(Some(first), |v| Some(v.wrapping_add(step))).take(n));
    Ok(())
}

/// Appends packed differences of whichever order (0, 1, 2) packs smallest.
///
/// One byte `order | shift << 2`; `order` seeds (zigzag); then per 32 residues one byte
/// `width | has_base << 7`, the base if it has one (zigzag), and the residues less the base, each
/// `width` bits, least significant first. `shift` counts the low zero bits all residues share.
pub(crate) fn put_packed(out: &mut Vec<u8>, values: &[i64]) {
    let mut residues = values.to_vec();
    let mut seeds: Vec<i64> = Vec::with_capacity(2);
    let mut best = Plan::of(0, &seeds, &residues);
    for order in 1..=2u8 {
        let Some(&seed) = residues.first() else { break };
        seeds.push(seed);
        residues = differences(&residues);
        let plan = Plan::of(order, &seeds, &residues);
        if plan.bytes < best.bytes {
            best = plan;
        }
    }
    best.put(out);
}

/// Reads `n` values of packed differences.
pub(crate) fn get_packed(
    cursor: &mut Cursor<'_>,
    n: usize,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let head = cursor.u8()?;
    let (order, shift) = (usize::from(head & 3), u32::from(head >> 2));
    if order > 2 {
        return Err(Malformed("packed order over 2"));
    }
    let mut seeds = [0i64; 2];
    for seed in seeds.iter_mut().take(order) {
        *seed = cursor.zigzag()?;
    }
    let residues = n.checked_sub(order).ok_or(Malformed("fewer values than seeds"))?;
    let start = out.len();
    let [first, first_step] = seeds;
    if order >= 1 {
        out.push(first);
    }
    if order >= 2 {
        out.push(first.wrapping_add(first_step));
    }
    let (mut value, mut step) = (out.last().copied().unwrap_or(0), first_step);
    let mut left = residues;
    while left > 0 {
        let count = left.min(MINIBLOCK);
        let mut block = [0i64; MINIBLOCK];
        get_miniblock(cursor, count, &mut block)?;
        let block = block.iter().take(count).map(|residue| residue << shift);
        match order {
            0 => out.extend(block),
            1 => out.extend(block.map(|residue| {
                value = value.wrapping_add(residue);
                value
            })),
            _ => out.extend(block.map(|residue| {
                step = step.wrapping_add(residue);
                value = value.wrapping_add(step);
                value
            })),
        }
        left -= count;
    }
    debug_assert_eq!(out.len() - start, n);
    Ok(())
}

/// Each value less the one before it, wrapping.
pub(super) fn differences(values: &[i64]) -> Vec<i64> {
    values
        .windows(2)
        .map(|pair| match pair {
            [a, b] => b.wrapping_sub(*a),
            _ => 0,
        })
        .collect()
}

/// One way to pack a column, and what it costs.
struct Plan {
    order: u8,
    shift: u8,
    seeds: Vec<i64>,
    residues: Vec<i64>,
    bytes: usize,
}

impl Plan {
    fn of(order: u8, seeds: &[i64], residues: &[i64]) -> Self {
        let union = residues.iter().fold(0i64, |bits, residue| bits | residue);
        let shift = if union == 0 { 0 } else { u8::try_from(union.trailing_zeros()).unwrap_or(0) };
        let residues: Vec<i64> = residues.iter().map(|residue| residue >> shift).collect();
        let bytes = 1
            + seeds.iter().map(|seed| varint_len(zigzag(*seed))).sum::<usize>()
            + residues.chunks(MINIBLOCK).map(|block| Frame::of(block).bytes).sum::<usize>();
        Self { order, shift, seeds: seeds.to_vec(), residues, bytes }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.order | self.shift << 2);
        for seed in &self.seeds {
            put_zigzag(out, *seed);
        }
        for block in self.residues.chunks(MINIBLOCK) {
            Frame::of(block).put(out, block);
        }
    }
}

/// The base and width of one miniblock.
struct Frame {
    base: i64,
    width: u8,
    bytes: usize,
}

impl Frame {
    fn of(block: &[i64]) -> Self {
        let min = block.iter().copied().min().unwrap_or(0);
        let max = block.iter().copied().max().unwrap_or(0);
        let with = |base: i64| {
            let width = bits_of(max.wrapping_sub(base).cast_unsigned());
            let base_bytes = if base == 0 { 0 } else { varint_len(zigzag(base)) };
            let bytes = 1 + base_bytes + (block.len() * usize::from(width)).div_ceil(8);
            Self { base, width, bytes }
        };
        let based = with(min);
        if min < 0 {
            return based;
        }
        let plain = with(0);
        if plain.bytes <= based.bytes { plain } else { based }
    }

    fn put(&self, out: &mut Vec<u8>, block: &[i64]) {
        out.push(self.width | u8::from(self.base != 0) << 7);
        if self.base != 0 {
            put_zigzag(out, self.base);
        }
        let (mut pending, mut pending_bits) = (0u128, 0u32);
        for residue in block {
            let packed = residue.wrapping_sub(self.base).cast_unsigned();
            pending |= u128::from(packed) << pending_bits;
            pending_bits += u32::from(self.width);
            while pending_bits >= 8 {
                out.push((pending & 0xff) as u8);
                pending >>= 8;
                pending_bits -= 8;
            }
        }
        if pending_bits > 0 {
            out.push((pending & 0xff) as u8);
        }
    }
}

fn bits_of(value: u64) -> u8 {
    u8::try_from(64 - value.leading_zeros()).unwrap_or(64)
}

/// Reads the first `count` residues of a miniblock.
fn get_miniblock(
    cursor: &mut Cursor<'_>,
    count: usize,
    block: &mut [i64; MINIBLOCK],
) -> Result<(), Malformed> {
    let head = cursor.u8()?;
    let width = usize::from(head & 0x7f);
    if width > 64 {
        return Err(Malformed("packed width over 64"));
    }
    let base = if head & 0x80 == 0 { 0 } else { cursor.zigzag()? };
    if width == 0 {
        *block = [base; MINIBLOCK];
        return Ok(());
    }
    let packed = cursor.take((count * width).div_ceil(8))?;
    // With room after the last one, so that each is read out of nine whole bytes.
    let mut bytes = [0u8; MINIBLOCK * 8 + 8];
    if let Some(begin) = bytes.get_mut(..packed.len()) {
        begin.copy_from_slice(packed);
    }
    let mask = u64::MAX >> (64 - width);
    for (number, residue) in block.iter_mut().enumerate().take(count) {
        let (at, shift) = (number * width / 8, number * width % 8);
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((low, after)) = rest.split_first_chunk::<8>() else { break };
        let mut bits = u64::from_le_bytes(*low) >> shift;
        if shift + width > 64 {
            bits |= after.first().map_or(0, |byte| u64::from(*byte) << (64 - shift));
        }
        *residue = base.wrapping_add((bits & mask).cast_signed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
    use proptest::strategy::Strategy;

    use super::{get_line, get_packed, line, put_line, put_packed};
    use crate::bytes::Cursor;

    fn check(values: &[i64]) -> usize {
        let mut out = Vec::new();
        put_packed(&mut out, values);
        let mut back = Vec::new();
        let mut cursor = Cursor::new(&out);
        get_packed(&mut cursor, values.len(), &mut back).unwrap();
        cursor.end().unwrap();
        assert_eq!(back, values);
        let packed_bytes = out.len();
        if let Some(found) = line(values) {
            out.clear();
            back.clear();
            put_line(&mut out, found);
            get_line(&mut Cursor::new(&out), values.len(), &mut back).unwrap();
            assert_eq!(back, values);
        }
        packed_bytes
    }

    fn columns() -> impl Strategy<Value = Vec<i64>> {
        prop_oneof![
            proptest::collection::vec(any::<i64>(), 0..100),
            proptest::collection::vec(-50i64..50, 0..300),
            (any::<i64>(), any::<i64>(), 0usize..100).prop_map(|(first, step, n)| {
                std::iter::successors(Some(first), |v| Some(v.wrapping_add(step))).take(n).collect()
            }),
            (any::<i64>(), proptest::collection::vec(0i64..9000, 0..200)).prop_map(
                |(first, steps)| steps
                    .iter()
                    .scan(first, |v, step| {
                        *v = v.wrapping_add(step * 4096);
                        Some(*v)
                    })
                    .collect()
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_column_round_trips(values in columns()) {
            check(&values);
        }

        #[test]
        fn any_bytes_decode_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), n in 0usize..300,
        ) {
            let mut out = Vec::new();
            if get_packed(&mut Cursor::new(&bytes), n, &mut out).is_ok() {
                assert_eq!(out.len(), n);
            }
            assert!(out.len() <= n + 2);
        }
    }

    #[test]
    fn steady_columns_pack_small() {
        let jittered: Vec<i64> = (0..240).map(|i| 1_700_000_000_000 + i * 1000 + i % 3).collect();
        assert!(check(&jittered) < 120, "{}", check(&jittered));
        let mostly_flat: Vec<i64> = (0..240).map(|i| 77 + i64::from(i > 200)).collect();
        assert!(check(&mostly_flat) < 24, "{}", check(&mostly_flat));
        let pages: Vec<i64> = (0..32).map(|i| (i * 7 % 5) * 4096).collect();
        assert!(check(&pages) < 16, "{}", check(&pages));
        assert_eq!(
            check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]),
            check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN])
        );
    }
}
