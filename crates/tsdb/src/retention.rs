//! Which blocks have had their time.

use std::sync::Arc;

use crate::Options;
use crate::block::{Block, Meta};

/// The blocks to delete: those that ended longer before `newest` than is kept, then the oldest
/// while all together with `other_bytes` take more than may be. The newest block stays.
pub(crate) fn expired(
    blocks: &[Arc<Block>],
    newest: i64,
    other_bytes: u64,
    options: &Options,
) -> Vec<Arc<Block>> {
    let oldest_kept = newest.saturating_sub(options.retention_ms);
    let mut by_age: Vec<&Arc<Block>> = blocks.iter().collect();
    by_age.sort_by_key(|block| (block.meta.last_t, block.meta.sequence));
    let mut bytes = other_bytes + by_age.iter().map(|block| block.bytes()).sum::<u64>();
    let newest_block = by_age.last().map(|block| block.meta.sequence);
    let mut expired = Vec::new();
    for block in by_age {
        let over = options.retention_bytes.is_some_and(|max| bytes > max);
        let is_old = is_old(&block.meta, oldest_kept);
        if is_old || (over && Some(block.meta.sequence) != newest_block) {
            bytes -= block.bytes();
            expired.push(Arc::clone(block));
        }
    }
    expired
}

fn is_old(meta: &Meta, oldest_kept: i64) -> bool {
    meta.last_t < oldest_kept
}
