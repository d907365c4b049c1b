//! Writing a block from sealed chunks of the head.
//!
//! Memory: the index, the labels of one group's series, one series' samples, and the timestamps of up
//! to [`SHARED_LANES_MAX`] lanes of one group.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_wal::Disk;

use super::sink::{Plan, Sink};
use super::symbols::SymbolsBuilder;
use super::{Block, BlockError};
use crate::GroupId;
use crate::bytes::Malformed;
use crate::checkpoint::GroupSnapshot;
use crate::head::TimesCache;
use crate::select::{Samples, WholeTimes};

/// Distinct sets of timestamps remembered per group, so that further series share them. Series
/// that come and go have their own; these are not worth remembering.
const SHARED_LANES_MAX: usize = 64;

/// Beyond this many chunks the disk did not give, and more than it gave, no block is written: it is a
/// disk that is gone and may come back, not a sector.
const UNREAD_MAX: u64 = 256;

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// `None` when there is no sample.
    pub(crate) block: Option<Block>,
    /// Chunks left out because they could not be read or decoded.
    pub(crate) damaged: u64,
    /// The files of the head that did not give some of them.
    pub(crate) files_unread: BTreeSet<u64>,
    /// Chunks a file did not give, and all others.
    unread: u64,
    read: u64,
}

/// Writes a block of the chunks `snapshot` gives for each group, durable when this returns. Each group
/// is asked for twice, first for its texts, so that one at a time is in memory. A chunk that cannot be
/// read or decoded is left out. After an error the plan's [`leftovers`](super::leftovers) are to be
/// removed: a block nobody knows of would hold the samples a second time.
pub(crate) fn write(
    disk: &dyn Disk,
    blocks_dir: &Path,
    plan: &Plan,
    groups: &[GroupId],
    snapshot: impl Fn(GroupId) -> Option<GroupSnapshot>,
) -> Result<Written, BlockError> {
    let mut texts: BTreeSet<Arc<str>> = BTreeSet::new();
    for group in groups.iter().filter_map(|id| snapshot(*id)) {
        for label in group.members.iter().flat_map(|member| &member.labels) {
            for text in [&label.name, &label.value] {
                if !texts.contains(text) {
                    texts.insert(Arc::clone(text));
                }
            }
        }
    }
    let mut symbols = SymbolsBuilder::default();
    let mut numbers = HashMap::with_capacity(texts.len());
    for text in &texts {
        numbers.insert(text.as_ref(), symbols.push(text.as_bytes())?);
    }
    let mut sink = Sink::create(disk, blocks_dir, plan, symbols)?;
    let mut written = Written::default();
    for group in groups.iter().filter_map(|id| snapshot(*id)) {
        write_group(&group, &numbers, &mut sink, &mut written)?;
    }
    written.block = sink.finish()?;
    Ok(written)
}

fn write_group(
    group: &GroupSnapshot,
    numbers: &HashMap<&str, u32>,
    sink: &mut Sink<'_>,
    written: &mut Written,
) -> Result<(), BlockError> {
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by(|a, b| a.labels.cmp(&b.labels));
    // Compared one by one: unlike ones mostly differ in length or at once.
    let mut shared: Vec<(Arc<[TimestampMs]>, u32)> = Vec::new();
    let mut times = TimesCache::with_chunks();
    let mut whole = WholeTimes::default();
    for member in members {
        let mut samples = Samples::default();
        for sealed in &member.sealed {
            match sealed.decode(TimestampMs::MIN, TimestampMs::MAX, &mut times, &mut samples) {
                Ok(()) => written.read += 1,
                Err(error) => {
                    written.leave_out(sealed.window.place().file(), error)?;
                }
            }
        }
        if samples.is_empty() {
            continue;
        }
        let (own_times, values) = samples.into_columns(&mut whole);
        let lane = match shared
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, &own_times) || *known == own_times)
        {
            Some((_, lane)) => *lane,
            None => {
                let lane = sink.lane(&own_times)?;
                if shared.len() < SHARED_LANES_MAX {
                    shared.push((own_times, lane));
                }
                lane
            }
        };
        let number = |text: &str| numbers.get(text).copied().ok_or(Malformed("a text not listed"));
        let pairs: Result<Vec<_>, Malformed> = member
            .labels
            .iter()
            .map(|label| Ok((number(&label.name)?, number(&label.value)?)))
            .collect();
        sink.series(&pairs?, lane, &values)?;
    }
    sink.end_group(group.id.0);
    Ok(())
}

impl Written {
    /// Counts a chunk that was left out; fails when it is one too many.
    fn leave_out(&mut self, file: Option<u64>, error: BlockError) -> io::Result<()> {
        self.damaged += 1;
        if let BlockError::Io(error) = error {
            self.unread += 1;
            self.files_unread.extend(file);
            if self.unread > UNREAD_MAX && self.unread > self.read {
                return Err(error);
            }
        }
        Ok(())
    }
}
