//! The ledger: of each process which groups it belongs to, of each group what its processes used.
//!
//! Groups are told counters that never go back while the group is there: what a process used is added
//! to its groups as the difference from the reading before, so what ended members used stays in. A
//! process there was before the ledger counts from the moment it was first seen, one that began later
//! counts whole. Who becomes another (another name, user, unit) adds to its new groups from then on.
//!
//! What a process is (owner, control group, command line) is looked up when it is new, at the reading
//! after that (a service is moved to its control group after it is forked), when its name changes, and
//! every [`REFRESH_EVERY`] readings. Its `io` is read when its `stat` shows that it did something.
//! Bounds: the table's processes, [`IDENTIFIED_MAX`] new ones a reading, and each roster's groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use stoa_model::Labels;

use super::Settings;
use super::details::Details;
use super::named::{self, Candidate};
use super::ranking::{LISTS, Ranking, Standing};
use super::roster::{Place, Roster};
use super::scan::{LeftOut, Process, Scan};
use super::stat::Comm;
use super::units::{self, Counts};
use super::usage::Counters;
use super::users;
use crate::sources::{Now, Roots, label};

/// Readings after which what a process is is looked up again.
const REFRESH_EVERY: u64 = 32;
/// Processes looked up at one reading; of a fork bomb the rest waits for the next.
const IDENTIFIED_MAX: usize = 4096;
/// Groups by name, user and unit there may be; few of them are told.
const PROGRAMS_MAX: usize = 2048;
/// Names of users remembered.
const USER_NAMES_MAX: usize = 1024;
/// Parents looked at for a group to belong to.
const ANCESTORS_MAX: usize = 64;
/// How long a group is told after its last process ended.
pub(super) const LINGER: Duration = Duration::from_secs(600);

/// Name, user, unit.
pub(super) type ProgramKey = (Arc<str>, Arc<str>, Option<Arc<str>>);

/// Processes of one name, user and unit.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) labels: Labels,
    pub(super) standing: Standing,
    /// Since the reading before: ticks, pages now, bytes.
    used: [f64; LISTS],
}

/// A group of programs.
pub(super) type ProgramGroup = super::roster::Group<ProgramKey, Program>;

/// Processes of one unit.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) labels: Labels,
    pub(super) counts: Counts,
}

/// Processes of a group a person named.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) labels: Labels,
    /// `None` when the files of none could be counted.
    pub(super) files: Option<Files>,
    pub(super) swapped_bytes: Option<u64>,
    pub(super) oldest_ticks: Option<u64>,
    /// Running, sleeping, waiting, zombie, other.
    pub(super) states: [u64; 5],
}

/// Open files of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Files {
    pub(super) open: u64,
    /// The highest share of its limit that a process has open.
    pub(super) worst_ratio: f64,
}

/// Whether a file of a process can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Access {
    #[default]
    Untried,
    Granted,
    Denied,
}

/// What is known of the process in a slot of the table.
#[derive(Clone, Debug, Default)]
struct Member {
    /// 0: none.
    serial: u64,
    comm: Comm,
    /// The reading at which it was first seen.
    joined: u64,
    program: Option<Place>,
    user: Option<Place>,
    unit: Option<Place>,
    named: Option<Place>,
    last: Counters,
    io: Access,
    status: Access,
    /// What its `stat` had counted when its `io` was read.
    worked: u64,
    files_max: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    settings: Settings,
    readings: u64,
    members: Vec<Member>,
    pub(super) programs: Roster<ProgramKey, Program>,
    pub(super) users: Roster<Arc<str>, Labels>,
    pub(super) units: Roster<Arc<str>, Unit>,
    pub(super) named: Roster<Arc<str>, Named>,
    pub(super) ranking: Ranking,
    user_names: HashMap<u32, Arc<str>>,
    details: Details,
    /// Slots whose processes look for a group among their parents.
    orphans: Vec<usize>,
    /// Of all readings.
    pub(super) left_out: LeftOut,
}

impl Ledger {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            readings: 0,
            members: Vec::new(),
            programs: Roster::new(PROGRAMS_MAX),
            users: Roster::new(settings.users_max),
            units: Roster::new(settings.units_max),
            named: Roster::new(settings.groups_max),
            ranking: Ranking::new(settings.top, settings.hold),
            user_names: HashMap::new(),
            details: Details::new(),
            orphans: Vec::new(),
            left_out: LeftOut::default(),
            settings,
        }
    }

    /// Takes in what the table holds.
    pub(super) fn account(&mut self, scan: &Scan, roots: &Roots, now: Now) {
        let Some(root) = scan.root() else { return };
        self.begin(scan, now);
        let mut room = IDENTIFIED_MAX;
        for (slot, process) in scan.processes() {
            if self.is_due(slot, process) && room > 0 {
                room -= 1;
                self.identify(root, roots, now, slot, process);
            }
        }
        self.inherit(scan);
        for (slot, process) in scan.processes() {
            self.add(root, slot, process);
        }
        self.end(now);
    }

    fn begin(&mut self, scan: &Scan, now: Now) {
        self.readings += 1;
        if self.members.len() < scan.slots() {
            self.members.resize_with(scan.slots(), Member::default);
        }
        self.programs.begin();
        self.users.begin();
        self.units.begin();
        self.named.begin();
        for group in self.programs.groups_mut() {
            group.extra.used = [0.0; LISTS];
        }
        for group in self.named.groups_mut() {
            group.extra.begin();
        }
        if self.readings == 1 {
            for name in self.settings.group.iter().filter_map(|group| group.fixed_name()) {
                self.named.place(name.into(), now, Named::new);
            }
        }
        if self.readings.is_multiple_of(REFRESH_EVERY) || self.user_names.len() > USER_NAMES_MAX {
            self.user_names.clear();
        }
        let left_out = scan.left_out();
        self.left_out.crowded += left_out.crowded;
        self.left_out.hidden += left_out.hidden;
    }

    fn end(&mut self, now: Now) {
        let mut standings: Vec<_> = self
            .programs
            .groups_mut()
            .map(|group| {
                let [cpu, _, io] = group.extra.used;
                let used = [cpu, group.living.resident_pages as f64, io];
                (&mut group.extra.standing, used)
            })
            .collect();
        self.ranking.rank(now, &mut standings);
        self.programs.end(now, LINGER, |program| program.standing.is_told());
        self.users.end(now, LINGER, |_| false);
        self.units.end(now, LINGER, |_| false);
        // Their absence is what rules ask for, so they stay; only when crowded the empty ones go.
        let is_crowded = self.named.len() * 2 > self.settings.groups_max;
        self.named.end(now, LINGER, |_| !is_crowded);
    }

    fn is_due(&self, slot: usize, process: &Process) -> bool {
        let Some(member) = self.members.get(slot) else { return false };
        let staggered = self.readings.wrapping_add(slot as u64).is_multiple_of(REFRESH_EVERY);
        member.serial != process.serial
            || member.comm != process.stat.comm
            || member.joined + 1 == self.readings
            || staggered
    }

    /// Looks up which groups a process belongs to.
    fn identify(
        &mut self,
        root: BorrowedFd<'_>,
        roots: &Roots,
        now: Now,
        slot: usize,
        process: &Process,
    ) {
        let pid = process.pid;
        // It has ended meanwhile: it is not listed next time.
        let Ok(user) = Details::user(root, pid) else { return };
        let user = self.user_name(roots, user);
        let comm = process.stat.comm;
        let shown = if process.stat.is_kernel {
            format!("[{}]", comm.of_kernel())
        } else {
            comm.to_string()
        };
        let (unit_name, unit) = self.find_unit(root, roots, now, process);
        let named = self.find_named(root, now, process, &shown, &user);
        let user_place = self.users.place(Arc::clone(&user), now, |name| label("user", name));
        let key = (Arc::from(shown), user, unit_name);
        let program = self.programs.place(key, now, Program::new);
        let Some(member) = self.members.get_mut(slot) else { return };
        if member.serial != process.serial {
            *member = Member { serial: process.serial, joined: self.readings, ..Member::default() };
            // What there was before the first reading counts from now on.
            if !process.is_newborn || self.readings == 1 {
                member.last.take_stat(&process.stat);
            }
        }
        member.comm = comm;
        member.program = program;
        member.user = user_place;
        member.unit = unit;
        member.files_max = None;
        if member.io == Access::Denied {
            member.io = Access::Untried;
        }
        if named.is_some() || !self.settings.children {
            member.named = named;
        } else if member.named.is_none() {
            self.orphans.push(slot);
        }
    }

    fn user_name(&mut self, roots: &Roots, user: u32) -> Arc<str> {
        let name = self.user_names.entry(user).or_insert_with(|| users::name(roots, user));
        Arc::clone(name)
    }

    fn find_unit(
        &mut self,
        root: BorrowedFd<'_>,
        roots: &Roots,
        now: Now,
        process: &Process,
    ) -> (Option<Arc<str>>, Option<Place>) {
        if process.stat.is_kernel {
            return (None, None);
        }
        let Ok(text) = self.details.control_groups(root, process.pid) else { return (None, None) };
        let text = String::from_utf8_lossy(text);
        let placement = units::parse(&text);
        let Some(name) = placement.unit.as_deref().map(Arc::<str>::from) else {
            return (None, None);
        };
        let place = self.units.place(Arc::clone(&name), now, |name| Unit {
            labels: label("unit", name),
            counts: Counts::find(roots, &placement),
        });
        (Some(name), place)
    }

    fn find_named(
        &mut self,
        root: BorrowedFd<'_>,
        now: Now,
        process: &Process,
        comm: &str,
        user: &str,
    ) -> Option<Place> {
        if self.settings.group.is_empty() {
            return None;
        }
        let arguments = self.details.arguments(root, process.pid).unwrap_or_default();
        let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
        let arguments = String::from_utf8_lossy(arguments);
        let executable = arguments.split('\0').next().filter(|first| !first.is_empty());
        // process_exporter knows threads of the kernel by their bare names.
        let bare = process.stat.comm.to_string();
        let comm = if process.stat.is_kernel { bare.as_str() } else { comm };
        let name = named::name(
            &self.settings.group,
            &Candidate {
                comm,
                command_line: &arguments.replace('\0', " "),
                executable: executable.unwrap_or(comm),
                user,
            },
        )?;
        self.named.place(name.into(), now, Named::new)
    }

    /// Gives those that match no group that of their nearest parent that has one.
    fn inherit(&mut self, scan: &Scan) {
        let mut orphans = std::mem::take(&mut self.orphans);
        for slot in orphans.drain(..) {
            let Some(process) = scan.at(slot) else { continue };
            let mut parent = process.stat.parent;
            let mut found = None;
            for _ in 0..ANCESTORS_MAX {
                let Some((at, ancestor)) = scan.by_pid(parent) else { break };
                let known = self.members.get(at).filter(|m| m.serial == ancestor.serial);
                found = known.and_then(|member| member.named);
                if found.is_some() {
                    break;
                }
                parent = ancestor.stat.parent;
            }
            if let Some(member) = self.members.get_mut(slot) {
                member.named = found;
            }
        }
        self.orphans = orphans;
    }

    /// Adds what a process used since the reading before to its groups.
    fn add(&mut self, root: BorrowedFd<'_>, slot: usize, process: &Process) {
        let Some(member) = self.members.get_mut(slot) else { return };
        if member.serial != process.serial {
            return;
        }
        let is_first = self.readings == 1;
        let stat = &process.stat;
        let counts_whole = process.is_newborn && !is_first;
        let mut current = member.last;
        current.take_stat(stat);
        let faults = stat.minor_faults.saturating_add(stat.major_faults);
        let worked = current.ticks().saturating_add(faults);
        let wants_io = match member.io {
            Access::Untried => true,
            Access::Granted => worked != member.worked || member.named.is_some(),
            Access::Denied => false,
        };
        if self.settings.io && wants_io {
            member.worked = worked;
            match self.details.io(root, process.pid) {
                Ok(io) => {
                    if member.io == Access::Untried && !counts_whole {
                        member.last.take_io(io);
                    }
                    current.take_io(io);
                    member.io = Access::Granted;
                }
                Err(Errno::ACCESS | Errno::PERM) => {
                    member.io = Access::Denied;
                }
                Err(_) => {}
            }
        }
        if let Some(group) = member.named.and_then(|place| self.named.get_mut(place)) {
            if let Ok(status) = self.details.status(root, process.pid) {
                if member.status == Access::Untried && !counts_whole {
                    member.last.take_status(&status);
                }
                member.status = Access::Granted;
                current.take_status(&status);
                let swapped = group.extra.swapped_bytes.unwrap_or(0);
                group.extra.swapped_bytes = Some(swapped.saturating_add(status.swapped_bytes));
            }
            if let Ok(open) = self.details.open_files(root, process.pid) {
                if member.files_max.is_none() {
                    let files_max = self.details.files_max(root, process.pid);
                    member.files_max = files_max.ok().map(|most| most.unwrap_or(u64::MAX));
                }
                group.extra.add_files(open, member.files_max);
            }
            group.extra.add_stat(stat);
        }
        let used = current.since(&member.last);
        member.last = member.last.highest(&current);
        let has_io = member.io == Access::Granted;
        let Member { program, user, unit, named, .. } = *member;
        if let Some(group) = program.and_then(|place| self.programs.get_mut(place)) {
            group.take(&used, stat, has_io);
            // The first reading ranks by all that was ever used.
            let ranked = if is_first { &current } else { &used };
            let [cpu, _, io] = &mut group.extra.used;
            *cpu += ranked.ticks() as f64;
            *io += ranked.io_bytes() as f64;
        }
        if let Some(group) = user.and_then(|place| self.users.get_mut(place)) {
            group.take(&used, stat, has_io);
        }
        if let Some(group) = unit.and_then(|place| self.units.get_mut(place)) {
            group.take(&used, stat, has_io);
        }
        if let Some(group) = named.and_then(|place| self.named.get_mut(place)) {
            group.take(&used, stat, has_io);
        }
    }
}

impl Program {
    fn new((comm, user, unit): &ProgramKey) -> Self {
        let unit = unit.as_deref().unwrap_or_default();
        let pairs = [("comm", &**comm), ("unit", unit), ("user", &**user)];
        Self {
            labels: Labels::from_pairs_last_wins(pairs),
            standing: Standing::default(),
            used: [0.0; LISTS],
        }
    }
}

impl Named {
    fn new(name: &Arc<str>) -> Self {
        Self {
            labels: label("groupname", name),
            files: None,
            swapped_bytes: None,
            oldest_ticks: None,
            states: [0; 5],
        }
    }

    fn begin(&mut self) {
        self.files = None;
        self.swapped_bytes = None;
        self.oldest_ticks = None;
        self.states = [0; 5];
    }

    fn add_files(&mut self, open: u64, most: Option<u64>) {
        let files = self.files.get_or_insert_default();
        files.open += open;
        if let Some(most) = most.filter(|most| *most > 0) {
            files.worst_ratio = files.worst_ratio.max(open as f64 / most as f64);
        }
    }

    fn add_stat(&mut self, stat: &super::stat::Stat) {
        let oldest = self.oldest_ticks.unwrap_or(u64::MAX);
        self.oldest_ticks = Some(oldest.min(stat.start_ticks));
        let [running, sleeping, waiting, zombie, other] = &mut self.states;
        *match stat.state {
            b'R' => running,
            b'S' => sleeping,
            b'D' => waiting,
            b'Z' => zombie,
            _ => other,
        } += 1;
    }
}

#[cfg(test)]
mod tests;
