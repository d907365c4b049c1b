//! Values and timestamps as text.

use stoa_model::stale_nan;

/// Powers of ten a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Digits that surely fit a double's mantissa.
const DIGITS_EXACT: u32 = 15;

/// Beyond this many milliseconds on either side of 1970 (300 000 years) a timestamp is a mistake.
const T_MS_MAX: f64 = 1e16;

/// How a stale marker is written between Stoas: neither format has a word for it.
pub(super) const STALE: &str = "StaleNaN";

/// A value; `Inf` and `NaN` in any case, else a decimal number as Go's `ParseFloat` reads it.
pub(super) fn value_of(text: &str) -> Option<f64> {
    short_decimal(text.as_bytes()).or_else(|| {
        if text == STALE {
            return Some(stale_nan());
        }
        let digits = text.trim_start_matches(['+', '-']);
        if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || digits.eq_ignore_ascii_case("inf")
            || digits.eq_ignore_ascii_case("nan")
        {
            text.parse().ok()
        } else {
            None
        }
    })
}

/// The value of up to fifteen digits with a point among them: one division of two exact doubles,
/// so correctly rounded (Clinger 1990). `None` for everything else.
fn short_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (mut mantissa, mut count, mut fraction, mut in_fraction) = (0u64, 0u32, 0usize, false);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                count += 1;
                fraction += usize::from(in_fraction);
            }
            b'.' if !in_fraction => in_fraction = true,
            _ => return None,
        }
    }
    if count == 0 || count > DIGITS_EXACT {
        return None;
    }
    let value = mantissa as f64 / POWERS.get(fraction)?;
    Some(if negative { -value } else { value })
}

/// A timestamp of the text format: whole milliseconds.
pub(super) fn millis_of(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A timestamp of OpenMetrics: seconds, to the nearest millisecond.
pub(super) fn seconds_of(text: &str) -> Option<i64> {
    let ms = (value_of(text)? * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "bounded one line above")]
    (ms.abs() <= T_MS_MAX).then_some(ms as i64)
}

/// A value as Go writes it: shortest digits that read back equal, an exponent of at least two digits
/// below 1e-04 and from 1e+06 on (`strconv.FormatFloat(v, 'g', -1, 64)`).
#[must_use]
pub fn value_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// Milliseconds as seconds with as many decimals as there are.
pub(super) fn seconds_text(t_ms: i64) -> String {
    let sign = if t_ms < 0 { "-" } else { "" };
    let (seconds, millis) = (t_ms.unsigned_abs() / 1000, t_ms.unsigned_abs() % 1000);
    if millis == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{millis:03}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_written_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.21, "0.21"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_418_183_276.0, "1.418183276e+09"),
            (343_796.328_169_361, "343796.328169361"),
            (2_045_936.778_163_039, "2.045936778163039e+06"),
            (9_653.880_000_000_001, "9653.880000000001"),
            (0.000_1, "0.0001"),
            (0.000_01, "1e-05"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (-125_000.0, "-125000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(value_text(value), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "0x1p-2", "1_000", "infinity", "1e", "+-1", "１"] {
            assert_eq!(value_of(text), None, "{text:?}");
        }
        assert_eq!(seconds_of("1520879607.789"), Some(1_520_879_607_789));
        assert_eq!(seconds_of("-1.5"), Some(-1500));
        assert_eq!(seconds_of("NaN"), None);
        assert_eq!(seconds_of("1e300"), None);
        assert_eq!(seconds_text(-1500), "-1.500");
        assert_eq!(seconds_text(2000), "2");
    }

    proptest! {
        #[test]
        fn a_written_value_reads_back_equal(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(value_of(&value_text(value)).map(f64::to_bits), Some(value.to_bits()));
        }

        #[test]
        fn a_decimal_is_read_as_the_standard_library_reads_it(text in "-?[0-9]{0,17}(\\.[0-9]{0,17})?") {
            prop_assert_eq!(value_of(&text).map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits));
        }

        #[test]
        fn a_written_timestamp_reads_back_equal(t_ms in -1_000_000_000_000_000i64..1_000_000_000_000_000) {
            prop_assert_eq!(seconds_of(&seconds_text(t_ms)), Some(t_ms));
        }
    }
}
