//! Streams as bytes, to be kept over a restart: protobuf, a stream a field, so that what a later version
//! adds is skipped by an earlier one. Whether the bytes are whole is for the caller to know.

use super::{Deltas, Stream};
use crate::otlp::total::{ExplicitTotal, ExponentialTotal, Side, Total};
use crate::wire::{
    Fields, Malformed, Value, put_bytes, put_double, put_fixed, put_number, put_varint, unzigzag,
    zigzag,
};

impl Deltas {
    /// All streams.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, stream) in &self.streams {
            let mut message = Vec::new();
            put_bytes(&mut message, 1, name);
            put_number(&mut message, 2, stream.begun_ns);
            put_number(&mut message, 3, stream.start_ns);
            put_number(&mut message, 4, stream.time_ns);
            put_number(&mut message, 5, zigzag(stream.seen_ms));
            put_total(&mut message, &stream.total);
            if let Some(hash) = stream.hash {
                put_fixed(&mut message, 10, hash);
            }
            put_bytes(&mut out, 1, &message);
        }
        out
    }

    /// Takes streams that were written, beside those there are; says how many found no room.
    ///
    /// # Errors
    /// [`Malformed`]; those before it were taken.
    pub fn read(&mut self, bytes: &[u8]) -> Result<u64, Malformed> {
        let mut left_out = 0;
        each(bytes, |field, value| {
            if field == 1
                && let Some((name, stream)) = stream(value.bytes(field)?)?
            {
                // Written twice, it would be counted twice.
                let is_new = !self.streams.contains_key(&name);
                left_out += u64::from(!(is_new && self.hold(name, stream)));
            }
            Ok(())
        })?;
        Ok(left_out)
    }
}

type Done = Result<(), Malformed>;

fn each<'a>(message: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Done) -> Done {
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        take(field, value)?;
    }
    Ok(())
}

/// A stream and its name; `None` where one of them is missing.
type Named = Option<(Box<[u8]>, Stream)>;

fn stream(message: &[u8]) -> Result<Named, Malformed> {
    let (mut name, mut total) = (None, None);
    let (mut begun_ns, mut start_ns, mut time_ns, mut seen_ms, mut hash) = (0, 0, 0, 0, None);
    each(message, |field, value| {
        match field {
            1 => name = Some(value.bytes(field)?.into()),
            2 => begun_ns = value.number(field)?,
            3 => start_ns = value.number(field)?,
            4 => time_ns = value.number(field)?,
            5 => seen_ms = unzigzag(value.number(field)?),
            6 => total = Some(Total::Integer(unzigzag(value.number(field)?))),
            7 => total = Some(Total::Double(value.double(field)?)),
            8 => total = Some(Total::Explicit(explicit(value.bytes(field)?)?)),
            9 => total = Some(Total::Exponential(exponential(value.bytes(field)?)?)),
            10 => hash = Some(value.fixed(field)?),
            _ => {}
        }
        Ok(())
    })?;
    let stream = total.map(|total| Stream { begun_ns, start_ns, time_ns, hash, seen_ms, total });
    Ok(name.zip(stream))
}

/// Of what a point says, its kind included: FNV-1a of how it would be kept, which versions agree on.
pub(super) fn hash(measured: &Total) -> u64 {
    let mut bytes = Vec::new();
    put_total(&mut bytes, measured);
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn put_total(out: &mut Vec<u8>, total: &Total) {
    let mut message = Vec::new();
    match total {
        Total::Integer(value) => put_number(out, 6, zigzag(*value)),
        Total::Double(value) => put_double(out, 7, *value),
        Total::Explicit(total) => {
            put_number(&mut message, 1, total.count);
            if let Some(sum) = total.sum {
                put_double(&mut message, 2, sum);
            }
            for bound in &total.bounds {
                put_double(&mut message, 3, *bound);
            }
            put_counts(&mut message, 4, &total.counts);
            put_bytes(out, 8, &message);
        }
        Total::Exponential(total) => {
            put_number(&mut message, 1, zigzag(i64::from(total.scale)));
            put_number(&mut message, 2, total.count);
            if let Some(sum) = total.sum {
                put_double(&mut message, 3, sum);
            }
            put_number(&mut message, 4, total.zero_count);
            put_double(&mut message, 5, total.zero_threshold);
            for (field, side) in [(6, &total.positive), (7, &total.negative)] {
                let mut buckets = Vec::new();
                put_number(&mut buckets, 1, zigzag(i64::from(side.offset)));
                put_counts(&mut buckets, 2, &side.counts);
                put_bytes(&mut message, field, &buckets);
            }
            put_bytes(out, 9, &message);
        }
    }
}

fn put_counts(out: &mut Vec<u8>, field: u64, counts: &[u64]) {
    let mut packed = Vec::with_capacity(counts.len());
    for count in counts {
        put_varint(&mut packed, *count);
    }
    put_bytes(out, field, &packed);
}

fn explicit(message: &[u8]) -> Result<ExplicitTotal, Malformed> {
    let mut total = ExplicitTotal::default();
    each(message, |field, value| {
        match field {
            1 => total.count = value.number(field)?,
            2 => total.sum = Some(value.double(field)?),
            3 => total.bounds.push(value.double(field)?),
            4 => total.counts = value.numbers(field)?.collect::<Result<_, _>>()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(total)
}

fn exponential(message: &[u8]) -> Result<ExponentialTotal, Malformed> {
    let mut total = ExponentialTotal::default();
    each(message, |field, value| {
        match field {
            1 => total.scale = value.small(field)?,
            2 => total.count = value.number(field)?,
            3 => total.sum = Some(value.double(field)?),
            4 => total.zero_count = value.number(field)?,
            5 => total.zero_threshold = value.double(field)?,
            6 => total.positive = side(value.bytes(field)?)?,
            7 => total.negative = side(value.bytes(field)?)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(total)
}

fn side(message: &[u8]) -> Result<Side, Malformed> {
    let mut side = Side::default();
    each(message, |field, value| {
        match field {
            1 => side.offset = value.small(field)?,
            2 => side.counts = value.numbers(field)?.collect::<Result<_, _>>()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(side)
}
