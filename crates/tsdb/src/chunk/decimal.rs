//! Doubles that are short decimals, as integers: `v = m / 10^k`, exact to the bit or not at all.
//!
//! A double `m / 10^k` is correctly rounded while `|m| ≤ 2^53` and `10^k ≤ 10^22`, so the way back
//! gives the very bits; the way in checks that it does.

/// The largest power of ten tried; beyond 15 digits no mantissa fits 53 bits.
pub(crate) const SCALE_MAX: u8 = 15;

const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

const MANTISSA_MAX: f64 = 9_007_199_254_740_992.0;

/// The double `m / 10^scale`; scales over [`SCALE_MAX`] give `None`.
pub(crate) fn join(m: i64, scale: u8) -> Option<f64> {
    let power = POWERS.get(usize::from(scale))?;
    Some(if scale == 0 { m as f64 } else { m as f64 / power })
}

/// Appends the doubles of all mantissas; false, and nothing, when the scale is over [`SCALE_MAX`].
pub(super) fn join_all(mantissas: &[i64], scale: u8, out: &mut Vec<f64>) -> bool {
    let Some(power) = POWERS.get(usize::from(scale)) else { return false };
    if scale == 0 {
        out.extend(mantissas.iter().map(|m| *m as f64));
    } else {
        out.extend(mantissas.iter().map(|m| *m as f64 / power));
    }
    true
}

/// The integer `m` with `join(m, scale)` equal to `v` bit by bit, if there is one.
pub(crate) fn split(v: f64, scale: u8) -> Option<i64> {
    let power = POWERS.get(usize::from(scale))?;
    let scaled = nearest(v * power);
    let limit = if scale == 0 { 9_223_372_036_854_774_784.0 } else { MANTISSA_MAX };
    if scaled.is_nan() || scaled.abs() > limit {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the limit just checked")]
    let m = scaled as i64;
    (join(m, scale)?.to_bits() == v.to_bits()).then_some(m)
}

/// The whole number nearest to `v`, ties to even.
///
/// Below 2^51 a sum with 1.5·2^52 has no room for a fraction, so adding rounds; that takes two
/// additions where the processor all builds must run on would call a function.
fn nearest(v: f64) -> f64 {
    const NO_FRACTION: f64 = 6_755_399_441_055_744.0;
    if v.abs() < 2_251_799_813_685_248.0 {
        v + NO_FRACTION - NO_FRACTION
    } else {
        v.round_ties_even()
    }
}

/// Splits each of up to as many values as there is room for; the first one that does not split at
/// this scale when there is one.
pub(crate) fn split_at(values: &[f64], scale: u8, mantissas: &mut [i64]) -> Option<f64> {
    for (v, place) in values.iter().zip(mantissas) {
        match split(*v, scale) {
            Some(m) => *place = m,
            None => return Some(*v),
        }
    }
    None
}

/// The smallest scale above `scale` at which a value splits.
pub(crate) fn scale_after(v: f64, scale: u8) -> Option<u8> {
    (scale + 1..=SCALE_MAX).find(|s| split(v, *s).is_some())
}

/// The smallest scale at which every value splits, and the mantissas.
pub(crate) fn split_all(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut scale = 0u8;
    let mut mantissas = Vec::with_capacity(values.len());
    'scales: loop {
        mantissas.clear();
        for v in values {
            match split(*v, scale) {
                Some(m) => mantissas.push(m),
                None => {
                    scale = (scale + 1..=SCALE_MAX).find(|s| split(*v, *s).is_some())?;
                    continue 'scales;
                }
            }
        }
        return Some((scale, mantissas));
    }
}

#[cfg(test)]
mod tests {
    use super::{join, nearest, split, split_all};

    #[test]
    fn the_nearest_is_that_of_the_processor() {
        let mut v = 1e-3_f64;
        while v < 1e19 {
            for v in [v, -v, v.floor() + 0.5, v.floor() + 1.5, -v.floor() - 0.5] {
                assert!(nearest(v) == v.round_ties_even(), "{v}: {}", nearest(v));
            }
            v *= 1.37;
        }
        assert!(nearest(f64::NAN).is_nan());
        assert!(nearest(f64::INFINITY).is_infinite());
    }

    #[test]
    fn short_decimals_split_and_join_to_the_bit() {
        for (values, scale) in [
            (vec![1.0, 2.0, -3.0], Some(0)),
            (vec![0.1, 0.25, 1e6], Some(2)),
            (vec![1_700_000_000.123, 5.0], Some(3)),
            (vec![9.2e18, -9.2e18], Some(0)),
            (vec![f64::from_bits(1.0f64.to_bits() + 1)], None),
            (vec![-0.0], None),
            (vec![f64::NAN], None),
            (vec![f64::INFINITY], None),
            (vec![1e300], None),
            (vec![f64::MIN_POSITIVE / 4.0], None),
        ] {
            let found = split_all(&values);
            assert_eq!(found.as_ref().map(|(s, _)| *s), scale, "{values:?}");
            let Some((s, mantissas)) = found else { continue };
            for (m, v) in mantissas.iter().zip(&values) {
                assert_eq!(join(*m, s).unwrap().to_bits(), v.to_bits());
            }
        }
        assert_eq!(split(0.5, 16), None);
    }
}
