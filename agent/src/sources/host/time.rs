//! The host's clock: the time, the time zone, and where the kernel takes the time from.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::attributes::read_bytes;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{
    Desc, Kept, Now, Problem, Reading, Roots, Source, Tree, label, no_labels, read_small,
};

mod zone;

/// How often clock sources and the time zone are looked up anew.
const DISCOVERY: Duration = Duration::from_secs(60);
/// The largest zone's file is 4 KiB.
const ZONE_BYTES_MAX: u64 = 256 << 10;

const SECONDS: Desc =
    Desc::gauge("node_time_seconds", "System time in seconds since epoch (1970).");
const ZONE: Desc =
    Desc::gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.");
const AVAILABLE: Desc = Desc::gauge(
    "node_time_clocksource_available_info",
    "Available clocksources read from '/sys/devices/system/clocksource'.",
);
const CURRENT: Desc = Desc::gauge(
    "node_time_clocksource_current_info",
    "Current clocksource read from '/sys/devices/system/clocksource'.",
);

/// The source `time`.
#[derive(Debug)]
pub(crate) struct Time {
    found: Option<(Now, Found)>,
    labels: Kept<Labels>,
    zone: Labels,
}

#[derive(Debug, Default)]
struct Found {
    zone: zone::Zone,
    available: Vec<Labels>,
    current: Vec<Labels>,
}

impl Configured for Time {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { found: None, labels: Kept::new(), zone: no_labels() }
    }
}

impl Source for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        reading.single(&SECONDS, now.unix_micros as f64 / 1e6);
        let is_fresh = |at: Now| !now.is_past(at, DISCOVERY);
        if !self.found.as_ref().is_some_and(|(at, _)| is_fresh(*at)) {
            self.found = Some((now, discover(roots, &mut self.labels, reading)));
        }
        let Some((_, found)) = &self.found else { return };
        let (offset_seconds, name) = found.zone.at(now.unix_micros.div_euclid(1_000_000));
        let zone = &mut self.zone;
        if zone.get("time_zone") != Some(name) {
            *zone = label("time_zone", name);
        }
        let labels = zone.clone();
        reading.one(&ZONE, labels, f64::from(offset_seconds));
        for (desc, sets) in [(&AVAILABLE, &found.available), (&CURRENT, &found.current)] {
            let family = reading.open(desc);
            for labels in sets {
                family.push(labels.clone(), 1.0);
            }
        }
    }
}

fn discover(roots: &Roots, labels: &mut Kept<Labels>, reading: &mut Reading) -> Found {
    // A host without the file keeps UTC.
    let zone = read_bytes(&roots.on_host("/etc/localtime"), ZONE_BYTES_MAX)
        .ok()
        .and_then(|bytes| zone::Zone::parse(&bytes))
        .unwrap_or_default();
    let mut found = Found { zone, ..Found::default() };
    let dir = roots.path(Tree::Sys, "devices/system/clocksource");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) => {
            reading.fail(Problem::read(dir, error));
            return found;
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(device) = name.to_str().and_then(|name| name.strip_prefix("clocksource")) else {
            continue;
        };
        let mut sets = |file| {
            let text = read_small(&entry.path().join(file)).unwrap_or_default();
            let set = |source| {
                labels.get(&format!("source {device} {source}"), |_| {
                    Labels::from_pairs_last_wins([("device", device), ("clocksource", source)])
                })
            };
            text.split_ascii_whitespace().map(set).collect::<Vec<_>>()
        };
        found.available.append(&mut sets("available_clocksource"));
        found.current.append(&mut sets("current_clocksource"));
    }
    labels.end_round();
    found
}
