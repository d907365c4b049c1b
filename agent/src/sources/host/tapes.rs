//! `/sys/class/scsi_tape`: tape drives.

use std::time::Duration;

use serde::Deserialize;

use crate::sources::attributes::{Attribute, DEVICES_MAX, Sheet, Unit, entries_with};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Now, Problem, Reading, Roots, Source, Tree};

/// How often.
const INTERVAL: Duration = Duration::from_secs(10);
/// The kernel counts nanoseconds.
const NANO: Unit = Unit::Per(1e9);

/// Files of the directory `stats`.
const STATISTICS: [Attribute; 10] = [
    Attribute::gauge(
        "in_flight",
        "node_tape_io_now",
        "The number of I/Os currently outstanding to this device.",
    ),
    Attribute::counter(
        "other_cnt",
        "node_tape_io_others_total",
        "The number of I/Os issued to the tape drive other than read or write commands. The time \
         taken to complete these commands uses the following calculation \
         io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
    ),
    Attribute::counter(
        "io_ns",
        "node_tape_io_time_seconds_total",
        "The amount of time spent waiting for all I/O to complete (including read and write). \
         This includes tape movement commands such as seeking between file or set marks and \
         implicit tape movement such as when rewind on close tape devices are used.",
    )
    .in_unit(NANO),
    Attribute::counter(
        "read_byte_cnt",
        "node_tape_read_bytes_total",
        "The number of bytes read from the tape drive.",
    ),
    Attribute::counter(
        "read_ns",
        "node_tape_read_time_seconds_total",
        "The amount of time spent waiting for read requests to complete.",
    )
    .in_unit(NANO),
    Attribute::counter(
        "read_cnt",
        "node_tape_reads_completed_total",
        "The number of read requests issued to the tape drive.",
    ),
    Attribute::counter(
        "resid_cnt",
        "node_tape_residual_total",
        "The number of times during a read or write we found the residual amount to be non-zero. \
         This should mean that a program is issuing a read larger thean the block size on tape. \
         For write not all data made it to tape.",
    ),
    Attribute::counter(
        "write_ns",
        "node_tape_write_time_seconds_total",
        "The amount of time spent waiting for write requests to complete.",
    )
    .in_unit(NANO),
    Attribute::counter(
        "write_cnt",
        "node_tape_writes_completed_total",
        "The number of write requests issued to the tape drive.",
    ),
    Attribute::counter(
        "write_byte_cnt",
        "node_tape_written_bytes_total",
        "The number of bytes written to the tape drive.",
    ),
];

/// Which tape drives to tell.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// A pattern of names; what it matches is left out.
    ignored_devices: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ignored_devices: Pattern::fixed("^$") }
    }
}

/// The source `tapestats`.
#[derive(Debug)]
pub(crate) struct Tapes {
    filter: Filter,
    sheet: Sheet,
}

impl Configured for Tapes {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let filter = Filter::new(Pattern::default(), settings.ignored_devices);
        Self { filter, sheet: Sheet::default() }
    }
}

impl Source for Tapes {
    fn name(&self) -> &'static str {
        "tapestats"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/scsi_tape");
        if let Err(error) = std::fs::metadata(&dir) {
            return reading.fail(Problem::read(dir, error));
        }
        // A drive has several names, for its modes; the one that is a plain number is told.
        for (number, dir) in entries_with(&dir, "st", DEVICES_MAX) {
            let device = format!("st{number}");
            if number.bytes().all(|b| b.is_ascii_digit()) && self.filter.keeps(&device) {
                let labels = self.sheet.labels.of(&[("device", &device)]);
                self.sheet.push_attributes(&STATISTICS, &dir.join("stats"), &labels);
            }
        }
        self.sheet.tell(reading);
    }
}
