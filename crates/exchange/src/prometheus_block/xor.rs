//! Float chunks: timestamps as differences of differences, values as the exclusive or with the last
//! (Pelkonen et al., "Gorilla", VLDB 2015), in Prometheus's own bit widths.
//!
//! Source: `tsdb/docs/format/chunks.md`, "XOR chunk data".

use super::bits::{BitReader, BitWriter, Ended, put_varint};

/// Widths of a difference of differences, each after its prefix.
const WIDTHS: [(u64, u32, u32); 3] = [(0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20)];

/// Appends the samples of a chunk.
pub(crate) fn decode(chunk: &[u8], out: &mut Vec<(i64, f64)>) -> Result<(), Ended> {
    let mut bits = BitReader::new(chunk);
    let count = bits.bits(16)?;
    if count == 0 {
        return Ok(());
    }
    let mut t = bits.varint()?;
    let mut value = XorValue::new(bits.u64()?);
    out.push((t, value.value()));
    let mut delta = 0u64;
    for number in 1..count {
        if number == 1 {
            delta = bits.uvarint()?;
        } else {
            delta = delta.wrapping_add(difference(&mut bits)?.cast_unsigned());
        }
        t = t.wrapping_add_unsigned(delta);
        value.step(&mut bits)?;
        out.push((t, value.value()));
    }
    Ok(())
}

/// A double that is written as the exclusive or with its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct XorValue {
    bits: u64,
    leading: u32,
    trailing: u32,
}

impl XorValue {
    pub(super) fn new(bits: u64) -> Self {
        Self { bits, leading: 0, trailing: 0 }
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// Reads the next.
    pub(super) fn step(&mut self, bits: &mut BitReader<'_>) -> Result<(), Ended> {
        if !bits.bit()? {
            return Ok(());
        }
        if bits.bit()? {
            self.leading = u32::try_from(bits.bits(5)?).unwrap_or(0);
            let width = match u32::try_from(bits.bits(6)?).unwrap_or(0) {
                0 => 64,
                width => width,
            };
            self.trailing = 64u32.checked_sub(self.leading + width).ok_or(Ended)?;
        }
        self.bits ^= bits.wide(64 - self.leading - self.trailing)? << self.trailing;
        Ok(())
    }
}

fn difference(bits: &mut BitReader<'_>) -> Result<i64, Ended> {
    if !bits.bit()? {
        return Ok(0);
    }
    for (_, _, width) in WIDTHS {
        if !bits.bit()? {
            let raw = bits.bits(width)?.cast_signed();
            return Ok(if raw > 1 << (width - 1) { raw - (1 << width) } else { raw });
        }
    }
    Ok(bits.u64()?.cast_signed())
}

/// The chunk of samples in order of time; at most 65 535 of them.
pub(super) fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let count = u16::try_from(samples.len()).unwrap_or(u16::MAX);
    let mut bytes = count.to_be_bytes().to_vec();
    let mut samples = samples.iter().take(usize::from(count));
    let Some((first_t, first)) = samples.next() else { return bytes };
    put_varint(&mut bytes, *first_t);
    bytes.extend_from_slice(&first.to_bits().to_be_bytes());
    let mut bits = BitWriter::after(bytes);
    let (mut last_t, mut last, mut last_delta) = (*first_t, first.to_bits(), None);
    let mut window: Option<(u32, u32)> = None;
    for (t, value) in samples {
        let delta = t.wrapping_sub(last_t).cast_unsigned();
        match last_delta {
            None => bits.uvarint(delta),
            Some(last) => put_difference(&mut bits, delta.wrapping_sub(last).cast_signed()),
        }
        put_value(&mut bits, value.to_bits() ^ last, &mut window);
        (last_t, last, last_delta) = (*t, value.to_bits(), Some(delta));
    }
    bits.bytes
}

fn put_difference(bits: &mut BitWriter, difference: i64) {
    if difference == 0 {
        return bits.bits(0, 1);
    }
    for (prefix, prefix_bits, width) in WIDTHS {
        let half = 1i64 << (width - 1);
        if 1 - half <= difference && difference <= half {
            bits.bits(prefix, prefix_bits);
            return bits.bits(difference.cast_unsigned() & ((1 << width) - 1), width);
        }
    }
    bits.bits(0b1111, 4);
    bits.bits(difference.cast_unsigned(), 64);
}

pub(super) fn put_value(bits: &mut BitWriter, change: u64, window: &mut Option<(u32, u32)>) {
    if change == 0 {
        return bits.bits(0, 1);
    }
    bits.bits(1, 1);
    let (leading, trailing) = (change.leading_zeros().min(31), change.trailing_zeros());
    if let Some((old_leading, old_trailing)) = *window
        && leading >= old_leading
        && trailing >= old_trailing
    {
        bits.bits(0, 1);
        return bits.bits(change >> old_trailing, 64 - old_leading - old_trailing);
    }
    *window = Some((leading, trailing));
    let width = 64 - leading - trailing;
    bits.bits(1, 1);
    bits.bits(u64::from(leading), 5);
    bits.bits(u64::from(width & 63), 6);
    bits.bits(change >> trailing, width);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(samples: &[(i64, f64)]) {
        let mut read = Vec::new();
        decode(&encode(samples), &mut read).unwrap();
        let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
            samples.iter().map(|(t, v)| (*t, v.to_bits())).collect()
        };
        assert_eq!(bits(&read), bits(samples));
    }

    #[test]
    fn every_width_of_a_difference_survives() {
        let mut t = 0;
        let mut samples = vec![(0, 1.0), (1000, 1.0)];
        let mut delta = 1000i64;
        for step in
            [0, 1, 8192, -8191, 8193, -8192, 65_536, -65_535, 524_288, -524_287, 524_289, 1 << 40]
        {
            delta += step;
            t += delta;
            samples.push((t, f64::from(u32::try_from(samples.len()).unwrap())));
        }
        check(&samples);
    }

    proptest! {
        #[test]
        fn any_samples_survive(
            steps in proptest::collection::vec((any::<i64>(), 0u32..64, any::<u64>(), 0u32..64), 0..60),
        ) {
            let mut t = 0i64;
            let samples: Vec<(i64, f64)> = steps.into_iter().map(|(step, shift, bits, zeros)| {
                t = t.wrapping_add(step >> shift);
                (t, f64::from_bits(bits >> zeros << (zeros / 2)))
            }).collect();
            check(&samples);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _either = decode(&bytes, &mut Vec::new());
        }
    }
}
