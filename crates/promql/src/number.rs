//! Numbers as Go's `strconv` reads and prints them, and casts that say what they do at the edges.

use std::fmt::Write as _;

/// `v` as the API prints a sample value (`FormatFloat(v, 'f', -1, 64)`): shortest digits, never an
/// exponent, `NaN`, `+Inf`, `-Inf`.
#[must_use]
pub fn format_float(v: f64) -> String {
    if v.is_nan() {
        "NaN".into()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        format!("{v}")
    }
}

/// `v` as Go's `%g` prints it: shortest digits, an exponent below 1e-4 and from 1e+06 on.
#[must_use]
pub(crate) fn format_general(v: f64) -> String {
    if !v.is_finite() {
        return format_float(v);
    }
    let scientific = format!("{v:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{v}")
}

/// `v` as Go's `%f` prints it: six decimals.
#[must_use]
pub(crate) fn format_fixed(v: f64) -> String {
    if v.is_finite() { format!("{v:.6}") } else { format_float(v) }
}

/// `s` as Go's `%q` prints it.
#[must_use]
pub(crate) fn quote(s: &str) -> String {
    quote_bytes(s.as_bytes())
}

/// The characters of Unicode's category Cf that texts come with: Go prints them by their numbers.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Bytes as Go's `%q` prints them: what is no UTF-8 becomes `\x..`.
#[must_use]
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0b' => out.push_str("\\v"),
                '\x0c' => out.push_str("\\f"),
                c if c.is_ascii_control() => {
                    let _ignored = write!(out, "\\x{:02x}", u32::from(c));
                }
                // What is no space and nothing to see.
                c if c.is_control() || is_format(c) => {
                    let _ignored = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ignored = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// A number as PromQL and its test scripts write it: Go's integers (`0x`, `0b`, `0o`, leading `0`
/// for octal, `_` between digits) and floats, `Inf` and `NaN` in any case.
#[must_use]
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase().replace('_', "");
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == 'i' || c == 'n') {
        return None;
    }
    let magnitude = if let Some(hex) = lower.strip_prefix("0x") {
        parse_radix(hex, 16)?
    } else if let Some(binary) = lower.strip_prefix("0b") {
        parse_radix(binary, 2)?
    } else if let Some(octal) = lower.strip_prefix("0o") {
        parse_radix(octal, 8)?
    } else if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit())
    {
        parse_radix(&lower, 8).or_else(|| lower.parse().ok())?
    } else {
        match lower.as_str() {
            "inf" | "infinity" => f64::INFINITY,
            "nan" => f64::NAN,
            _ => lower.parse().ok()?,
        }
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn parse_radix(digits: &str, radix: u32) -> Option<f64> {
    u64::from_str_radix(digits, radix).ok().map(u64_to_f64)
}

#[expect(clippy::cast_precision_loss, reason = "a literal beyond 2^53 is rounded, as Go does")]
fn u64_to_f64(n: u64) -> f64 {
    n as f64
}

/// Toward zero, saturating; NaN is 0.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
pub(crate) fn to_i64(v: f64) -> i64 {
    v as i64
}

/// Toward zero, saturating; NaN and negatives are 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub(crate) fn to_usize(v: f64) -> usize {
    v as usize
}

/// A count as a number; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// Milliseconds as a number.
#[expect(clippy::cast_precision_loss, reason = "timestamps stay far below 2^53")]
pub(crate) fn real(ms: i64) -> f64 {
    ms as f64
}

/// Milliseconds as seconds.
pub(crate) fn seconds(ms: i64) -> f64 {
    real(ms) / 1000.0
}

/// A count of steps or samples from a difference of timestamps; negative is 0.
pub(crate) fn index(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

/// Whether two numbers are equal but for a relative error; NaN equals NaN, infinities equal
/// themselves only.
pub(crate) fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if stoa_model::is_stale(a) || stoa_model::is_stale(b) {
        return stoa_model::is_stale(a) && stoa_model::is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

/// Adds `v` to a running sum with Neumaier's compensation, as Prometheus does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kahan {
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
}

impl Kahan {
    pub(crate) fn add(self, v: f64) -> Self {
        let sum = self.sum + v;
        let compensation = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= v.abs() {
            self.compensation + ((self.sum - sum) + v)
        } else {
            self.compensation + ((v - sum) + self.sum)
        };
        Self { sum, compensation }
    }

    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.compensation }
    }
}

/// The compensated sum of many numbers, unless it or a part of it is not finite. The same as adding
/// them one by one to [`Kahan`], without its branches: the rounding error of an addition is exact
/// either way.
pub(crate) fn finite_sum(values: &[f64]) -> Option<Kahan> {
    let (first, rest) = values.split_first()?;
    let (mut sum, mut compensation) = (*first, 0.0);
    for v in rest {
        let next = sum + v;
        let of_sum = next - v;
        let of_v = next - of_sum;
        compensation += (sum - of_sum) + (v - of_v);
        sum = next;
    }
    (sum.is_finite() && compensation.is_finite()).then_some(Kahan { sum, compensation })
}

/// The mean of numbers added one by one: the plain mean of a compensated sum, and once that would
/// overflow an incremental mean.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    count: f64,
    running: Kahan,
    incremental: bool,
}

impl Mean {
    pub(crate) fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.running = Kahan { sum: v, compensation: 0.0 };
            return;
        }
        if !self.incremental {
            let next = self.running.add(v);
            if !next.sum.is_infinite() {
                self.running = next;
                return;
            }
            self.incremental = true;
            self.running.sum /= self.count - 1.0;
            self.running.compensation /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        let scaled = Kahan {
            sum: share * self.running.sum,
            compensation: share * self.running.compensation,
        };
        self.running = scaled.add(v / self.count);
    }

    pub(crate) fn mean(&self) -> f64 {
        if self.incremental {
            self.running.sum + self.running.compensation
        } else {
            self.running.sum / self.count + self.running.compensation / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_the_api_prints_them() {
        for (v, expect) in [
            (1e6, "1000000"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1e-7, "0.0000001"),
        ] {
            assert_eq!(format_float(v), expect);
        }
        assert_eq!(format_general(1e-7), "1e-07");
        assert_eq!(format_general(0.25), "0.25");
        assert_eq!(format_general(1_234_567.5), "1.2345675e+06");
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, expect) in [
            ("0x1F", 31.0),
            ("010", 8.0),
            ("1_000", 1000.0),
            (".5", 0.5),
            ("2.", 2.0),
            ("1e3", 1000.0),
            ("-inF", f64::NEG_INFINITY),
            ("+Inf", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text), Some(expect), "{text}");
        }
        for bad in ["", "-", "x", "1x", "--1", "0xg"] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sum_at_once_is_the_sum_one_by_one() {
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bits = f64::from_bits((seed & !(0x7ff << 52)) | ((1_000 + (seed >> 58)) << 52));
            if bits.is_finite() { bits } else { 1.0 }
        };
        for length in 1..200 {
            let values: Vec<f64> = (0..length).map(|_| next()).collect();
            let one_by_one = values
                .iter()
                .skip(1)
                .fold(Kahan { sum: values[0], compensation: 0.0 }, |sum, v| sum.add(*v));
            let at_once = finite_sum(&values).unwrap();
            assert_eq!(at_once.sum.to_bits(), one_by_one.sum.to_bits());
            assert_eq!(at_once.compensation.to_bits(), one_by_one.compensation.to_bits());
        }
        assert!(finite_sum(&[f64::MAX, f64::MAX]).is_none());
        assert!(finite_sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_none());
    }

    #[test]
    fn what_is_no_utf8_is_quoted_by_byte() {
        assert_eq!(quote_bytes(b"a\xc5z\n\""), r#""a\xc5z\n\"""#);
    }
}
