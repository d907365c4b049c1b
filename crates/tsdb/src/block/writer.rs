//! Writing a block from sealed chunks of the head.
//!
//! Memory: the index, the labels of one group's series, one series' samples, and the timestamps of up
//! to [`SHARED_LANES_MAX`] lanes of one group.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;
use stoa_wal::Disk;

use super::sink::{Plan, Sink, histograms_per_chunk};
use super::symbols::SymbolsBuilder;
use super::{Block, BlockError};
use crate::GroupId;
use crate::batch::histogram_cells;
use crate::bytes::Malformed;
use crate::checkpoint::GroupSnapshot;
use crate::head::{Sealed, TimesCache};
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
    let (mut lanes, mut histogram_lanes) = (Lanes::default(), Lanes::default());
    let mut times = TimesCache::with_chunks();
    let mut whole = WholeTimes::default();
    for member in members {
        let mut samples = Samples::default();
        let mut histograms = Vec::new();
        for sealed in &member.sealed {
            match read(sealed, &mut times, &mut samples, &mut histograms) {
                Ok(()) => written.read += 1,
                Err(error) => written.leave_out(sealed.window.place().file(), error)?,
            }
        }
        if samples.is_empty() && histograms.is_empty() {
            continue;
        }
        let number = |text: &str| numbers.get(text).copied().ok_or(Malformed("a text not listed"));
        let pairs: Result<Vec<_>, Malformed> = member
            .labels
            .iter()
            .map(|label| Ok((number(&label.name)?, number(&label.value)?)))
            .collect();
        let pairs = pairs?;
        // Floats first: a series that has both is there twice, in this order.
        let (own_times, values) = samples.into_columns(&mut whole);
        if !histograms.is_sorted_by(|(a, _), (b, _)| a < b) {
            histograms.sort_by_key(|(t, _)| *t);
            histograms.dedup_by_key(|(t, _)| *t);
        }
        histograms.retain(|(t, _)| own_times.binary_search(t).is_err());
        if !values.is_empty() {
            let lane = lanes.find(own_times, Arc::ptr_eq, |times| sink.lane(times))?;
            sink.series(&pairs, lane, &values)?;
        }
        if !histograms.is_empty() {
            let cells = histograms.iter().map(|(_, histogram)| histogram_cells(histogram)).max();
            let ticks = histograms_per_chunk(cells.unwrap_or(0));
            let own_times: Vec<TimestampMs> = histograms.iter().map(|(t, _)| *t).collect();
            let key = (ticks, own_times);
            let put =
                |(ticks, times): &(usize, Vec<TimestampMs>)| sink.histogram_lane(times, *ticks);
            let lane = histogram_lanes.find(key, |_, _| false, put)?;
            let mut rest = histograms.into_iter().map(|(_, histogram)| histogram);
            let next = |ticks: usize| Ok::<_, BlockError>(rest.by_ref().take(ticks).collect());
            sink.histograms(&pairs, lane, next)?;
        }
    }
    sink.end_group(group.id.0);
    Ok(())
}

/// Appends what a chunk holds, of the one kind or the other; nothing after an error.
fn read(
    sealed: &Sealed,
    times: &mut TimesCache,
    samples: &mut Samples,
    histograms: &mut Vec<(TimestampMs, Histogram)>,
) -> Result<(), BlockError> {
    let (start, end) = (TimestampMs::MIN, TimestampMs::MAX);
    if !sealed.window.has_histograms() {
        return sealed.decode(start, end, times, samples);
    }
    let before = histograms.len();
    sealed
        .decode_histograms(start, end, times, histograms)
        .inspect_err(|_unread| histograms.truncate(before))
}

/// Lanes that further series may share, with what tells them apart.
struct Lanes<K> {
    known: Vec<(K, u32)>,
}

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self { known: Vec::new() }
    }
}

impl<K: PartialEq> Lanes<K> {
    /// The lane of a key, written if need be. Keys are compared one by one: unlike ones mostly differ
    /// in length or at once, and `is_same` may tell that two are one without looking inside.
    fn find(
        &mut self,
        key: K,
        is_same: impl Fn(&K, &K) -> bool,
        write: impl FnOnce(&K) -> io::Result<u32>,
    ) -> io::Result<u32> {
        let found = self.known.iter().find(|(known, _)| is_same(known, &key) || *known == key);
        if let Some((_, lane)) = found {
            return Ok(*lane);
        }
        let lane = write(&key)?;
        if self.known.len() < SHARED_LANES_MAX {
            self.known.push((key, lane));
        }
        Ok(lane)
    }
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
