//! Ticks as bytes, and back: the payload of a `Data` message.
//!
//! Stateful per call and leg: the dictionary of series travels once, then per tick one timestamp
//! and what changed, all in one zstd context that is flushed per payload. Knows neither services
//! nor files nor clocks; docs/formats/wire.md describes the bytes.
//!
//! Bounds: [`RAW_BYTES_MAX`], [`PAYLOAD_BYTES_MAX`], [`TICKS_MAX`], [`SAMPLES_MAX`], [`LABELS_MAX`]. Whatever the bytes, decoding ends in ticks or a [`FrameError`].

mod decode;
mod encode;
mod number;
mod slots;
mod varint;

pub use decode::{Additions, DecodedTick, Decoder, Effort, FamilyText, SeriesText};
pub use encode::Encoder;
pub use slots::SLOTS_MAX;

/// Payload bytes after decompression, at most: a dictionary of 20,000 series fits with room.
pub const RAW_BYTES_MAX: usize = 8 << 20;

/// Payload bytes as they travel, at most.
pub const PAYLOAD_BYTES_MAX: usize = 2 << 20;

/// Ticks in one payload, at most.
pub const TICKS_MAX: usize = 600;

/// Samples in one payload, at most.
pub const SAMPLES_MAX: usize = 1 << 19;

/// Labels of one series, at most; a series with more is kept out, the rest of its payload not.
pub const LABELS_MAX: usize = 64;

/// Labels defined by one payload, at most: bounds what a small payload can unfold into.
const LABELS_TOTAL_MAX: usize = 1 << 19;

/// How far back a payload of a call refers, as a power of two: sets what each end keeps for as long as the
/// call lasts, four times this and more. Ticks resemble the last few: with 16 KiB 550 series take as many
/// bytes, 5,000 3 % fewer.
const WINDOW_LOG: u32 = 12;

/// The same of a spool's record, which brings its dictionary and is read once.
const WINDOW_LOG_SPOOL: u32 = 14;

/// The farthest a payload may refer back: agents up to version 0.1 do so by 128 KiB.
const WINDOW_LOG_MAX: u32 = 17;

/// zstd's level: above 3 nothing is gained on payloads this small.
const LEVEL: i32 = 3;

/// Why a payload cannot be read, or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It ends within a value.
    #[error("payload ends within a value")]
    Truncated,
    /// It breaks the format.
    #[error("payload is malformed: {0}")]
    Malformed(&'static str),
    /// It is over a bound.
    #[error("payload is over the limit of {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The compressed bytes are damaged or refer to bytes of another call.
    #[error("decompress payload")]
    Decompress(#[source] std::io::Error),
    /// The compressor refused.
    #[error("compress payload")]
    Compress(#[source] std::io::Error),
}

#[cfg(test)]
mod tests;
