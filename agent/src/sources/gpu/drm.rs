//! AMD's and Intel's GPUs, and who uses them: what the kernel's drivers say in `/sys` and `/proc`.
//!
//! ```text
//! /sys/class/drm/card0 → cards ┐
//! /proc/PID/fdinfo → clients → users → reading
//!    /proc/PID/cgroup → owner ┘
//! ```
//!
//! Temperatures, power, fans and clocks of AMD's are the source `hwmon`'s, under the chip's name. node_exporter's
//! collector `drm` has the cards' families; who uses them is the agent's own. A host whose display adapter
//! is neither's tells nothing, and no process is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::owner::Owners;
use super::users::{self, User, Words};
use crate::sources::attributes::Sheet;
use crate::sources::containers::SharedNames;
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, SLOW, Source};

mod cards;
mod client;
mod clients;

use cards::Card;
use clients::{Clients, Use};

/// Time to look at all processes.
const DEADLINE: Duration = Duration::from_secs(10);

const USERS: Words = Words {
    process_memory: Desc::gauge(
        "stoa_drm_process_memory_bytes",
        "GPU memory of a process, and whose it is: guest, container, unit.",
    ),
    process_busy: Desc::gauge(
        "stoa_drm_process_engine_ratio",
        "Share of the time in which an engine of the GPU worked for the process.",
    ),
    owner_memory: Desc::gauge(
        "stoa_drm_owner_memory_bytes",
        "GPU memory of all processes of a guest, container or unit; all empty: of the host itself.",
    ),
    owner_busy: Desc::gauge(
        "stoa_drm_owner_engine_ratio",
        "The engines' time for all processes of a guest, container or unit.",
    ),
    left_out: Desc::gauge(
        "stoa_drm_processes_left_out",
        "Processes on the GPU that are not told one by one: those with least memory.",
    ),
};
const BUSY: Desc = Desc::gauge(
    "stoa_drm_engine_ratio",
    "Share of the time in which an engine of the GPU worked, for all processes that can be seen.",
);
const HIDDEN: Desc = Desc::gauge(
    "stoa_drm_processes_hidden",
    "Processes of which the agent may not see whether they use a GPU.",
);

/// `[sources.drm]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Processes told one by one, of each GPU.
    processes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { processes_max: 32 }
    }
}

/// The source `drm`.
#[derive(Debug)]
pub(crate) struct Drm {
    settings: Settings,
    clients: Clients,
    owners: Owners,
    sheet: Sheet,
}

impl Configured for Drm {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        let (clients, owners) =
            (Clients::default(), Owners::new(SharedNames::clone(&shared.names)));
        Self { settings, clients, owners, sheet: Sheet::default() }
    }
}

impl Source for Drm {
    fn name(&self) -> &'static str {
        "drm"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let cards = match cards::list(roots) {
            Ok(cards) if !cards.is_empty() => cards,
            _ => return reading.fail(Problem::Lacks("GPU of AMD's or Intel's")),
        };
        cards.iter().for_each(|card| card.tell(&mut self.sheet));
        let found = self.clients.read(roots, now);
        if found.hidden > 0 {
            self.sheet.push(&HIDDEN, crate::sources::no_labels(), found.hidden as f64);
        }
        let there = found.uses.keys().map(|(_, pid)| *pid).collect();
        for card in &cards {
            let of_card = found.uses.iter().filter(|((pci, _), _)| *pci == card.pci);
            let uses: Vec<(u32, &Use)> = of_card.map(|((_, pid), used)| (*pid, used)).collect();
            self.tell_users(card, uses, roots, now);
        }
        self.owners.keep(&there);
        self.sheet.tell(reading);
    }
}

impl Drm {
    fn tell_users(&mut self, card: &Card, mut uses: Vec<(u32, &Use)>, roots: &Roots, now: Now) {
        uses.sort_by_key(|(pid, used)| (std::cmp::Reverse(used.memory), *pid));
        let pids: Vec<u32> = uses.iter().map(|(pid, _)| *pid).collect();
        let found = self.owners.of_seen(roots, &pids, now);
        let users: Vec<User<'_>> = uses
            .iter()
            .zip(&found)
            .map(|((pid, used), found)| User {
                pid: *pid,
                name: found.as_ref().map_or("", |found| &found.name),
                owner: found.as_ref().map(|found| &found.owner),
                memory: used.memory,
                busy: &used.busy,
            })
            .collect();
        users::tell(&card.labels(), &users, self.settings.processes_max, &USERS, &mut self.sheet);
        let mut busy: BTreeMap<&str, f64> = BTreeMap::new();
        for (engine, ratio) in uses.iter().flat_map(|(_, used)| &used.busy) {
            *busy.entry(engine).or_default() += ratio;
        }
        let [name, pci] = card.labels();
        for (engine, ratio) in busy {
            let labels = self.sheet.labels.of(&[name, pci, ("engine", engine)]);
            self.sheet.push(&BUSY, labels, ratio.min(1.0));
        }
    }
}

#[cfg(test)]
mod tests;
