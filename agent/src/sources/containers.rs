//! Containers of Docker and Podman, in cAdvisor's names.
//!
//! ```text
//! /run/docker.sock ← engine → book ─┐
//! /proc/PID/cgroup, the cgroup tree ← tree → numbers → words → reading
//! ```
//!
//! * [`engine`] asks an engine, within bounds; [`book`] keeps what it says: names, states, health, restarts.
//!   It is asked rarely: a list every [`LIST_EVERY`], of a single container only what changed.
//! * [`tree`] finds control groups, of containers that no engine here knows, too: those in an LXC, seen from
//!   its node. [`numbers`] reads them, v1 and v2, at every reading; the engine is not asked for numbers.
//! * [`words`] has the families; [`oom`] keeps a count over the runs of a container.
//!
//! A container is told under `id` (its path), `name`, `image` and the labels that are wanted; `container`
//! (`docker/0123456789ab`) and `guest` (`lxc/101`) join what several agents, or several sources, tell of it.
//! While an engine is silent the numbers go on under the names that are known, and its states are absent.
//! Bounded: as many containers as are set, files of [`KEPT_OPEN`] kept open. Knows nothing of GPUs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::Labels;

use super::attributes::Sheet;
use super::cgroup::file::list;
use super::cgroup::mounts::{self, Mount};
use super::file::read_bounded;
use super::gpu::owner;
use super::host::network_counters;
use super::registry::{Configured, Shared};
use super::{Kept, Now, Problem, Reading, Roots, SLOW, Source, read_small};

mod book;
mod engine;
mod named;
mod numbers;
mod oom;
mod texts;
mod tree;
mod words;

pub(crate) use named::SharedNames;

use book::{Book, Facts, HEALTHS, STATES, Wanted};
use engine::{Engine, Silence};
use named::Named;
use numbers::{Files, Numbers};
use oom::Kills;

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
/// Network devices of one container that are told.
const INTERFACES_MAX: usize = 32;
/// Network devices that are no container's own: the loopback, and what belongs to containers within.
const OTHER_INTERFACES: [&str; 4] = ["lo", "veth", "docker", "br-"];

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
    root: Option<Container>,
    names: SharedNames,
    devices: Kept<Box<str>>,
    sheet: Sheet,
    buffer: Vec<u8>,
}

/// An engine, and what it said.
#[derive(Debug)]
struct Asked {
    engine: Engine,
    /// As a person names it.
    socket: String,
    book: Book,
    /// Why it says nothing now.
    silence: Option<Silence>,
    has_answered: bool,
}

/// What is kept of a container.
#[derive(Debug, Default)]
struct Container {
    /// Of its control group; empty: not known.
    path: String,
    /// `lxc/101`
    guest: String,
    /// `docker/0123456789ab`
    short: String,
    files: Option<Files>,
    began: Option<f64>,
    kills: Kills,
    labels: Option<Labels>,
    /// `labels` and one more.
    further: Kept<Labels>,
}

impl Configured for Containers {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        Self::with_names(settings, SharedNames::clone(&shared.names))
    }
}

impl Asked {
    fn name(&self) -> &'static str {
        let is_podman = match &self.engine.about {
            Some(about) => about.is_podman,
            None => self.socket.contains("podman"),
        };
        if is_podman { "podman" } else { "docker" }
    }

    /// What its silence means, if anything.
    fn problem(&self) -> Option<Problem> {
        let asked = if self.name() == "podman" { "Podman" } else { "Docker" };
        Some(match self.silence.as_ref()? {
            Silence::Absent if self.has_answered => {
                Problem::Answer { asked, wrong: "its socket is gone; is it stopped?".to_owned() }
            }
            Silence::Absent => Problem::Lacks("container engine's socket"),
            Silence::Denied => Problem::Lacks(
                "right to ask the container engine: containers have no names; docs/operating/containers.md \
                 says how the agent gets it",
            ),
            Silence::Failed(wrong) => Problem::Answer { asked, wrong: wrong.clone() },
        })
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
                .or_insert_with(|| Container { short: short(engine, id), ..Container::default() });
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
            found.iter().map(|(id, _)| id.as_str()).collect();
        let engines = &self.engines;
        let is_known =
            |id: &str| engines.iter().flatten().any(|asked| asked.book.containers.contains_key(id));
        self.containers.retain(|id, _| ids.contains(&**id) || is_known(id));
        for (id, path) in &found {
            let container = self.containers.entry(id.as_str().into()).or_insert_with(|| {
                Container { short: short_of_path(path, id), ..Container::default() }
            });
            if container.path != *path {
                container.settle(path.clone(), &self.mounts, roots);
            }
        }
    }

    fn tell(&mut self, roots: &Roots, now: Now) {
        let Self { engines, containers, root, mounts, devices, sheet, buffer, .. } = self;
        let root = root.get_or_insert_with(Container::default);
        root.tell_root(mounts, roots, now, devices, sheet, buffer);
        tell_machine(roots, sheet);
        for (at, (id, container)) in containers.iter_mut().enumerate() {
            let mut asked = engines.iter_mut().flatten();
            let facts = asked.find_map(|asked| asked.book.containers.get_mut(id));
            container.tell(id, facts, roots, now, devices, sheet, buffer);
            if at >= KEPT_OPEN {
                container.close(mounts, roots);
            }
        }
        for asked in engines.iter().flatten() {
            asked.tell(sheet);
        }
        devices.end_round();
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

impl Container {
    /// Its control group is at `path`.
    fn settle(&mut self, path: String, mounts: &[Mount], roots: &Roots) {
        self.guest = owner::of_path(&path).guest;
        self.path = path;
        self.open(mounts, roots);
    }

    fn open(&mut self, mounts: &[Mount], roots: &Roots) {
        let hierarchies = tree::hierarchies(&self.path, mounts, roots);
        self.files = Some(Files::new(&hierarchies, self.path == "/"));
        if self.began.is_none() {
            self.began = tree::made_at(&hierarchies);
        }
    }

    fn close(&mut self, mounts: &[Mount], roots: &Roots) {
        if !self.path.is_empty() {
            self.open(mounts, roots);
        }
    }

    fn tell_root(
        &mut self,
        mounts: &[Mount],
        roots: &Roots,
        now: Now,
        devices: &mut Kept<Box<str>>,
        sheet: &mut Sheet,
        buffer: &mut Vec<u8>,
    ) {
        if self.path.is_empty() {
            self.settle("/".to_owned(), mounts, roots);
        }
        let Some(numbers) = self.files.as_mut().and_then(|files| files.read(roots, now, buffer))
        else {
            return;
        };
        let labels = sheet.labels.of(&[("id", "/")]);
        self.label(labels.clone());
        self.tell_numbers(&labels, &numbers, roots, devices, sheet);
        self.further.end_round();
    }

    /// Forgets what was made of other labels.
    fn label(&mut self, labels: Labels) {
        if !self.labels.as_ref().is_some_and(|before| before.is_same(&labels)) {
            self.further.clear();
            self.labels = Some(labels);
        }
    }

    fn tell(
        &mut self,
        id: &str,
        mut facts: Option<&mut Facts>,
        roots: &Roots,
        now: Now,
        devices: &mut Kept<Box<str>>,
        sheet: &mut Sheet,
        buffer: &mut Vec<u8>,
    ) {
        let is_there = facts.as_ref().is_none_or(|facts| facts.is_there());
        let files = self.files.as_mut().filter(|_| is_there);
        let numbers = files.and_then(|files| files.read(roots, now, buffer));
        if let Some(kills) = numbers.as_ref().and_then(|numbers| numbers.oom_kills) {
            self.kills.count(kills);
        }
        if let Some(facts) = facts.as_mut() {
            // Its control group is gone, or it is another by now: the engine knows.
            facts.is_due |= is_there && numbers.is_none();
            let end = facts.details.as_ref().filter(|details| details.oom_killed);
            if let Some(finished) = end.and_then(|details| details.finished) {
                self.kills.end(finished);
            }
        }
        if numbers.is_none() && facts.is_none() {
            return;
        }
        let labels = self.base(id, facts.as_deref(), sheet);
        self.label(labels.clone());
        if numbers.is_some() || self.kills.total() > 0.0 {
            sheet.push(&words::OOM_EVENTS, labels.clone(), self.kills.total());
        }
        let written = facts.as_ref().and_then(|facts| facts.written);
        if let Some(bytes) = written {
            sheet.push(&words::WRITTEN, labels.clone(), bytes);
        }
        if let Some(numbers) = numbers {
            self.tell_numbers(&labels, &numbers, roots, devices, sheet);
            let seconds = now.unix_micros.div_euclid(1_000_000) as f64;
            sheet.push(&words::LAST_SEEN, labels.clone(), seconds);
            let details = facts.as_ref().and_then(|facts| facts.details.as_ref());
            let started = details.map_or(self.began, |details| details.started);
            if let Some(started) = started {
                sheet.push(&words::STARTED, labels.clone(), started);
            }
            let pid = details.filter(|details| details.has_own_network).and_then(|it| it.pid);
            if let Some(pid) = pid {
                self.tell_network(id, pid, &labels, roots, sheet);
            }
        }
        self.further.end_round();
    }

    /// What cAdvisor tells a container by, and what joins it with others' words.
    fn base(&self, id: &str, facts: Option<&Facts>, sheet: &mut Sheet) -> Labels {
        let digits = id.get(..ID_LENGTH).unwrap_or(id);
        let (name, image) = facts.map_or((digits, ""), |facts| (&facts.name, &facts.image));
        let mut pairs = vec![
            ("id", self.path.as_str()),
            ("name", name),
            ("image", image),
            ("container", self.short.as_str()),
            ("guest", self.guest.as_str()),
        ];
        let further = facts.map_or(&[] as &[_], |facts| facts.labels.as_slice());
        pairs.extend(further.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        sheet.labels.of(&pairs)
    }

    fn with(&mut self, labels: &Labels, name: &str, value: &str) -> Labels {
        self.further.get(&format!("{name}\0{value}"), |_| labels.with(name, value))
    }

    fn tell_numbers(
        &mut self,
        labels: &Labels,
        numbers: &Numbers,
        roots: &Roots,
        devices: &mut Kept<Box<str>>,
        sheet: &mut Sheet,
    ) {
        if let Some(cpu) = numbers.cpu {
            sheet.push(&words::CPU, self.with(labels, "cpu", "total"), cpu);
        }
        for (desc, value) in words::USE {
            if let Some(value) = value(numbers) {
                sheet.push(desc, labels.clone(), value);
            }
        }
        for (scope, faults) in words::FAULT_SCOPES.iter().zip(numbers.faults) {
            for (kind, count) in words::FAULT_TYPES.iter().zip(faults) {
                let Some(count) = count else { continue };
                let key = format!("{scope}\0{kind}");
                let made = |_: &str| labels.with("scope", scope).with("failure_type", kind);
                sheet.push(&words::FAULTS, self.further.get(&key, made), count);
            }
        }
        for (device, io) in &numbers.disks {
            let name = devices.get(device, |device| device_name(device, roots));
            let labels = self.with(labels, "device", &name);
            for (desc, value) in words::DISKS {
                if let Some(value) = value(io) {
                    sheet.push(desc, labels.clone(), value);
                }
            }
        }
    }

    /// The network devices that process `pid` sees, as long as it is the container's.
    fn tell_network(
        &mut self,
        id: &str,
        pid: u32,
        labels: &Labels,
        roots: &Roots,
        sheet: &mut Sheet,
    ) {
        let process = roots.procfs.join(pid.to_string());
        if tree::path_of(&read_bounded(&process.join("cgroup")), id).is_none() {
            return;
        }
        let text = read_bounded(&process.join("net/dev"));
        let is_own = |name: &str| !OTHER_INTERFACES.iter().any(|other| name.starts_with(other));
        let own = network_counters::parse(&text).filter(|(name, _)| is_own(name));
        for (name, columns) in own.take(INTERFACES_MAX) {
            let labels = self.with(labels, "interface", name);
            for (column, desc) in words::NETWORK {
                if let Some(value) = columns.get(*column) {
                    sheet.push(desc, labels.clone(), *value);
                }
            }
        }
    }
}

/// `8:0` as `/dev/sda`.
fn device_name(device: &str, roots: &Roots) -> Box<str> {
    let link = std::fs::read_link(roots.sysfs.join("dev/block").join(device)).ok();
    let name = link.as_ref().and_then(|link| link.file_name()?.to_str());
    name.map_or_else(|| device.into(), |name| format!("/dev/{name}").into())
}

impl Asked {
    fn new(socket: &str, roots: &Roots) -> Self {
        let socket = socket.strip_prefix("unix://").unwrap_or(socket);
        Self {
            engine: Engine::new(roots.on_host(socket)),
            socket: socket.to_owned(),
            book: Book::default(),
            silence: None,
            has_answered: false,
        }
    }

    /// What only the engine knows.
    fn tell(&self, sheet: &mut Sheet) {
        let engine = [("engine", self.name()), ("socket", self.socket.as_str())];
        let is_up = self.has_answered && self.silence.is_none();
        if self.has_answered || matches!(self.silence, Some(Silence::Failed(_))) {
            let labels = sheet.labels.of(&engine);
            sheet.push(&words::ENGINE_UP, labels, f64::from(u8::from(is_up)));
        }
        if !is_up {
            return;
        }
        if self.book.left_out > 0 {
            let labels = sheet.labels.of(&engine);
            sheet.push(&words::LEFT_OUT, labels, self.book.left_out as f64);
        }
        if let Some(about) = &self.engine.about {
            let [engine, socket] = engine;
            let versions =
                [("version", about.version.as_str()), ("api_version", &about.api_version)];
            let labels = sheet.labels.of(&[engine, socket, versions[0], versions[1]]);
            sheet.push(&words::ENGINE, labels, 1.0);
        }
        for (id, facts) in &self.book.containers {
            let container = short(self.name(), id);
            facts.tell(
                &[("container", &container), ("name", &facts.name), ("image", &facts.image)],
                sheet,
            );
        }
    }
}

impl Facts {
    fn tell(&self, own: &[(&'static str, &str); 3], sheet: &mut Sheet) {
        let [container, name, image] = *own;
        let is = |is_it: bool| f64::from(u8::from(is_it));
        for state in STATES {
            let labels = sheet.labels.of(&[container, name, image, ("state", state)]);
            sheet.push(&words::STATE, labels, is(state == self.state));
        }
        for health in HEALTHS.iter().filter(|_| !self.health.is_empty()) {
            let labels = sheet.labels.of(&[container, name, image, ("health", *health)]);
            sheet.push(&words::HEALTH, labels, is(*health == self.health));
        }
        for port in &self.ports {
            let (host, inner) = (port.port.to_string(), port.container_port.to_string());
            let labels = sheet.labels.of(&[
                container,
                name,
                image,
                ("address", &port.address),
                ("port", &host),
                ("container_port", &inner),
                ("protocol", &port.protocol),
            ]);
            sheet.push(&words::PORT, labels, 1.0);
        }
        if let Some(compose) = &self.compose {
            let labels = sheet.labels.of(&[
                container,
                name,
                image,
                ("project", &compose.project),
                ("service", &compose.service),
                ("number", &compose.number),
            ]);
            sheet.push(&words::COMPOSE, labels, 1.0);
        }
        let labels = sheet.labels.of(own);
        let mut push = |desc, value: Option<f64>| {
            if let Some(value) = value {
                sheet.push(desc, labels.clone(), value);
            }
        };
        push(&words::IMAGE_CREATED, self.image_created);
        let Some(details) = &self.details else { return };
        let has_ended = matches!(self.state, "exited" | "dead" | "restarting");
        push(&words::RESTARTS, details.restarts);
        push(&words::OOM_KILLED, Some(is(details.oom_killed)));
        push(&words::EXIT_CODE, details.exit_code.filter(|_| has_ended));
        push(&words::FINISHED, details.finished.filter(|_| has_ended));
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
        if self.containers.is_empty() && !has_engine {
            // What stands in the way of one that is there is a problem that is noted.
            let lacks =
                Problem::Lacks("container engine's socket and no container's control group");
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
