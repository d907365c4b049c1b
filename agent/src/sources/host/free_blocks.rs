//! `/proc/buddyinfo`: free memory by the size of its pieces. Off by default.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, number};

const BLOCKS: Desc =
    Desc::gauge("node_buddyinfo_blocks", "Count of free blocks according to size.");
const INTERVAL: Duration = Duration::from_secs(10);
/// The kernel has 11 sizes; more in a line are not read.
const SIZES_MAX: usize = 64;

/// Node, zone, size (a power of two of pages) and count.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, &str, usize, f64)> {
    text.lines().filter_map(zone_line).flat_map(|(node, zone, counts)| {
        let counts = counts.split_ascii_whitespace().take(SIZES_MAX).enumerate();
        counts.filter_map(move |(size, count)| Some((node, zone, size, number(count)?)))
    })
}

fn zone_line(line: &str) -> Option<(&str, &str, &str)> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(',')?;
    let (zone, counts) = rest.trim_start().strip_prefix("zone")?.trim_start().split_once(' ')?;
    Some((node, zone, counts))
}

/// The source `buddyinfo`.
#[derive(Debug)]
pub(crate) struct FreeBlocks {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for FreeBlocks {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("buddyinfo"), labels: Kept::new() }
    }
}

impl Source for FreeBlocks {
    fn name(&self) -> &'static str {
        "buddyinfo"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut family = BLOCKS.family();
        for (node, zone, size, count) in parse(text) {
            let size = size.to_string();
            let labels = self.labels.get(&format!("{node} {zone} {size}"), |_| {
                Labels::from_pairs_last_wins([("node", node), ("zone", zone), ("size", &size)])
            });
            family.push(labels, count);
        }
        self.labels.end_round();
        reading.family(family);
    }
}
