//! What the CPUs do: times per mode, and what [`info`] and [`topology`] say about them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::Labels;

use super::stat::{CpuTicks, SharedStatFile, read_shared};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::Pattern;
use crate::sources::{Desc, Kept, Now, Reading, Roots, Source};

mod info;
mod topology;

/// Ticks per second in `/proc/stat`; `USER_HZ` is 100 wherever Linux runs today.
const TICKS_PER_SECOND: f64 = 100.0;
/// Idle time that went back this far means that the CPU was taken out and put in again.
const IDLE_RESET_TICKS: f64 = 3.0 * TICKS_PER_SECOND;
/// How often the parts beside the times are read anew; between, the last reading stands.
const SLOW_PARTS: Duration = Duration::from_secs(5);

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];

const SECONDS: Desc =
    Desc::counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
const GUEST_SECONDS: Desc = Desc::counter(
    "node_cpu_guest_seconds_total",
    "Seconds the CPUs spent in guests (VMs) for each mode.",
);

/// `[sources.cpu]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whether to tell the time CPUs spent in guests.
    guest: bool,
    /// Whether to read `/proc/cpuinfo`.
    info: bool,
    /// Which CPU flags to tell; implies `info`.
    info_flags_include: Pattern,
    /// Which CPU bugs to tell; implies `info`.
    info_bugs_include: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            guest: true,
            info: false,
            info_flags_include: Pattern::default(),
            info_bugs_include: Pattern::default(),
        }
    }
}

impl Settings {
    /// Whether `/proc/cpuinfo` is read, and so tells the CPUs' frequencies.
    pub(crate) fn reads_info(&self) -> bool {
        self.info || self.info_flags_include.is_set() || self.info_bugs_include.is_set()
    }
}

/// The source `cpu`.
#[derive(Debug)]
pub(crate) struct Cpu {
    guest: bool,
    file: SharedStatFile,
    /// The last ticks told of each CPU: idle and iowait may go back, what is told must not.
    last: Vec<CpuTicks>,
    /// Room for those just read.
    read: Vec<CpuTicks>,
    labels: Kept<Arc<CpuLabels>>,
    info: Option<info::CpuInfo>,
    topology: topology::Topology,
    /// When and what the slow parts were last read.
    slow: Option<(Now, Reading)>,
}

#[derive(Debug)]
struct CpuLabels {
    modes: [Labels; 8],
    guest: [Labels; 2],
}

impl CpuLabels {
    fn new(cpu: &str) -> Arc<Self> {
        let of = |mode| Labels::from_pairs_last_wins([("cpu", cpu), ("mode", mode)]);
        Arc::new(Self { modes: MODES.map(of), guest: GUEST_MODES.map(of) })
    }
}

impl Configured for Cpu {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        Self {
            guest: settings.guest,
            file: Arc::clone(&shared.stat_file),
            last: Vec::new(),
            read: Vec::new(),
            labels: Kept::new(),
            info: info::CpuInfo::new(settings),
            topology: topology::Topology::new(),
            slow: None,
        }
    }
}

impl Cpu {
    fn read_times(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let stats = match read_shared(&self.file, roots, now) {
            Ok(stats) => stats,
            Err(problem) => return reading.fail(problem),
        };
        self.read.clone_from(&stats.cpus);
        never_back(&self.last, &mut self.read);
        std::mem::swap(&mut self.last, &mut self.read);
        let [seconds, guest] = reading.group([&SECONDS, &GUEST_SECONDS]) else { return };
        let mut number = itoa::Buffer::new();
        for cpu in &self.last {
            let labels = self.labels.get(number.format(cpu.cpu), CpuLabels::new);
            for (labels, ticks) in labels.modes.iter().zip(cpu.ticks) {
                seconds.push(labels.clone(), ticks / TICKS_PER_SECOND);
            }
            let of_guests = labels.guest.iter().zip(cpu.ticks.iter().skip(MODES.len()));
            for (labels, ticks) in of_guests.filter(|_| self.guest) {
                guest.push(labels.clone(), ticks / TICKS_PER_SECOND);
            }
        }
        self.labels.end_round();
    }

    fn read_slow_parts(&mut self, roots: &Roots, now: Now) -> Reading {
        let mut reading = self.slow.take().map(|(_, reading)| reading).unwrap_or_default();
        reading.begin();
        self.topology.read(roots, now, &mut reading);
        if let Some(info) = &mut self.info {
            info.read(roots, &mut reading);
        }
        reading.end();
        reading
    }
}

impl Source for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        self.read_times(roots, now, reading);
        if self.slow.as_ref().is_none_or(|(at, _)| now.is_past(*at, SLOW_PARTS)) {
            let mut slow = self.read_slow_parts(roots, now);
            reading.problems.append(&mut slow.problems);
            self.slow = Some((now, slow));
        }
        if let Some((_, slow)) = &self.slow {
            reading.again(slow);
        }
    }
}

/// The ticks to tell now: each at least what was told before, unless the CPU began anew.
fn never_back(told: &[CpuTicks], read: &mut [CpuTicks]) {
    for (place, cpu) in read.iter_mut().enumerate() {
        let is_it = |before: &&CpuTicks| before.cpu == cpu.cpu;
        // Where it stood before, unless CPUs came or went.
        let before = told.get(place).filter(is_it).or_else(|| told.iter().find(is_it));
        let Some(before) = before else { continue };
        let [_, _, _, idle_before, ..] = before.ticks;
        let [_, _, _, idle_now, ..] = cpu.ticks;
        if idle_before - idle_now >= IDLE_RESET_TICKS {
            continue;
        }
        for (now, before) in cpu.ticks.iter_mut().zip(before.ticks) {
            *now = now.max(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_goes_back_is_held_until_the_cpu_begins_anew() {
        let cpu = |idle, iowait| {
            let mut ticks = [0.0; 10];
            ticks[3] = idle;
            ticks[4] = iowait;
            CpuTicks { cpu: 1, ticks }
        };
        let after = |mut read: [CpuTicks; 1]| {
            never_back(&[cpu(1000.0, 50.0)], &mut read);
            read
        };
        assert_eq!(after([cpu(1001.0, 49.0)]), [cpu(1001.0, 50.0)]);
        assert_eq!(after([cpu(999.0, 51.0)]), [cpu(1000.0, 51.0)]);
        assert_eq!(after([cpu(700.0, 1.0)]), [cpu(700.0, 1.0)]);
        // Wherever it stood before.
        let of = |cpu, user| {
            let mut ticks = [0.0; 10];
            ticks[0] = user;
            CpuTicks { cpu, ticks }
        };
        let mut read = [of(2, 5.0), of(1, 5.0), of(3, 1.0)];
        never_back(&[of(1, 6.0), of(2, 7.0)], &mut read);
        assert_eq!(read, [of(2, 7.0), of(1, 6.0), of(3, 1.0)]);
    }
}
