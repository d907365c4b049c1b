//! `/sys/class/watchdog`: what resets the host when it hangs.

use std::time::Duration;

use crate::sources::attributes::{Attribute, DEVICES_MAX, Sheet, entries, text};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

/// How often.
const INTERVAL: Duration = Duration::from_secs(10);

const INFO: Desc = Desc::gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>");
/// Files that are labels of the info.
const PROPERTIES: [&str; 5] = ["identity", "options", "pretimeout_governor", "state", "status"];
const NUMBERS: [Attribute; 7] = [
    Attribute::gauge(
        "access_cs0",
        "node_watchdog_access_cs0",
        "Value of /sys/class/watchdog/<watchdog>/access_cs0",
    ),
    Attribute::gauge(
        "bootstatus",
        "node_watchdog_bootstatus",
        "Value of /sys/class/watchdog/<watchdog>/bootstatus",
    ),
    Attribute::gauge(
        "fw_version",
        "node_watchdog_fw_version",
        "Value of /sys/class/watchdog/<watchdog>/fw_version",
    ),
    Attribute::gauge(
        "nowayout",
        "node_watchdog_nowayout",
        "Value of /sys/class/watchdog/<watchdog>/nowayout",
    ),
    Attribute::gauge(
        "pretimeout",
        "node_watchdog_pretimeout_seconds",
        "Value of /sys/class/watchdog/<watchdog>/pretimeout",
    ),
    Attribute::gauge(
        "timeleft",
        "node_watchdog_timeleft_seconds",
        "Value of /sys/class/watchdog/<watchdog>/timeleft",
    ),
    Attribute::gauge(
        "timeout",
        "node_watchdog_timeout_seconds",
        "Value of /sys/class/watchdog/<watchdog>/timeout",
    ),
];

/// The source `watchdog`.
#[derive(Debug)]
pub(crate) struct Watchdogs {
    sheet: Sheet,
}

impl Configured for Watchdogs {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Source for Watchdogs {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/watchdog");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (name, dir) in found {
            let mut pairs = vec![("name", name.clone())];
            for property in PROPERTIES {
                pairs.push((property, text(dir.join(property)).unwrap_or_default()));
            }
            let info = self.sheet.labels.of(&pairs);
            self.sheet.push(&INFO, info, 1.0);
            let labels = self.sheet.labels.of(&[("name", &name)]);
            self.sheet.push_attributes(&NUMBERS, &dir, &labels);
        }
        self.sheet.tell(reading);
    }
}
