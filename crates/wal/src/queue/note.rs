//! What stands in the log of a stream: records, and notes about them. Bytes in docs/formats/spool.md.

use super::{Epoch, Stamp};

const KIND_RECORD: u8 = 1;
const KIND_ACKED: u8 = 2;
const KIND_CLOSED: u8 = 3;
const KIND_ACCOUNTED: u8 = 4;

/// What a record takes beside its payload and the frame of the log.
pub(super) const RECORD_FIELDS_BYTES: usize = 72;

/// A note as it is read; the payload of a record follows its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Record(Numbered),
    /// All of an epoch up to `through` is acknowledged, nothing beyond; `None` is nothing at all.
    Acked {
        epoch: Epoch,
        through: Option<u64>,
    },
    /// The queue was closed when so much had been pushed in all.
    Closed {
        records: u64,
        samples: u64,
    },
    /// These records are not in the log any more, or not readable, and were told of.
    Accounted(Accounted),
}

/// A record's stamp and its place in all that was ever pushed to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    /// How many records were pushed before it.
    pub(super) number: u64,
    /// How many samples those carried.
    pub(super) samples_before: u64,
    pub(super) stamp: Stamp,
}

/// A run of record numbers and the samples they carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accounted {
    pub(super) number: u64,
    pub(super) records: u64,
    pub(super) samples: u64,
}

impl Accounted {
    pub(super) fn end(&self) -> u64 {
        self.number.saturating_add(self.records)
    }
}

impl Note {
    /// The number after the last one it speaks of.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Record(numbered) => numbered.number.saturating_add(1),
            Self::Accounted(accounted) => accounted.end(),
            Self::Closed { records, .. } => *records,
            Self::Acked { .. } => 0,
        }
    }

    /// The kind and bytes to append; for a record without its payload.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Vec::with_capacity(RECORD_FIELDS_BYTES);
        let kind = match self {
            Self::Record(Numbered { number, samples_before, stamp }) => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&samples_before.to_le_bytes());
                out.extend_from_slice(&stamp.epoch);
                out.extend_from_slice(&stamp.seq_first.to_le_bytes());
                out.extend_from_slice(&stamp.seq_last.to_le_bytes());
                out.extend_from_slice(&stamp.samples.to_le_bytes());
                out.extend_from_slice(&stamp.t_first_ms.to_le_bytes());
                out.extend_from_slice(&stamp.t_last_ms.to_le_bytes());
                KIND_RECORD
            }
            Self::Acked { epoch, through } => {
                out.extend_from_slice(epoch);
                out.push(u8::from(through.is_some()));
                out.extend_from_slice(&through.unwrap_or(0).to_le_bytes());
                KIND_ACKED
            }
            Self::Closed { records, samples } => {
                out.extend_from_slice(&records.to_le_bytes());
                out.extend_from_slice(&samples.to_le_bytes());
                KIND_CLOSED
            }
            Self::Accounted(Accounted { number, records, samples }) => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&records.to_le_bytes());
                out.extend_from_slice(&samples.to_le_bytes());
                KIND_ACCOUNTED
            }
        };
        (kind, out)
    }

    /// The note and, for a record, its payload. `None` for a kind of a later version, or a length
    /// that no note has.
    pub(super) fn decode(kind: u8, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = bytes;
        let note = match kind {
            KIND_RECORD => Self::Record(Numbered {
                number: take_u64(&mut rest)?,
                samples_before: take_u64(&mut rest)?,
                stamp: Stamp {
                    epoch: take(&mut rest)?,
                    seq_first: take_u64(&mut rest)?,
                    seq_last: take_u64(&mut rest)?,
                    samples: take_u64(&mut rest)?,
                    t_first_ms: i64::from_le_bytes(take(&mut rest)?),
                    t_last_ms: i64::from_le_bytes(take(&mut rest)?),
                },
            }),
            KIND_ACKED => {
                let epoch = take(&mut rest)?;
                let [any] = take(&mut rest)?;
                let through = take_u64(&mut rest)?;
                Self::Acked { epoch, through: Some(through).filter(|_| any != 0) }
            }
            KIND_CLOSED => {
                Self::Closed { records: take_u64(&mut rest)?, samples: take_u64(&mut rest)? }
            }
            KIND_ACCOUNTED => Self::Accounted(Accounted {
                number: take_u64(&mut rest)?,
                records: take_u64(&mut rest)?,
                samples: take_u64(&mut rest)?,
            }),
            _ => return None,
        };
        (kind == KIND_RECORD || rest.is_empty()).then_some((note, rest))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(note: Note, expected_kind: u8, expected_hex: &str) {
        let (kind, bytes) = note.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!((kind, hex.as_str()), (expected_kind, expected_hex));
        assert_eq!(Note::decode(kind, &bytes), Some((note, &[][..])));
        for len in 0..bytes.len() {
            assert_eq!(Note::decode(kind, &bytes[..len]), None, "cut to {len}");
        }
    }

    #[test]
    fn notes_are_pinned_and_come_back() {
        let stamp = Stamp {
            epoch: [0xAB; 16],
            seq_first: 1,
            seq_last: 2,
            samples: 3,
            t_first_ms: -4,
            t_last_ms: 5,
        };
        let record = Note::Record(Numbered { number: 6, samples_before: 7, stamp });
        let expected = concat!(
            "0600000000000000",
            "0700000000000000",
            "abababababababababababababababab",
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "fcffffffffffffff",
            "0500000000000000"
        );
        check(record, 1, expected);
        let epoch = [1; 16];
        check(
            Note::Acked { epoch, through: Some(258) },
            2,
            "01010101010101010101010101010101010201000000000000",
        );
        check(
            Note::Acked { epoch, through: None },
            2,
            "01010101010101010101010101010101000000000000000000",
        );
        check(Note::Closed { records: 1, samples: 2 }, 3, "01000000000000000200000000000000");
        check(
            Note::Accounted(Accounted { number: 1, records: 2, samples: 3 }),
            4,
            "010000000000000002000000000000000300000000000000",
        );
        assert_eq!(Note::decode(9, b""), None);
    }
}
