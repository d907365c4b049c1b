//! What the head writes to the log: definitions of series, batches, and the marks as a whole.
//!
//! Each record stands for itself: damage to one costs that one. Every record begins with a sequence
//! number, so that one that was written again, after a write that failed, is applied once.
//! `docs/formats/head.md` has every byte.

mod batch;
mod histograms;

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::{Label, Labels};

pub(crate) use self::batch::{BatchRecord, get_runs, put_batch};
pub(crate) use self::histograms::{HistogramsRecord, put_histograms};
use crate::bytes::{Cursor, Malformed, put_bytes, put_varint, put_zigzag};
use crate::{GroupId, SeriesRef};

/// Definitions of series of one group.
pub(crate) const KIND_SERIES: u8 = 1;
/// Samples and marks of one group.
pub(crate) const KIND_BATCH: u8 = 2;
/// A part of all marks, as they stood when the log was opened.
pub(crate) const KIND_MARKS: u8 = 3;

/// Samples, marks and native histograms of one group.
pub(crate) const KIND_HISTOGRAMS: u8 = 6;

/// No record or block has a higher sequence number: nobody counts that far, and who says so is damaged.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 56;

/// Series defined by one record at most.
const SERIES_PER_RECORD: usize = 1000;
/// A record of many parts is ended when it is longer than this: the log takes none of 16 MiB.
pub(crate) const RECORD_BYTES: usize = 256 << 10;
/// Marks of one [`KIND_MARKS`] record.
const MARKS_PER_RECORD: usize = 1000;

/// A series and what it is called.
pub(crate) type Definition = (SeriesRef, Labels);

/// Appends the definitions of the first of these series, each text once, as many as one record is to
/// have; gives the others back.
pub(crate) fn put_series<'a>(
    out: &mut Vec<u8>,
    group: GroupId,
    series: &'a [Definition],
) -> &'a [Definition] {
    out.extend_from_slice(&group.0.to_le_bytes());
    let mut texts: Vec<&Arc<str>> = Vec::new();
    let mut numbers: HashMap<&str, u64> = HashMap::new();
    let (mut taken, mut bytes) = (0, 0);
    for (_, labels) in series.iter().take(SERIES_PER_RECORD) {
        if bytes > RECORD_BYTES {
            break;
        }
        taken += 1;
        bytes += 2 * labels.len();
        for text in labels.iter().flat_map(|Label { name, value }| [name, value]) {
            numbers.entry(text).or_insert_with(|| {
                bytes += text.len();
                texts.push(text);
                texts.len() as u64 - 1
            });
        }
    }
    let (series, rest) = series.split_at_checked(taken).unwrap_or_default();
    put_varint(out, texts.len() as u64);
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
    put_varint(out, series.len() as u64);
    let mut last = -1i64;
    for (series, labels) in series {
        put_zigzag(out, i64::from(series.0) - last - 1);
        last = i64::from(series.0);
        put_varint(out, labels.len() as u64);
        for Label { name, value } in labels {
            for text in [name, value] {
                put_varint(out, numbers.get(text.as_ref()).copied().unwrap_or(0));
            }
        }
    }
    rest
}

/// Reads definitions of series.
pub(crate) fn get_series(cursor: &mut Cursor<'_>) -> Result<(GroupId, Vec<Definition>), Malformed> {
    let group = GroupId(cursor.u64()?);
    let mut texts: Vec<Arc<str>> = Vec::new();
    for _ in 0..cursor.count(1)? {
        texts.push(cursor.text()?.into());
    }
    let count = cursor.count(2)?;
    let mut series = Vec::with_capacity(count);
    let mut last = -1i64;
    for _ in 0..count {
        last = cursor.zigzag()?.wrapping_add(last).wrapping_add(1);
        let number = u32::try_from(last).ok().ok_or(Malformed("series reference over 32 bits"))?;
        let pair_count = cursor.count(2)?;
        let mut pairs = Vec::with_capacity(pair_count);
        for _ in 0..pair_count {
            let (name, value) = (cursor.varint_u32()?, cursor.varint_u32()?);
            let pair = texts.get(name as usize).zip(texts.get(value as usize));
            let (name, value) = pair.ok_or(Malformed("no text of that number"))?;
            pairs.push((Arc::clone(name), Arc::clone(value)));
        }
        let labels = Labels::from_pairs(pairs).ok().ok_or(Malformed("a label name twice"))?;
        series.push((SeriesRef(number), labels));
    }
    Ok((group, series))
}

/// All marks as the bodies of one or more records.
pub(crate) fn marks_bodies<'a>(
    marks: impl ExactSizeIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
) -> Vec<Vec<u8>> {
    let records = marks.len().div_ceil(MARKS_PER_RECORD).max(1);
    let mut marks = marks;
    let part = |number: usize| {
        let mut body = Vec::new();
        body.push(u8::from(number == 0) | u8::from(number + 1 == records) << 1);
        let part: Vec<_> = marks.by_ref().take(MARKS_PER_RECORD).collect();
        put_marks(&mut body, part.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
        body
    };
    (0..records).map(part).collect()
}

/// A part of all marks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MarksPart {
    /// What is known so far is to be forgotten.
    pub(crate) is_first: bool,
    /// The marks are whole with this part.
    pub(crate) is_last: bool,
    pub(crate) marks: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(crate) fn get_marks_part(cursor: &mut Cursor<'_>) -> Result<MarksPart, Malformed> {
    let flags = cursor.u8()?;
    let marks = get_marks(cursor)?;
    Ok(MarksPart { is_first: flags & 1 != 0, is_last: flags & 2 != 0, marks })
}

/// Appends a count, keys and values.
pub(crate) fn put_marks<'a>(
    out: &mut Vec<u8>,
    marks: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
) {
    put_varint(out, marks.len() as u64);
    for (key, value) in marks {
        put_bytes(out, key);
        put_bytes(out, value);
    }
}

/// Marks as they are read: keys and values.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn get_marks(cursor: &mut Cursor<'_>) -> Result<Pairs, Malformed> {
    let count = cursor.count(2)?;
    let mut marks = Vec::with_capacity(count);
    for _ in 0..count {
        marks.push((cursor.bytes()?.to_vec(), cursor.bytes()?.to_vec()));
    }
    Ok(marks)
}

#[cfg(test)]
mod tests;
