//! Bytes to ticks.

use stoa_model::{MetricKind, TimestampMs, stale_nan};
use zstd::stream::raw::{self, DParameter, InBuffer, Operation as _, OutBuffer};

use super::number::{Numbers, SCALE_MAX};
use super::slots::{Clock, FLAG_DEFINE, FLAG_RESET, Op, SLOTS_MAX, take_bits, take_run};
use super::varint::Cursor;
use super::{
    FrameError, LABELS_MAX, LABELS_TOTAL_MAX, PAYLOAD_BYTES_MAX, RAW_BYTES_MAX, SAMPLES_MAX,
    TICKS_MAX, WINDOW_LOG_MAX,
};
use crate::convert::kind_of_code;

/// The least that is held ready for what a payload unpacks to.
const UNPACKED_BYTES_MIN: usize = 4 << 10;

/// A series as the wire names it: texts of unchecked size and content, within the payload bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesText {
    /// The family it belongs to: an index into the call's families.
    pub family: usize,
    /// How many labels were sent.
    pub label_count: usize,
    /// Label names and values, as sent; none when over [`LABELS_MAX`].
    pub labels: Vec<(String, String)>,
}

/// A family as the wire describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyText {
    /// The name.
    pub name: String,
    /// One sentence.
    pub help: String,
    /// The unit, or empty.
    pub unit: String,
    /// What it measures.
    pub kind: MetricKind,
}

/// What joined the dictionary with one tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Whether all slots and families known before are void.
    pub reset: bool,
    /// New families; the first has the number of families known before.
    pub families: Vec<FamilyText>,
    /// New series; the first has the number of slots known before.
    pub series: Vec<SeriesText>,
}

/// One tick, its series as slots of the dictionary.
#[derive(Clone, Debug, Default)]
pub struct DecodedTick {
    /// When it was read, by the sender's clock.
    pub t: TimestampMs,
    /// What joined the dictionary.
    pub additions: Additions,
    /// Slot and value, ascending.
    pub rows: Vec<(u32, f64)>,
}

/// How much decoding one payload may take; what is over it is [`FrameError::Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Bytes unpacked.
    pub raw_bytes: usize,
    /// Slots walked over, all ticks together; samples are no more.
    pub slots: usize,
}

impl Effort {
    /// What any payload may take.
    pub const ALL: Self = Self { raw_bytes: RAW_BYTES_MAX, slots: TICKS_MAX * SLOTS_MAX };
}

/// Decodes the payloads of one leg on one call, in order. After an error its state is void: only
/// a key frame and a new decoder go on.
pub struct Decoder {
    zstd: raw::Decoder<'static>,
    slots: Vec<Numbers>,
    families: usize,
    /// Labels defined by the payload at hand.
    labels: usize,
    clock: Clock,
}

impl Decoder {
    /// A decoder that expects a key frame.
    ///
    /// # Errors
    /// [`FrameError::Decompress`] when the decompressor cannot be had.
    pub fn new() -> Result<Self, FrameError> {
        let mut zstd = raw::Decoder::new().map_err(FrameError::Decompress)?;
        let window = DParameter::WindowLogMax(WINDOW_LOG_MAX);
        zstd.set_parameter(window).map_err(FrameError::Decompress)?;
        Ok(Self { zstd, slots: Vec::new(), families: 0, labels: 0, clock: Clock::default() })
    }

    /// The ticks of a payload, in order, at least one.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes break the format or a bound; the decoder is void then.
    pub fn decode(&mut self, payload: &[u8]) -> Result<Vec<DecodedTick>, FrameError> {
        self.decode_within(payload, Effort::ALL)
    }

    /// As [`Self::decode`], with less effort allowed.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_within(
        &mut self,
        payload: &[u8],
        effort: Effort,
    ) -> Result<Vec<DecodedTick>, FrameError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(FrameError::Limit { what: "bytes", limit: PAYLOAD_BYTES_MAX });
        }
        let bytes = self.decompress(payload, effort.raw_bytes)?;
        let mut cursor = Cursor::new(&bytes);
        let mut ticks: Vec<DecodedTick> = Vec::new();
        let (mut samples, mut walked) = (0, 0_usize);
        self.labels = 0;
        while !cursor.is_empty() {
            if ticks.len() == TICKS_MAX {
                return Err(FrameError::Limit { what: "ticks", limit: TICKS_MAX });
            }
            walked += self.slots.len();
            if walked > effort.slots {
                return Err(FrameError::Limit { what: "slots", limit: effort.slots });
            }
            let tick = self.take_tick(&mut cursor)?;
            samples += tick.rows.len();
            if samples > SAMPLES_MAX {
                return Err(FrameError::Limit { what: "samples", limit: SAMPLES_MAX });
            }
            ticks.push(tick);
        }
        if ticks.is_empty() {
            return Err(FrameError::Malformed("no tick"));
        }
        Ok(ticks)
    }

    fn decompress(&mut self, payload: &[u8], limit: usize) -> Result<Vec<u8>, FrameError> {
        let mut bytes = Vec::with_capacity(payload.len().saturating_mul(4).max(UNPACKED_BYTES_MIN));
        let mut input = InBuffer::around(payload);
        loop {
            if bytes.len() == bytes.capacity() {
                bytes.reserve(bytes.len());
            }
            let filled = bytes.len();
            let mut output = OutBuffer::around_pos(&mut bytes, filled);
            let hint = self.zstd.run(&mut input, &mut output).map_err(FrameError::Decompress)?;
            let full = output.pos() == output.capacity();
            if output.pos() > limit {
                return Err(FrameError::Limit { what: "bytes unpacked", limit });
            }
            if hint == 0 {
                return Err(FrameError::Malformed("the compressed stream has ended"));
            }
            if input.pos() == payload.len() && !full {
                return Ok(bytes);
            }
        }
    }

    fn take_tick(&mut self, cursor: &mut Cursor<'_>) -> Result<DecodedTick, FrameError> {
        let flags = cursor.byte()?;
        if flags & !(FLAG_RESET | FLAG_DEFINE) != 0 {
            return Err(FrameError::Malformed("a flag is not known"));
        }
        let t = self.clock.time_of(cursor.i64()?);
        let mut additions = Additions { reset: flags & FLAG_RESET != 0, ..Additions::default() };
        if additions.reset {
            self.slots.clear();
            self.families = 0;
        }
        if flags & FLAG_DEFINE != 0 {
            self.take_definitions(cursor, &mut additions)?;
        }
        let ops_len = cursor.size()?;
        let mut ops = Cursor::new(cursor.bytes(ops_len)?);
        let rows = self.take_rows(&mut ops, cursor)?;
        Ok(DecodedTick { t, additions, rows })
    }

    fn take_definitions(
        &mut self,
        cursor: &mut Cursor<'_>,
        additions: &mut Additions,
    ) -> Result<(), FrameError> {
        let count = cursor.size()?;
        if count > SLOTS_MAX.saturating_sub(self.slots.len()) {
            return Err(FrameError::Limit { what: "series", limit: SLOTS_MAX });
        }
        // A call's series are mostly defined once; the least a definition takes is two bytes.
        self.slots.reserve_exact(count.min(cursor.len() / 2));
        additions.series.reserve_exact(count.min(cursor.len() / 2));
        for _ in 0..count {
            let family = cursor.size()?;
            if family > self.families {
                return Err(FrameError::Malformed("a family is not known"));
            }
            if family == self.families {
                additions.families.push(FamilyText {
                    kind: kind_of_code(cursor.byte()?),
                    name: cursor.text()?.to_owned(),
                    help: cursor.text()?.to_owned(),
                    unit: cursor.text()?.to_owned(),
                });
                self.families += 1;
            }
            let label_count = cursor.size()?;
            let mut labels = Vec::new();
            for _ in 0..label_count {
                let (name, value) = (cursor.text()?, cursor.text()?);
                if label_count <= LABELS_MAX {
                    labels.push((name.to_owned(), value.to_owned()));
                }
            }
            self.labels += labels.len();
            if self.labels > LABELS_TOTAL_MAX {
                return Err(FrameError::Limit { what: "labels", limit: LABELS_TOTAL_MAX });
            }
            additions.series.push(SeriesText { family, label_count, labels });
            self.slots.push(Numbers::default());
        }
        Ok(())
    }

    fn take_rows(
        &mut self,
        ops: &mut Cursor<'_>,
        values: &mut Cursor<'_>,
    ) -> Result<Vec<(u32, f64)>, FrameError> {
        let mut rows = Vec::with_capacity(self.slots.len());
        let mut slots = self.slots.iter_mut().enumerate();
        while !ops.is_empty() {
            let (op, count) = take_run(ops)?;
            if count == 0 || count > slots.len() {
                return Err(FrameError::Malformed("a run is over the series"));
            }
            for (slot, numbers) in slots.by_ref().take(count) {
                if let Some(value) = take_value(numbers, op, values)? {
                    rows.push((u32::try_from(slot).unwrap_or(u32::MAX), value));
                }
            }
        }
        if slots.len() > 0 {
            return Err(FrameError::Malformed("runs end before the series"));
        }
        Ok(rows)
    }
}

/// One series' part of a tick; `None` when it has no reading.
fn take_value(
    numbers: &mut Numbers,
    op: Op,
    values: &mut Cursor<'_>,
) -> Result<Option<f64>, FrameError> {
    match op {
        Op::Absent => return Ok(None),
        Op::Stale => return Ok(Some(stale_nan())),
        Op::Raw => numbers.learn_raw(numbers.bits ^ take_bits(values)?),
        Op::Same if numbers.raw => {}
        Op::Same => numbers.learn(numbers.predict()),
        Op::Delta => numbers.learn(numbers.predict().wrapping_add(values.i64()?)),
        Op::Rescale => {
            let scale = values.byte()?;
            if scale > SCALE_MAX || scale <= numbers.scale {
                return Err(FrameError::Malformed("a scale does not grow"));
            }
            numbers.rescale(scale);
            numbers.learn(numbers.predict().wrapping_add(values.i64()?));
        }
    }
    Ok(Some(f64::from_bits(numbers.bits)))
}
