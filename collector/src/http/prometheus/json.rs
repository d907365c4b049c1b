//! JSON as Prometheus writes it, straight into bytes: no tree is built per sample.
//!
//! Values are strings (`"1.5"`, `"NaN"`, `"+Inf"`), as Go's `strconv` prints the shortest form that
//! reads back to the same bits; timestamps are numbers of seconds with up to three decimals.

use std::io::Write as _;

use stoa_model::{Labels, TimestampMs};

/// Writes a JSON string with its quotes.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&special, after)) = tail.split_first() else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                for nibble in [control >> 4, control & 15] {
                    out.push(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
                }
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Writes a list of strings.
pub(crate) fn strings<T: AsRef<str>>(out: &mut Vec<u8>, list: impl IntoIterator<Item = T>) {
    out.push(b'[');
    for (i, text) in list.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(out, text.as_ref());
    }
    out.push(b']');
}

/// Writes labels as an object, in order of their names.
pub(crate) fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(out, &label.name);
        out.push(b':');
        string(out, &label.value);
    }
    out.push(b'}');
}

/// Writes a list of anything.
pub(crate) fn each<T>(out: &mut Vec<u8>, list: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, one) in list.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(out, one);
    }
    out.push(b']');
}

/// Writes a double as protobuf's JSON does: a number, or a text where JSON has no number for it.
pub(crate) fn proto_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    } else {
        float(out, value);
    }
}

/// Writes an integer.
pub(crate) fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes milliseconds as seconds: `1`, `1.500`, `-0.001`.
pub(crate) fn timestamp(out: &mut Vec<u8>, t: TimestampMs) {
    if t < 0 {
        out.push(b'-');
    }
    let (seconds, millis) = (t.unsigned_abs() / 1000, t.unsigned_abs() % 1000);
    integer(out, seconds);
    if millis > 0 {
        print(out, format_args!(".{millis:03}"));
    }
}

/// Writes `[timestamp,"value"]`.
pub(crate) fn sample(out: &mut Vec<u8>, t: TimestampMs, value: f64) {
    out.push(b'[');
    timestamp(out, t);
    out.extend_from_slice(b",\"");
    float(out, value);
    out.extend_from_slice(b"\"]");
}

/// Writes samples as `[timestamp,"value"]`, with commas between them.
pub(crate) fn samples(out: &mut Vec<u8>, samples: &[(TimestampMs, f64)]) {
    out.reserve(samples.len() * SAMPLE_BYTES);
    // Most values are the ones before them: their text is copied.
    let (mut last_bits, mut last_text) = (None, 0..0);
    for (i, (t, value)) in samples.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
        timestamp(out, *t);
        out.extend_from_slice(b",\"");
        let begin = out.len();
        if last_bits == Some(value.to_bits()) {
            out.extend_from_within(last_text);
        } else {
            float(out, *value);
            last_bits = Some(value.to_bits());
        }
        last_text = begin..out.len();
        out.extend_from_slice(b"\"]");
    }
}

/// About what a sample takes.
const SAMPLE_BYTES: usize = 24;

/// Doubles up to here that are whole are so to the last digit.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes a value as Go does, without quotes: plain from 1e-6 up to 1e21, else with an exponent of
/// at least two digits and its sign.
pub(crate) fn float(out: &mut Vec<u8>, value: f64) {
    if value.abs() < WHOLE_MAX && is_whole(value) && (value != 0.0 || value.is_sign_positive()) {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
        let whole = value as i64;
        integer(out, whole);
        return;
    }
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(value).as_bytes();
    if !shortest.contains(&b'e') {
        out.extend_from_slice(shortest.strip_suffix(b".0").unwrap_or(shortest));
        return;
    }
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        print(out, format_args!("{value}"));
        return;
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    print(out, format_args!("{digits}e{sign}{exponent:0>2}"));
}

#[expect(clippy::float_cmp, reason = "whole or not")]
fn is_whole(value: f64) -> bool {
    value.trunc() == value
}

/// Writing to memory cannot fail.
fn print(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "BUG: a write to memory failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_read_as_go_prints_them() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-15.0, "-15"),
            (0.5, "0.5"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (-1.234e17, "-123400000000000000"),
            (806_585_766_327_760.0 + 0.25, "806585766327760.2"),
            (0.000_012_3, "0.0000123"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-07"),
            (-1.5e-300, "-1.5e-300"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|out| float(out, value)), want);
        }
    }

    #[test]
    fn timestamps_are_seconds_to_the_millisecond() {
        for (t, want) in [
            (0, "0"),
            (1000, "1"),
            (1001, "1.001"),
            (1_700_000_000_120, "1700000000.120"),
            (-1500, "-1.500"),
            (-1, "-0.001"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(written(|out| timestamp(out, t)), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_string_survives(text in ".*") {
            let json = written(|out| string(out, &text));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text));
        }

        #[test]
        fn any_float_survives(bits in proptest::num::u64::ANY) {
            let value = f64::from_bits(bits);
            let text = written(|out| float(out, value));
            let back: f64 = text.parse().unwrap_or(0.5);
            proptest::prop_assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()));
            if (1e-6..1e21).contains(&value.abs()) {
                // Of two that are equally near Go takes the even one, `format!` the larger one.
                proptest::prop_assert_eq!(text.len(), format!("{value}").len());
            }
        }

        #[test]
        fn floats_are_as_short_as_can_be(mantissa: i64, scale in 0i32..22) {
            #[expect(clippy::cast_precision_loss, reason = "any double will do")]
            let value = mantissa as f64 / 10f64.powi(scale);
            if (1e-6..1e21).contains(&value.abs()) {
                let text = written(|out| float(out, value));
                proptest::prop_assert_eq!(text.len(), format!("{value}").len());
                proptest::prop_assert_eq!(text.parse(), Ok(value));
            }
        }

        #[test]
        fn samples_are_written_one_by_one(values in proptest::collection::vec(0u8..3, 0..9)) {
            let values: Vec<(i64, f64)> =
                (0i64..).zip(values).map(|(t, v)| (t * 500, f64::from(v) / 4.0)).collect();
            let mut want = Vec::new();
            for (i, (t, v)) in values.iter().enumerate() {
                if i > 0 {
                    want.push(b',');
                }
                sample(&mut want, *t, *v);
            }
            proptest::prop_assert_eq!(
                written(|out| samples(out, &values)),
                String::from_utf8(want).unwrap_or_default()
            );
        }
    }
}
