//! `/proc/diskstats`: what each block device reads and writes; and what [`udev`] knows of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::Labels;

use crate::sources::attributes::read_whole;
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, Tree, number, read_small};

mod udev;

/// How often what does not change (model, serial number, file system) is looked up anew.
const DISCOVERY: Duration = Duration::from_secs(60);
/// What udev knows of a device is a few KiB.
const PROPERTIES_BYTES_MAX: u64 = 256 << 10;
/// A sector is 512 bytes here, whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;
const SECONDS_PER_MILLI: f64 = 1.0 / 1000.0;

/// Families by column, and what a column's number is multiplied by.
const COLUMNS: [(Desc, f64); 17] = [
    (
        Desc::counter(
            "node_disk_reads_completed_total",
            "The total number of reads completed successfully.",
        ),
        1.0,
    ),
    (Desc::counter("node_disk_reads_merged_total", "The total number of reads merged."), 1.0),
    (
        Desc::counter("node_disk_read_bytes_total", "The total number of bytes read successfully."),
        SECTOR_BYTES,
    ),
    (
        Desc::counter(
            "node_disk_read_time_seconds_total",
            "The total number of seconds spent by all reads.",
        ),
        SECONDS_PER_MILLI,
    ),
    (
        Desc::counter(
            "node_disk_writes_completed_total",
            "The total number of writes completed successfully.",
        ),
        1.0,
    ),
    (Desc::counter("node_disk_writes_merged_total", "The number of writes merged."), 1.0),
    (
        Desc::counter(
            "node_disk_written_bytes_total",
            "The total number of bytes written successfully.",
        ),
        SECTOR_BYTES,
    ),
    (
        Desc::counter(
            "node_disk_write_time_seconds_total",
            "This is the total number of seconds spent by all writes.",
        ),
        SECONDS_PER_MILLI,
    ),
    (Desc::gauge("node_disk_io_now", "The number of I/Os currently in progress."), 1.0),
    (
        Desc::counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os."),
        SECONDS_PER_MILLI,
    ),
    (
        Desc::counter(
            "node_disk_io_time_weighted_seconds_total",
            "The weighted # of seconds spent doing I/Os.",
        ),
        SECONDS_PER_MILLI,
    ),
    (
        Desc::counter(
            "node_disk_discards_completed_total",
            "The total number of discards completed successfully.",
        ),
        1.0,
    ),
    (Desc::counter("node_disk_discards_merged_total", "The total number of discards merged."), 1.0),
    (
        Desc::counter(
            "node_disk_discarded_sectors_total",
            "The total number of sectors discarded successfully.",
        ),
        1.0,
    ),
    (
        Desc::counter(
            "node_disk_discard_time_seconds_total",
            "This is the total number of seconds spent by all discards.",
        ),
        SECONDS_PER_MILLI,
    ),
    (
        Desc::counter(
            "node_disk_flush_requests_total",
            "The total number of flush requests completed successfully",
        ),
        1.0,
    ),
    (
        Desc::counter(
            "node_disk_flush_requests_time_seconds_total",
            "This is the total number of seconds spent by all flush requests.",
        ),
        SECONDS_PER_MILLI,
    ),
];

/// One line: a device's numbers, as many as the kernel tells.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    major: &'a str,
    minor: &'a str,
    device: &'a str,
    columns: [Option<f64>; COLUMNS.len()],
}

pub(super) fn parse(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // Files are named by these two.
        let mut number_word =
            || words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
        let (major, minor) = (number_word()?, number_word()?);
        let device = words.next()?;
        let mut columns = [None; COLUMNS.len()];
        for (column, word) in columns.iter_mut().zip(words) {
            *column = number(word);
        }
        Some(Line { major, minor, device, columns })
    })
}

/// What is kept of a device between two discoveries.
#[derive(Debug)]
struct Disk {
    labels: Labels,
    /// Families that stand beside the counters.
    facts: Vec<(usize, Labels, f64)>,
}

const EXCLUDED: &str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";

/// `[sources.diskstats]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which devices to tell.
    device_include: Pattern,
    /// Which devices not to tell.
    device_exclude: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { device_include: Pattern::default(), device_exclude: Pattern::fixed(EXCLUDED) }
    }
}

/// The source `diskstats`.
#[derive(Debug)]
pub(crate) struct Disks {
    file: KeptFile,
    filter: Filter,
    discovered_at: Option<Now>,
    /// By `major:minor:device`; `None` for a device that is left out.
    disks: Kept<Option<Arc<Disk>>>,
    /// Kept longer than `disks`, so that a device's labels outlive a discovery.
    labels: Kept<Labels>,
    key: String,
}

impl Configured for Disks {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            file: KeptFile::proc("diskstats"),
            filter: Filter::new(settings.device_include, settings.device_exclude),
            discovered_at: None,
            disks: Kept::new(),
            labels: Kept::new(),
            key: String::new(),
        }
    }
}

impl Source for Disks {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let discovering = self.discovered_at.is_none_or(|at| now.is_past(at, DISCOVERY));
        if discovering {
            self.disks.clear();
            self.discovered_at = Some(now);
        }
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let descs = COLUMNS.iter().map(|(desc, _)| desc).chain(&udev::FACTS);
        let (counters, facts) = reading.group(descs).split_at_mut(COLUMNS.len());
        let key = &mut self.key;
        for line in parse(text) {
            key.clear();
            key.extend([line.major, ":", line.minor, ":", line.device]);
            let filter = &self.filter;
            let labels = &mut self.labels;
            let disk = self.disks.get(key, |_| {
                filter.keeps(line.device).then(|| Arc::new(discover(roots, &line, labels)))
            });
            let Some(disk) = disk else { continue };
            for ((family, (_, factor)), value) in
                counters.iter_mut().zip(&COLUMNS).zip(line.columns)
            {
                if let Some(value) = value {
                    family.push(disk.labels.clone(), value * factor);
                }
            }
            for (fact, labels, value) in &disk.facts {
                if let Some(family) = facts.get_mut(*fact) {
                    family.push(labels.clone(), *value);
                }
            }
        }
        self.disks.end_round();
        if discovering {
            self.labels.end_round();
        }
    }
}

fn discover(roots: &Roots, line: &Line<'_>, labels: &mut Kept<Labels>) -> Disk {
    let device = line.device;
    let path = roots.path(Tree::Sys, format!("block/{device}/queue/rotational"));
    let rotational = if read_small(&path).is_ok_and(|text| text == "1") { "1" } else { "0" };
    let path = roots.udev.join(format!("b{}:{}", line.major, line.minor));
    // Without udev (a container) the device is told without its properties.
    let text = read_whole(&path, PROPERTIES_BYTES_MAX).unwrap_or_default();
    let facts = udev::facts(&udev::parse(&text), device, line.major, line.minor, rotational);
    let mut keep = |set: Labels| labels.get(&set.to_string(), |_| set.clone());
    Disk {
        labels: keep(crate::sources::label("device", device)),
        facts: facts.into_iter().map(|(fact, set, value)| (fact, keep(set), value)).collect(),
    }
}
