//! `/proc/spl/kstat/zfs`: the ARC and the rest of ZFS, its pools and their data sets.
//!
//! The families are named by the kernel's fields, so that those of newer versions are told too. A
//! pool has one file for each mounted data set, possibly thousands: [`DATASETS_MAX`] of them are
//! read, and how many are not is a series.

use std::path::Path;
use std::time::Duration;

use stoa_model::{Labels, MetricKind};

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, entries_with, read_whole};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, no_labels, read_small};

pub(super) mod kstat;

/// How often: some 300 numbers that are looked at over minutes.
const INTERVAL: Duration = Duration::from_secs(5);
/// Data sets told, of all pools together.
const DATASETS_MAX: usize = 256;
/// `arcstats` has about 8 KiB.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Files and what the names of their families begin with.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "abd"),
    ("arcstats", "arc"),
    ("dbufstats", "dbuf"),
    ("dmu_tx", "dmu_tx"),
    ("dnodestats", "dnode"),
    ("fm", "fm"),
    ("vdev_cache_stats", "vdev_cache"),
    ("vdev_mirror_stats", "vdev_mirror"),
    ("xuio_stats", "xuio"),
    ("zfetchstats", "zfetch"),
    ("zil", "zil"),
];

const STATE: Desc = Desc::gauge("node_zfs_zpool_state", "kstat.zfs.misc.state");
const STATES: [&str; 7] =
    ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];
const UNTOLD: Desc = Desc::gauge(
    "stoa_zfs_datasets_untold",
    "Data sets of ZFS whose counters are left out because there are too many.",
);

/// The source `zfs`.
#[derive(Debug)]
pub(crate) struct Zfs {
    sheet: Sheet,
}

impl Configured for Zfs {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Source for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Proc, "spl/kstat/zfs");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (file, prefix) in FILES {
            if let Some(text) = read(&dir.join(file), reading) {
                for (field, value) in kstat::fields(&text) {
                    push(&mut self.sheet, prefix, file, field, no_labels(), value);
                }
            }
        }
        let mut datasets_left = DATASETS_MAX;
        let mut untold = 0;
        for (pool, dir) in found.iter().filter(|(_, path)| path.is_dir()) {
            self.read_pool(pool, dir, reading);
            let mut datasets = entries_with(dir, "objset-", usize::MAX);
            untold += datasets.len().saturating_sub(datasets_left);
            datasets.truncate(datasets_left);
            datasets_left -= datasets.len();
            for (_, path) in datasets {
                self.read_dataset(pool, &path, reading);
            }
        }
        if untold > 0 {
            self.sheet.push(&UNTOLD, no_labels(), untold as f64);
        }
        self.sheet.tell(reading);
    }
}

impl Zfs {
    fn read_pool(&mut self, pool: &str, dir: &Path, reading: &mut Reading) {
        if let Some(text) = read(&dir.join("io"), reading) {
            let labels = self.sheet.labels.of(&[("zpool", pool)]);
            for (field, value) in kstat::columns(&text) {
                push(&mut self.sheet, "zpool", "io", field, labels.clone(), value);
            }
        }
        let Ok(state) = read_small(&dir.join("state")) else { return };
        let state = state.to_ascii_lowercase();
        for known in STATES {
            let labels = self.sheet.labels.of(&[("state", known), ("zpool", pool)]);
            self.sheet.push(&STATE, labels, f64::from(u8::from(state == known)));
        }
    }

    fn read_dataset(&mut self, pool: &str, path: &Path, reading: &mut Reading) {
        let Some(text) = read(path, reading) else { return };
        let Some(dataset) = kstat::dataset_name(&text) else { return };
        let labels = self.sheet.labels.of(&[("dataset", dataset), ("zpool", pool)]);
        for (field, value) in kstat::fields(&text) {
            push(&mut self.sheet, "zpool_dataset", "objset", field, labels.clone(), value);
        }
    }
}

/// A file's text; `None` if this version of ZFS does not have it.
fn read(path: &Path, reading: &mut Reading) -> Option<String> {
    match read_whole(path, FILE_BYTES_MAX) {
        Ok(text) => Some(text),
        Err(error) => {
            reading.note(Problem::read(path, error));
            None
        }
    }
}

fn push(sheet: &mut Sheet, prefix: &str, file: &str, field: &str, labels: Labels, value: f64) {
    let make = || (format!("kstat.zfs.misc.{file}.{field}"), MetricKind::Untyped);
    sheet.push_named(&["node_zfs_", prefix, "_", field], make, labels, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_thousands_of_datasets_a_part_is_told_and_the_rest_counted() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("spl/kstat/zfs/tank");
        std::fs::create_dir_all(&pool).unwrap();
        std::fs::write(pool.join("state"), "SUSPENDED\n").unwrap();
        for n in 0..DATASETS_MAX + 3 {
            let text = format!("23 1\nname type data\ndataset_name 7 tank/{n}\nreads 4 {n}\n");
            std::fs::write(pool.join(format!("objset-0x{n:04x}")), text).unwrap();
        }
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut reading = Reading::default();
        crate::sources::registry::made::<Zfs>().read(&roots, Now { unix_micros: 0 }, &mut reading);
        let family = |name: &str| reading.families().find(|f| f.name == name).unwrap();
        assert_eq!(family("node_zfs_zpool_dataset_reads").metrics.len(), DATASETS_MAX);
        assert_eq!(family(UNTOLD.name).metrics[0].value, 3.0);
        let states = &family(STATE.name).metrics;
        let is_told = |state| {
            let has = |m: &&stoa_model::Metric| m.labels.get("state") == Some(state);
            states.iter().find(has).unwrap().value
        };
        assert_eq!((is_told("suspended"), is_told("online")), (1.0, 0.0));
        assert!(reading.problems.is_empty() && !reading.failed);
    }
}
