//! `meta.json`.

use serde::{Deserialize, Serialize};

use super::BlockError;

/// What a block says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Its name, and its directory's.
    pub ulid: String,
    /// Its first instant, milliseconds since 1970.
    pub min_time: i64,
    /// The instant after its last.
    pub max_time: i64,
    /// How much is in it.
    #[serde(default)]
    pub stats: Stats,
    /// How it came to be.
    pub compaction: Compaction,
    /// Of this file: 1.
    pub version: u32,
}

/// How much is in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples of every kind.
    pub num_samples: u64,
    /// Series.
    pub num_series: u64,
    /// Chunks.
    pub num_chunks: u64,
}

/// How a block came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// 1 for what was cut from the head.
    pub level: u32,
    /// The blocks of level 1 it was made of.
    #[serde(default)]
    pub sources: Vec<String>,
}

impl Meta {
    /// Reads `meta.json`.
    ///
    /// # Errors
    /// [`BlockError::Meta`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, BlockError> {
        serde_json::from_slice(bytes).map_err(BlockError::Meta)
    }

    /// The text of `meta.json`.
    ///
    /// # Errors
    /// [`BlockError::Meta`].
    pub fn to_json(&self) -> Result<Vec<u8>, BlockError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(BlockError::Meta)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// A ULID of a moment and 80 bits of chance (the lower ones of `chance`).
#[must_use]
pub fn ulid(now_ms: i64, chance: u128) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let ms = u128::from(now_ms.max(0).cast_unsigned() & ((1 << 48) - 1));
    let ulid = ms << 80 | (chance & ((1 << 80) - 1));
    let digit = |number: u32| {
        let five = usize::try_from(ulid >> (number * 5) & 31).unwrap_or(0);
        char::from(ALPHABET.get(five).copied().unwrap_or(b'0'))
    };
    (0..26u32).rev().map(digit).collect()
}
