//! Durations and sizes as people write them in a file: `"1s"`, `"14d"`, `"256MiB"`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A duration written as `"500ms"`, `"1s"`, `"5m"`, `"24h"`, `"14d"`, `"2w"`, `"1y"` or a sum of such
/// (`"1h30m"`), largest unit first, as Prometheus writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size written as `"256MiB"`, `"1GiB"`, `"4KiB"`, or a bare number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

const SPAN_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const BYTE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl Span {
    /// Reads a duration; `None` when it is not one or does not fit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total_ms: u64 = 0;
        let mut units = SPAN_UNITS.iter();
        while !rest.is_empty() {
            let (number, after) = split_number(rest)?;
            let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, next) = after.split_at_checked(unit_len)?;
            let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
            total_ms = total_ms.checked_add(number.checked_mul(*unit_ms)?)?;
            rest = next;
        }
        (!text.is_empty()).then_some(Self(Duration::from_millis(total_ms)))
    }
}

impl Bytes {
    /// Reads a size; `None` when it is not one or does not fit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_number(text.trim())?;
        if unit.is_empty() {
            return Some(Self(number));
        }
        let (_, bytes) = BYTE_UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        number.checked_mul(*bytes).map(Self)
    }
}

impl fmt::Display for Span {
    /// In days and what is smaller: `14d`, `1h30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = self.0.as_millis();
        if rest_ms == 0 {
            return f.write_str("0s");
        }
        for (name, unit_ms) in SPAN_UNITS.iter().filter(|(name, _)| !matches!(*name, "y" | "w")) {
            let unit_ms = u128::from(*unit_ms);
            if rest_ms >= unit_ms {
                write!(f, "{}{name}", rest_ms / unit_ms)?;
                rest_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Bytes {
    /// In the largest unit that says it exactly: `512MiB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*bytes);
        let (name, bytes) = BYTE_UNITS.iter().rev().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / bytes)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"1s\", \"5m\" or \"14d\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256MiB\" or a number of bytes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Bytes, E> {
                u64::try_from(number)
                    .map(Bytes)
                    .map_err(|_out_of_range| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_writes_them() {
        for (text, ms) in [
            ("1s", Some(1_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("14d", Some(1_209_600_000)),
            ("0s", Some(0)),
            ("", None),
            ("1", None),
            ("1x", None),
            ("30m1h", None),
            ("-1s", None),
            ("99999999999y", None),
        ] {
            assert_eq!(Span::parse(text), ms.map(|ms| Span(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        for text in ["14d", "1h30m", "500ms", "0s", "400d1ms"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        for text in ["512MiB", "1000B", "0B", "3TiB", "1025KiB"] {
            assert_eq!(Bytes::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("256MiB", Some(256 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("1MB", None),
            ("", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(Bytes::parse(text), bytes.map(Bytes), "{text}");
        }
    }
}
