//! `/sys/kernel/mm/ksm`: what merging equal pages of memory does and saves.

use std::time::Duration;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, read_small};

const INTERVAL: Duration = Duration::from_secs(10);

/// Files, families, and what a file's number is multiplied by.
const FILES: [(&str, Desc, f64); 10] = [
    (
        "full_scans",
        Desc::counter(
            "node_ksmd_full_scans_total",
            "How many times all mergeable areas have been scanned.",
        ),
        1.0,
    ),
    (
        "general_profit",
        Desc::gauge(
            "node_ksmd_general_profit_bytes",
            "How effective is KSM. ksm_saved_pages * sizeof(page) - (all_rmap_items) * \
             sizeof(rmap_item)",
        ),
        1.0,
    ),
    (
        "merge_across_nodes",
        Desc::gauge(
            "node_ksmd_merge_across_nodes",
            "Specifies if pages from different NUMA nodes can be merged.",
        ),
        1.0,
    ),
    (
        "pages_shared",
        Desc::gauge("node_ksmd_pages_shared", "How many shared pages are being used."),
        1.0,
    ),
    (
        "pages_sharing",
        Desc::gauge(
            "node_ksmd_pages_sharing",
            "How many more sites are sharing them i.e. how much saved.",
        ),
        1.0,
    ),
    (
        "pages_to_scan",
        Desc::gauge("node_ksmd_pages_to_scan", "How many pages to scan before ksmd goes to sleep."),
        1.0,
    ),
    (
        "pages_unshared",
        Desc::gauge(
            "node_ksmd_pages_unshared",
            "How many pages unique but repeatedly checked for merging.",
        ),
        1.0,
    ),
    (
        "pages_volatile",
        Desc::gauge(
            "node_ksmd_pages_volatile",
            "How many pages changing too fast to be placed in a tree.",
        ),
        1.0,
    ),
    ("run", Desc::gauge("node_ksmd_run", "The status of ksmd. stopped = 0, running = 1"), 1.0),
    (
        "sleep_millisecs",
        Desc::gauge(
            "node_ksmd_sleep_seconds",
            "How many seconds ksmd should sleep before next scan.",
        ),
        0.001,
    ),
];

/// The source `ksmd`.
#[derive(Debug)]
pub(crate) struct Ksm;

impl Configured for Ksm {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self
    }
}

impl Source for Ksm {
    fn name(&self) -> &'static str {
        "ksmd"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "kernel/mm/ksm");
        if let Err(error) = std::fs::metadata(&dir) {
            return reading.fail(Problem::read(dir, error));
        }
        for (file, desc, factor) in &FILES {
            // A kernel without one of the files has nothing to say there.
            let value = read_small(&dir.join(file)).ok().and_then(|text| text.parse::<i64>().ok());
            if let Some(value) = value {
                reading.single(desc, value as f64 * factor);
            }
        }
    }
}
