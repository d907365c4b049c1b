//! Bytes as hex digits: fingerprints, serial numbers, identifiers.

use std::fmt;

/// Bytes, printed as lower case hex.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'b>(pub &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Parses hex of exactly `N` bytes, either case.
#[must_use]
pub fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16).and_then(|v| u8::try_from(v).ok())?;
            *byte = (*byte << 4) | value;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_only_at_its_length() {
        assert_eq!(parse::<2>("00fF"), Some([0, 255]));
        assert_eq!(Hex(&[0, 255]).to_string(), "00ff");
        for bad in ["", "00f", "00ff0", "00fg", "+0ff", "é00"] {
            assert_eq!(parse::<2>(bad), None, "{bad}");
        }
    }
}
