//! The source `arrays`: what node_exporter leaves out of `/sys` of arrays, that is how far a check or
//! rebuild is and what it found (md), and which device errs (md, Btrfs).

use std::path::Path;
use std::time::Duration;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, number, read_small};

const INTERVAL: Duration = Duration::from_secs(10);
/// Arrays, file systems and devices of each, at most.
const ENTRIES_MAX: usize = 256;
/// The kernel counts sectors of 512 bytes.
const SECTOR_BYTES: f64 = 512.0;

const ACTION: Desc = Desc::gauge(
    "stoa_md_sync_action",
    "Always 1; what the array is doing (idle, resync, recover, check, repair, reshape, frozen).",
);
const PROGRESS: Desc = Desc::gauge(
    "stoa_md_sync_progress_ratio",
    "Part of the running check or rebuild that is done.",
);
const SPEED: Desc = Desc::gauge(
    "stoa_md_sync_speed_bytes",
    "Speed of the running check or rebuild in bytes per second.",
);
const LEFT: Desc = Desc::gauge(
    "stoa_md_sync_left_seconds",
    "Time until the running check or rebuild is expected to end.",
);
const MISMATCHES: Desc = Desc::gauge(
    "stoa_md_mismatch_bytes",
    "What the last check or repair found to differ between the array's devices.",
);
const MD_ERRORS: Desc = Desc::counter(
    "stoa_md_device_errors_total",
    "Read errors of the array's device that were put right.",
);
const BTRFS_ERRORS: Desc = Desc::counter(
    "stoa_btrfs_device_errors_total",
    "Errors of the file system's device since they were reset, by kind (write, read, flush, \
     corruption, generation).",
);
const BTRFS_MISSING: Desc =
    Desc::gauge("stoa_btrfs_device_missing", "Whether the file system's device is missing.");

/// The source `arrays`.
#[derive(Debug)]
pub(crate) struct Arrays {
    sheet: Sheet,
}

impl Configured for Arrays {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::new() }
    }
}

impl Source for Arrays {
    fn name(&self) -> &'static str {
        "arrays"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _: Now, reading: &mut Reading) {
        let blocks = roots.path(Tree::Sys, "block");
        let arrays = names(&blocks, |name| name.starts_with("md"));
        for array in &arrays {
            tell_md(array, &blocks.join(array).join("md"), &mut self.sheet);
        }
        let btrfs = roots.path(Tree::Sys, "fs/btrfs");
        let systems = names(&btrfs, |name| name.contains('-'));
        for id in &systems {
            tell_btrfs(id, &btrfs.join(id).join("devinfo"), &mut self.sheet);
        }
        if arrays.is_empty() && systems.is_empty() {
            reading.fail(Problem::Lacks("md array or Btrfs"));
        }
        self.sheet.tell(reading);
    }
}

/// The entries of a directory, in order.
fn names(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_wanted(name)).take(ENTRIES_MAX).collect();
    names.sort_unstable();
    names
}

fn tell_md(array: &str, directory: &Path, sheet: &mut Sheet) {
    let read = |file: &str| read_small(&directory.join(file)).ok();
    let pairs = [("device", array)];
    if let Some(action) = read("sync_action") {
        sheet.push(&ACTION, &[("device", array), ("action", action.as_str())], 1.0);
    }
    let sync = read("sync_completed").and_then(|text| parse_completed(&text));
    // `none` when nothing runs.
    let speed = read("sync_speed").and_then(|text| number(&text)).map(|kib| kib * 1024.0);
    if let Some((done, total)) = sync {
        sheet.push_some(&PROGRESS, &pairs, (total > 0.0).then_some(done / total));
        let left = speed.filter(|speed| *speed > 0.0);
        let left = left.map(|speed| (total - done).max(0.0) * SECTOR_BYTES / speed);
        sheet.push_some(&LEFT, &pairs, left);
        sheet.push_some(&SPEED, &pairs, speed);
    }
    let mismatches = read("mismatch_cnt").and_then(|text| number(&text));
    sheet.push_some(&MISMATCHES, &pairs, mismatches.map(|sectors| sectors * SECTOR_BYTES));
    for entry in names(directory, |name| name.starts_with("dev-")) {
        let disk = entry.trim_start_matches("dev-");
        let errors = read(&format!("{entry}/errors")).and_then(|text| number(&text));
        sheet.push_some(&MD_ERRORS, &[("device", array), ("disk", disk)], errors);
    }
}

/// `1234 / 5678` sectors; `none` and `delayed` are none.
fn parse_completed(text: &str) -> Option<(f64, f64)> {
    let (done, total) = text.split_once('/')?;
    number(done.trim()).zip(number(total.trim()))
}

fn tell_btrfs(id: &str, directory: &Path, sheet: &mut Sheet) {
    for device in names(directory, |_| true) {
        let read = |file: &str| read_small(&directory.join(&device).join(file)).ok();
        let of = [("uuid", id), ("devid", device.as_str())];
        let missing = read("missing").and_then(|text| number(&text));
        sheet.push_some(&BTRFS_MISSING, &of, missing);
        let stats = read("error_stats").unwrap_or_default();
        for (kind, count) in parse_errors(&stats) {
            let [uuid, devid] = of;
            sheet.push(&BTRFS_ERRORS, &[uuid, devid, ("kind", kind)], count);
        }
    }
}

/// Lines such as `write_errs 0`.
fn parse_errors(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().take(16).filter_map(|line| {
        let (kind, count) = line.split_once(' ')?;
        Some((kind.strip_suffix("_errs")?, number(count.trim())?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::sheet::lines;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_rebuild_is_told_with_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("sync_action", "check\n"),
            ("sync_completed", "1000 / 4000\n"),
            ("sync_speed", "500\n"),
            ("mismatch_cnt", "128\n"),
            ("dev-sda1/errors", "3\n"),
            ("dev-sdb1/errors", "0\n"),
        ];
        write(dir.path(), &files);
        let mut sheet = Sheet::new();
        tell_md("md0", dir.path(), &mut sheet);
        assert_eq!(
            lines(&mut sheet),
            [
                r#"stoa_md_sync_action{action="check",device="md0"} 1"#,
                r#"stoa_md_sync_progress_ratio{device="md0"} 0.25"#,
                r#"stoa_md_sync_left_seconds{device="md0"} 3"#,
                r#"stoa_md_sync_speed_bytes{device="md0"} 512000"#,
                r#"stoa_md_mismatch_bytes{device="md0"} 65536"#,
                r#"stoa_md_device_errors_total{device="md0",disk="sda1"} 3"#,
                r#"stoa_md_device_errors_total{device="md0",disk="sdb1"} 0"#,
            ]
        );
    }

    #[test]
    fn an_idle_array_has_no_progress() {
        let dir = tempfile::tempdir().unwrap();
        let files = [("sync_action", "idle"), ("sync_completed", "none"), ("sync_speed", "none")];
        write(dir.path(), &files);
        let mut sheet = Sheet::new();
        tell_md("md0", dir.path(), &mut sheet);
        assert_eq!(lines(&mut sheet), [r#"stoa_md_sync_action{action="idle",device="md0"} 1"#]);
    }

    #[test]
    fn errors_of_btrfs_are_told_by_device() {
        let dir = tempfile::tempdir().unwrap();
        let stats =
            "write_errs 1\nread_errs 0\nflush_errs 0\ncorruption_errs 7\ngeneration_errs 0\n";
        write(dir.path(), &[("1/error_stats", stats), ("1/missing", "0\n"), ("2/missing", "1\n")]);
        let mut sheet = Sheet::new();
        tell_btrfs("u-1", dir.path(), &mut sheet);
        assert_eq!(
            lines(&mut sheet),
            [
                r#"stoa_btrfs_device_missing{devid="1",uuid="u-1"} 0"#,
                r#"stoa_btrfs_device_missing{devid="2",uuid="u-1"} 1"#,
                r#"stoa_btrfs_device_errors_total{devid="1",kind="write",uuid="u-1"} 1"#,
                r#"stoa_btrfs_device_errors_total{devid="1",kind="read",uuid="u-1"} 0"#,
                r#"stoa_btrfs_device_errors_total{devid="1",kind="flush",uuid="u-1"} 0"#,
                r#"stoa_btrfs_device_errors_total{devid="1",kind="corruption",uuid="u-1"} 7"#,
                r#"stoa_btrfs_device_errors_total{devid="1",kind="generation",uuid="u-1"} 0"#,
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|[\n0-9/ ]|_errs){0,100}") {
            let _completed = parse_completed(&text);
            prop_assert!(parse_errors(&text).count() <= 16);
        }
    }
}
