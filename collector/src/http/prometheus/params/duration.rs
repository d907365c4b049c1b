//! Durations: `15`, `0.5`, `1h30m`, `500ms`.

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Neither seconds nor `1h30m`.
    #[error("cannot parse {0:?} to a valid duration")]
    Malformed(String),
    /// Longer than can be counted in nanoseconds, some 292 years.
    #[error("cannot parse {0:?} to a valid duration. It overflows int64")]
    Overflow(String),
}

/// The longest duration, in milliseconds: what fits an `i64` of nanoseconds.
const DURATION_MAX_MS: i64 = i64::MAX / 1_000_000;

/// The units from long to short, in milliseconds; each may stand once and in this order.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds from float seconds (may be negative) or from Prometheus's `1h30m`.
///
/// # Errors
/// [`DurationError`] when it is neither, or too long.
pub fn duration(text: &str) -> Result<i64, DurationError> {
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.is_nan() {
            return Err(DurationError::Malformed(text.to_owned()));
        }
        let millis = (seconds * 1000.0).round();
        #[expect(clippy::cast_precision_loss, reason = "a bound, not a value")]
        let max = DURATION_MAX_MS as f64;
        if millis.abs() > max {
            return Err(DurationError::Overflow(text.to_owned()));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        let millis = millis as i64;
        // less than half a millisecond is still a step forward, not none
        return Ok(if millis == 0 && seconds > 0.0 { 1 } else { millis });
    }
    units(text)
}

fn units(text: &str) -> Result<i64, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let overflow = || DurationError::Overflow(text.to_owned());
    let mut total: i64 = 0;
    let mut rest = text;
    let mut allowed = UNITS.iter();
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if digits == 0 {
            return Err(malformed());
        }
        let number: i64 = number.parse().map_err(|_too_long| overflow())?;
        let &(_, millis) =
            allowed.by_ref().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        total = number
            .checked_mul(millis)
            .and_then(|part| total.checked_add(part))
            .filter(|&sum| sum <= DURATION_MAX_MS)
            .ok_or_else(overflow)?;
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_reads_them() {
        for (text, want) in [
            ("15", Some(15_000)),
            ("0.25", Some(250)),
            ("-3", Some(-3000)),
            ("0.0001", Some(1)),
            ("1e3", Some(1_000_000)),
            ("0", Some(0)),
            ("15s", Some(15_000)),
            ("1h30m", Some(5_400_000)),
            ("1d500ms", Some(86_400_500)),
            ("1y1w1d1h1m1s1ms", Some(365 * 86_400_000 + 8 * 86_400_000 + 3_661_001)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("1x", None),
            ("30m1h", None),
            ("1h1h", None),
            ("-1h", None),
            ("1h ", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("300y", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text).ok(), want, "{text:?}");
        }
    }
}
