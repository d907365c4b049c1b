//! Protobuf's wire format, read field by field over borrowed bytes.

use stoa_model::TimestampMs;

use super::Malformed;

/// The fields of one message that are left to read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

/// A field's value, by wire type.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    Eight(u64),
    Bytes(&'a [u8]),
    Four,
}

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        let value = match wire_type {
            _ if field == 0 => return Err(wrong(field, wire_type)),
            0 => Value::Number(self.number()?),
            1 => {
                let (eight, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
                self.0 = rest;
                Value::Eight(u64::from_le_bytes(*eight))
            }
            2 => {
                let len = usize::try_from(self.number()?).map_err(|_wide| Malformed::Truncated)?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => {
                let (_four, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed::Truncated)?;
                self.0 = rest;
                Value::Four
            }
            _ => return Err(wrong(field, wire_type)),
        };
        Ok(Some((field, value)))
    }

    /// A variable-length number.
    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
        if *first < 0x80 {
            self.0 = rest;
            return Ok(u64::from(*first));
        }
        self.long_number()
    }

    fn long_number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
            self.0 = rest;
            // Bits beyond the 64th are dropped, as every reader of protobuf does.
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Number)
    }
}

impl<'a> Value<'a> {
    #[inline]
    pub(super) fn bytes(self, field: u64) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::Type { field }),
        }
    }

    #[inline]
    pub(super) fn number(self, field: u64) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(Malformed::Type { field }),
        }
    }

    #[inline]
    pub(super) fn double(self, field: u64) -> Result<f64, Malformed> {
        match self {
            Self::Eight(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Malformed::Type { field }),
        }
    }
}

/// A `Sample`, which both versions write alike: value 1, timestamp 2.
#[inline]
pub(super) fn sample(message: &[u8]) -> Result<(TimestampMs, f64), Malformed> {
    let mut fields = Fields(message);
    let (mut t, mut v) = (0_u64, 0.0);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => v = value.double(field)?,
            2 => t = value.number(field)?,
            _ => {}
        }
    }
    Ok((t.cast_signed(), v))
}

fn wrong(field: u64, wire_type: u64) -> Malformed {
    Malformed::Field { field, wire_type: u8::try_from(wire_type).unwrap_or(u8::MAX) }
}
