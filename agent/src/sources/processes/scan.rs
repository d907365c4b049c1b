//! The table of processes: `/proc` listed and `/proc/PID/stat` read, once for all sources that ask.
//!
//! A listing costs about 0.6 µs a process, a `stat` about 9, so those that did nothing are not read at
//! each scan: a process whose line stayed the same for [`IDLE_AFTER`] scans is read at every
//! [`IDLE_EVERY`]th scan only, until it changes. That one is gone is seen at once (it is not listed);
//! that an idle one has begun to work, or has become a zombie, up to two scans late. Nothing is
//! allocated in a scan that meets no new process.
//!
//! Who asks is handed the table as it is and looks at it for as long as they like: a process whose
//! command line or `io` does not come back (its memory waits for a dead mount) holds up who asked for
//! it and no other. A scan that finds the last table still in use leaves it to its users and goes on
//! with a copy.
//!
//! Holds at most [`PROCESSES_MAX`] processes; what there is beyond is counted, not held.

use std::collections::HashMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::stat::{self, Stat};
use crate::sources::{Now, Problem, Roots};

/// The most processes held; 32,768 is the kernel's own limit unless it was raised.
pub(crate) const PROCESSES_MAX: usize = 32_768;
/// Scans a process's line must stay the same until it is read less often.
const IDLE_AFTER: u8 = 3;
/// Of how many scans one reads an idle process.
const IDLE_EVERY: u64 = 3;
/// A line is about 200 bytes, at most some 500.
pub(crate) const LINE_BYTES_MAX: usize = 1024;
/// A call lists some 1,300 processes into this.
const LISTING_BYTES: usize = 32 << 10;

/// A process in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    /// Never the same for two processes, whatever their pids.
    pub(crate) serial: u64,
    pub(crate) pid: u32,
    /// Whether it began after the table was begun, so that all it did was done since.
    pub(crate) is_newborn: bool,
    pub(crate) stat: Stat,
    /// The scan that last saw it listed.
    listed: u64,
    /// Scans its line stayed the same.
    idle: u8,
}

/// What a scan did not take in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Processes listed that may not be looked at (`hidepid`).
    pub(crate) hidden: u64,
    /// Processes there was no room for.
    pub(crate) crowded: u64,
}

/// The table. The slots are stable: a process stays in its slot while it lives.
#[derive(Clone)]
pub(crate) struct Scan {
    /// `/proc`, open; `None` until the first scan and after a failed one.
    root: Option<Arc<OwnedFd>>,
    scanned_at: Option<Now>,
    round: u64,
    serial: u64,
    /// The newest start of all processes met before this scan.
    newest_ticks: Option<u64>,
    slots: Vec<Option<Process>>,
    free: Vec<u32>,
    by_pid: HashMap<u32, u32>,
    left_out: LeftOut,
    /// [`PROCESSES_MAX`], fewer in tests.
    processes_max: usize,
    listing: Box<[MaybeUninit<u8>]>,
    line: Box<[u8]>,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("processes", &self.by_pid.len()).finish_non_exhaustive()
    }
}

/// A [`Scan`] as several sources hold it; locked while it is made, not while it is used.
#[derive(Clone, Debug)]
pub(crate) struct SharedScan(Arc<Mutex<Arc<Scan>>>);

impl Default for SharedScan {
    fn default() -> Self {
        Self::of_at_most(PROCESSES_MAX)
    }
}

impl SharedScan {
    /// A table of fewer processes.
    pub(crate) fn of_at_most(processes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(Scan::new(processes_max)))))
    }

    /// The table as of `now`.
    pub(crate) fn scan(&self, roots: &Roots, now: Now) -> Result<Arc<Scan>, Problem> {
        let mut scan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if scan.scanned_at != Some(now) {
            Arc::make_mut(&mut scan).refresh(roots, now)?;
        }
        Ok(Arc::clone(&scan))
    }
}

impl Scan {
    fn new(processes_max: usize) -> Self {
        Self {
            root: None,
            scanned_at: None,
            round: 0,
            serial: 0,
            newest_ticks: None,
            slots: Vec::new(),
            free: Vec::new(),
            by_pid: HashMap::new(),
            left_out: LeftOut::default(),
            processes_max,
            listing: Box::new([]),
            line: Box::new([]),
        }
    }

    /// The processes with their slots, in no order.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.slots.iter().enumerate().filter_map(|(slot, process)| Some((slot, process.as_ref()?)))
    }

    /// The process in a slot.
    pub(crate) fn at(&self, slot: usize) -> Option<&Process> {
        self.slots.get(slot)?.as_ref()
    }

    /// How many slots there are, empty ones among them.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The process with this pid.
    pub(crate) fn by_pid(&self, pid: u32) -> Option<(usize, &Process)> {
        let slot = usize::try_from(*self.by_pid.get(&pid)?).ok()?;
        Some((slot, self.slots.get(slot)?.as_ref()?))
    }

    /// `/proc`, to look at a process more closely.
    pub(crate) fn root(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(|root| root.as_fd())
    }

    /// What this scan did not take in.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn refresh(&mut self, roots: &Roots, now: Now) -> Result<(), Problem> {
        self.scanned_at = None;
        let root = match self.root.take() {
            Some(root) => root,
            None => Arc::new(open_root(roots)?),
        };
        let problem = |errno: Errno| Problem::read(&roots.procfs, errno.into());
        self.list(root.as_fd()).map_err(problem)?;
        self.root = Some(root);
        self.forget_gone();
        let newest = self.slots.iter().flatten().map(|process| process.stat.start_ticks).max();
        self.newest_ticks = self.newest_ticks.max(newest);
        self.scanned_at = Some(now);
        Ok(())
    }

    fn list(&mut self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut listing = std::mem::take(&mut self.listing);
        let mut line = std::mem::take(&mut self.line);
        if listing.is_empty() {
            listing = Box::new_uninit_slice(LISTING_BYTES);
            line = vec![0; LINE_BYTES_MAX].into();
        }
        self.round += 1;
        let listed = self.list_into(root, &mut listing, &mut line);
        self.listing = listing;
        self.line = line;
        listed
    }

    fn list_into(
        &mut self,
        root: BorrowedFd<'_>,
        listing: &mut [MaybeUninit<u8>],
        line: &mut [u8],
    ) -> Result<(), Errno> {
        self.left_out = LeftOut::default();
        rustix::fs::seek(root, SeekFrom::Start(0))?;
        each_pid(root, listing, |pid| self.meet(root, pid, line))
    }

    /// A process is listed.
    fn meet(&mut self, root: BorrowedFd<'_>, pid: u32, line: &mut [u8]) {
        let round = self.round;
        let slot = self.by_pid.get(&pid).and_then(|slot| usize::try_from(*slot).ok());
        let known = slot.and_then(|slot| self.slots.get_mut(slot)).and_then(Option::as_mut);
        if let Some(process) = known {
            let rests = process.idle >= IDLE_AFTER
                && !(round.wrapping_add(u64::from(pid))).is_multiple_of(IDLE_EVERY);
            if rests {
                process.listed = round;
                return;
            }
            // One that cannot be read any more is forgotten with those not listed.
            let Ok(Some(stat)) = read_stat(root, pid, line) else { return };
            process.listed = round;
            if stat.start_ticks == process.stat.start_ticks {
                let is_same = stat == process.stat;
                process.idle = if is_same { process.idle.saturating_add(1) } else { 0 };
                process.stat = stat;
            } else {
                self.serial += 1;
                *process = Process {
                    serial: self.serial,
                    pid,
                    is_newborn: true,
                    stat,
                    listed: round,
                    idle: 0,
                };
            }
            return;
        }
        if self.by_pid.len() >= self.processes_max {
            self.left_out.crowded += 1;
            return;
        }
        match read_stat(root, pid, line) {
            Ok(Some(stat)) => self.add(pid, stat),
            Err(Errno::ACCESS | Errno::PERM) => self.left_out.hidden += 1,
            // It has ended meanwhile, or is no process.
            Ok(None) | Err(_) => {}
        }
    }

    fn add(&mut self, pid: u32, stat: Stat) {
        self.serial += 1;
        let process = Some(Process {
            serial: self.serial,
            pid,
            is_newborn: self.round > 1
                && self.newest_ticks.is_none_or(|newest| stat.start_ticks >= newest),
            stat,
            listed: self.round,
            idle: 0,
        });
        if let Some(slot) = self.free.pop() {
            if let Some(place) = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at)) {
                *place = process;
                self.by_pid.insert(pid, slot);
            }
        } else if let Ok(slot) = u32::try_from(self.slots.len()) {
            self.slots.push(process);
            self.by_pid.insert(pid, slot);
        }
    }

    fn forget_gone(&mut self) {
        for (slot, place) in self.slots.iter_mut().enumerate() {
            let Some(process) = place else { continue };
            if process.listed != self.round {
                self.by_pid.remove(&process.pid);
                self.free.extend(u32::try_from(slot).ok());
                *place = None;
            }
        }
    }
}

fn open_root(roots: &Roots) -> Result<OwnedFd, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&roots.procfs, flags, Mode::empty())
        .map_err(|errno| Problem::read(&roots.procfs, errno.into()))
}

/// Hands the pids (or threads' ids) that a directory names to `take`, from where it stands.
pub(crate) fn each_pid(
    dir: impl AsFd,
    listing: &mut [MaybeUninit<u8>],
    mut take: impl FnMut(u32),
) -> Result<(), Errno> {
    let mut entries = RawDir::new(dir, listing);
    while let Some(entry) = entries.next() {
        if let Some(pid) = parse_pid(entry?.file_name().to_bytes()) {
            take(pid);
        }
    }
    Ok(())
}

/// A directory's name that is a pid.
fn parse_pid(name: &[u8]) -> Option<u32> {
    if !name.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// The `stat` of a process in `/proc`, of a thread in `/proc/PID/task`. `Ok(None)`: what is there is no
/// line of numbers.
pub(crate) fn read_stat(
    root: BorrowedFd<'_>,
    pid: u32,
    line: &mut [u8],
) -> Result<Option<Stat>, Errno> {
    let length = read_of(root, pid, "stat", line)?;
    Ok(line.get(..length).and_then(stat::parse))
}

/// Reads `/proc/PID/NAME` from its beginning, as much as `buffer` holds; returns how much that is.
pub(super) fn read_of(
    root: BorrowedFd<'_>,
    pid: u32,
    name: &str,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    let path = PathOf::new(pid, name);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::openat(root, path.as_str(), flags, Mode::empty())?;
    let mut length = 0;
    loop {
        let space = buffer.get_mut(length..).unwrap_or_default();
        let room = space.len();
        match rustix::io::read(&file, space) {
            Ok(read) => {
                length += read;
                // The kernel writes such a file at once: where a line ends before the room does, it
                // need not be asked whether there is more.
                let ends_line = buffer.get(..length).is_some_and(|text| text.ends_with(b"\n"));
                if read == 0 || read == room || ends_line {
                    return Ok(length);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// `PID` or `PID/NAME`, written where nothing is allocated.
#[derive(Debug)]
pub(crate) struct PathOf {
    bytes: [u8; 32],
    length: usize,
}

impl PathOf {
    /// `name` is at most 20 bytes; an empty one names the directory.
    pub(crate) fn new(pid: u32, name: &str) -> Self {
        let mut path = Self { bytes: [0; 32], length: 0 };
        let separator = if name.is_empty() { "" } else { "/" };
        let written = fmt::Write::write_fmt(&mut path, format_args!("{pid}{separator}{name}"));
        if written.is_err() {
            // A longer name names nothing.
            path.length = 0;
        }
        path
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes
            .get(..self.length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl fmt::Write for PathOf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
