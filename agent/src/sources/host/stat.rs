//! `/proc/stat`: CPU times, interrupts, context switches, forks, boot time, running processes.
//!
//! Writing this file costs the kernel more than any other (it sums all interrupts of all CPUs), so
//! the sources that need it share one reading per tick.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use stoa_model::Labels;

use crate::sources::registry::{Configured, Shared};
use crate::sources::{
    CPUS_MAX, Desc, KeptFile, Now, Problem, Reading, Roots, Source, label, number,
};

/// What `/proc/stat` says; a line that is not there or not understood is `None`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stats {
    pub(super) cpus: Vec<CpuTicks>,
    interrupts: Option<f64>,
    context_switches: Option<f64>,
    boot_time_seconds: Option<f64>,
    forks: Option<f64>,
    running: Option<f64>,
    blocked: Option<f64>,
    /// By the order of [`SOFTIRQ_VECTORS`].
    softirqs: Vec<f64>,
}

/// The times of one CPU in ticks: user, nice, system, idle, iowait, irq, softirq, steal, guest,
/// `guest_nice`; 0 for what an older kernel does not count.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct CpuTicks {
    pub(super) cpu: u32,
    pub(super) ticks: [f64; 10],
}

const SOFTIRQ_VECTORS: [&str; 10] = [
    "hi",
    "timer",
    "net_tx",
    "net_rx",
    "block",
    "block_iopoll",
    "tasklet",
    "sched",
    "hrtimer",
    "rcu",
];

/// Reads what the file says into `stats`, keeping its room.
pub(super) fn parse(text: &str, stats: &mut Stats) {
    let Stats { mut cpus, mut softirqs, .. } = std::mem::take(stats);
    cpus.clear();
    softirqs.clear();
    *stats = Stats { cpus, softirqs, ..Stats::default() };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(key) = words.next() else { continue };
        let field = match key {
            "intr" => &mut stats.interrupts,
            "ctxt" => &mut stats.context_switches,
            "btime" => &mut stats.boot_time_seconds,
            "processes" => &mut stats.forks,
            "procs_running" => &mut stats.running,
            "procs_blocked" => &mut stats.blocked,
            "softirq" => {
                let counts = words.skip(1).map_while(number);
                stats.softirqs.extend(counts.take(SOFTIRQ_VECTORS.len()));
                continue;
            }
            _ => {
                if let Some(Ok(cpu)) = key.strip_prefix("cpu").map(str::parse)
                    && stats.cpus.len() < CPUS_MAX
                {
                    let mut times = CpuTicks { cpu, ticks: [0.0; 10] };
                    for (ticks, word) in times.ticks.iter_mut().zip(words) {
                        *ticks = number(word).unwrap_or(0.0);
                    }
                    stats.cpus.push(times);
                }
                continue;
            }
        };
        *field = words.next().and_then(number);
    }
}

/// `/proc/stat`, read at most once per tick.
#[derive(Debug)]
pub(crate) struct StatFile {
    file: KeptFile,
    read_at: Option<Now>,
    stats: Arc<Stats>,
}

/// A [`StatFile`] as several sources hold it; locked while one of them reads.
pub(crate) type SharedStatFile = Arc<Mutex<StatFile>>;

impl StatFile {
    pub(crate) fn shared() -> SharedStatFile {
        let file = KeptFile::proc("stat");
        Arc::new(Mutex::new(Self { file, read_at: None, stats: Arc::default() }))
    }
}

pub(super) fn read_shared(
    file: &SharedStatFile,
    roots: &Roots,
    now: Now,
) -> Result<Arc<Stats>, Problem> {
    let mut this = file.lock().unwrap_or_else(PoisonError::into_inner);
    if this.read_at != Some(now) {
        this.read_at = None;
        let StatFile { file, stats, .. } = &mut *this;
        let text = file.read(roots)?;
        match Arc::get_mut(stats) {
            Some(stats) => parse(text, stats),
            // A source that was left behind still holds them.
            None => {
                let mut new = Stats::default();
                parse(text, &mut new);
                *stats = Arc::new(new);
            }
        }
        this.read_at = Some(now);
    }
    Ok(Arc::clone(&this.stats))
}

/// `[sources.stat]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whether to tell soft interrupts by vector.
    softirq: bool,
}

/// The source `stat`.
#[derive(Debug)]
pub(crate) struct Stat {
    file: SharedStatFile,
    /// Empty when soft interrupts are not asked for.
    vectors: Vec<Labels>,
}

const INTERRUPTS: Desc = Desc::counter("node_intr_total", "Total number of interrupts serviced.");
const CONTEXT_SWITCHES: Desc =
    Desc::counter("node_context_switches_total", "Total number of context switches.");
const BOOT_TIME: Desc = Desc::gauge("node_boot_time_seconds", "Node boot time, in unixtime.");
const FORKS: Desc = Desc::counter("node_forks_total", "Total number of forks.");
const RUNNING: Desc = Desc::gauge("node_procs_running", "Number of processes in runnable state.");
const BLOCKED: Desc =
    Desc::gauge("node_procs_blocked", "Number of processes blocked waiting for I/O to complete.");
const SOFTIRQS: Desc = Desc::counter("node_softirqs_total", "Number of softirq calls.");

impl Configured for Stat {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        let wanted = if settings.softirq { SOFTIRQ_VECTORS.as_slice() } else { &[] };
        let file = Arc::clone(&shared.stat_file);
        Self { file, vectors: wanted.iter().map(|vector| label("vector", vector)).collect() }
    }
}

impl Source for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let stats = match read_shared(&self.file, roots, now) {
            Ok(stats) => stats,
            Err(problem) => return reading.fail(problem),
        };
        for (desc, value) in [
            (&INTERRUPTS, stats.interrupts),
            (&CONTEXT_SWITCHES, stats.context_switches),
            (&FORKS, stats.forks),
            (&BOOT_TIME, stats.boot_time_seconds),
            (&RUNNING, stats.running),
            (&BLOCKED, stats.blocked),
        ] {
            if let Some(value) = value {
                reading.single(desc, value);
            }
        }
        let softirqs = reading.open(&SOFTIRQS);
        for (labels, value) in self.vectors.iter().zip(&stats.softirqs) {
            softirqs.push(labels.clone(), *value);
        }
    }
}
