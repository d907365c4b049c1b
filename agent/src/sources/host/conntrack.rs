//! Connection tracking: entries, their limit, and what became of packets.

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Problem, Reading, Roots, Source, number};

const ENTRIES: Desc = Desc::gauge(
    "node_nf_conntrack_entries",
    "Number of currently allocated flow entries for connection tracking.",
);
const LIMIT: Desc =
    Desc::gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.");

/// Families and their column in `/proc/net/stat/nf_conntrack`. Columns have changed their names and
/// meanings over time, never their places.
const COLUMNS: [(usize, Desc); 8] = [
    (
        2,
        Desc::gauge(
            "node_nf_conntrack_stat_found",
            "Number of searched entries which were successful.",
        ),
    ),
    (
        4,
        Desc::gauge(
            "node_nf_conntrack_stat_invalid",
            "Number of packets seen which can not be tracked.",
        ),
    ),
    (
        5,
        Desc::gauge(
            "node_nf_conntrack_stat_ignore",
            "Number of packets seen which are already connected to a conntrack entry.",
        ),
    ),
    (8, Desc::gauge("node_nf_conntrack_stat_insert", "Number of entries inserted into the list.")),
    (
        9,
        Desc::gauge(
            "node_nf_conntrack_stat_insert_failed",
            "Number of entries for which list insertion was attempted but failed.",
        ),
    ),
    (
        10,
        Desc::gauge(
            "node_nf_conntrack_stat_drop",
            "Number of packets dropped due to conntrack failure.",
        ),
    ),
    (
        11,
        Desc::gauge(
            "node_nf_conntrack_stat_early_drop",
            "Number of dropped conntrack entries to make room for new ones, if maximum table size \
             was reached.",
        ),
    ),
    (
        16,
        Desc::gauge(
            "node_nf_conntrack_stat_search_restart",
            "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
        ),
    ),
];

const COLUMN_COUNT: usize = 17;

/// The sums over all CPUs, by column; `None` when a line has not all columns.
pub(super) fn parse(text: &str) -> Option<[f64; COLUMN_COUNT]> {
    let mut sums = [0.0; COLUMN_COUNT];
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace();
        for sum in &mut sums {
            *sum += u64::from_str_radix(words.next()?, 16).ok()? as f64;
        }
    }
    Some(sums)
}

/// The source `conntrack`.
#[derive(Debug)]
pub(crate) struct Conntrack {
    entries: KeptFile,
    limit: KeptFile,
    statistics: KeptFile,
}

impl Configured for Conntrack {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self {
            entries: KeptFile::proc("sys/net/netfilter/nf_conntrack_count"),
            limit: KeptFile::proc("sys/net/netfilter/nf_conntrack_max"),
            statistics: KeptFile::proc("net/stat/nf_conntrack"),
        }
    }
}

impl Source for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        for (desc, file) in [(&ENTRIES, &mut self.entries), (&LIMIT, &mut self.limit)] {
            match file.read(roots).map(|text| number(text.trim())) {
                Ok(Some(value)) => reading.single(desc, value),
                Ok(None) => return reading.fail(Problem::parse(file.path(roots), "no number")),
                Err(problem) => return reading.fail(problem),
            }
        }
        match self.statistics.read(roots).map(parse) {
            Ok(Some(sums)) => {
                for (column, desc) in &COLUMNS {
                    reading.single(desc, sums.get(*column).copied().unwrap_or(0.0));
                }
            }
            Ok(None) => {
                let path = self.statistics.path(roots);
                reading.fail(Problem::parse(path, "a line has not all columns"));
            }
            Err(problem) => reading.fail(problem),
        }
    }
}
