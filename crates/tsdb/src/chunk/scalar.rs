//! One double in as few bytes as its shortest decimal needs: in log records and constant chunks.
//!
//! A varint whose low three bits say the kind: 0 to 5, the rest is the zigzag mantissa `m` of
//! `m / 10^kind`; 6, the stale marker; 7, eight bytes of the double follow.

use stoa_model::{is_stale, stale_nan};

use crate::bytes::{Cursor, Malformed, put_varint, unzigzag, zigzag};
use crate::chunk::decimal;

const KIND_SCALE_MAX: u8 = 5;
const KIND_STALE: u8 = 6;
const KIND_RAW: u8 = 7;

pub(crate) fn put_scalar(out: &mut Vec<u8>, v: f64) {
    if is_stale(v) {
        out.push(KIND_STALE);
        return;
    }
    for scale in 0..=KIND_SCALE_MAX {
        if let Some(m) = decimal::split(v, scale) {
            let folded = zigzag(m);
            // More than 52 bits take no fewer bytes than the raw form.
            if folded >> 52 == 0 {
                put_varint(out, folded << 3 | u64::from(scale));
                return;
            }
            break;
        }
        if !v.is_finite() {
            break;
        }
    }
    out.push(KIND_RAW);
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

pub(crate) fn get_scalar(cursor: &mut Cursor<'_>) -> Result<f64, Malformed> {
    let word = cursor.varint()?;
    let (kind, rest) = ((word & 7) as u8, word >> 3);
    match kind {
        KIND_STALE => Ok(stale_nan()),
        KIND_RAW => cursor.u64().map(f64::from_bits),
        scale => decimal::join(unzigzag(rest), scale).ok_or(Malformed("scale too large")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};
    use stoa_model::stale_nan;

    use super::{get_scalar, put_scalar};
    use crate::bytes::Cursor;

    fn check(v: f64) -> usize {
        let mut out = Vec::new();
        put_scalar(&mut out, v);
        let mut cursor = Cursor::new(&out);
        assert_eq!(get_scalar(&mut cursor).unwrap().to_bits(), v.to_bits(), "{v}");
        cursor.end().unwrap();
        out.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn every_double_survives(bits: u64, m: i32, cents: i16) {
            check(f64::from_bits(bits));
            check(f64::from(m));
            check(f64::from(cents) / 100.0);
        }
    }

    #[test]
    fn ordinary_values_are_short() {
        for (v, bytes) in
            [(0.0, 1), (1.0, 1), (-1.0, 1), (0.5, 1), (100.0, 2), (99.99, 3), (stale_nan(), 1)]
        {
            assert_eq!(check(v), bytes, "{v}");
        }
        for v in [-0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX, 1.0 / 3.0] {
            assert_eq!(check(v), 9, "{v}");
        }
    }
}
