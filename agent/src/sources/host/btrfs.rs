//! `/sys/fs/btrfs`: file systems of the kind Btrfs, by UUID: what is allocated and used, and how.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, read_whole, text, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, number};

/// How often.
const INTERVAL: Duration = Duration::from_secs(10);
const SECTOR_BYTES: f64 = 512.0;
/// `commit_stats` has four lines.
const FILE_BYTES_MAX: u64 = 4096;

const INFO: Desc = Desc::gauge("node_btrfs_info", "Filesystem information");
const GLOBAL_RESERVE: Desc =
    Desc::gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve.");
const DEVICE_SIZE: Desc =
    Desc::gauge("node_btrfs_device_size_bytes", "Size of a device that is part of the filesystem.");
const RESERVED: Desc =
    Desc::gauge("node_btrfs_reserved_bytes", "Amount of space reserved for a data type");
const USED: Desc =
    Desc::gauge("node_btrfs_used_bytes", "Amount of used space by a layout/data type");
const SIZE: Desc =
    Desc::gauge("node_btrfs_size_bytes", "Amount of space allocated for a layout/data type");
const RATIO: Desc =
    Desc::gauge("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type");
/// Keys in `commit_stats`, and what a number is divided by.
const COMMITS: [(&str, Desc, f64); 4] = [
    (
        "commits",
        Desc::counter(
            "node_btrfs_commits_total",
            "The total number of commits that have occurred.",
        ),
        1.0,
    ),
    (
        "last_commit_ms",
        Desc::gauge(
            "node_btrfs_last_commit_seconds",
            "Duration of the most recent commit, in seconds.",
        ),
        1000.0,
    ),
    (
        "max_commit_ms",
        Desc::gauge("node_btrfs_max_commit_seconds", "Duration of the slowest commit, in seconds."),
        1000.0,
    ),
    (
        "total_commit_ms",
        Desc::counter(
            "node_btrfs_commit_seconds_total",
            "Sum of the duration of all commits, in seconds.",
        ),
        1000.0,
    ),
];

/// The number that a line `key number` has for `key`.
pub(super) fn parse(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let (known, rest) = line.split_once(' ')?;
        (known == key).then(|| number(rest.trim())).flatten()
    })
}

/// Bytes on disk for each byte stored in a layout over so many devices; `None` for a layout of
/// which this is not known.
pub(super) fn ratio(layout: &str, devices: usize) -> Option<f64> {
    let devices = devices as f64;
    let of_stripes = |parities: f64| (devices > parities).then(|| devices / (devices - parities));
    match layout {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" => of_stripes(1.0),
        "raid6" => of_stripes(2.0),
        _ => None,
    }
}

/// The source `btrfs`.
#[derive(Debug)]
pub(crate) struct Btrfs {
    sheet: Sheet,
}

impl Configured for Btrfs {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Btrfs {
    fn read_filesystem(&mut self, uuid: &str, dir: &Path) {
        let name = text(dir.join("label")).unwrap_or_default();
        let info = self.sheet.labels.of(&[("label", name.as_str()), ("uuid", uuid)]);
        self.sheet.push(&INFO, info, 1.0);
        let whole = self.sheet.labels.of(&[("uuid", uuid)]);
        if let Some(bytes) = value(dir.join("allocation/global_rsv_size")) {
            self.sheet.push(&GLOBAL_RESERVE, whole.clone(), bytes);
        }
        match read_whole(&dir.join("commit_stats"), FILE_BYTES_MAX) {
            Ok(text) => push_commits(&text, &whole, &mut self.sheet),
            // node_exporter tells 0 where the kernel (before 6.0) does not count commits.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                COMMITS.iter().for_each(|(_, desc, _)| self.sheet.push(desc, whole.clone(), 0.0));
            }
            Err(_) => {}
        }
        let devices = entries(&dir.join("devices"), DEVICES_MAX).unwrap_or_default();
        for (device, path) in &devices {
            if let Some(sectors) = value(path.join("size")) {
                let labels = self.sheet.labels.of(&[("device", device.as_str()), ("uuid", uuid)]);
                self.sheet.push(&DEVICE_SIZE, labels, sectors * SECTOR_BYTES);
            }
        }
        for kind in ["data", "metadata", "system"] {
            let dir = dir.join("allocation").join(kind);
            if let Some(bytes) = value(dir.join("bytes_reserved")) {
                let labels = self.sheet.labels.of(&[("block_group_type", kind), ("uuid", uuid)]);
                self.sheet.push(&RESERVED, labels, bytes);
            }
            // Among the files there is a directory for each layout that is in use.
            for (layout, dir) in entries(&dir, DEVICES_MAX).unwrap_or_default() {
                let Some(size) = value(dir.join("total_bytes")) else { continue };
                let labels = self.sheet.labels.of(&[
                    ("block_group_type", kind),
                    ("mode", layout.as_str()),
                    ("uuid", uuid),
                ]);
                self.sheet.push(&SIZE, labels.clone(), size);
                if let Some(used) = value(dir.join("used_bytes")) {
                    self.sheet.push(&USED, labels.clone(), used);
                }
                if let Some(ratio) = ratio(&layout, devices.len()) {
                    self.sheet.push(&RATIO, labels, ratio);
                }
            }
        }
    }
}

fn push_commits(text: &str, labels: &Labels, sheet: &mut Sheet) {
    for (key, desc, divisor) in &COMMITS {
        if let Some(number) = parse(text, key) {
            sheet.push(desc, labels.clone(), number / divisor);
        }
    }
}

impl Source for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "fs/btrfs");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            // node_exporter's collector succeeds without any Btrfs.
            Err(error) => return reading.note(Problem::read(dir, error)),
        };
        // Beside the file systems there is what the kernel can do, `features`.
        for (uuid, dir) in found.iter().filter(|(name, _)| name.contains('-')) {
            self.read_filesystem(uuid, dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ratios_are_those_of_the_layout() {
        for (layout, devices, expected) in [
            ("single", 1, Some(1.0)),
            ("raid1", 2, Some(2.0)),
            ("raid1c3", 3, Some(3.0)),
            ("raid5", 4, Some(4.0 / 3.0)),
            ("raid6", 4, Some(2.0)),
            ("raid6", 2, None),
            ("raid9", 4, None),
        ] {
            assert_eq!(ratio(layout, devices), expected, "{layout}");
        }
        assert_eq!(parse("commits 7\nlast_commit_ms 12\n", "last_commit_ms"), Some(12.0));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), devices in 0_usize..9) {
            prop_assert!(parse(&text, "commits").is_none_or(|n| !n.is_nan()));
            prop_assert!(ratio("raid6", devices).is_none_or(|ratio| ratio > 1.0));
        }
    }
}
