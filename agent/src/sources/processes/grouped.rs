//! `namedprocess_namegroup_*`: the groups a person names, as `process_exporter` tells them.
//!
//! A group stays, with no process, after its last has ended, so that a rule can ask for that; one
//! whose name holds no variable is there from the start.

use std::sync::Arc;

use stoa_model::Labels;

use super::Machine;
use super::ledger::Ledger;
use crate::sources::{Desc, Kept, KeptFile, Reading, Roots};

const COUNT: Desc =
    Desc::gauge("namedprocess_namegroup_num_procs", "number of processes in this group");
const CPU: Desc = Desc::counter("namedprocess_namegroup_cpu_seconds_total", "Cpu usage in seconds");
const MEMORY: Desc =
    Desc::gauge("namedprocess_namegroup_memory_bytes", "number of bytes of memory in use");
const READ: Desc =
    Desc::counter("namedprocess_namegroup_read_bytes_total", "number of bytes read by this group");
const WRITTEN: Desc = Desc::counter(
    "namedprocess_namegroup_write_bytes_total",
    "number of bytes written by this group",
);
const THREADS: Desc = Desc::gauge("namedprocess_namegroup_num_threads", "Number of threads");
const FILES: Desc = Desc::gauge(
    "namedprocess_namegroup_open_filedesc",
    "number of open file descriptors for this group",
);
const FILES_RATIO: Desc = Desc::gauge(
    "namedprocess_namegroup_worst_fd_ratio",
    "the worst (closest to 1) ratio between open fds and max fds among all procs in this group",
);
const OLDEST: Desc = Desc::gauge(
    "namedprocess_namegroup_oldest_start_time_seconds",
    "start time in seconds since 1970/01/01 of oldest process in group",
);
const MAJOR: Desc =
    Desc::counter("namedprocess_namegroup_major_page_faults_total", "Major page faults");
const MINOR: Desc =
    Desc::counter("namedprocess_namegroup_minor_page_faults_total", "Minor page faults");
const SWITCHES: Desc =
    Desc::counter("namedprocess_namegroup_context_switches_total", "Context switches");
const STATES: Desc = Desc::gauge(
    "namedprocess_namegroup_states",
    "Number of processes in states Running, Sleeping, Waiting, Zombie, or Other",
);
const FAMILIES: [&Desc; 13] = [
    &COUNT,
    &CPU,
    &MEMORY,
    &READ,
    &WRITTEN,
    &THREADS,
    &FILES,
    &FILES_RATIO,
    &OLDEST,
    &MAJOR,
    &MINOR,
    &SWITCHES,
    &STATES,
];

/// In the order of the ledger's counts.
const STATE_NAMES: [&str; 5] = ["Running", "Sleeping", "Waiting", "Zombie", "Other"];

/// Label sets with one label more than the group's name.
#[derive(Debug)]
struct Sets {
    user: Labels,
    system: Labels,
    resident: Labels,
    virtual_: Labels,
    swapped: Labels,
    voluntary: Labels,
    involuntary: Labels,
    states: [Labels; 5],
}

/// Tells the groups a person named.
#[derive(Debug)]
pub(super) struct Grouped {
    /// Whether there are any.
    is_asked: bool,
    sets: Kept<Arc<Sets>>,
    stat_file: KeptFile,
}

impl Grouped {
    pub(super) fn new(is_asked: bool) -> Self {
        Self { is_asked, sets: Kept::new(), stat_file: KeptFile::proc("stat") }
    }

    pub(super) fn tell(
        &mut self,
        ledger: &Ledger,
        machine: Machine,
        roots: &Roots,
        reading: &mut Reading,
    ) {
        if !self.is_asked {
            return;
        }
        let boot_seconds = self.boot_seconds(roots);
        let families = reading.group(FAMILIES);
        let [
            count,
            cpu,
            memory,
            read,
            written,
            threads,
            files,
            files_ratio,
            oldest,
            major,
            minor,
            switches,
            states,
        ] = families
        else {
            return;
        };
        for group in ledger.named.groups() {
            let named = &group.extra;
            let labels = &named.labels;
            let name = labels.get("groupname").unwrap_or_default();
            let sets = self.sets.get(name, |_| Arc::new(Sets::new(labels)));
            let (total, living) = (&group.total, &group.living);
            count.push(labels.clone(), living.processes as f64);
            cpu.push(sets.user.clone(), machine.seconds(total.user_ticks));
            cpu.push(sets.system.clone(), machine.seconds(total.system_ticks));
            memory.push(sets.resident.clone(), machine.bytes(living.resident_pages));
            memory.push(sets.virtual_.clone(), living.virtual_bytes as f64);
            if let Some(bytes) = named.swapped_bytes {
                memory.push(sets.swapped.clone(), bytes as f64);
            }
            if group.has_io {
                read.push(labels.clone(), total.read_bytes as f64);
                written.push(labels.clone(), total.written_bytes as f64);
            }
            threads.push(labels.clone(), living.threads as f64);
            if let Some(open) = named.files {
                files.push(labels.clone(), open.open as f64);
                files_ratio.push(labels.clone(), open.worst_ratio);
            }
            if let (Some(ticks), Some(boot)) = (named.oldest_ticks, boot_seconds) {
                oldest.push(labels.clone(), (boot + machine.seconds(ticks)).floor());
            }
            major.push(labels.clone(), total.major_faults as f64);
            minor.push(labels.clone(), total.minor_faults as f64);
            switches.push(sets.voluntary.clone(), total.voluntary_switches as f64);
            switches.push(sets.involuntary.clone(), total.involuntary_switches as f64);
            for (set, processes) in sets.states.iter().zip(named.states) {
                states.push(set.clone(), processes as f64);
            }
        }
        self.sets.end_round();
    }

    /// When the host was booted.
    fn boot_seconds(&mut self, roots: &Roots) -> Option<f64> {
        let text = self.stat_file.read(roots).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse::<u64>().ok().map(|seconds| seconds as f64)
    }
}

impl Sets {
    fn new(group: &Labels) -> Self {
        Self {
            user: group.with("mode", "user"),
            system: group.with("mode", "system"),
            resident: group.with("memtype", "resident"),
            virtual_: group.with("memtype", "virtual"),
            swapped: group.with("memtype", "swapped"),
            voluntary: group.with("ctxswitchtype", "voluntary"),
            involuntary: group.with("ctxswitchtype", "nonvoluntary"),
            states: STATE_NAMES.map(|state| group.with("state", state)),
        }
    }
}
