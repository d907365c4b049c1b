//! The codecs of a column of doubles without stale markers, and which of them is taken.

use super::{decimal, get_scalar, ints, pco, put_scalar, xor};
use crate::bytes::{Cursor, Malformed};

/// How hard an encoder tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// A few nanoseconds a value: what the head seals and the first block takes over.
    #[default]
    Fresh,
    /// All codecs, a few hundred nanoseconds a value: what compaction writes for good.
    Compacted,
}

/// A way to write a column of values. By speed of decoding, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// All values equal: one scalar.
    Const = 0,
    /// Short decimals on a straight line: scale, first, step.
    Linear = 1,
    /// Doubles as they are.
    Raw = 7,
    /// Short decimals, differences bit-packed: scale, packed column.
    Packed = 2,
    /// Short decimals, differences entropy coded: scale, pco column of integers.
    PcoIntegers = 3,
    /// Doubles through pco.
    PcoDoubles = 4,
    /// Doubles, each the exclusive or with the last.
    Xor = 5,
}

impl Codec {
    /// Every codec, fastest to decode first.
    pub const ALL: [Self; 7] = [
        Self::Const,
        Self::Linear,
        Self::Raw,
        Self::Packed,
        Self::PcoIntegers,
        Self::PcoDoubles,
        Self::Xor,
    ];

    /// The byte that names it in a chunk.
    #[must_use]
    pub fn tag(self) -> u8 {
        self as u8
    }

    pub(super) fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.tag() == tag)
    }

    /// Appends the values in this form, or nothing and says `false` when they have none.
    pub(super) fn put(self, values: &[f64], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Const => put_const(values, out),
            Self::Raw => {
                put_raw(values, out);
                true
            }
            Self::Xor => {
                xor::put_xor(out, values);
                true
            }
            Self::PcoDoubles => pco::put_doubles(out, values),
            Self::Linear | Self::Packed | Self::PcoIntegers => {
                let Some((scale, mantissas)) = decimal::split_all(values) else { return false };
                let line = ints::line(&mantissas);
                let start = out.len();
                out.push(scale);
                let done = match (self, line) {
                    (Self::Linear, Some(line)) => {
                        ints::put_line(out, line);
                        true
                    }
                    (Self::Linear, None) => false,
                    (Self::PcoIntegers, _) => pco::put_integers(out, &mantissas),
                    _ => {
                        ints::put_packed(out, &mantissas);
                        true
                    }
                };
                if !done {
                    out.truncate(start);
                }
                done
            }
        }
    }

    /// Appends the `n` values of a chunk's body in this form.
    pub(super) fn get(
        self,
        cursor: &mut Cursor<'_>,
        n: usize,
        out: &mut Vec<f64>,
    ) -> Result<(), Malformed> {
        match self {
            Self::Const => {
                let value = get_scalar(cursor)?;
                out.resize(out.len() + n, value);
            }
            Self::Linear | Self::Packed | Self::PcoIntegers => {
                let scale = cursor.u8()?;
                if scale > decimal::SCALE_MAX {
                    return Err(Malformed("scale too large"));
                }
                let mut mantissas = Vec::with_capacity(n);
                match self {
                    Self::Linear => ints::get_line(cursor, n, &mut mantissas)?,
                    Self::Packed => ints::get_packed(cursor, n, &mut mantissas)?,
                    _ => pco::get_integers(cursor, n, &mut mantissas)?,
                }
                if !decimal::join_all(&mantissas, scale, out) {
                    return Err(Malformed("scale too large"));
                }
            }
            Self::PcoDoubles => pco::get_doubles(cursor, n, out)?,
            Self::Xor => xor::get_xor(cursor, n, out)?,
            Self::Raw => {
                for _ in 0..n {
                    out.push(f64::from_bits(cursor.u64()?));
                }
            }
        }
        Ok(())
    }
}

/// Decimals over this many bytes a value are compared with the forms for doubles before being taken.
const DECIMAL_BYTES_FINE: usize = 4;

/// Under this many bytes no column of pco's can save anything.
const PCO_BYTES_MIN: usize = 12;

/// Appends the values in the form that suits them and says which.
///
/// A form that is slower to decode has to be smaller: at all when [`Effort::Fresh`], by more than
/// 5 % when [`Effort::Compacted`].
pub(super) fn put_best(values: &[f64], effort: Effort, out: &mut Vec<u8>) -> Codec {
    if put_const(values, out) {
        return Codec::Const;
    }
    let start = out.len();
    let mut best = Best { codec: Codec::Raw, bytes: values.len() * 8, start, effort };
    if let Some((scale, mantissas)) = decimal::split_all(values) {
        out.push(scale);
        if let Some(line) = ints::line(&mantissas) {
            ints::put_line(out, line);
            return Codec::Linear;
        }
        ints::put_packed(out, &mantissas);
        best.judge(Codec::Packed, start, out);
        if effort == Effort::Compacted && best.bytes > PCO_BYTES_MIN {
            let at = out.len();
            out.push(scale);
            if pco::put_integers(out, &mantissas) {
                best.judge(Codec::PcoIntegers, at, out);
            } else {
                out.truncate(at);
            }
        }
        if best.codec != Codec::Raw && best.bytes <= values.len() * DECIMAL_BYTES_FINE {
            return best.codec;
        }
    }
    if effort == Effort::Compacted {
        let at = out.len();
        if pco::put_doubles(out, values) {
            best.judge(Codec::PcoDoubles, at, out);
        }
    }
    let at = out.len();
    xor::put_xor(out, values);
    best.judge(Codec::Xor, at, out);
    if best.codec == Codec::Raw {
        out.truncate(start);
        put_raw(values, out);
    }
    best.codec
}

/// The smallest form so far; unless raw, it lies at `start` of the output.
struct Best {
    codec: Codec,
    bytes: usize,
    start: usize,
    effort: Effort,
}

impl Best {
    /// Takes what lies from `at` to the output's end, or drops it.
    fn judge(&mut self, codec: Codec, at: usize, out: &mut Vec<u8>) {
        let bytes = out.len() - at;
        let wins = match self.effort {
            Effort::Fresh => bytes < self.bytes,
            Effort::Compacted => bytes * 100 < self.bytes * 95,
        };
        if wins {
            out.drain(self.start..at);
            (self.codec, self.bytes) = (codec, bytes);
        } else {
            out.truncate(at);
        }
    }
}

fn put_const(values: &[f64], out: &mut Vec<u8>) -> bool {
    let first = values.first().copied().unwrap_or(0.0);
    let all_equal = values.iter().all(|v| v.to_bits() == first.to_bits());
    if all_equal {
        put_scalar(out, first);
    }
    all_equal
}

fn put_raw(values: &[f64], out: &mut Vec<u8>) {
    for v in values {
        out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
}
