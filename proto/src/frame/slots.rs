//! The table of series that both ends of a call build alike, and the ops that walk over it.

use super::FrameError;
use super::varint::{Cursor, put_u64};

/// Series in one call's dictionary, at most, ended ones included. An encoder that reaches it
/// starts the dictionary over.
pub const SLOTS_MAX: usize = 65_536;

/// First byte of a tick: the dictionary starts over.
pub(super) const FLAG_RESET: u8 = 1;
/// First byte of a tick: families or series are added.
pub(super) const FLAG_DEFINE: u8 = 2;

/// What happens to a run of neighbouring series in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The value is the predicted one.
    Same,
    /// The value differs from the prediction by an integer that follows.
    Delta,
    /// No reading.
    Absent,
    /// The value's bits follow, as the XOR with the last ones.
    Raw,
    /// The stale marker.
    Stale,
    /// A scale follows, then as for [`Self::Delta`].
    Rescale,
}

/// Appends a run.
pub(super) fn put_run(out: &mut Vec<u8>, op: Op, count: usize) {
    let (code, code_bits) = match op {
        Op::Same => (0b00, 2),
        Op::Delta => (0b01, 2),
        Op::Absent => (0b10, 2),
        Op::Raw => (0b0011, 4),
        Op::Stale => (0b0111, 4),
        Op::Rescale => (0b1011, 4),
    };
    let full = 0xff_u8 >> code_bits;
    match u8::try_from(count) {
        Ok(short) if short < full => out.push(code | (short << code_bits)),
        _ => {
            out.push(code | (full << code_bits));
            put_u64(out, (count - usize::from(full)) as u64);
        }
    }
}

/// Reads a run; its count may be anything, also over the slots that are left.
pub(super) fn take_run(cursor: &mut Cursor<'_>) -> Result<(Op, usize), FrameError> {
    let byte = cursor.byte()?;
    let (op, code_bits) = match byte & 0b11 {
        0b00 => (Op::Same, 2),
        0b01 => (Op::Delta, 2),
        0b10 => (Op::Absent, 2),
        _ => match byte & 0b1111 {
            0b0011 => (Op::Raw, 4),
            0b0111 => (Op::Stale, 4),
            0b1011 => (Op::Rescale, 4),
            _ => return Err(FrameError::Malformed("an op is not known")),
        },
    };
    let full = 0xff_u8 >> code_bits;
    let short = byte >> code_bits;
    let more = if short == full { cursor.size()? } else { 0 };
    Ok((op, usize::from(short).saturating_add(more)))
}

/// Appends the bits of a value: a byte with the number of zero bytes at either end of the XOR,
/// then the bytes between.
pub(super) fn put_bits(out: &mut Vec<u8>, xor: u64) {
    if xor == 0 {
        out.push(0x80);
        return;
    }
    let (lead, trail) = (xor.leading_zeros() / 8, xor.trailing_zeros() / 8);
    #[expect(clippy::cast_possible_truncation, reason = "both are below 8")]
    out.push((lead << 4 | trail) as u8);
    let bytes = (xor << (lead * 8)).to_be_bytes();
    out.extend(bytes.iter().take(8 - (lead + trail) as usize));
}

/// Reads what [`put_bits`] wrote.
pub(super) fn take_bits(cursor: &mut Cursor<'_>) -> Result<u64, FrameError> {
    let zeros = cursor.byte()?;
    let (lead, trail) = (usize::from(zeros >> 4), usize::from(zeros & 0xf));
    let between = 8_usize
        .checked_sub(lead + trail)
        .ok_or(FrameError::Malformed("a value has over 8 zero bytes"))?;
    let xor = cursor.bytes(between)?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    Ok(if trail < 8 { xor << (trail * 8) } else { 0 })
}

/// Timestamps: each tick's step from the last, as the difference from the step before.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    last: i64,
    step: i64,
}

impl Clock {
    pub(super) fn residual_of(&mut self, t: i64) -> i64 {
        let residual = t.wrapping_sub(self.last.wrapping_add(self.step));
        self.learn(t);
        residual
    }

    pub(super) fn time_of(&mut self, residual: i64) -> i64 {
        let t = self.last.wrapping_add(self.step).wrapping_add(residual);
        self.learn(t);
        t
    }

    fn learn(&mut self, t: i64) {
        self.step = t.wrapping_sub(self.last);
        self.last = t;
    }
}
