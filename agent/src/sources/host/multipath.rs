//! `/sys/block/dm-*`: disks that are reached over several paths (DM-Multipath).

use std::path::Path;
use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, text, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

/// How often.
const INTERVAL: Duration = Duration::from_secs(10);
/// Paths told of one device.
const PATHS_MAX: usize = 256;
const SECTOR_BYTES: f64 = 512.0;
/// What the UUIDs of such devices begin with.
const UUID_PREFIX: &str = "mpath-";

const INFO: Desc = Desc::gauge(
    "node_dmmultipath_device_info",
    "Non-numeric information about a DM-multipath device.",
);
const ACTIVE: Desc = Desc::gauge(
    "node_dmmultipath_device_active",
    "Whether the multipath device-mapper device is active (1) or suspended (0).",
);
const SIZE: Desc = Desc::gauge(
    "node_dmmultipath_device_size_bytes",
    "Size of the multipath device in bytes, read from /sys/block/<dm>/size.",
);
const PATHS: Desc =
    Desc::gauge("node_dmmultipath_device_paths", "Number of paths for a multipath device.");
const PATHS_ACTIVE: Desc = Desc::gauge(
    "node_dmmultipath_device_paths_active",
    "Number of paths in active state (SCSI running or NVMe live) for a multipath device.",
);
const PATHS_FAILED: Desc = Desc::gauge(
    "node_dmmultipath_device_paths_failed",
    "Number of paths not in active state for a multipath device.",
);
const PATH_STATE: Desc = Desc::gauge(
    "node_dmmultipath_path_state",
    "Reports the underlying device state for a multipath path, as read from \
     /sys/block/<dev>/device/state.",
);

/// The source `dmmultipath`.
#[derive(Debug)]
pub(crate) struct Multipath {
    sheet: Sheet,
}

impl Configured for Multipath {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Multipath {
    /// `dir` is the device's, `blocks` that of all block devices.
    fn read_device(&mut self, sysfs_name: &str, dir: &Path, blocks: &Path) {
        let Some(uuid) = text(dir.join("dm/uuid")).filter(|uuid| uuid.starts_with(UUID_PREFIX))
        else {
            return;
        };
        let Some(device) = text(dir.join("dm/name")) else { return };
        let info = self.sheet.labels.of(&[
            ("device", device.as_str()),
            ("sysfs_name", sysfs_name),
            ("uuid", &uuid),
        ]);
        self.sheet.push(&INFO, info, 1.0);
        let whole =
            self.sheet.labels.of(&[("device", device.as_str()), ("sysfs_name", sysfs_name)]);
        if let Some(suspended) = value(dir.join("dm/suspended")) {
            self.sheet.push(&ACTIVE, whole.clone(), f64::from(u8::from(suspended == 0.0)));
        }
        if let Some(sectors) = value(dir.join("size")) {
            self.sheet.push(&SIZE, whole.clone(), sectors * SECTOR_BYTES);
        }
        let paths = entries(&dir.join("slaves"), PATHS_MAX).unwrap_or_default();
        let mut active = 0;
        for (path, _) in &paths {
            // SCSI says `running`, NVMe `live`; a path that is gone says nothing.
            let Some(state) = text(blocks.join(path).join("device/state")) else { continue };
            active += usize::from(matches!(state.as_str(), "running" | "live"));
            let labels = self.sheet.labels.of(&[
                ("device", device.as_str()),
                ("path", path),
                ("state", &state),
            ]);
            self.sheet.push(&PATH_STATE, labels, 1.0);
        }
        for (desc, count) in
            [(&PATHS, paths.len()), (&PATHS_ACTIVE, active), (&PATHS_FAILED, paths.len() - active)]
        {
            self.sheet.push(desc, whole.clone(), count as f64);
        }
    }
}

impl Source for Multipath {
    fn name(&self) -> &'static str {
        "dmmultipath"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let blocks = roots.path(Tree::Sys, "block");
        let found = match entries(&blocks, usize::MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(blocks, error)),
        };
        for (name, dir) in
            found.iter().filter(|(name, _)| name.starts_with("dm-")).take(DEVICES_MAX)
        {
            self.read_device(name, dir, &blocks);
        }
        self.sheet.tell(reading);
    }
}
