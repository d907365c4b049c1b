//! Protobuf's wire format, read field by field over borrowed bytes, and written.

/// Why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field ends beyond its message.
    #[error("it ends within a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number is too long")]
    Number,
    /// A field number or type that there is not.
    #[error("field {field} of wire type {wire_type} cannot be")]
    Field {
        /// Its number.
        field: u64,
        /// Its wire type.
        wire_type: u8,
    },
    /// A known field of another type than it must have.
    #[error("field {field} has the wrong wire type")]
    Type {
        /// Its number.
        field: u64,
    },
}

/// The fields of one message that are left to read.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

/// A field's value, by wire type.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Number(u64),
    Eight(u64),
    Bytes(&'a [u8]),
    Four,
}

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
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
    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
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
    pub(crate) fn bytes(self, field: u64) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::Type { field }),
        }
    }

    #[inline]
    pub(crate) fn number(self, field: u64) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(Malformed::Type { field }),
        }
    }

    #[inline]
    pub(crate) fn double(self, field: u64) -> Result<f64, Malformed> {
        match self {
            Self::Eight(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Malformed::Type { field }),
        }
    }

    /// A `fixed64`.
    #[inline]
    pub(crate) fn fixed(self, field: u64) -> Result<u64, Malformed> {
        match self {
            Self::Eight(number) => Ok(number),
            _ => Err(Malformed::Type { field }),
        }
    }

    /// A `sint32`; one beyond it is as wrong as the bound.
    pub(crate) fn small(self, field: u64) -> Result<i32, Malformed> {
        Ok(i32::try_from(unzigzag(self.number(field)?)).unwrap_or(i32::MAX))
    }

    /// The numbers of eight bytes that a repeated field holds here: one, or several packed.
    pub(crate) fn fixeds(self, field: u64) -> Result<impl Iterator<Item = u64>, Malformed> {
        let (one, packed): (_, &[[u8; 8]]) = match self {
            Self::Eight(number) => (Some(number), &[]),
            Self::Bytes(bytes) => match bytes.as_chunks() {
                (eights, []) => (None, eights),
                _ => return Err(Malformed::Truncated),
            },
            _ => return Err(Malformed::Type { field }),
        };
        Ok(one.into_iter().chain(packed.iter().map(|eight| u64::from_le_bytes(*eight))))
    }

    /// As [`Self::fixeds`], of variable length.
    pub(crate) fn numbers(
        self,
        field: u64,
    ) -> Result<impl Iterator<Item = Result<u64, Malformed>>, Malformed> {
        let (one, mut packed) = match self {
            Self::Number(number) => (Some(Ok(number)), Fields(&[])),
            Self::Bytes(bytes) => (None, Fields(bytes)),
            _ => return Err(Malformed::Type { field }),
        };
        let rest = std::iter::from_fn(move || (!packed.0.is_empty()).then(|| packed.number()));
        Ok(one.into_iter().chain(rest))
    }
}

fn wrong(field: u64, wire_type: u64) -> Malformed {
    Malformed::Field { field, wire_type: u8::try_from(wire_type).unwrap_or(u8::MAX) }
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

pub(crate) fn put_double(out: &mut Vec<u8>, field: u64, v: f64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
}

/// A `fixed64`.
pub(crate) fn put_fixed(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while let Some(low) = u8::try_from(number & 0x7f).ok().filter(|_| number >= 0x80) {
        out.push(low | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}
