//! `/sys/fs/bcachefs`: file systems of the kind bcachefs, by UUID, and the devices they are on.
//!
//! The families of `counters` are named by the kernel's files, so that those of newer versions are
//! told too.

use std::path::Path;
use std::time::Duration;

use stoa_model::MetricKind;

use crate::sources::attributes::{
    DEVICES_MAX, Sheet, entries, entries_with, read_whole, text as attribute, value,
};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

pub(super) mod text;

/// How often: some 130 files for each file system.
const INTERVAL: Duration = Duration::from_secs(10);
/// Counters told of one file system; there are about 130.
const COUNTERS_MAX: usize = 512;
/// The kernel writes at most a page.
const FILE_BYTES_MAX: u64 = 64 << 10;

const INFO: Desc = Desc::gauge("node_bcachefs_info", "Filesystem information.");
const CACHE_SIZE: Desc =
    Desc::gauge("node_bcachefs_btree_cache_size_bytes", "Btree cache memory usage in bytes.");
const COMPRESSED: Desc =
    Desc::gauge("node_bcachefs_compression_compressed_bytes", "Compressed size by algorithm.");
const UNCOMPRESSED: Desc =
    Desc::gauge("node_bcachefs_compression_uncompressed_bytes", "Uncompressed size by algorithm.");
const WRITES: Desc =
    Desc::counter("node_bcachefs_btree_writes_total", "Number of btree writes by type.");
const WRITE_SIZE: Desc = Desc::gauge(
    "node_bcachefs_btree_write_average_size_bytes",
    "Average btree write size by type.",
);
const ERRORS: Desc = Desc::counter("node_bcachefs_errors_total", "Error count by error type.");

const DEVICE_INFO: Desc = Desc::gauge("node_bcachefs_device_info", "Device information.");
const BUCKETS: Desc = Desc::gauge("node_bcachefs_device_buckets", "Total number of buckets.");
const BUCKET_SIZE: Desc =
    Desc::gauge("node_bcachefs_device_bucket_size_bytes", "Bucket size in bytes.");
const DURABILITY: Desc =
    Desc::gauge("node_bcachefs_device_durability", "Device durability setting.");
const IO_DONE: Desc = Desc::counter(
    "node_bcachefs_device_io_done_bytes_total",
    "IO bytes by operation type and data type.",
);
const IO_ERRORS: Desc =
    Desc::counter("node_bcachefs_device_io_errors_total", "IO errors by error type.");

/// The source `bcachefs`.
#[derive(Debug)]
pub(crate) struct Bcachefs {
    sheet: Sheet,
}

impl Configured for Bcachefs {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Bcachefs {
    fn read_filesystem(&mut self, uuid: &str, dir: &Path) {
        let whole = self.sheet.labels.of(&[("uuid", uuid)]);
        self.sheet.push(&INFO, whole.clone(), 1.0);
        if let Some(bytes) =
            attribute(dir.join("btree_cache_size")).and_then(|t| text::quantity(&t))
        {
            self.sheet.push(&CACHE_SIZE, whole.clone(), bytes);
        }
        for (counter, path) in entries(&dir.join("counters"), COUNTERS_MAX).unwrap_or_default() {
            if let Some(count) = read(&path).and_then(|text| text::counter(&text)) {
                let make = || {
                    let help = format!("Bcachefs counter {counter} since filesystem creation.");
                    (help, MetricKind::Counter)
                };
                let name = ["node_bcachefs_", &counter, "_total"];
                self.sheet.push_named(&name, make, whole.clone(), count);
            }
        }
        let text = read(&dir.join("compression_stats")).unwrap_or_default();
        for (algorithm, compressed, uncompressed) in text::compression(&text) {
            let labels = self.sheet.labels.of(&[("algorithm", algorithm), ("uuid", uuid)]);
            self.sheet.push(&COMPRESSED, labels.clone(), compressed);
            self.sheet.push(&UNCOMPRESSED, labels, uncompressed);
        }
        let text = read(&dir.join("btree_write_stats")).unwrap_or_default();
        for (kind, count, size) in text::btree_writes(&text) {
            let labels = self.sheet.labels.of(&[("type", kind), ("uuid", uuid)]);
            self.sheet.push(&WRITES, labels.clone(), count);
            self.sheet.push(&WRITE_SIZE, labels, size);
        }
        let text = read(&dir.join("errors")).unwrap_or_default();
        for (kind, count) in text::errors(&text) {
            let labels = self.sheet.labels.of(&[("error_type", kind), ("uuid", uuid)]);
            self.sheet.push(&ERRORS, labels, count);
        }
        for (device, dir) in entries_with(dir, "dev-", DEVICES_MAX) {
            self.read_device(uuid, &device, &dir);
        }
    }

    fn read_device(&mut self, uuid: &str, device: &str, dir: &Path) {
        let name = attribute(dir.join("label")).unwrap_or_default();
        let state = attribute(dir.join("state")).unwrap_or_default();
        let info = self.sheet.labels.of(&[
            ("device", device),
            ("label", &name),
            ("state", &state),
            ("uuid", uuid),
        ]);
        self.sheet.push(&DEVICE_INFO, info, 1.0);
        let whole = self.sheet.labels.of(&[("device", device), ("uuid", uuid)]);
        for (desc, number) in [
            (&BUCKETS, value(dir.join("nbuckets"))),
            (&BUCKET_SIZE, attribute(dir.join("bucket_size")).and_then(|t| text::quantity(&t))),
            (&DURABILITY, value(dir.join("durability"))),
        ] {
            if let Some(number) = number {
                self.sheet.push(desc, whole.clone(), number);
            }
        }
        let text = read(&dir.join("io_done")).unwrap_or_default();
        for (operation, data, bytes) in text::io_done(&text) {
            let labels = self.sheet.labels.of(&[
                ("data_type", data),
                ("device", device),
                ("operation", operation),
                ("uuid", uuid),
            ]);
            self.sheet.push(&IO_DONE, labels, bytes);
        }
        let text = read(&dir.join("io_errors")).unwrap_or_default();
        for (kind, count) in text::io_errors(&text) {
            let labels =
                self.sheet.labels.of(&[("device", device), ("type", kind), ("uuid", uuid)]);
            self.sheet.push(&IO_ERRORS, labels, count);
        }
    }
}

impl Source for Bcachefs {
    fn name(&self) -> &'static str {
        "bcachefs"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "fs/bcachefs");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (uuid, dir) in found.iter().filter(|(_, path)| path.is_dir()) {
            self.read_filesystem(uuid, dir);
        }
        self.sheet.tell(reading);
    }
}

/// A file's text; `None` if this version of bcachefs does not have it.
fn read(path: &Path) -> Option<String> {
    read_whole(path, FILE_BYTES_MAX).ok()
}
