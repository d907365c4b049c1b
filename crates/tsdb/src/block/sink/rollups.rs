//! Series of rollups.

use stoa_model::{Rollup, TimestampMs};
use stoa_wal::Disk;

use super::{Plan, Sink};
use crate::block::{BlockError, SymbolsBuilder, TierMeta};
use crate::chunk::encode_rollups;

impl<'a> Sink<'a> {
    /// Begins a block of a tier.
    pub(crate) fn create_tier(
        disk: &'a dyn Disk,
        dir: &'a std::path::Path,
        plan: &Plan,
        tier: TierMeta,
        symbols: SymbolsBuilder,
    ) -> std::io::Result<Self> {
        let mut sink = Self::create(disk, dir, plan, symbols)?;
        sink.meta.tier = Some(tier);
        Ok(sink)
    }

    /// Writes a series of rollups, given with the ends of their windows, which are those of a lane.
    pub(crate) fn rollups(
        &mut self,
        pairs: &[(u32, u32)],
        lane: u32,
        rollups: &[(TimestampMs, Rollup)],
    ) -> Result<(), BlockError> {
        self.entry(pairs, lane, rollups, |rollups, out| {
            let relative = rollups.iter().map(|(end, rollup)| Rollup {
                first_t: rollup.first_t.saturating_sub(*end),
                last_t: rollup.last_t.saturating_sub(*end),
                ..*rollup
            });
            encode_rollups(&relative.collect::<Vec<_>>(), out);
            Ok(())
        })
    }
}
