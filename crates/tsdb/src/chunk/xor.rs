//! Doubles as the exclusive or with their predecessor (Gorilla), for values that are no short
//! decimals.
//!
//! Bits, most significant first. The first value in full; then per value `0` when equal to the last;
//! `10` and the meaningful bits when they fit the last window; `11`, five bits of leading zeros, six
//! bits of length less one, and the meaningful bits otherwise.

use crate::bytes::{Cursor, Malformed};

pub(crate) fn put_xor(out: &mut Vec<u8>, values: &[f64]) {
    let mut bits = BitWriter { out, byte: 0, used: 0 };
    let mut last = 0u64;
    let mut window: Option<(u32, u32)> = None;
    for (i, v) in values.iter().enumerate() {
        let now = v.to_bits();
        if i == 0 {
            bits.put(now, 64);
            last = now;
            continue;
        }
        let xor = now ^ last;
        last = now;
        if xor == 0 {
            bits.put(0, 1);
            continue;
        }
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        match window {
            Some((lead, trail)) if leading >= lead && trailing >= trail => {
                bits.put(0b10, 2);
                bits.put(xor >> trail, 64 - lead - trail);
            }
            _ => {
                let length = 64 - leading - trailing;
                bits.put(0b11, 2);
                bits.put(u64::from(leading), 5);
                bits.put(u64::from(length - 1), 6);
                bits.put(xor >> trailing, length);
                window = Some((leading, trailing));
            }
        }
    }
    bits.finish();
}

/// Reads `n` values; the cursor ends on the next whole byte.
pub(crate) fn get_xor(
    cursor: &mut Cursor<'_>,
    n: usize,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let mut bits = BitReader { cursor, byte: 0, left: 0 };
    let mut last = 0u64;
    let mut window: Option<(u32, u32)> = None;
    for i in 0..n {
        if i == 0 {
            last = bits.get(64)?;
        } else if bits.get(1)? == 1 {
            if bits.get(1)? == 1 {
                let leading = bits.get_short(5)?;
                let length = bits.get_short(6)? + 1;
                let trailing = 64u32
                    .checked_sub(leading + length)
                    .ok_or(Malformed("xor window over 64 bits"))?;
                window = Some((leading, trailing));
            }
            let (leading, trailing) = window.ok_or(Malformed("xor window used before given"))?;
            last ^= bits.get(64 - leading - trailing)? << trailing;
        }
        out.push(f64::from_bits(last));
    }
    Ok(())
}

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    byte: u8,
    used: u32,
}

impl BitWriter<'_> {
    fn put(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            let take = count.min(8 - self.used);
            let chunk = (value >> (count - take)) & ((1 << take) - 1);
            self.byte |= ((chunk << (8 - self.used - take)) & 0xff) as u8;
            self.used += take;
            count -= take;
            if self.used == 8 {
                self.out.push(self.byte);
                self.byte = 0;
                self.used = 0;
            }
        }
    }

    fn finish(self) {
        if self.used > 0 {
            self.out.push(self.byte);
        }
    }
}

struct BitReader<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    byte: u8,
    left: u32,
}

impl BitReader<'_, '_> {
    /// Up to 32 bits.
    fn get_short(&mut self, count: u32) -> Result<u32, Malformed> {
        u32::try_from(self.get(count)?).ok().ok_or(Malformed("more than 32 bits"))
    }

    fn get(&mut self, mut count: u32) -> Result<u64, Malformed> {
        let mut value = 0u64;
        while count > 0 {
            if self.left == 0 {
                self.byte = self.cursor.u8()?;
                self.left = 8;
            }
            let take = count.min(self.left);
            let chunk = (self.byte >> (self.left - take)) & (((1u16 << take) - 1) & 0xff) as u8;
            value = value << take | u64::from(chunk);
            self.left -= take;
            count -= take;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{get_xor, put_xor};
    use crate::bytes::Cursor;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_column_round_trips(
            bits in proptest::collection::vec(any::<u64>(), 0..60), near in 0u32..64,
        ) {
            for mask in [u64::MAX, (1u64 << near) - 1] {
                let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(b & mask)).collect();
                let mut out = Vec::new();
                put_xor(&mut out, &values);
                let mut back = Vec::new();
                let mut cursor = Cursor::new(&out);
                get_xor(&mut cursor, values.len(), &mut back).unwrap();
                cursor.end().unwrap();
                let same = back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits()));
                assert!(same);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut out = Vec::new();
            let whole = get_xor(&mut Cursor::new(&bytes), 300, &mut out).is_ok();
            assert!(out.len() <= 300 && (!whole || out.len() == 300));
        }
    }
}
