//! `/proc/PID`: how many processes and threads there are, in which states, and how many may be.
//!
//! Reading a thread's state opens a file, so threads are looked at only every [`THREADS_EVERY`], and a
//! process of one thread is not asked twice: its own state is its thread's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Problem, Reading, Roots, Source, label, number};

const INTERVAL: Duration = Duration::from_secs(10);
/// On a host of many processes a round takes longer than a tick would wait.
const DEADLINE: Duration = Duration::from_secs(8);
const THREADS_EVERY: Duration = Duration::from_secs(30);
/// The kernel's own limit of processes and threads (`PID_MAX_LIMIT`).
const TASKS_MAX: usize = 1 << 22;
/// Threads looked at; with more of them their states are not told: each is a file to open.
const THREADS_MAX: u64 = 20_000;
/// A `stat` is some 300 bytes; the state is within the first hundred.
const STAT_BYTES: usize = 1024;

const THREADS: Desc = Desc::gauge("node_processes_threads", "Allocated threads in system");
const MAX_THREADS: Desc =
    Desc::gauge("node_processes_max_threads", "Limit of threads in the system");
const STATE: Desc = Desc::gauge("node_processes_state", "Number of processes in each state.");
const THREADS_STATE: Desc =
    Desc::gauge("node_processes_threads_state", "Number of threads in each state.");
const PIDS: Desc = Desc::gauge("node_processes_pids", "Number of PIDs");
const MAX_PROCESSES: Desc = Desc::gauge("node_processes_max_processes", "Number of max PIDs limit");

/// A task's state, and the number of threads of its process.
pub(super) fn parse(stat: &str) -> Option<(char, u64)> {
    // The command's name may hold anything but ends at the last parenthesis; field 3 follows.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next().filter(char::is_ascii_alphabetic)?;
    Some((state, fields.nth(16)?.parse().ok()?))
}

/// Tasks by state.
type States = BTreeMap<char, u64>;

/// What one round over all processes counted.
#[derive(Debug, Default)]
struct Counts {
    processes: u64,
    threads: u64,
    by_state: States,
}

impl Counts {
    /// Hands each process's directory, state and number of threads to `take`.
    fn of(procfs: &Path, mut take: impl FnMut(&Path, char, u64)) -> std::io::Result<Self> {
        let mut counts = Self::default();
        for entry in std::fs::read_dir(procfs)?.flatten().take(TASKS_MAX) {
            let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if !is_process {
                continue;
            }
            let dir = entry.path();
            // A process that has ended meanwhile is not there.
            if let Some((state, threads)) = task(&dir.join("stat")) {
                counts.processes += 1;
                counts.threads += threads;
                *counts.by_state.entry(state).or_default() += 1;
                take(&dir, state, threads);
            }
        }
        Ok(counts)
    }
}

/// Adds the threads of a process.
fn add_threads(states: &mut States, process: &Path, state: char, threads: u64) {
    let dir = process.join("task");
    if threads <= 1 {
        if dir.exists() {
            *states.entry(state).or_default() += 1;
        }
        return;
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().take(TASKS_MAX) {
        if let Some((state, _)) = task(&entry.path().join("stat")) {
            *states.entry(state).or_default() += 1;
        }
    }
}

fn task(path: &Path) -> Option<(char, u64)> {
    let mut buffer = [0; STAT_BYTES];
    let length = File::open(path).ok()?.read(&mut buffer).ok()?;
    parse(&String::from_utf8_lossy(buffer.get(..length)?))
}

/// The source `processes`.
#[derive(Debug)]
pub(crate) struct Processes {
    limits: [(KeptFile, &'static Desc); 2],
    /// The threads, and when they were looked at.
    threads: Option<(Now, States)>,
    labels: Kept<Labels>,
}

impl Configured for Processes {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        let limits = [
            (KeptFile::proc("sys/kernel/threads-max"), &MAX_THREADS),
            (KeptFile::proc("sys/kernel/pid_max"), &MAX_PROCESSES),
        ];
        Self { limits, threads: None, labels: Kept::new() }
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
        // Half an interval early counts as in time.
        let age_max = THREADS_EVERY.saturating_sub(INTERVAL / 2);
        let is_due = self.threads.as_ref().is_none_or(|(at, _)| now.is_past(*at, age_max));
        let mut threads_by_state = States::new();
        let mut threads_left = Some(THREADS_MAX);
        let counts = Counts::of(&roots.procfs, |process, state, threads| {
            threads_left = threads_left.and_then(|left| left.checked_sub(threads));
            if is_due && threads_left.is_some() {
                add_threads(&mut threads_by_state, process, state, threads);
            }
        });
        // Those of a part of the processes would pass for those of all.
        if threads_left.is_none() {
            threads_by_state.clear();
        }
        let counts = match counts {
            Ok(counts) => counts,
            Err(error) => return reading.fail(Problem::read(&roots.procfs, error)),
        };
        if is_due {
            self.threads = Some((now, threads_by_state));
        }
        for (file, desc) in &mut self.limits {
            match file.read(roots).map(|text| number(text.trim())) {
                Ok(Some(limit)) => reading.single(desc, limit),
                Ok(None) => reading.note(Problem::parse(file.path(roots), "no number")),
                Err(problem) => return reading.fail(problem),
            }
        }
        reading.single(&PIDS, counts.processes as f64);
        reading.single(&THREADS, counts.threads as f64);
        let (mut states, mut threads) = (STATE.family(), THREADS_STATE.family());
        let threads_by_state = self.threads.as_ref().map(|(_, states)| states);
        for (name, counts, family) in [
            ("state", Some(&counts.by_state), &mut states),
            ("thread_state", threads_by_state, &mut threads),
        ] {
            for (state, count) in counts.into_iter().flatten() {
                let state = state.to_string();
                let labels = self.labels.get(&format!("{name} {state}"), |_| label(name, &state));
                family.push(labels, *count as f64);
            }
        }
        self.labels.end_round();
        reading.family(states);
        reading.family(threads);
    }
}
