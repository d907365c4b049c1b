//! `/proc/net/arp`: how many neighbours each device knows.
//!
//! node_exporter asks the kernel by netlink for the same entries unless told not to; the file has
//! them all, those without ARP left out already, so it is the one way here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::Labels;

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, label};

const ENTRIES: Desc = Desc::gauge("node_arp_entries", "ARP entries by device");
const INTERVAL: Duration = Duration::from_secs(5);
/// The device stands behind address, hardware type, flags, hardware address and mask.
const DEVICE_COLUMN: usize = 5;

/// `[sources.arp]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Devices to tell, all if empty.
    device_include: Pattern,
    /// Devices to leave out.
    device_exclude: Pattern,
}

/// The device of each entry.
pub(super) fn parse(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(DEVICE_COLUMN))
}

/// The source `arp`.
#[derive(Debug)]
pub(crate) struct Arp {
    file: KeptFile,
    filter: Filter,
    labels: Kept<Labels>,
}

impl Configured for Arp {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            file: KeptFile::proc("net/arp"),
            filter: Filter::new(settings.device_include, settings.device_exclude),
            labels: Kept::new(),
        }
    }
}

impl Source for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for device in parse(text) {
            *counts.entry(device).or_default() += 1;
        }
        let mut family = ENTRIES.family();
        for (device, count) in counts {
            if self.filter.keeps(device) {
                let labels = self.labels.get(device, |device| label("device", device));
                family.push(labels, f64::from(count));
            }
        }
        self.labels.end_round();
        reading.family(family);
    }
}
