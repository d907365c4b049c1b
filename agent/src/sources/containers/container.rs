//! One container's or guest's control group: its numbers, and the labels they are told by.
//!
//! Keeps what has to outlive a reading: open files, label sets, the count of kills. Bounded by the kernel but
//! for network devices, of which there are [`INTERFACES_MAX`].

use stoa_model::Labels;

use super::book::Facts;
use super::numbers::{Files, Numbers};
use super::oom::Kills;
use super::{ID_LENGTH, tree, words};
use crate::sources::attributes::Sheet;
use crate::sources::cgroup::mounts::Mount;
use crate::sources::file::read_bounded;
use crate::sources::gpu::owner;
use crate::sources::guests::machine;
use crate::sources::host::network_counters;
use crate::sources::{Kept, Now, Roots};

/// Network devices of one container that are told.
const INTERFACES_MAX: usize = 32;
/// Network devices that are no container's own: the loopback, and what belongs to containers within.
const OTHER_INTERFACES: [&str; 4] = ["lo", "veth", "docker", "br-"];

/// What one reading has to do with all of them.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) roots: &'a Roots,
    pub(super) now: Now,
    /// What block devices are called.
    pub(super) devices: &'a mut Kept<Box<str>>,
    pub(super) sheet: &'a mut Sheet,
    pub(super) buffer: &'a mut Vec<u8>,
}

impl Pass<'_> {
    fn read(&mut self, files: &mut Files) -> Option<Numbers> {
        files.read(self.roots, self.now, self.buffer)
    }
}

/// What is kept of a container.
#[derive(Debug, Default)]
pub(super) struct Container {
    /// Of its control group; empty: not known.
    pub(super) path: String,
    /// `lxc/101`
    pub(super) guest: String,
    /// What the guest is called, where that is known.
    pub(super) guest_name: String,
    /// A process of a guest, by which its network is seen.
    process: Option<u32>,
    /// `docker/0123456789ab`
    short: String,
    files: Option<Files>,
    began: Option<f64>,
    kills: Kills,
    labels: Option<Labels>,
    /// `labels` and one more.
    further: Kept<Labels>,
}

impl Container {
    /// One that is called `short` and of which nothing is known.
    pub(super) fn new(short: String) -> Self {
        Self { short, ..Self::default() }
    }

    /// Its control group is at `path`.
    pub(super) fn settle(&mut self, path: String, mounts: &[Mount], roots: &Roots) {
        self.guest = owner::of_path(&path).guest;
        self.path = path;
        self.open(mounts, roots);
    }

    /// Whether it is a guest of this node, not a container of an engine.
    fn is_guest(&self) -> bool {
        self.short.is_empty() && !self.guest.is_empty()
    }

    /// Finds a process of a guest, by which its network can be seen, and a machine's name where no file
    /// says it. A machine's network is the node's: its devices are `tap102i0` there.
    pub(super) fn find_process(&mut self, mounts: &[Mount], roots: &Roots) {
        let process = tree::process_of(&tree::hierarchies(&self.path, mounts, roots));
        let is_machine = self.guest.starts_with("qemu/");
        self.process = process.filter(|_| !is_machine);
        if is_machine && self.guest_name.is_empty() {
            let name = process.and_then(|pid| machine::name(&roots.procfs, pid));
            self.guest_name = name.unwrap_or_default();
        }
    }

    fn open(&mut self, mounts: &[Mount], roots: &Roots) {
        let hierarchies = tree::hierarchies(&self.path, mounts, roots);
        self.files = Some(Files::new(&hierarchies, self.path == "/"));
        if self.began.is_none() {
            self.began = tree::made_at(&hierarchies);
        }
    }

    pub(super) fn close(&mut self, mounts: &[Mount], roots: &Roots) {
        if !self.path.is_empty() {
            self.open(mounts, roots);
        }
    }

    pub(super) fn tell_root(&mut self, mounts: &[Mount], pass: &mut Pass<'_>) {
        if self.path.is_empty() {
            self.settle("/".to_owned(), mounts, pass.roots);
        }
        let Some(numbers) = self.files.as_mut().and_then(|files| pass.read(files)) else { return };
        let labels = pass.sheet.labels.of(&[("id", "/")]);
        self.label(labels.clone());
        self.tell_numbers(&labels, &numbers, pass);
        self.further.end_round();
    }

    /// Forgets what was made of other labels.
    fn label(&mut self, labels: Labels) {
        if !self.labels.as_ref().is_some_and(|before| before.is_same(&labels)) {
            self.further.clear();
            self.labels = Some(labels);
        }
    }

    pub(super) fn tell(&mut self, id: &str, mut facts: Option<&mut Facts>, pass: &mut Pass<'_>) {
        let is_there = facts.as_ref().is_none_or(|facts| facts.is_there());
        let files = self.files.as_mut().filter(|_| is_there);
        let numbers = files.and_then(|files| pass.read(files));
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
        let labels = self.base(id, facts.as_deref(), pass.sheet);
        self.label(labels.clone());
        if numbers.is_some() || self.kills.total() > 0.0 {
            pass.sheet.push(&words::OOM_EVENTS, labels.clone(), self.kills.total());
        }
        let written = facts.as_ref().and_then(|facts| facts.written);
        if let Some(bytes) = written {
            pass.sheet.push(&words::WRITTEN, labels.clone(), bytes);
        }
        if let Some(numbers) = numbers {
            self.tell_numbers(&labels, &numbers, pass);
            let seconds = pass.now.unix_micros.div_euclid(1_000_000) as f64;
            pass.sheet.push(&words::LAST_SEEN, labels.clone(), seconds);
            let details = facts.as_ref().and_then(|facts| facts.details.as_ref());
            let started = details.map_or(self.began, |details| details.started);
            if let Some(started) = started {
                pass.sheet.push(&words::STARTED, labels.clone(), started);
            }
            let pid = details.filter(|details| details.has_own_network).and_then(|it| it.pid);
            if let Some(pid) = pid.or(self.process) {
                self.tell_network(id, pid, &labels, pass);
            }
        }
        self.further.end_round();
    }

    /// What cAdvisor tells a container by, and what joins it with others' words.
    fn base(&self, id: &str, facts: Option<&Facts>, sheet: &mut Sheet) -> Labels {
        let digits = id.get(..ID_LENGTH).unwrap_or(id);
        let unnamed =
            if self.is_guest() && !self.guest_name.is_empty() { &self.guest_name } else { digits };
        let (name, image) = facts.map_or((unnamed, ""), |facts| (&facts.name, &facts.image));
        let mut pairs = vec![
            ("id", self.path.as_str()),
            ("name", name),
            ("image", image),
            ("container", self.short.as_str()),
            ("guest", self.guest.as_str()),
            ("guest_name", self.guest_name.as_str()),
        ];
        let further = facts.map_or(&[] as &[_], |facts| facts.labels.as_slice());
        pairs.extend(further.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        sheet.labels.of(&pairs)
    }

    fn with(&mut self, labels: &Labels, name: &str, value: &str) -> Labels {
        self.further.get(&format!("{name}\0{value}"), |_| labels.with(name, value))
    }

    fn tell_numbers(&mut self, labels: &Labels, numbers: &Numbers, pass: &mut Pass<'_>) {
        let Pass { roots, devices, sheet, .. } = pass;
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
    fn tell_network(&mut self, id: &str, pid: u32, labels: &Labels, pass: &mut Pass<'_>) {
        let Pass { roots, sheet, .. } = pass;
        let process = roots.procfs.join(pid.to_string());
        let cgroup = read_bounded(&process.join("cgroup"));
        let is_it = match self.is_guest() {
            true => owner::parse(&cgroup).guest == self.guest,
            false => tree::path_of(&cgroup, id).is_some(),
        };
        if !is_it {
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
