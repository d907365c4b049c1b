//! The open window that takes rows in order of time.
//!
//! The newest ticks are rows as they came, side by side; every [`ROWS_MAX`] of them are folded into
//! the members' columns, which are compact: most series are constant over a window and stay one
//! value, the others become *pieces*, short runs of values in a simple form that costs next to
//! nothing to write. Sealing decodes all and encodes it for good.
//!
//! A piece, in memory only: varint number of values; a tag; then by tag: 0 to 15, zigzag varints of
//! the first mantissa and of the differences (scale is the tag); [`TAG_SAME`], one scalar;
//! [`TAG_RAW`], eight bytes each; [`TAG_CHUNK`], varint length and a chunk.

use stoa_model::TimestampMs;

use super::column::Presence;
use crate::bytes::{Cursor, Malformed, put_bytes, put_varint, put_zigzag};
use crate::chunk::{self, decode_values, encode_values, get_scalar, put_scalar};

/// Rows kept as they came. More would cost eight bytes a series and row, fewer more time.
pub(crate) const ROWS_MAX: usize = 16;

const TAG_SAME: u8 = 16;
const TAG_RAW: u8 = 17;
const TAG_CHUNK: u8 = 18;

/// The ticks of the window and the rows of the newest.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Ascending.
    pub(crate) times: Vec<TimestampMs>,
    rows: Vec<Row>,
}

/// The values at one tick, in order of slots, each slot once.
#[derive(Debug, Default)]
struct Row {
    /// `None`: the slots from 0 on without a gap.
    slots: Option<Vec<u32>>,
    values: Vec<f64>,
}

impl Row {
    fn find(&self, slot: u32) -> Result<usize, usize> {
        match &self.slots {
            None if (slot as usize) < self.values.len() => Ok(slot as usize),
            None => Err(self.values.len()),
            Some(slots) => slots.binary_search(&slot),
        }
    }

    fn get(&self, slot: u32) -> Option<f64> {
        self.find(slot).ok().and_then(|at| self.values.get(at)).copied()
    }

    fn slot(&self, at: usize) -> Option<u32> {
        match &self.slots {
            None => u32::try_from(at).ok().filter(|_| at < self.values.len()),
            Some(slots) => slots.get(at).copied(),
        }
    }

    /// Puts a value in, unless it belongs between others.
    fn put(&mut self, slot: u32, v: f64) -> Put {
        match self.find(slot) {
            Ok(at) => Put::There(self.values.get(at).copied().unwrap_or_default()),
            Err(at) if at < self.values.len() => Put::Between,
            Err(_) => {
                self.push(slot, v);
                Put::Done
            }
        }
    }

    /// Puts a value behind all others.
    fn push(&mut self, slot: u32, v: f64) {
        if self.slots.is_none() && slot as usize != self.values.len() {
            let slots = (0u32..).take(self.values.len()).collect();
            self.slots = Some(slots);
        }
        if let Some(slots) = &mut self.slots {
            slots.push(slot);
        }
        self.values.push(v);
    }

    /// Puts values in, in order of slots, in one pass; where there is one already it stays and both
    /// are handed to `each`, otherwise nothing and the value.
    fn merge(&mut self, run: &[(u32, f64)], mut each: impl FnMut(Option<f64>, f64)) {
        let room = self.values.len() + run.len();
        let old = std::mem::replace(self, Self { slots: None, values: Vec::with_capacity(room) });
        let mut at = 0;
        for (slot, v) in run {
            while let Some(before) = old.slot(at).filter(|before| before <= slot) {
                old.values.get(at).into_iter().for_each(|v| self.push(before, *v));
                at += 1;
            }
            match self.put(*slot, *v) {
                Put::There(there) => each(Some(there), *v),
                Put::Done | Put::Between => each(None, *v),
            }
        }
        while let Some(slot) = old.slot(at) {
            old.values.get(at).into_iter().for_each(|v| self.push(slot, *v));
            at += 1;
        }
    }
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Put {
    Done,
    /// Another one was there and stays.
    There(f64),
    /// It was not taken: it belongs between others, and [`Live::merge`] puts many in at once.
    Between,
}

impl Live {
    /// Begins a tick, later than all before.
    pub(crate) fn begin(&mut self, t: TimestampMs, samples: usize) {
        self.times.push(t);
        self.rows.push(Row { slots: None, values: Vec::with_capacity(samples) });
    }

    /// Whether a tick is the newest and its values are still a row: of one that a checkpoint brought
    /// back they are not.
    pub(crate) fn is_newest(&self, t: TimestampMs) -> bool {
        !self.rows.is_empty() && self.times.last() == Some(&t)
    }

    /// Whether rows have to be folded before another tick begins.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// How many ticks are in the members' columns.
    pub(crate) fn folded(&self) -> usize {
        self.times.len() - self.rows.len()
    }

    /// Puts a value at the newest tick, unless it belongs between others.
    pub(crate) fn put(&mut self, slot: u32, v: f64) -> Put {
        self.rows.last_mut().map_or(Put::Done, |row| row.put(slot, v))
    }

    /// Puts values in at the newest tick, in whatever order; of each says what was there already.
    pub(crate) fn merge(&mut self, run: &mut [(u32, f64)], each: impl FnMut(Option<f64>, f64)) {
        // Stable: of one slot the first value counts.
        run.sort_by_key(|(slot, _)| *slot);
        if let Some(row) = self.rows.last_mut() {
            row.merge(run, each);
        }
    }

    /// The value of a member at a tick that is not folded.
    pub(crate) fn row_value(&self, slot: u32, tick: usize) -> Option<f64> {
        self.rows.get(tick.checked_sub(self.folded())?)?.get(slot)
    }

    /// The values of a member at ticks that are not folded.
    pub(crate) fn row_values(&self, slot: u32) -> impl Iterator<Item = (TimestampMs, f64)> {
        let times = self.times.get(self.folded()..).unwrap_or_default();
        let rows = times.iter().zip(&self.rows);
        rows.filter_map(move |(t, row)| Some((*t, row.get(slot)?)))
    }

    /// Takes the rows out: for each slot with values, in order, which of the rows and what.
    pub(crate) fn fold(&mut self, mut each: impl FnMut(u32, &[usize], &[f64])) {
        let rows = std::mem::take(&mut self.rows);
        let mut at = [0usize; ROWS_MAX];
        let (mut ticks, mut values) = (Vec::new(), Vec::new());
        let next = |at: &[usize; ROWS_MAX]| {
            rows.iter().zip(at).filter_map(|(row, at)| row.slot(*at)).min()
        };
        while let Some(slot) = next(&at) {
            ticks.clear();
            values.clear();
            for (tick, (row, at)) in rows.iter().zip(&mut at).enumerate() {
                if row.slot(*at) == Some(slot) {
                    ticks.push(tick);
                    values.extend(row.values.get(*at));
                    *at += 1;
                }
            }
            each(slot, &ticks, &values);
        }
        // The next rows take the memory of these, if they are soon; the allocator sees to it.
        self.rows.reserve_exact(ROWS_MAX);
    }

    /// Ends the window and says its ticks; nothing may be unfolded.
    pub(crate) fn take_times(&mut self) -> Vec<TimestampMs> {
        std::mem::take(&mut self.times)
    }

    /// Bytes of the rows.
    pub(crate) fn heap_bytes(&self) -> usize {
        let bytes = |row: &Row| {
            row.values.capacity() * 8 + row.slots.as_ref().map_or(0, |s| s.capacity() * 4)
        };
        self.rows.iter().map(bytes).sum()
    }

    /// Samples in the rows.
    pub(crate) fn row_samples(&self) -> usize {
        self.rows.iter().map(|row| row.values.len()).sum()
    }
}

/// What was folded of one member.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// At which ticks; at the first `count` when `None`.
    present: Option<Box<Presence>>,
    values: Values,
    count: u16,
}

#[derive(Debug)]
enum Values {
    /// The same each time.
    Same(f64),
    Pieces(Box<[u8]>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Same(0.0)
    }
}

impl Folded {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Same(_) => 0,
            Values::Pieces(pieces) => pieces.len(),
        };
        values + self.present.as_ref().map_or(0, |_| size_of::<Presence>())
    }

    /// Which ticks there are values for.
    pub(crate) fn present(&self) -> Presence {
        match &self.present {
            Some(present) => **present,
            None => Presence::first(self.count()),
        }
    }

    /// Which ticks there are values for, unless these are all `ticks`.
    pub(crate) fn gaps(&self, ticks: usize) -> Option<Presence> {
        (self.count() != ticks).then(|| self.present())
    }

    /// Adds values at ticks after all that are there.
    pub(crate) fn extend(
        &mut self,
        first: usize,
        ticks: &[usize],
        values: &[f64],
        scratch: &mut Vec<u8>,
    ) {
        let Some(given) = u16::try_from(values.len()).ok().filter(|given| *given > 0) else {
            return;
        };
        let follows = ticks.iter().enumerate().all(|(n, tick)| first + tick == self.count() + n);
        if self.present.is_some() || !follows {
            let mut present = self.present();
            ticks.iter().for_each(|tick| present.set(first + tick));
            self.present = Some(Box::new(present));
        }
        self.push(given, values, scratch);
    }

    fn push(&mut self, given: u16, values: &[f64], piece: &mut Vec<u8>) {
        let first = values.first().copied().unwrap_or_default();
        let is_same = |v: f64| values.iter().all(|value| value.to_bits() == v.to_bits());
        match &mut self.values {
            Values::Same(same) if self.count == 0 && is_same(first) => *same = first,
            Values::Same(same) if self.count > 0 && is_same(*same) => {}
            Values::Same(same) => {
                let mut pieces = Vec::new();
                if self.count > 0 {
                    put_varint(&mut pieces, u64::from(self.count));
                    pieces.push(TAG_SAME);
                    put_scalar(&mut pieces, *same);
                }
                put_piece(&mut pieces, values);
                self.values = Values::Pieces(pieces.into());
            }
            Values::Pieces(pieces) => {
                piece.clear();
                put_piece(piece, values);
                let mut all = Vec::from(std::mem::take(pieces));
                all.reserve_exact(piece.len());
                all.extend_from_slice(piece);
                *pieces = all.into();
            }
        }
        self.count += given;
    }

    /// What a checkpoint says was there; `chunk` is one of `count` values.
    pub(crate) fn restore(
        present: Option<Presence>,
        count: usize,
        chunk: &[u8],
    ) -> Result<Self, Malformed> {
        let mut values = Vec::new();
        decode_values(chunk, count, &mut values)?;
        let count = u16::try_from(count).ok().ok_or(Malformed("column of too many values"))?;
        let first = values.first().copied().ok_or(Malformed("column without values"))?;
        let values = if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            Values::Same(first)
        } else {
            let mut pieces = Vec::new();
            put_varint(&mut pieces, u64::from(count));
            pieces.push(TAG_CHUNK);
            put_bytes(&mut pieces, chunk);
            Values::Pieces(pieces.into())
        };
        Ok(Self { present: present.map(Box::new), values, count })
    }

    /// All values, in order of ticks.
    pub(crate) fn values(&self) -> Vec<f64> {
        match &self.values {
            Values::Same(v) => vec![*v; self.count()],
            Values::Pieces(pieces) => {
                let mut values = Vec::with_capacity(self.count());
                // They were written by this process; what memory lost is lost.
                get_pieces(pieces, &mut values).unwrap_or_default();
                values
            }
        }
    }

    pub(crate) fn get(&self, tick: usize) -> Option<f64> {
        let present = self.present();
        if !present.has(tick) {
            return None;
        }
        match &self.values {
            Values::Same(v) => Some(*v),
            Values::Pieces(_) => self.values().get(present.rank(tick)).copied(),
        }
    }

    /// Appends all values as one chunk.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match &self.values {
            // One value or many: the chunk is the same.
            Values::Same(v) if !stoa_model::is_stale(*v) => encode_values(&[*v], out),
            _ => encode_values(&self.values(), out),
        }
    }
}

fn put_piece(out: &mut Vec<u8>, values: &[f64]) {
    put_varint(out, values.len() as u64);
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        out.push(TAG_SAME);
        put_scalar(out, first);
        return;
    }
    let at = out.len();
    let mut mantissas = [0i64; ROWS_MAX];
    let mut scale = Some(0);
    while let Some(tried) = scale {
        let Some(failed) = chunk::split_at(values, tried, &mut mantissas) else {
            out.push(tried);
            let mut last = 0i64;
            for m in mantissas.iter().take(values.len()) {
                put_zigzag(out, m.wrapping_sub(last));
                last = *m;
            }
            if out.len() - at < values.len() * 8 {
                return;
            }
            out.truncate(at);
            break;
        };
        scale = chunk::scale_after(failed, tried);
    }
    out.push(TAG_RAW);
    values.iter().for_each(|v| out.extend_from_slice(&v.to_bits().to_le_bytes()));
}

fn get_pieces(pieces: &[u8], out: &mut Vec<f64>) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(pieces);
    while cursor.len() > 0 {
        let count = cursor.varint_u32()? as usize;
        match cursor.u8()? {
            TAG_SAME => {
                let v = get_scalar(&mut cursor)?;
                out.resize(out.len() + count, v);
            }
            TAG_RAW => {
                for _ in 0..count {
                    out.push(f64::from_bits(cursor.u64()?));
                }
            }
            TAG_CHUNK => decode_values(cursor.bytes()?, count, out)?,
            scale => {
                let mut m = 0i64;
                for _ in 0..count {
                    m = m.wrapping_add(cursor.zigzag()?);
                    out.push(chunk::join(m, scale).ok_or(Malformed("scale too large"))?);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};
    use proptest::strategy::Strategy;
    use std::collections::BTreeMap;

    use super::{Folded, Live, Put};
    use stoa_model::stale_nan;

    fn value() -> impl Strategy<Value = f64> {
        (0u8..8, any::<u64>()).prop_map(|(kind, bits)| match kind {
            0 => stale_nan(),
            1 => f64::from_bits(bits),
            2 => -0.0,
            3 => (bits % 100_000) as f64 / 1000.0,
            4 => bits as f64,
            _ => (bits % 3) as f64,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_live_window_is_a_map_of_slots_and_ticks(
            rows in proptest::collection::vec(
                proptest::collection::vec((0u32..6, value()), 0..8), 1..60),
            dense in any::<bool>(),
        ) {
            let mut live = Live::default();
            let mut folded: Vec<Folded> = (0..6).map(|_| Folded::default()).collect();
            let mut model = BTreeMap::new();
            let fold = |live: &mut Live, folded: &mut Vec<Folded>| {
                let first = live.folded();
                live.fold(|slot, ticks, values| {
                    folded[slot as usize].extend(first, ticks, values, &mut Vec::new());
                });
            };
            for (tick, samples) in rows.iter().enumerate() {
                if live.is_full() {
                    fold(&mut live, &mut folded);
                }
                live.begin(tick as i64, samples.len());
                let (mut repeats, mut run) = (Vec::new(), Vec::new());
                let mut expected = Vec::new();
                for (n, (slot, v)) in (0u32..).zip(samples) {
                    let slot = if dense { n } else { *slot };
                    if slot > 5 { continue }
                    let there = model.get(&(slot, tick)).map(|v: &f64| v.to_bits());
                    expected.push((v.to_bits(), there));
                    model.entry((slot, tick)).or_insert(*v);
                    let put = if run.is_empty() { live.put(slot, *v) } else { Put::Between };
                    match put {
                        Put::Done => repeats.push((v.to_bits(), None)),
                        Put::There(there) => repeats.push((v.to_bits(), Some(there.to_bits()))),
                        Put::Between => run.push((slot, *v)),
                    }
                }
                let each = |there: Option<f64>, v: f64| repeats.push((v.to_bits(), there.map(f64::to_bits)));
                live.merge(&mut run, each);
                repeats.sort_unstable();
                expected.sort_unstable();
                assert_eq!(repeats, expected);
                for slot in 0..6 {
                    let got = folded[slot as usize].get(tick).or(live.row_value(slot, tick));
                    assert_eq!(got.map(f64::to_bits), model.get(&(slot, tick)).map(|v| v.to_bits()));
                }
            }
            fold(&mut live, &mut folded);
            for (slot, folded) in (0u32..).zip(&folded) {
                let expected: Vec<_> = model.iter().filter(|((s, _), _)| *s == slot)
                    .map(|((_, tick), v)| (*tick, v.to_bits())).collect();
                let got: Vec<_> = folded.present().ticks()
                    .zip(folded.values().into_iter().map(f64::to_bits)).collect();
                assert_eq!(got, expected);
                for (tick, bits) in &expected {
                    assert_eq!(folded.get(*tick).map(f64::to_bits), Some(*bits));
                }
                if folded.is_empty() { continue }
                let mut chunk = Vec::new();
                folded.encode(&mut chunk);
                let restored = Folded::restore(folded.gaps(rows.len()), folded.count(), &chunk).unwrap();
                assert!(restored.present().ticks().eq(folded.present().ticks()));
                let bits = |folded: &Folded| folded.values().into_iter().map(f64::to_bits).collect::<Vec<_>>();
                assert_eq!(bits(&restored), bits(folded));
            }
        }
    }
}
