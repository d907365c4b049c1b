//! The limits a database works within.

/// Shorter blocks would be mostly index.
const BLOCK_MS_MIN: i64 = 60_000;

/// The limits of a [`Db`](crate::Db); [`Default`] fits a collector of a few hundred hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How much time one block spans, milliseconds: 2 h; at least a minute. Blocks that are there
    /// keep theirs.
    pub block_ms: i64,
    /// How long after its end a block's time is left open for stragglers before the block is
    /// written, milliseconds: 15 min. Later samples still are taken; they make a block of their own.
    pub grace_ms: i64,
    /// The spans into which blocks are merged, milliseconds: 8 h, 24 h, 7 d. Taken as multiples of
    /// the one before (the first of `block_ms`); what spans over half of `retention_ms` is left out,
    /// for a block goes as a whole. None: nothing is merged.
    pub compaction_ms: Vec<i64>,
    /// Blocks that ended longer ago than this, before the newest sample, are deleted: 14 d.
    pub retention_ms: i64,
    /// How long the rollups of each minute are kept, milliseconds before the newest sample; 0, the
    /// default: none are made, and those there are go with the samples.
    pub minute_retention_ms: i64,
    /// How long the rollups of each hour are kept; 0, the default: none are made.
    pub hour_retention_ms: i64,
    /// Blocks are deleted while blocks and log take more bytes than this, those first that have used
    /// up most of the time they are kept; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// Samples this much older than the newest one are taken: 24 h; older ones are counted
    /// `too_old`. A newest one that is over 5 minutes ahead of the clock counts as 5 minutes ahead.
    pub out_of_order_ms: i64,
    /// Samples of a series in the head that make a compressed chunk: 240; from 16 to 256.
    pub head_chunk_samples: usize,
    /// Series the head holds; further ones are refused: 2 million.
    pub series_max: usize,
    /// Bytes of label names and values in the head, each text once; further series are refused: 1 GiB.
    pub label_bytes_max: usize,
    /// Bytes of log after which the head is written to a checkpoint even though no block is due:
    /// 512 MiB, some 200 million samples. It bounds what a start has to read.
    pub log_bytes_max: u64,
    /// Bytes that are to stay free on the disk: blocks are merged only while there is room for twice
    /// what they take beyond these. 0.
    pub free_bytes_min: u64,
    /// Bytes of log kept for followers that lag, beyond what a start needs: 1 GiB, and no more than a
    /// quarter of the room there would be without. What is dropped is counted as lost to them.
    pub follow_bytes_max: u64,
    /// How long it is kept for them, milliseconds: 2 h after a start no longer needs it.
    pub follow_ms: i64,
    /// Bytes kept of what was damaged, under `quarantine/`; of more the oldest go, but for the newest:
    /// 4 GiB.
    pub quarantine_bytes_max: u64,
    /// Series that left the head whose labels one follower holds: 200,000. Where there are more, the
    /// log is read again for those that are wanted.
    pub follow_departed_max: usize,
    /// Bytes of block indexes kept in memory for queries: 64 MiB; at least one index is kept.
    pub index_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        const HOUR_MS: i64 = 3_600_000;
        Self {
            block_ms: 2 * HOUR_MS,
            grace_ms: HOUR_MS / 4,
            compaction_ms: vec![8 * HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS],
            retention_ms: 14 * 24 * HOUR_MS,
            minute_retention_ms: 0,
            hour_retention_ms: 0,
            retention_bytes: None,
            out_of_order_ms: 24 * HOUR_MS,
            head_chunk_samples: 240,
            series_max: 2_000_000,
            label_bytes_max: 1 << 30,
            log_bytes_max: 512 << 20,
            free_bytes_min: 0,
            quarantine_bytes_max: 4 << 30,
            follow_bytes_max: 1 << 30,
            follow_ms: 2 * HOUR_MS,
            follow_departed_max: 200_000,
            index_cache_bytes: 64 << 20,
        }
    }
}

impl Options {
    /// The start of the block range `t` lies in.
    pub(crate) fn block_start(&self, t: i64) -> i64 {
        t.div_euclid(self.block_ms()).saturating_mul(self.block_ms())
    }

    pub(crate) fn block_ms(&self) -> i64 {
        self.block_ms.max(BLOCK_MS_MIN)
    }

    /// The spans of [`Self::compaction_ms`], each a multiple of the one before.
    pub(crate) fn compaction_spans(&self) -> Vec<i64> {
        let mut spans = Vec::new();
        let mut last = self.block_ms();
        for span in &self.compaction_ms {
            let span = span.saturating_sub(span.rem_euclid(last));
            if span > last && span <= self.retention_ms / 2 {
                spans.push(span);
                last = span;
            }
        }
        spans
    }

    pub(crate) fn window_ticks(&self) -> usize {
        self.head_chunk_samples.clamp(16, crate::head::WINDOW_TICKS_MAX)
    }
}
