//! Bits, most significant first, and the varints of Go's `encoding/binary`.

/// The bytes end before what they promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// Reads bits forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Up to 57 bits.
    pub(super) fn bits(&mut self, count: u32) -> Result<u64, Ended> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(Ended);
        }
        if count == 0 {
            return Ok(0);
        }
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let eight = match rest.first_chunk::<8>() {
            Some(eight) => *eight,
            None => {
                let mut eight = [0; 8];
                for (to, from) in eight.iter_mut().zip(rest) {
                    *to = *from;
                }
                eight
            }
        };
        let word = u64::from_be_bytes(eight) << (self.at % 8);
        self.at = end;
        Ok(word >> (64 - count))
    }

    pub(super) fn bit(&mut self) -> Result<bool, Ended> {
        Ok(self.bits(1)? == 1)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Ended> {
        Ok(self.bits(32)? << 32 | self.bits(32)?)
    }

    /// Up to 64 bits.
    pub(super) fn wide(&mut self, count: u32) -> Result<u64, Ended> {
        if count <= 57 {
            self.bits(count)
        } else {
            Ok(self.bits(count - 32)? << 32 | self.bits(32)?)
        }
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, Ended> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Ended)
    }

    pub(super) fn varint(&mut self) -> Result<i64, Ended> {
        self.uvarint().map(unzigzag)
    }
}

/// Writes bits one after the other.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    pub(super) bytes: Vec<u8>,
    /// Bits of the last byte still free.
    free: u32,
}

impl BitWriter {
    /// Begins after whole bytes.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    pub(super) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1u64 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::try_from(part << (self.free - take)).unwrap_or(0);
            }
            self.free -= take;
            left -= take;
        }
    }

    pub(super) fn uvarint(&mut self, value: u64) {
        let mut bytes = Vec::with_capacity(10);
        put_uvarint(&mut bytes, value);
        for byte in bytes {
            self.bits(u64::from(byte), 8);
        }
    }
}

/// Small magnitudes, either sign, from small numbers.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The inverse of [`unzigzag`].
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Reads whole bytes forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Ended> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Ended)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Ended> {
        let (first, rest) = self.rest.split_first().ok_or(Ended)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Ended> {
        let (taken, rest) = self.rest.split_first_chunk::<4>().ok_or(Ended)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*taken))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Ended> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, Ended> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Ended)
    }

    pub(super) fn varint(&mut self) -> Result<i64, Ended> {
        self.uvarint().map(unzigzag)
    }

    /// A count of things of at least one byte each, so that a damaged one allocates no more than the
    /// input's own size.
    pub(super) fn count(&mut self) -> Result<usize, Ended> {
        let count = usize::try_from(self.uvarint()?).map_err(|_wide| Ended)?;
        if count > self.len() { Err(Ended) } else { Ok(count) }
    }
}
