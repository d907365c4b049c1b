//! The messages of Prometheus remote read, after decompression.
//!
//! A client asks with a `ReadRequest`: queries of a range of time and matchers, and which forms of
//! answer it takes. [`Form::Samples`] is one `ReadResponse`; [`Form::Chunks`] is a stream of frames, each
//! a `ChunkedReadResponse` of some chunks of one series, behind its length and its CRC-32C.
//!
//! Source: `prompb/remote.proto`, `prompb/types.proto` and `storage/remote/chunked.go` of
//! prometheus/prometheus. Bounds: [`QUERIES_MAX`], [`MATCHERS_MAX`]; an answer is as large as what is put
//! into it, a frame of chunks at most [`FRAME_BYTES_MAX`] and one chunk.

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, MatchOp, TimestampMs};

pub use crate::wire::Malformed;

use crate::prometheus_block::each_chunk;
use crate::remote_write::histogram_message;
use crate::wire::{Fields, Value, put_bytes, put_double, put_number, put_varint};

/// Most queries of one request; Prometheus sends one.
pub const QUERIES_MAX: usize = 100;

/// Most matchers of one query.
pub const MATCHERS_MAX: usize = 1000;

/// A frame of chunks is ended when it is longer than this, as in Prometheus.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// How an answer may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All samples in one message.
    Samples,
    /// A stream of chunks as Prometheus's own storage has them.
    Chunks,
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Each is answered by itself, in this order.
    pub queries: Vec<Query>,
    /// What is taken, the best first; those that are not known here are left out.
    pub accepted: Vec<Form>,
    /// Whether forms were named that are not known here.
    pub has_unknown_forms: bool,
}

/// One question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The first instant wanted.
    pub start_ms: TimestampMs,
    /// The last.
    pub end_ms: TimestampMs,
    /// What the series are like: all must hold. Whether a pattern is one is not checked.
    pub matchers: Vec<RawMatcher>,
}

/// A matcher as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMatcher {
    /// How.
    pub op: MatchOp,
    /// The label's name.
    pub name: String,
    /// The value or pattern.
    pub value: String,
}

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not protobuf, or ends too early.
    #[error("not a message of the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// A name or value is not UTF-8.
    #[error("a matcher is not UTF-8")]
    Text,
    /// A kind of matcher there is not.
    #[error("invalid matcher type {0}")]
    Matcher(u64),
    /// More than [`QUERIES_MAX`] queries.
    #[error("more than {QUERIES_MAX} queries in one request")]
    TooManyQueries,
    /// More than [`MATCHERS_MAX`] matchers.
    #[error("more than {MATCHERS_MAX} matchers in one query")]
    TooManyMatchers,
}

impl Request {
    /// Reads a `ReadRequest`. Hints are passed over: they allow to answer with less, and never ask it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(message: &[u8]) -> Result<Self, ReadError> {
        let mut request = Self::default();
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 if request.queries.len() == QUERIES_MAX => {
                    return Err(ReadError::TooManyQueries);
                }
                1 => request.queries.push(query(value.bytes(field)?)?),
                2 => {
                    for form in value.numbers(field)? {
                        request.accept(form?);
                    }
                }
                _ => {}
            }
        }
        Ok(request)
    }

    fn accept(&mut self, form: u64) {
        let form = match form {
            0 => Form::Samples,
            1 => Form::Chunks,
            _ => {
                self.has_unknown_forms = true;
                return;
            }
        };
        // Bounded: each stands once.
        if !self.accepted.contains(&form) {
            self.accepted.push(form);
        }
    }

    /// The form to answer in; `None` when none is known here of those that are taken. Who names none
    /// takes samples.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        match self.accepted.first() {
            Some(form) => Some(*form),
            None => (!self.has_unknown_forms).then_some(Form::Samples),
        }
    }
}

fn query(message: &[u8]) -> Result<Query, ReadError> {
    let mut query = Query::default();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => query.start_ms = value.number(field)?.cast_signed(),
            2 => query.end_ms = value.number(field)?.cast_signed(),
            3 if query.matchers.len() == MATCHERS_MAX => return Err(ReadError::TooManyMatchers),
            3 => query.matchers.push(matcher(value.bytes(field)?)?),
            _ => {}
        }
    }
    Ok(query)
}

fn matcher(message: &[u8]) -> Result<RawMatcher, ReadError> {
    let text = |value: Value<'_>, field| -> Result<String, ReadError> {
        let bytes = value.bytes(field)?;
        String::from_utf8(bytes.to_vec()).map_err(|_says_less| ReadError::Text)
    };
    let (mut name, mut sought) = (String::new(), String::new());
    let mut op = MatchOp::Equal;
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => {
                op = match value.number(field)? {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    other => return Err(ReadError::Matcher(other)),
                }
            }
            2 => name = text(value, field)?,
            3 => sought = text(value, field)?,
            _ => {}
        }
    }
    Ok(RawMatcher { op, name, value: sought })
}

/// A series to be written: floats and native histograms in order of time, at no common instant.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its floats.
    pub floats: &'a [(TimestampMs, f64)],
    /// Its histograms.
    pub histograms: &'a [(TimestampMs, Histogram)],
}

/// Appends a series to a `QueryResult`. The `ReadResponse` has one for each query, in their order, behind
/// its [`result_head`].
pub fn put_samples(result: &mut Vec<u8>, series: &Series<'_>) {
    let mut message = Vec::new();
    labels(&mut message, series.labels);
    for (t, v) in series.floats {
        let mut sample = Vec::with_capacity(20);
        put_double(&mut sample, 1, *v);
        put_number(&mut sample, 2, t.cast_unsigned());
        put_bytes(&mut message, 2, &sample);
    }
    for (t, histogram) in series.histograms {
        put_bytes(&mut message, 4, &histogram_message(*t, histogram));
    }
    put_bytes(result, 1, &message);
}

/// What stands in a `ReadResponse` before a `QueryResult` of so many bytes.
#[must_use]
pub fn result_head(bytes: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(11);
    put_varint(&mut head, 1 << 3 | 2);
    put_varint(&mut head, bytes);
    head
}

/// Writes a series of the query of a number as frames, one handed to `put` at a time.
pub fn chunk_frames(query: usize, series: &Series<'_>, mut put: impl FnMut(Vec<u8>)) {
    let mut head = Vec::new();
    labels(&mut head, series.labels);
    let mut message = head.clone();
    let mut has_chunks = false;
    each_chunk(series.floats, series.histograms, |first_t, last_t, encoding, data| {
        let mut chunk = Vec::with_capacity(data.len() + 32);
        put_number(&mut chunk, 1, first_t.cast_unsigned());
        put_number(&mut chunk, 2, last_t.cast_unsigned());
        // The encodings of chunks on disk are those of the message.
        put_number(&mut chunk, 3, u64::from(encoding));
        put_bytes(&mut chunk, 4, &data);
        put_bytes(&mut message, 2, &chunk);
        has_chunks = true;
        if message.len() >= FRAME_BYTES_MAX {
            put(frame(query, &message));
            message.clone_from(&head);
            has_chunks = false;
        }
    });
    if has_chunks {
        put(frame(query, &message));
    }
}

/// A `ChunkedReadResponse` of one series behind its length and checksum.
fn frame(query: usize, series: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(series.len() + 16);
    put_bytes(&mut message, 1, series);
    put_number(&mut message, 2, query as u64);
    let mut frame = Vec::with_capacity(message.len() + 14);
    put_varint(&mut frame, message.len() as u64);
    frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

fn labels(message: &mut Vec<u8>, labels: &Labels) {
    for label in labels.iter() {
        let mut pair = Vec::with_capacity(label.name.len() + label.value.len() + 4);
        put_bytes(&mut pair, 1, label.name.as_bytes());
        put_bytes(&mut pair, 2, label.value.as_bytes());
        put_bytes(message, 1, &pair);
    }
}

#[cfg(test)]
mod tests;
