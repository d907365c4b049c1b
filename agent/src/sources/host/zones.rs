//! `/proc/zoneinfo`: the kernel's memory zones and their watermarks. Off by default.

use std::time::Duration;

use stoa_model::{Family, Labels, MetricKind};

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, number};

const INTERVAL: Duration = Duration::from_secs(10);
/// A zone is protected against as many zones as there are; the kernel has at most six.
const PROTECTIONS_MAX: usize = 16;

/// Families by the file's key.
const FIELDS: [(&str, Desc); 32] = [
    ("high", Desc::gauge("node_zoneinfo_high_pages", "Zone watermark pages_high")),
    ("low", Desc::gauge("node_zoneinfo_low_pages", "Zone watermark pages_low")),
    (
        "managed",
        Desc::gauge("node_zoneinfo_managed_pages", "Present pages managed by the buddy system"),
    ),
    ("min", Desc::gauge("node_zoneinfo_min_pages", "Zone watermark pages_min")),
    (
        "nr_active_anon",
        Desc::gauge(
            "node_zoneinfo_nr_active_anon_pages",
            "Number of anonymous pages recently more used",
        ),
    ),
    (
        "nr_active_file",
        Desc::gauge(
            "node_zoneinfo_nr_active_file_pages",
            "Number of active pages with file-backing",
        ),
    ),
    (
        "nr_anon_pages",
        Desc::gauge(
            "node_zoneinfo_nr_anon_pages",
            "Number of anonymous pages currently used by the system",
        ),
    ),
    (
        "nr_anon_transparent_hugepages",
        Desc::gauge(
            "node_zoneinfo_nr_anon_transparent_hugepages",
            "Number of anonymous transparent huge pages currently used by the system",
        ),
    ),
    ("nr_dirtied", Desc::counter("node_zoneinfo_nr_dirtied_total", "Page dirtyings since bootup")),
    ("nr_dirty", Desc::gauge("node_zoneinfo_nr_dirty_pages", "Number of dirty pages")),
    ("nr_file_pages", Desc::gauge("node_zoneinfo_nr_file_pages", "Number of file pages")),
    (
        "nr_free_pages",
        Desc::gauge("node_zoneinfo_nr_free_pages", "Total number of free pages in the zone"),
    ),
    (
        "nr_inactive_anon",
        Desc::gauge(
            "node_zoneinfo_nr_inactive_anon_pages",
            "Number of anonymous pages recently less used",
        ),
    ),
    (
        "nr_inactive_file",
        Desc::gauge(
            "node_zoneinfo_nr_inactive_file_pages",
            "Number of inactive pages with file-backing",
        ),
    ),
    (
        "nr_isolated_anon",
        Desc::gauge(
            "node_zoneinfo_nr_isolated_anon_pages",
            "Temporary isolated pages from anon lru",
        ),
    ),
    (
        "nr_isolated_file",
        Desc::gauge(
            "node_zoneinfo_nr_isolated_file_pages",
            "Temporary isolated pages from file lru",
        ),
    ),
    ("nr_kernel_stack", Desc::gauge("node_zoneinfo_nr_kernel_stacks", "Number of kernel stacks")),
    ("nr_mapped", Desc::gauge("node_zoneinfo_nr_mapped_pages", "Number of mapped pages")),
    (
        "nr_shmem",
        Desc::gauge(
            "node_zoneinfo_nr_shmem_pages",
            "Number of shmem pages (included tmpfs/GEM pages)",
        ),
    ),
    (
        "nr_slab_reclaimable",
        Desc::gauge("node_zoneinfo_nr_slab_reclaimable_pages", "Number of reclaimable slab pages"),
    ),
    (
        "nr_slab_unreclaimable",
        Desc::gauge(
            "node_zoneinfo_nr_slab_unreclaimable_pages",
            "Number of unreclaimable slab pages",
        ),
    ),
    (
        "nr_unevictable",
        Desc::gauge("node_zoneinfo_nr_unevictable_pages", "Number of unevictable pages"),
    ),
    ("nr_writeback", Desc::gauge("node_zoneinfo_nr_writeback_pages", "Number of writeback pages")),
    ("nr_written", Desc::counter("node_zoneinfo_nr_written_total", "Page writings since bootup")),
    (
        "numa_foreign",
        Desc::counter("node_zoneinfo_numa_foreign_total", "Was intended here, hit elsewhere"),
    ),
    ("numa_hit", Desc::counter("node_zoneinfo_numa_hit_total", "Allocated in intended node")),
    (
        "numa_interleave",
        Desc::counter("node_zoneinfo_numa_interleave_total", "Interleaver preferred this zone"),
    ),
    ("numa_local", Desc::counter("node_zoneinfo_numa_local_total", "Allocation from local node")),
    ("numa_miss", Desc::counter("node_zoneinfo_numa_miss_total", "Allocated in non intended node")),
    ("numa_other", Desc::counter("node_zoneinfo_numa_other_total", "Allocation from other node")),
    (
        "present",
        Desc::gauge("node_zoneinfo_present_pages", "Physical pages existing within the zone"),
    ),
    (
        "spanned",
        Desc::gauge(
            "node_zoneinfo_spanned_pages",
            "Total pages spanned by the zone, including holes",
        ),
    ),
];

/// One number of a zone.
#[derive(Debug, PartialEq)]
pub(super) struct Entry<'a> {
    node: &'a str,
    zone: &'a str,
    field: Field,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    /// An index into [`FIELDS`].
    Known(usize),
    /// Pages kept from requests that could do with the zone of this number.
    Protection(usize),
}

/// What the file says of each zone; what a node says of itself stands with its first zone.
pub(super) fn parse(text: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let mut at = None;
    for line in text.lines() {
        if let Some(zone) = zone_line(line) {
            at = Some(zone);
            continue;
        }
        let Some((node, zone)) = at else { continue };
        let line = line.trim_start();
        if let Some(list) = line.strip_prefix("protection: (") {
            let values = list.trim_end_matches(')').split(',').take(PROTECTIONS_MAX);
            for (number_of, value) in values.enumerate() {
                if let Some(value) = number(value.trim()) {
                    entries.push(Entry { node, zone, field: Field::Protection(number_of), value });
                }
            }
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(value), None) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let known = FIELDS.iter().position(|(known, _)| *known == key);
        if let (Some(known), Some(value)) = (known, number(value)) {
            entries.push(Entry { node, zone, field: Field::Known(known), value });
        }
    }
    entries
}

fn zone_line(line: &str) -> Option<(&str, &str)> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(',')?;
    Some((node, rest.trim_start().strip_prefix("zone")?.trim()))
}

/// The source `zoneinfo`.
#[derive(Debug)]
pub(crate) struct Zones {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for Zones {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("zoneinfo"), labels: Kept::new() }
    }
}

impl Source for Zones {
    fn name(&self) -> &'static str {
        "zoneinfo"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut families: Vec<Family> = FIELDS.iter().map(|(_, desc)| desc.family()).collect();
        let mut protections: Vec<Family> = Vec::new();
        for entry in parse(text) {
            let labels = self.labels.get(&format!("{} {}", entry.node, entry.zone), |_| {
                Labels::from_pairs_last_wins([("node", entry.node), ("zone", entry.zone)])
            });
            let family = match entry.field {
                Field::Known(index) => families.get_mut(index),
                Field::Protection(of) => {
                    // Zones are protected against as many each, so this adds one at a time.
                    if of == protections.len() {
                        let name = format!("node_zoneinfo_protection_{of}");
                        let help = format!("Protection array {of}. field");
                        protections.push(Family::new(name, help, MetricKind::Gauge));
                    }
                    protections.get_mut(of)
                }
            };
            if let Some(family) = family {
                family.push(labels, entry.value);
            }
        }
        self.labels.end_round();
        for family in families.into_iter().chain(protections) {
            reading.family(family);
        }
    }
}
