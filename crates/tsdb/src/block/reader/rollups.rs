//! Reading series of rollups.

use stoa_model::{Rollup, TimestampMs};

use super::{BlockQuery, Place, hides, offsets};
use crate::bytes::Malformed;
use crate::chunk::decode_rollups;

impl BlockQuery<'_> {
    /// Appends a series' rollups whose windows end in the range, each with that end, and says how many
    /// chunks could not be read.
    pub(crate) fn rollups(&mut self, series: &Place, out: &mut Vec<(TimestampMs, Rollup)>) -> u64 {
        let Some(lane) = series.lanes.get(series.entry.lane as usize) else { return 0 };
        let shared = self.lane_times(&series.entry, lane);
        let offsets = offsets(series.entry.offset, &series.entry.chunk_bytes);
        let hidden = self.block.tombstones.of(series.number);
        let mut lost = shared.lost;
        let mut rollups = Vec::new();
        for window in &shared.windows {
            let offset = offsets.get(window.number).copied().unwrap_or_default();
            let bytes = series.entry.chunk_bytes.get(window.number).copied().unwrap_or_default();
            rollups.clear();
            let read = self.one(offset, bytes).and_then(|span| {
                decode_rollups(span.chunk(offset, bytes)?, window.ticks, &mut rollups)
            });
            let ends = shared.times.get(window.part.clone()).ok_or(Malformed("no such windows"));
            let (Ok(()), Ok(ends)) = (read, ends) else {
                lost.add(window.ticks as u64, shared.ends(window));
                continue;
            };
            let there = ends.iter().copied().zip(rollups.iter().skip(window.skip));
            out.extend(there.filter(|(end, _)| !hides(hidden, *end)).map(|(end, relative)| {
                let rollup = Rollup {
                    first_t: relative.first_t.saturating_add(end),
                    last_t: relative.last_t.saturating_add(end),
                    ..*relative
                };
                (end, rollup)
            }));
        }
        self.lost.join(lost);
        lost.chunks
    }
}
