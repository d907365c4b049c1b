//! Containers of Docker and Podman, and a node's guests, in cAdvisor's names.
//!
//! ```text
//! /run/docker.sock ← engine → book ─┐
//! /proc/PID/cgroup, the cgroup tree ← tree → numbers → words → reading
//! ```
//!
//! * [`engine`] asks an engine, within bounds; [`book`] keeps what it says: names, states, health, restarts.
//!   It is asked rarely: a list every [`LIST_EVERY`], of a single container only what changed.
//! * [`tree`] finds control groups, of guests and of containers that no engine here knows, too: those in an
//!   LXC, seen from its node. [`numbers`] reads them, v1 and v2, at every reading; the engine is not asked for numbers.
//! * [`container`] tells them, [`states`] what only the engine knows; [`words`] has the families, [`oom`] a
//!   count over the runs of a container, [`named`] names for other sources.
//!
//! A container is told under `id` (its path), `name`, `image` and the labels that are wanted; `container`
//! (`docker/0123456789ab`) and `guest` (`lxc/101`) join what several agents, or several sources, tell of it.
//! While an engine is silent the numbers go on under the names that are known, and its states are absent.
//! Bounded: as many containers as are set, files of [`KEPT_OPEN`] kept open.

use std::collections::BTreeMap;
use std::time::Duration;

use super::attributes::Sheet;
use super::cgroup::file::list;
use super::cgroup::mounts::{self, Mount};
use super::file::read_bounded;
use super::gpu::owner;
use super::guests::config::Names as GuestNames;
use super::registry::{Configured, Shared};
use super::{Kept, Now, Problem, Reading, Roots, SLOW, Source, read_small};
use serde::Deserialize;

mod book;
mod container;
mod engine;
mod named;
mod numbers;
mod oom;
mod states;
mod texts;
mod tree;
mod words;

pub(crate) use named::{Named, SharedNames};
pub(crate) use texts::seconds;

use book::Wanted;
use container::{Container, Pass};
use states::Asked;

/// How often an engine is asked: every second reading.
const LIST_EVERY: Duration = Duration::from_millis(8_500);
/// How often control groups are looked for that no engine told of.
const WALK_EVERY: Duration = Duration::from_secs(30);
/// How often the sizes of what containers wrote are asked for, where that is wanted.
const SIZES_EVERY: Duration = Duration::from_secs(600);
/// Two engines that hang, and the files.
const DEADLINE: Duration = Duration::from_secs(15);
/// Containers whose files stay open; of more they are opened at each reading.
const KEPT_OPEN: usize = 48;
/// Digits of a container's id that are told, as `docker ps` tells them.
const ID_LENGTH: usize = 12;

/// `[sources.containers]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where engines listen, as processes of the host see it.
    sockets: Vec<String>,
    /// Labels of containers that are told.
    labels: Vec<String>,
    /// Whether to ask what containers wrote into their own layers, which costs the engine a walk over them.
    sizes: bool,
    /// Containers that are told, of each engine.
    containers_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            sockets: texts(&["/run/docker.sock", "/run/podman/podman.sock"]),
            labels: texts(&[
                "com.docker.compose.project",
                "com.docker.compose.service",
                "com.docker.compose.container-number",
            ]),
            sizes: false,
            containers_max: 1000,
        }
    }
}

/// The source `containers`.
#[derive(Debug)]
pub(crate) struct Containers {
    settings: Settings,
    /// Made with the first reading, which knows where the host's files are.
    engines: Option<Vec<Asked>>,
    listed: Option<Now>,
    walked: Option<Now>,
    sized: Option<Now>,
    mounts: Vec<Mount>,
    containers: BTreeMap<Box<str>, Container>,
    /// Guests of this node, by `lxc/101`.
    guests: BTreeMap<Box<str>, Container>,
    guest_names: GuestNames,
    root: Option<Container>,
    names: SharedNames,
    devices: Kept<Box<str>>,
    sheet: Sheet,
    buffer: Vec<u8>,
}

impl Configured for Containers {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        Self::with_names(settings, SharedNames::clone(&shared.names))
    }
}

impl Containers {
    fn with_names(settings: Settings, names: SharedNames) -> Self {
        Self {
            settings,
            engines: None,
            listed: None,
            walked: None,
            sized: None,
            mounts: Vec::new(),
            containers: BTreeMap::new(),
            guests: BTreeMap::new(),
            guest_names: GuestNames::default(),
            root: None,
            names,
            devices: Kept::new(),
            sheet: Sheet::default(),
            buffer: Vec::new(),
        }
    }

    fn ask_engines(&mut self, roots: &Roots, now: Now) {
        let sizes = self.settings.sizes && self.sized.is_none_or(|at| now.is_past(at, SIZES_EVERY));
        if sizes {
            self.sized = Some(now);
        }
        let wanted = Wanted {
            labels: self.settings.labels.clone(),
            containers_max: self.settings.containers_max,
            sizes,
        };
        let engines = self.engines.get_or_insert_with(|| {
            let sockets = self.settings.sockets.iter();
            sockets.map(|socket| Asked::new(socket, roots)).collect()
        });
        for Asked { engine, book, silence, has_answered, .. } in engines {
            if engine.rests(now) {
                continue;
            }
            match engine.ask(now, async |docker| book.ask(docker, &wanted, now).await) {
                Ok(()) => (*silence, *has_answered) = (None, true),
                Err(why) => *silence = Some(why),
            }
        }
        let named = self.engines.iter().flatten().flat_map(|asked| {
            let engine = asked.name();
            asked
                .book
                .containers
                .iter()
                .map(move |(id, facts)| (short(engine, id), Named::of(facts)))
        });
        named::replace(&self.names, named);
    }

    /// Finds the control groups of what is new.
    fn find(&mut self, roots: &Roots, now: Now) {
        let is_due = self.walked.is_none_or(|at| now.is_past(at, WALK_EVERY));
        if is_due {
            self.walked = Some(now);
            self.mounts = mounts::of_init(roots);
        }
        let books = self.engines.iter().flatten().flat_map(|asked| {
            let engine = asked.name();
            asked.book.containers.iter().map(move |(id, facts)| (engine, id, facts))
        });
        let mut has_lost = false;
        for (engine, id, facts) in books {
            let container = self
                .containers
                .entry(id.clone())
                .or_insert_with(|| Container::new(short(engine, id)));
            if !container.path.is_empty() || !facts.is_there() {
                continue;
            }
            let cgroup = facts
                .details
                .as_ref()
                .and_then(|details| details.pid)
                .map(|pid| read_bounded(&roots.procfs.join(pid.to_string()).join("cgroup")));
            match cgroup.and_then(|cgroup| tree::path_of(&cgroup, id)) {
                Some(path) => container.settle(path, &self.mounts, roots),
                None => has_lost = true,
            }
        }
        if !is_due && !has_lost {
            return;
        }
        let found = tree::walk(&self.mounts, roots, self.settings.containers_max);
        let ids: std::collections::HashSet<&str> =
            found.containers.iter().map(|(id, _)| id.as_str()).collect();
        let engines = &self.engines;
        let is_known =
            |id: &str| engines.iter().flatten().any(|asked| asked.book.containers.contains_key(id));
        self.containers.retain(|id, _| ids.contains(&**id) || is_known(id));
        for (id, path) in &found.containers {
            let container = self
                .containers
                .entry(id.as_str().into())
                .or_insert_with(|| Container::new(short_of_path(path, id)));
            if container.path != *path {
                container.settle(path.clone(), &self.mounts, roots);
            }
            let name = self.guest_names.of(roots, &container.guest, now);
            name.clone_into(&mut container.guest_name);
        }
        self.guests.retain(|guest, _| found.guests.iter().any(|(it, _)| **it == **guest));
        for (guest, path) in &found.guests {
            let container = self.guests.entry(guest.as_str().into()).or_default();
            if container.path != *path {
                container.settle(path.clone(), &self.mounts, roots);
            }
            let name = self.guest_names.of(roots, guest, now);
            name.clone_into(&mut container.guest_name);
            container.find_process(&self.mounts, roots);
        }
    }

    fn tell(&mut self, roots: &Roots, now: Now) {
        let Self { engines, containers, guests, root, mounts, devices, sheet, buffer, .. } = self;
        tell_machine(roots, sheet);
        let mut pass = Pass { roots, now, devices, sheet, buffer };
        let root = root.get_or_insert_with(Container::default);
        root.tell_root(mounts, &mut pass);
        for (at, (id, container)) in containers.iter_mut().enumerate() {
            let mut asked = engines.iter_mut().flatten();
            let facts = asked.find_map(|asked| asked.book.containers.get_mut(id));
            container.tell(id, facts, &mut pass);
            if at >= KEPT_OPEN {
                container.close(mounts, roots);
            }
        }
        for (at, (guest, container)) in guests.iter_mut().enumerate() {
            let number = guest.split_once('/').map_or("", |(_, number)| number);
            container.tell(number, None, &mut pass);
            if at >= KEPT_OPEN {
                container.close(mounts, roots);
            }
        }
        for asked in engines.iter().flatten() {
            asked.tell(pass.sheet);
        }
        pass.devices.end_round();
    }
}

fn short(engine: &str, id: &str) -> String {
    format!("{engine}/{}", id.get(..ID_LENGTH).unwrap_or(id))
}

/// What a container that no engine told of is called.
fn short_of_path(path: &str, id: &str) -> String {
    let owner = owner::of_path(path).container;
    if owner.is_empty() { short("container", id) } else { owner }
}

fn tell_machine(roots: &Roots, sheet: &mut Sheet) {
    let cpus = read_small(&roots.sysfs.join("devices/system/cpu/online"));
    if let Some(cpus) = cpus.ok().and_then(|text| list(&text)) {
        sheet.push(&words::CORES, super::no_labels(), cpus.len() as f64);
    }
    let text = read_bounded(&roots.procfs.join("meminfo"));
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| super::number(rest.split_ascii_whitespace().next()?));
    if let Some(kib) = kib {
        sheet.push(&words::MEMORY, super::no_labels(), kib * 1024.0);
    }
}

impl Source for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        if self.listed.is_none_or(|at| now.is_past(at, LIST_EVERY)) {
            self.listed = Some(now);
            self.ask_engines(roots, now);
            self.find(roots, now);
        }
        let problems = self.engines.iter().flatten().filter_map(Asked::problem);
        problems.for_each(|problem| reading.note(problem));
        let has_engine = self.engines.iter().flatten().any(|asked| asked.has_answered);
        if self.containers.is_empty() && self.guests.is_empty() && !has_engine {
            // What stands in the way of one that is there is a problem that is noted.
            let lacks = Problem::Lacks(
                "container engine's socket, and no container's or guest's control group",
            );
            reading.fail(lacks);
            self.engines.iter().flatten().for_each(|asked| asked.tell(&mut self.sheet));
            return self.sheet.tell(reading);
        }
        self.tell(roots, now);
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests;
