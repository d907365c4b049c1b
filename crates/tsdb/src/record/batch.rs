//! A batch in the log.
//!
//! Rows name series as runs of consecutive references, or "as the row before"; a row of the same
//! series as the one before writes only the values that changed.

use stoa_model::TimestampMs;

use super::{get_marks, put_marks};
use crate::batch::BATCH_SAMPLES_MAX;
use crate::bytes::{Cursor, Malformed, put_bytes, put_varint, put_zigzag};
use crate::chunk::{get_scalar, put_scalar};
use crate::{GroupId, Mark, Row, SeriesRef};

/// The row has the series of the row before, in its order.
const FLAG_SAME_SERIES: u8 = 1;
/// A bitmap says which values differ from the row before; only those follow.
const FLAG_CHANGED_ONLY: u8 = 2;

/// A batch as the log keeps it.
#[derive(Debug, PartialEq)]
pub(crate) struct BatchRecord {
    pub(crate) group: GroupId,
    pub(crate) rows: Vec<Row>,
    pub(crate) marks: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of marks that go.
    pub(crate) removed: Vec<Vec<u8>>,
}

/// Appends a batch.
pub(crate) fn put_batch(
    out: &mut Vec<u8>,
    group: GroupId,
    rows: &[Row],
    marks: &[Mark],
    removed: &[&[u8]],
) {
    out.extend_from_slice(&group.0.to_le_bytes());
    put_marks(out, marks.iter().map(|mark| (mark.key.as_slice(), mark.value.as_slice())));
    put_varint(out, removed.len() as u64);
    for key in removed {
        put_bytes(out, key);
    }
    put_varint(out, rows.len() as u64);
    let mut last: Option<&Row> = None;
    for row in rows {
        put_row(out, row, last);
        last = Some(row);
    }
}

fn put_row(out: &mut Vec<u8>, row: &Row, last: Option<&Row>) {
    put_zigzag(out, row.t_ms.wrapping_sub(last.map_or(0, |last| last.t_ms)));
    let last = last.filter(|last| {
        last.samples.len() == row.samples.len()
            && last.samples.iter().zip(&row.samples).all(|((a, _), (b, _))| a == b)
    });
    if let Some(last) = last {
        out.push(FLAG_SAME_SERIES | FLAG_CHANGED_ONLY);
        let changed =
            |((_, a), (_, b)): (&(SeriesRef, f64), &(SeriesRef, f64))| a.to_bits() != b.to_bits();
        let changes: Vec<bool> = last.samples.iter().zip(&row.samples).map(changed).collect();
        for eight in changes.chunks(8) {
            let bits = eight.iter().enumerate().map(|(i, changed)| u8::from(*changed) << i);
            out.push(bits.fold(0, |byte, bit| byte | bit));
        }
        for ((_, v), _) in row.samples.iter().zip(&changes).filter(|(_, changed)| **changed) {
            put_scalar(out, *v);
        }
        return;
    }
    out.push(0);
    put_varint(out, row.samples.len() as u64);
    let consecutive =
        |a: &(SeriesRef, f64), b: &(SeriesRef, f64)| a.0.0.checked_add(1) == Some(b.0.0);
    let mut next = 0i64;
    for run in row.samples.chunk_by(consecutive) {
        let Some((first, _)) = run.first() else { continue };
        put_zigzag(out, i64::from(first.0) - next);
        put_varint(out, run.len() as u64);
        next = i64::from(first.0) + run.len() as i64;
    }
    for (_, v) in &row.samples {
        put_scalar(out, *v);
    }
}

impl BatchRecord {
    /// Reads a batch; it holds at most [`BATCH_SAMPLES_MAX`] samples.
    pub(crate) fn get(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let group = GroupId(cursor.u64()?);
        let marks = get_marks(cursor)?;
        let mut removed = Vec::new();
        for _ in 0..cursor.count(1)? {
            removed.push(cursor.bytes()?.to_vec());
        }
        let count = cursor.count(2)?;
        let mut rows: Vec<Row> = Vec::with_capacity(count);
        let mut left = BATCH_SAMPLES_MAX;
        for _ in 0..count {
            let row = get_row(cursor, rows.last(), left)?;
            left = left.saturating_sub(row.samples.len());
            rows.push(row);
        }
        Ok(Self { group, rows, marks, removed })
    }
}

fn get_row(cursor: &mut Cursor<'_>, last: Option<&Row>, left: usize) -> Result<Row, Malformed> {
    let t_ms: TimestampMs = cursor.zigzag()?.wrapping_add(last.map_or(0, |last| last.t_ms));
    let too_many = Malformed("batch of too many samples");
    let samples = match cursor.u8()? {
        0 => {
            let count = cursor.count(1)?;
            if count > left {
                return Err(too_many);
            }
            let series = get_runs(cursor, count)?;
            let mut samples = Vec::with_capacity(count);
            for series in series {
                samples.push((series, get_scalar(cursor)?));
            }
            samples
        }
        flags if flags == FLAG_SAME_SERIES | FLAG_CHANGED_ONLY => {
            let mut samples = last.ok_or(Malformed("no row before"))?.samples.clone();
            if samples.len() > left {
                return Err(too_many);
            }
            let bitmap = cursor.take(samples.len().div_ceil(8))?;
            for (i, (_, v)) in samples.iter_mut().enumerate() {
                if bitmap.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1) {
                    *v = get_scalar(cursor)?;
                }
            }
            samples
        }
        _ => return Err(Malformed("unknown flags of a row")),
    };
    Ok(Row { t_ms, samples })
}

/// Reads runs of consecutive references, `count` references in all.
pub(crate) fn get_runs(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<SeriesRef>, Malformed> {
    let mut series = Vec::with_capacity(count);
    let mut next = 0i64;
    while series.len() < count {
        let first = next.wrapping_add(cursor.zigzag()?);
        let run = cursor.varint()?;
        if run == 0 || run > (count - series.len()) as u64 {
            return Err(Malformed("run of references too long or empty"));
        }
        next = first.wrapping_add(run.cast_signed());
        let last = next.wrapping_sub(1);
        let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) else {
            return Err(Malformed("series reference over 32 bits"));
        };
        series.extend((first..=last).map(SeriesRef));
    }
    Ok(series)
}
