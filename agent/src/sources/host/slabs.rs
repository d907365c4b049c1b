//! `/proc/slabinfo`: the kernel's own caches of objects. Off by default; only root may read it.

use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels};

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, label, number};

const INTERVAL: Duration = Duration::from_secs(10);

/// Families in the order of the columns.
const COLUMNS: [Desc; 5] = [
    Desc::gauge(
        "node_slabinfo_active_objects",
        "The number of objects that are currently active (i.e., in use).",
    ),
    Desc::gauge(
        "node_slabinfo_objects",
        "The total number of allocated objects (i.e., objects that are both in use and not in \
         use).",
    ),
    Desc::gauge("node_slabinfo_object_size_bytes", "The size of objects in this slab, in bytes."),
    Desc::gauge("node_slabinfo_objects_per_slab", "The number of objects stored in each slab."),
    Desc::gauge("node_slabinfo_pages_per_slab", "The number of pages allocated for each slab."),
];

/// `[sources.slabinfo]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Slabs to tell, all if empty.
    slabs_include: Pattern,
    /// Slabs to leave out.
    slabs_exclude: Pattern,
}

/// Each slab's name and columns.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, [f64; COLUMNS.len()])> {
    let is_head = |line: &&str| line.starts_with('#') || line.starts_with("slabinfo ");
    text.lines().filter(move |line| !is_head(line)).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let mut columns = [0.0; COLUMNS.len()];
        for column in &mut columns {
            *column = number(words.next()?)?;
        }
        Some((name, columns))
    })
}

/// The source `slabinfo`.
#[derive(Debug)]
pub(crate) struct Slabs {
    file: KeptFile,
    filter: Filter,
    labels: Kept<Labels>,
}

impl Configured for Slabs {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            file: KeptFile::proc("slabinfo"),
            filter: Filter::new(settings.slabs_include, settings.slabs_exclude),
            labels: Kept::new(),
        }
    }
}

impl Source for Slabs {
    fn name(&self) -> &'static str {
        "slabinfo"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut families: Vec<Family> = COLUMNS.iter().map(Desc::family).collect();
        for (slab, columns) in parse(text) {
            if !self.filter.keeps(slab) {
                continue;
            }
            let labels = self.labels.get(slab, |slab| label("slab", slab));
            for (family, value) in families.iter_mut().zip(columns) {
                family.push(labels.clone(), value);
            }
        }
        self.labels.end_round();
        for family in families {
            reading.family(family);
        }
    }
}
