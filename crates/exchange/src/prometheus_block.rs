//! Prometheus's blocks: the samples of one span of time in a directory of their own, read and written.
//!
//! A block is `meta.json`, an `index` of format 1 or 2, segments of chunks (`chunks/000001` …) and
//! `tombstones` for what was deleted since. [`BlockReader`] hands out series by series in order of
//! labels; [`BlockWriter`] takes them in that order. Both reach files only through what they are
//! given to read or write.
//!
//! Memory: the symbols of the index, one series with its samples, one window per segment; the writer
//! keeps four bytes per label of each series besides.
//!
//! Chunks of floats and of native histograms are read and written; one that fails its checksum is
//! counted and left out.
//! Source: <https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format>.

mod bits;
mod chunks;
mod histogram;
mod index;
mod meta;
mod reader;
mod tombstones;
mod writer;
mod xor;

use std::io;

#[cfg(test)]
pub(crate) use histogram::decode as decode_histograms;
pub use meta::{Compaction, Meta, Stats, ulid};
pub use reader::{BlockFiles, BlockReader, LeftOut};
pub(crate) use writer::each_chunk;
pub use writer::{BlockWriter, CHUNK_SAMPLES};
#[cfg(test)]
pub(crate) use xor::decode as decode_floats;

/// Why a block cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The system failed.
    #[error("{what}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `meta.json` is not as Prometheus writes it.
    #[error("understand meta.json")]
    Meta(#[source] serde_json::Error),
    /// A file does not hold what the format promises.
    #[error("the {file} is damaged at byte {at}: expected {expected}")]
    Damaged {
        /// Which file.
        file: &'static str,
        /// Where, as near as is known.
        at: u64,
        /// What should be there.
        expected: &'static str,
    },
    /// What was handed in to be written is out of order, without samples, or too much.
    #[error("cannot write the block: {0}")]
    Misuse(&'static str),
}

impl BlockError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
