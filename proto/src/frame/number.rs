//! One series' values as numbers that are mostly small.
//!
//! Most readings are integers, multiples of a page or sector, or short decimals. Such a value is
//! kept as `i` in units of a power of two or a negative power of ten, exact to the bit, and only
//! the difference from a prediction travels. Three predictors run side by side
//! in both ends – the last value, the last value plus the last step, the last value plus the mean
//! step – and the one that was cheapest lately is used; the choice costs no bit, as both ends make
//! it from the past. What is no short decimal travels as the XOR with its predecessor.

use super::varint::fold;

/// The unit a value is counted in, coarse to fine: codes below [`SCALE_ONE`] are the powers of two
/// 2^16 to 2^1, [`SCALE_ONE`] is 1, codes above are 10^-1 to 10^-12.
pub(super) type Scale = u8;

/// The scale whose unit is 1.
const SCALE_ONE: Scale = 16;

/// The finest scale a value is tried with: 12 decimals.
pub(super) const SCALE_MAX: Scale = SCALE_ONE + 12;

const TENS: [f64; (SCALE_MAX - SCALE_ONE) as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Magnitudes up to here are cast between `f64` and `i64` without loss of range (2^62).
const INTEGER_MAX: f64 = 4_611_686_018_427_387_904.0;

/// How many past values weigh on a predictor's cost: 2^3, exponentially.
const COST_SHIFT: u32 = 3;

/// How many past steps weigh on the mean step: 2^3, exponentially.
const MEAN_SHIFT: u32 = 3;

/// What both ends remember of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// The last value as it was, for the XOR and for repeats.
    pub(super) bits: u64,
    /// Whether the last value was no short decimal.
    pub(super) raw: bool,
    /// The unit in use; only ever gets finer.
    pub(super) scale: Scale,
    last: i64,
    step: i64,
    /// The mean step times 2^[`MEAN_SHIFT`].
    mean: i64,
    /// Running cost in bits of each predictor.
    costs: [u32; 3],
}

impl Numbers {
    /// The integer that stands for `value` and the scale it needs, at least the one in use;
    /// `None` when no scale holds it exactly.
    pub(super) fn integer_of(&self, value: f64) -> Option<(i64, Scale)> {
        (self.scale..=SCALE_MAX).find_map(|scale| Some((integer_at(value, scale)?, scale)))
    }

    /// The value that `integer` stands for at the scale in use.
    pub(super) fn value_of(&self, integer: i64) -> f64 {
        value_at(integer, self.scale)
    }

    /// Takes a finer unit into use.
    pub(super) fn rescale(&mut self, scale: Scale) {
        let twos = u32::from(scale.min(SCALE_ONE).saturating_sub(self.scale));
        let tens = u32::from(scale.saturating_sub(self.scale.max(SCALE_ONE)));
        let factor = 2_i64.wrapping_pow(twos).wrapping_mul(10_i64.wrapping_pow(tens));
        for number in [&mut self.last, &mut self.step, &mut self.mean] {
            *number = number.wrapping_mul(factor);
        }
        self.scale = scale;
        if !self.raw {
            self.bits = self.value_of(self.last).to_bits();
        }
    }

    /// What the next integer is expected to be.
    pub(super) fn predict(&self) -> i64 {
        let [hold, step, mean] = self.costs;
        let [by_hold, by_step, by_mean] = self.predictions();
        if hold <= step && hold <= mean {
            by_hold
        } else if step <= mean {
            by_step
        } else {
            by_mean
        }
    }

    /// Learns the integer that came.
    pub(super) fn learn(&mut self, integer: i64) {
        let predictions = self.predictions();
        for (cost, prediction) in self.costs.iter_mut().zip(predictions) {
            let bits = 64 - fold(integer.wrapping_sub(prediction)).leading_zeros();
            *cost = *cost - (*cost >> COST_SHIFT) + (bits << 4);
        }
        self.step = integer.wrapping_sub(self.last);
        self.mean = self.mean.wrapping_sub(self.mean >> MEAN_SHIFT).wrapping_add(self.step);
        // Most values are those before.
        if self.raw || integer != self.last {
            self.last = integer;
            self.raw = false;
            self.bits = self.value_of(integer).to_bits();
        }
    }

    /// Learns a value that travels as it is.
    pub(super) fn learn_raw(&mut self, bits: u64) {
        self.raw = true;
        self.bits = bits;
    }

    fn predictions(&self) -> [i64; 3] {
        [
            self.last,
            self.last.wrapping_add(self.step),
            self.last.wrapping_add(self.mean >> MEAN_SHIFT),
        ]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by INTEGER_MAX, and checked by bits")]
fn integer_at(value: f64, scale: Scale) -> Option<i64> {
    let (twos, tens) = units(scale);
    let scaled = (value / twos * tens).round();
    if scaled.is_nan() || scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = scaled as i64;
    (value_at(integer, scale).to_bits() == value.to_bits()).then_some(integer)
}

#[expect(clippy::cast_precision_loss, reason = "both ends lose the same, and the encoder checks")]
fn value_at(integer: i64, scale: Scale) -> f64 {
    let (twos, tens) = units(scale);
    integer as f64 * twos / tens
}

/// The unit as what it multiplies by and what it divides by; one of them is 1.
fn units(scale: Scale) -> (f64, f64) {
    let twos = 1_u32 << SCALE_ONE.saturating_sub(scale).min(SCALE_ONE);
    let tens = TENS.get(usize::from(scale.saturating_sub(SCALE_ONE))).copied();
    (f64::from(twos), tens.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_decimals_become_integers_and_others_do_not() {
        let check = |value: f64, expected: Option<(i64, Scale)>| {
            assert_eq!(Numbers::default().integer_of(value), expected, "{value}");
        };
        check(0.0, Some((0, 0)));
        check(1235.0, Some((1235, SCALE_ONE)));
        check(3.0 * 4096.0, Some((3, SCALE_ONE - 12)));
        check(0.25, Some((25, SCALE_ONE + 2)));
        check(-1234.567, Some((-1_234_567, SCALE_ONE + 3)));
        check(1e15, Some((1_000_000_000_000_000 >> 15, SCALE_ONE - 15)));
        check(-0.0, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
        check(1.0 / 3.0, None);
        check(f64::MAX, None);
        check(f64::MIN_POSITIVE, None);
    }

    #[test]
    fn a_steady_counter_costs_nothing_after_a_few_steps() {
        let mut numbers = Numbers::default();
        for i in 0..20 {
            numbers.learn(1_000_000 + i * 97);
        }
        assert_eq!(numbers.predict(), 1_000_000 + 20 * 97);
    }
}
