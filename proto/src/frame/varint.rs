//! Integers in as few bytes as they need (LEB128), signed ones folded (zigzag).

use super::FrameError;

/// Appends an unsigned integer, 1 to 10 bytes.
pub(super) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Appends a signed integer.
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, fold(value));
}

/// Appends a text: its length in bytes, then the bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Signed to unsigned, small magnitudes to small numbers.
pub(super) fn fold(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unfold(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Bytes being read; every read checks that they are there.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes not read yet.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8, FrameError> {
        let (&first, rest) = self.0.split_first().ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FrameError::Malformed("an integer is over 64 bits"))
    }

    pub(super) fn i64(&mut self) -> Result<i64, FrameError> {
        self.u64().map(unfold)
    }

    /// A count or length; one over the address space cannot be in the bytes either.
    pub(super) fn size(&mut self) -> Result<usize, FrameError> {
        usize::try_from(self.u64()?).map_err(|_too_large| FrameError::Truncated)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, FrameError> {
        let len = self.size()?;
        std::str::from_utf8(self.bytes(len)?)
            .map_err(|_invalid| FrameError::Malformed("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_round_trip(u in any::<u64>(), i in any::<i64>(), text in ".{0,9}") {
            let mut bytes = Vec::new();
            put_u64(&mut bytes, u);
            put_i64(&mut bytes, i);
            put_text(&mut bytes, &text);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.u64().unwrap(), u);
            prop_assert_eq!(cursor.i64().unwrap(), i);
            prop_assert_eq!(cursor.text().unwrap(), text);
            prop_assert!(cursor.is_empty() && cursor.byte().is_err());
        }
    }

    #[test]
    fn an_endless_integer_is_refused() {
        assert!(Cursor::new(&[0xff; 11]).u64().is_err());
        assert!(Cursor::new(&[0x80; 3]).u64().is_err());
    }
}
