//! `/sys/class/net/*/bonding`: network devices that are several, and how many of those work.

use std::time::Duration;

use crate::sources::attributes::{Sheet, text};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, read_small};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);
/// Bonds and devices of one bond told; the file that lists them is a page.
const NAMES_MAX: usize = 256;

const SLAVES: Desc =
    Desc::gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.");
const ACTIVE: Desc =
    Desc::gauge("node_bonding_active", "Number of active slaves per bonding interface.");

/// The names of network devices in a list; a name with a path in it is none.
pub(super) fn parse(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
        .filter(|name| !name.contains('/') && *name != "." && *name != "..")
        .take(NAMES_MAX)
}

/// The source `bonding`.
#[derive(Debug)]
pub(crate) struct Bonds {
    sheet: Sheet,
}

impl Configured for Bonds {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Source for Bonds {
    fn name(&self) -> &'static str {
        "bonding"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let devices = roots.path(Tree::Sys, "class/net");
        let path = devices.join("bonding_masters");
        let masters = match read_small(&path) {
            Ok(masters) => masters,
            Err(error) => return reading.fail(Problem::read(path, error)),
        };
        for master in parse(&masters) {
            let dir = devices.join(master);
            let Some(slaves) = text(dir.join("bonding/slaves")) else { continue };
            let is_up = |slave: &str| {
                // Kernels before 4.0 call the link otherwise.
                ["lower_", "slave_"].iter().any(|prefix| {
                    let link = dir.join(format!("{prefix}{slave}"));
                    text(link.join("bonding_slave/mii_status")).as_deref() == Some("up")
                })
            };
            let labels = self.sheet.labels.of(&[("master", master)]);
            self.sheet.push(&SLAVES, labels.clone(), parse(&slaves).count() as f64);
            let active = parse(&slaves).filter(|slave| is_up(slave)).count();
            self.sheet.push(&ACTIVE, labels, active as f64);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_not_paths() {
        assert_eq!(parse("bond0 .. a/b\tdmz\n").collect::<Vec<_>>(), ["bond0", "dmz"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_bounded(text in "([a-z./]{1,4} ){0,400}|.*") {
            prop_assert!(parse(&text).count() <= NAMES_MAX);
            prop_assert!(parse(&text).all(|name| !name.contains('/')));
        }
    }
}
