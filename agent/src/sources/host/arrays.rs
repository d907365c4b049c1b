//! `/proc/mdstat` and `/sys/block/md*/md`: software RAID.

use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries_with, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Reading, Roots, Source, Tree};

pub(super) mod mdstat;

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);

const STATE: Desc = Desc::gauge("node_md_state", "Indicates the state of md-device.");
const STATES: [&str; 5] = ["active", "check", "inactive", "recovering", "resync"];
const DISKS: Desc = Desc::gauge("node_md_disks", "Number of active/failed/spare disks of device.");
const REQUIRED: Desc = Desc::gauge("node_md_disks_required", "Total number of disks of device.");
const BLOCKS: Desc = Desc::gauge("node_md_blocks", "Total number of blocks on device.");
const SYNCED: Desc = Desc::gauge("node_md_blocks_synced", "Number of blocks synced on device.");
const RAID_DISKS: Desc = Desc::gauge("node_md_raid_disks", "Number of raid disks on device.");
const DEGRADED: Desc = Desc::gauge("node_md_degraded", "Number of degraded disks on device.");

/// The source `mdadm`.
#[derive(Debug)]
pub(crate) struct Arrays {
    file: KeptFile,
    sheet: Sheet,
}

impl Configured for Arrays {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("mdstat"), sheet: Sheet::default() }
    }
}

impl Source for Arrays {
    fn name(&self) -> &'static str {
        "mdadm"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        for array in mdstat::parse(text) {
            let device = array.device;
            let whole = self.sheet.labels.of(&[("device", device)]);
            self.sheet.push(&REQUIRED, whole.clone(), array.required);
            self.sheet.push(&BLOCKS, whole.clone(), array.blocks);
            self.sheet.push(&SYNCED, whole, array.blocks_synced);
            for (state, count) in
                [("active", array.active), ("failed", array.failed), ("spare", array.spare)]
            {
                let labels = self.sheet.labels.of(&[("device", device), ("state", state)]);
                self.sheet.push(&DISKS, labels, count);
            }
            for state in STATES {
                let is = f64::from(u8::from(state == array.state));
                let labels = self.sheet.labels.of(&[("device", device), ("state", state)]);
                self.sheet.push(&STATE, labels, is);
            }
        }
        for (number, dir) in entries_with(&roots.path(Tree::Sys, "block"), "md", DEVICES_MAX) {
            let dir = dir.join("md");
            let Some(disks) = value(dir.join("raid_disks")) else { continue };
            let device = format!("md{number}");
            let labels = self.sheet.labels.of(&[("device", &device)]);
            self.sheet.push(&RAID_DISKS, labels.clone(), disks);
            // An array without redundancy has no such file: it is never degraded, only broken.
            let degraded = dir.join("degraded");
            let count = if degraded.exists() { value(degraded) } else { Some(0.0) };
            if let Some(count) = count {
                self.sheet.push(&DEGRADED, labels, count);
            }
        }
        self.sheet.tell(reading);
    }
}
