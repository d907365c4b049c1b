//! Points in time: `1700000000.5`, `2023-11-14T22:13:20.5Z`, and Prometheus's least and greatest.

use stoa_model::{TimestampMs, civil};

pub use stoa_model::rfc3339;

/// Why a text is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse {0:?} to a valid timestamp")]
pub struct TimeError(pub String);

/// The earliest time a request may name, in milliseconds: Prometheus's own.
pub const TIME_MIN_MS: TimestampMs = (i64::MIN / 1000 + 62_135_596_801) * 1000;

/// The latest time a request may name, in milliseconds: Prometheus's own.
pub const TIME_MAX_MS: TimestampMs = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

/// The texts clients send for "from the beginning" and "to the end".
const MIN_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// Milliseconds since 1970 from float seconds or RFC 3339.
///
/// # Errors
/// [`TimeError`] when it is neither, or beyond [`TIME_MIN_MS`] to [`TIME_MAX_MS`].
pub fn time(text: &str) -> Result<TimestampMs, TimeError> {
    let error = || TimeError(text.to_owned());
    if let Ok(seconds) = text.parse::<f64>() {
        let millis = (seconds * 1000.0).round();
        #[expect(clippy::cast_precision_loss, reason = "a bound, not a value")]
        let legal = (TIME_MIN_MS as f64)..=(TIME_MAX_MS as f64);
        if !legal.contains(&millis) {
            return Err(error());
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        return Ok((millis as i64).clamp(TIME_MIN_MS, TIME_MAX_MS));
    }
    match text {
        MIN_TEXT => Ok(TIME_MIN_MS),
        MAX_TEXT => Ok(TIME_MAX_MS),
        text => parse_rfc3339(text).ok_or_else(error),
    }
}

fn parse_rfc3339(text: &str) -> Option<TimestampMs> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .try_fold(0, |sum: i64, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, want: &[u8]| bytes.get(at).is_some_and(|b| want.contains(b));
    let shaped = is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":");
    if !shaped {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    if civil(days) != (year, month, day) {
        return None; // 30 February
    }
    let mut rest = bytes.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for place in 0..3 {
            let digit = fraction.get(place).filter(|_| place < digits).map_or(0, |b| b - b'0');
            millis = millis * 10 + i64::from(digit);
        }
        rest = fraction.get(digits..)?;
    }
    let zone_minutes = match *rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            if ![h1, h2, m1, m2].iter().all(u8::is_ascii_digit) {
                return None;
            }
            let pair = |a: u8, b: u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let (hours, minutes) = (pair(h1, h2), pair(m1, m2));
            if hours > 23 || minutes > 59 {
                return None;
            }
            let size = hours * 60 + minutes;
            if sign == b'-' { -size } else { size }
        }
        _ => return None,
    };
    let minutes = (days * 24 + hour) * 60 + minute - zone_minutes;
    Some((minutes * 60 + second) * 1000 + millis)
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Hinnant, "chrono-compatible low-level date
/// algorithms": years start in March, eras have 400 years).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_prometheus_reads_them() {
        for (text, want) in [
            ("0", Some(0)),
            ("4", Some(4000)),
            ("1700000000.123", Some(1_700_000_000_123)),
            ("-1.5", Some(-1500)),
            ("1e3", Some(1_000_000)),
            // milliseconds given as seconds, as Grafana does at its start
            ("1700000000000", Some(1_700_000_000_000_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500)),
            ("2023-11-14T22:13:20.123456789Z", Some(1_700_000_000_123)),
            ("2023-11-15T00:13:20+02:00", Some(1_700_000_000_000)),
            ("2023-11-14T17:43:20-04:30", Some(1_700_000_000_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            (MIN_TEXT, Some(TIME_MIN_MS)),
            (MAX_TEXT, Some(TIME_MAX_MS)),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-11-14", None),
            ("2023-11-14T22:13:20", None),
            ("2023-11-14T22:13:20.Z", None),
            ("2023-11-14T22:13:20+2:00", None),
            ("", None),
            ("yesterday", None),
            ("NaN", None),
            ("inf", None),
            ("1e30", None),
        ] {
            assert_eq!(time(text).ok(), want, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printed_times_read_back(t in -62_135_596_800_000i64..253_402_300_799_999) {
            proptest::prop_assert_eq!(time(&rfc3339(t)), Ok(t));
        }
    }
}
