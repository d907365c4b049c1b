//! `/sys/fs/bcache`: block caches, by the UUID of the cache set.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::Labels;

use crate::sources::attributes::{
    Attribute, DEVICES_MAX, Sheet, Unit, entries, entries_with, read_whole, text,
};
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, number};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);
/// The kernel writes at most a page.
const FILE_BYTES_MAX: u64 = 4096;

/// Files of a cache set.
const SET: [Attribute; 10] = [
    Attribute::gauge(
        "average_key_size",
        "node_bcache_average_key_size_sectors",
        "Average data per key in the btree (sectors).",
    ),
    Attribute::gauge(
        "btree_cache_size",
        "node_bcache_btree_cache_size_bytes",
        "Amount of memory currently used by the btree cache.",
    ),
    Attribute::gauge(
        "cache_available_percent",
        "node_bcache_cache_available_percent",
        "Percentage of cache device without dirty data, usable for writeback (may contain clean \
         cached data).",
    ),
    Attribute::gauge("congested", "node_bcache_congested", "Congestion."),
    Attribute::gauge(
        "root_usage_percent",
        "node_bcache_root_usage_percent",
        "Percentage of the root btree node in use (tree depth increases if too high).",
    ),
    Attribute::gauge("tree_depth", "node_bcache_tree_depth", "Depth of the btree."),
    Attribute::gauge(
        "internal/active_journal_entries",
        "node_bcache_active_journal_entries",
        "Number of journal entries that are newer than the index.",
    ),
    Attribute::gauge(
        "internal/btree_nodes",
        "node_bcache_btree_nodes",
        "Total nodes in the btree.",
    ),
    Attribute::gauge(
        "internal/btree_read_average_duration_us",
        "node_bcache_btree_read_average_duration_seconds",
        "Average btree read duration.",
    )
    .in_unit(Unit::Times(1e-9)),
    Attribute::counter(
        "internal/cache_read_races",
        "node_bcache_cache_read_races_total",
        "Counts instances where while data was being read from the cache, the bucket was reused \
         and invalidated - i.e. where the pointer was stale after the read completed.",
    ),
];
/// Files of a backing device.
const BACKING: [Attribute; 8] = [
    Attribute::gauge(
        "dirty_data",
        "node_bcache_dirty_data_bytes",
        "Amount of dirty data for this backing device in the cache.",
    ),
    Attribute::counter(
        "stats_total/bypassed",
        "node_bcache_bypassed_bytes_total",
        "Amount of IO (both reads and writes) that has bypassed the cache.",
    ),
    Attribute::counter(
        "stats_total/cache_bypass_hits",
        "node_bcache_cache_bypass_hits_total",
        "Hits for IO intended to skip the cache.",
    ),
    Attribute::counter(
        "stats_total/cache_bypass_misses",
        "node_bcache_cache_bypass_misses_total",
        "Misses for IO intended to skip the cache.",
    ),
    Attribute::counter(
        "stats_total/cache_hits",
        "node_bcache_cache_hits_total",
        "Hits counted per individual IO as bcache sees them.",
    ),
    Attribute::counter(
        "stats_total/cache_miss_collisions",
        "node_bcache_cache_miss_collisions_total",
        "Instances where data insertion from cache miss raced with write (data already present).",
    ),
    Attribute::counter(
        "stats_total/cache_misses",
        "node_bcache_cache_misses_total",
        "Misses counted per individual IO as bcache sees them.",
    ),
    Attribute::counter(
        "stats_total/cache_readaheads",
        "node_bcache_cache_readaheads_total",
        "Count of times readahead occurred.",
    ),
];
/// Files of a cache device.
const CACHE: [Attribute; 3] = [
    Attribute::gauge(
        "io_errors",
        "node_bcache_io_errors",
        "Number of errors that have occurred, decayed by io_error_halflife.",
    ),
    Attribute::counter(
        "metadata_written",
        "node_bcache_metadata_written_bytes_total",
        "Sum of all non data writes (btree writes and all other metadata).",
    ),
    Attribute::counter(
        "written",
        "node_bcache_written_bytes_total",
        "Sum of all data that has been written to the cache.",
    ),
];
/// Lines of a backing device's `writeback_rate_debug`.
const WRITEBACK: [(&str, Desc); 5] = [
    (
        "target",
        Desc::gauge(
            "node_bcache_dirty_target_bytes",
            "Current dirty data target threshold for this backing device in bytes.",
        ),
    ),
    (
        "rate",
        Desc::gauge(
            "node_bcache_writeback_rate",
            "Current writeback rate for this backing device in bytes.",
        ),
    ),
    (
        "proportional",
        Desc::gauge(
            "node_bcache_writeback_rate_proportional_term",
            "Current result of proportional controller, part of writeback rate",
        ),
    ),
    (
        "integral",
        Desc::gauge(
            "node_bcache_writeback_rate_integral_term",
            "Current result of integral controller, part of writeback rate",
        ),
    ),
    (
        "change",
        Desc::gauge(
            "node_bcache_writeback_change",
            "Last writeback rate change step for this backing device.",
        ),
    ),
];
/// Lines of a cache device's `priority_stats`.
const PRIORITY: [(&str, Desc); 2] = [
    (
        "Unused",
        Desc::gauge(
            "node_bcache_priority_stats_unused_percent",
            "The percentage of the cache that doesn't contain any data.",
        ),
    ),
    (
        "Metadata",
        Desc::gauge("node_bcache_priority_stats_metadata_percent", "Bcache's metadata overhead."),
    ),
];

/// A number as bcache writes it for people: its suffix is a power of 1024, and the digit after the
/// point counts hundred 1024ths of it, so that `1.10k` is never more than `2k`.
pub(super) fn parse(text: &str) -> Option<f64> {
    let power = match text.chars().last()? {
        'k' => 1,
        'M' => 2,
        'G' => 3,
        'T' => 4,
        'P' => 5,
        'E' => 6,
        'Z' => 7,
        'Y' => 8,
        _ => return number(text),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let (size, part) = (number(whole)?.abs(), number(part)? / 10.24);
    let sign = if whole.starts_with('-') { -1.0 } else { 1.0 };
    Some(sign * ((size + part) * 1024_f64.powi(power)).trunc())
}

/// Name and number of each line `name: number`, where the number may have a unit after it.
pub(super) fn parse_lines(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        let value = value.strip_suffix("/sec").or(value.strip_suffix('%')).unwrap_or(value);
        Some((name.trim(), parse(value)?))
    })
}

/// What to tell of bcache.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whether to tell how the cache is used; computing that is costly for the kernel.
    pub(super) priority_stats: bool,
}

/// The source `bcache`.
#[derive(Debug)]
pub(crate) struct Bcache {
    settings: Settings,
    sheet: Sheet,
}

impl Configured for Bcache {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { settings, sheet: Sheet::default() }
    }
}

impl Bcache {
    fn read_set(&mut self, uuid: &str, dir: &Path) {
        let labels = self.sheet.labels.of(&[("uuid", uuid)]);
        push(&mut self.sheet, &SET, dir, &labels);
        for (device, dir) in entries_with(dir, "bdev", DEVICES_MAX) {
            let device = format!("bdev{device}");
            let labels =
                self.sheet.labels.of(&[("backing_device", device.as_str()), ("uuid", uuid)]);
            push(&mut self.sheet, &BACKING, &dir, &labels);
            push_lines(&mut self.sheet, &WRITEBACK, &dir.join("writeback_rate_debug"), &labels);
        }
        for (device, dir) in entries_with(dir, "cache", DEVICES_MAX) {
            // Beside the devices there are attributes like `cache_available_percent`.
            if !device.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            let device = format!("cache{device}");
            let labels = self.sheet.labels.of(&[("cache_device", device.as_str()), ("uuid", uuid)]);
            push(&mut self.sheet, &CACHE, &dir, &labels);
            if self.settings.priority_stats {
                push_lines(&mut self.sheet, &PRIORITY, &dir.join("priority_stats"), &labels);
            }
        }
    }
}

fn push(sheet: &mut Sheet, attributes: &[Attribute], dir: &Path, labels: &Labels) {
    for attribute in attributes {
        if let Some(raw) = text(dir.join(attribute.file)).as_deref().and_then(parse) {
            sheet.push(&attribute.desc, labels.clone(), attribute.unit.of(raw));
        }
    }
}

fn push_lines(sheet: &mut Sheet, lines: &[(&str, Desc)], path: &Path, labels: &Labels) {
    let Ok(text) = read_whole(path, FILE_BYTES_MAX) else { return };
    for (name, value) in parse_lines(&text) {
        if let Some((_, desc)) = lines.iter().find(|(known, _)| *known == name) {
            sheet.push(desc, labels.clone(), value);
        }
    }
}

impl Source for Bcache {
    fn name(&self) -> &'static str {
        "bcache"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "fs/bcache");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            // node_exporter's collector succeeds without any bcache.
            Err(error) => return reading.note(Problem::read(dir, error)),
        };
        // Beside the sets there are files to register devices with.
        for (uuid, dir) in found.iter().filter(|(name, _)| name.contains('-')) {
            self.read_set(uuid, dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_for_people_are_read_as_the_kernel_wrote_them() {
        for (text, expected) in [
            ("546", Some(546.0)),
            ("1.1M", Some(1_150_976.0)),
            ("20.4G", Some(21_894_266_880.0)),
            ("-427.5k", Some(-437_748.0)),
            ("3k", Some(3072.0)),
            ("k", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        let lines = "rate:\t\t1.1M/sec\nnext io: 17ms\nUnused:\t99%\nQuantiles: [0 1]\n";
        assert_eq!(
            parse_lines(lines).collect::<Vec<_>>(),
            [("rate", 1_150_976.0), ("Unused", 99.0)]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9.a-zA-Z-]{0,12}|.*") {
            prop_assert!(parse(&text).is_none_or(|number| !number.is_nan()));
            let line = format!("a: {text}");
            prop_assert!(parse_lines(&line).all(|(_, number)| !number.is_nan()));
        }
    }
}
