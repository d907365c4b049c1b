//! `/proc/PID`: how many processes and threads there are, in which states, and how many may be.
//!
//! Processes are those of the table that the source `process` reads too; with that one off, the table
//! is this one's alone: some 150 bytes a process. A process that did nothing for half a minute is read
//! every third time only, so that its new state is told up to 20 seconds late. Beyond what the table
//! holds, processes are counted, and neither threads nor states are told.
//!
//! A thread's state is a file to open, so threads are looked at only every [`THREADS_EVERY`], and a
//! process of one thread is not asked twice: its own state is its thread's.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use stoa_model::{Family, Labels};

use crate::sources::processes::SharedScan;
use crate::sources::processes::scan::{LINE_BYTES_MAX, PathOf, Process, Scan, each_pid, read_stat};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Problem, Reading, Roots, Source, number};

const INTERVAL: Duration = Duration::from_secs(10);
/// On a host of many processes a round takes longer than a tick would wait.
const DEADLINE: Duration = Duration::from_secs(8);
const THREADS_EVERY: Duration = Duration::from_secs(30);
/// Threads looked at; with more of them their states are not told: each is a file to open.
const THREADS_MAX: u64 = 20_000;
/// A call lists some 150 threads into this.
const LISTING_BYTES: usize = 4096;

const THREADS: Desc = Desc::gauge("node_processes_threads", "Allocated threads in system");
const MAX_THREADS: Desc =
    Desc::gauge("node_processes_max_threads", "Limit of threads in the system");
const STATE: Desc = Desc::gauge("node_processes_state", "Number of processes in each state.");
const THREADS_STATE: Desc =
    Desc::gauge("node_processes_threads_state", "Number of threads in each state.");
const PIDS: Desc = Desc::gauge("node_processes_pids", "Number of PIDs");
const MAX_PROCESSES: Desc = Desc::gauge("node_processes_max_processes", "Number of max PIDs limit");

/// Tasks by the kernel's letter for their state.
type States = BTreeMap<u8, u64>;

/// The threads of all processes by state; none where `/proc` does not show them.
fn threads_by_state(scan: &Scan) -> States {
    let mut states = States::new();
    let Some(root) = scan.root() else { return states };
    let is_shown = |process: &Process| {
        let path = PathOf::new(process.pid, "task");
        rustix::fs::accessat(root, path.as_str(), Access::EXISTS, AtFlags::empty()).is_ok()
    };
    if !scan.processes().any(|(_, process)| is_shown(process)) {
        return states;
    }
    for (_, process) in scan.processes() {
        if process.stat.threads <= 1 {
            *states.entry(process.stat.state).or_default() += 1;
        } else {
            // One that has ended meanwhile has no threads.
            let _gone = add_threads(&mut states, root, process.pid);
        }
    }
    states
}

fn add_threads(states: &mut States, root: BorrowedFd<'_>, pid: u32) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(root, PathOf::new(pid, "task").as_str(), flags, Mode::empty())?;
    let mut listing = [MaybeUninit::uninit(); LISTING_BYTES];
    let mut line = [0; LINE_BYTES_MAX];
    each_pid(&dir, &mut listing, |thread| {
        if let Ok(Some(stat)) = read_stat(dir.as_fd(), thread, &mut line) {
            *states.entry(stat.state).or_default() += 1;
        }
    })
}

/// The source `processes`.
#[derive(Debug)]
pub(crate) struct Processes {
    scan: SharedScan,
    limits: [(KeptFile, &'static Desc); 2],
    /// The threads, and when they were looked at.
    threads: Option<(Now, States)>,
    labels: Kept<Labels>,
}

impl Configured for Processes {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, shared: &Shared) -> Self {
        let limits = [
            (KeptFile::proc("sys/kernel/threads-max"), &MAX_THREADS),
            (KeptFile::proc("sys/kernel/pid_max"), &MAX_PROCESSES),
        ];
        Self { scan: shared.processes.clone(), limits, threads: None, labels: Kept::new() }
    }
}

fn tell(name: &str, states: &States, labels: &mut Kept<Labels>, family: &mut Family) {
    for (state, count) in states {
        let state = char::from(*state);
        family.push(labels.of(&[(name, state.encode_utf8(&mut [0; 4]))]), *count as f64);
    }
}

impl Source for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let scan = match self.scan.scan(roots, now) {
            Ok(scan) => scan,
            Err(problem) => return reading.fail(problem),
        };
        for (file, desc) in &mut self.limits {
            match file.read(roots).map(|text| number(text.trim())) {
                Ok(Some(limit)) => reading.single(desc, limit),
                Ok(None) => reading.note(Problem::parse(file.path(roots), "no number")),
                Err(problem) => return reading.fail(problem),
            }
        }
        let (mut threads, mut states) = (0, States::new());
        for (_, process) in scan.processes() {
            threads += u64::from(process.stat.threads);
            *states.entry(process.stat.state).or_default() += 1;
        }
        let crowded = scan.left_out().crowded;
        reading.single(&PIDS, states.values().sum::<u64>().saturating_add(crowded) as f64);
        // Those of a part of the processes would pass for those of all.
        if crowded > 0 {
            return;
        }
        // Half an interval early counts as in time.
        let age_max = THREADS_EVERY.saturating_sub(INTERVAL / 2);
        if self.threads.as_ref().is_none_or(|(at, _)| now.is_past(*at, age_max)) {
            let is_told = threads <= THREADS_MAX;
            let states = if is_told { threads_by_state(&scan) } else { States::new() };
            self.threads = Some((now, states));
        }
        reading.single(&THREADS, threads as f64);
        tell("state", &states, &mut self.labels, reading.open(&STATE));
        if let Some((_, states)) = &self.threads {
            tell("thread_state", states, &mut self.labels, reading.open(&THREADS_STATE));
        }
        self.labels.end_round();
    }
}
