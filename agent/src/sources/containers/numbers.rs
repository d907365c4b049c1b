//! What the kernel counts of one control group, v1 or v2, in the units it is told in.
//!
//! What changes is read each time from files that stay open; what bounds the container every
//! [`BOUNDS_HOLD`]. What the kernel does not count for it is `None`. The root of v2 has no memory of its
//! own: it is the machine's, from `/proc/meminfo`, as cAdvisor reckons it.

use std::path::Path;
use std::time::Duration;

use crate::sources::cgroup::disk_io::{Devices, DiskFiles};
use crate::sources::cgroup::file::{LIMIT_MAX, field, limit, whole};
use crate::sources::cgroup::{CgroupFile, Controller, Hierarchies};
use crate::sources::file::read_bounded;
use crate::sources::{Now, Roots};

const NANOS: f64 = 1e9;
const MICROS: f64 = 1e6;
/// v1 counts user and system time in ticks.
const TICKS: f64 = 100.0;
const KIB: f64 = 1024.0;
/// How long is believed what bounds a container.
const BOUNDS_HOLD: Duration = Duration::from_secs(60);

/// Resources whose pressure is told.
pub(super) const PRESSURES: [&str; 3] = ["cpu", "memory", "io"];

/// Counts and sizes now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Numbers {
    /// Seconds.
    pub(super) cpu: Option<f64>,
    pub(super) user: Option<f64>,
    pub(super) system: Option<f64>,
    pub(super) periods: Option<f64>,
    pub(super) throttled_periods: Option<f64>,
    pub(super) throttled_seconds: Option<f64>,
    /// Bytes.
    pub(super) usage: Option<f64>,
    pub(super) working_set: Option<f64>,
    pub(super) cache: Option<f64>,
    pub(super) rss: Option<f64>,
    pub(super) swap: Option<f64>,
    pub(super) mapped_file: Option<f64>,
    pub(super) max_usage: Option<f64>,
    pub(super) limit_hits: Option<f64>,
    pub(super) oom_kills: Option<f64>,
    /// Page faults, then those that read a disk: the cgroup's own, and with all below.
    pub(super) faults: [[Option<f64>; 2]; 2],
    pub(super) disks: Devices,
    pub(super) threads: Option<f64>,
    pub(super) processes: Option<f64>,
    /// Seconds that some and that all waited, by [`PRESSURES`].
    pub(super) pressures: [[Option<f64>; 2]; PRESSURES.len()],
    pub(super) bounds: Bounds,
}

/// What bounds a container; 0 where nothing does, as cAdvisor tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bounds {
    /// Microseconds of each period; `None`: no quota.
    pub(super) quota: Option<f64>,
    pub(super) period: Option<f64>,
    pub(super) shares: Option<f64>,
    pub(super) memory: Option<f64>,
    pub(super) swap: Option<f64>,
    pub(super) reservation: Option<f64>,
    pub(super) threads: Option<f64>,
}

/// The files of one control group.
#[derive(Debug)]
pub(super) struct Files {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
    disks: Option<DiskFiles>,
    threads: Option<CgroupFile>,
    processes: Option<CgroupFile>,
    pressures: Option<[CgroupFile; PRESSURES.len()]>,
    rare: Rare,
    bounds: Option<(Now, Bounds)>,
    is_root: bool,
}

#[derive(Debug)]
enum Cpu {
    One { usage: CgroupFile, stat: CgroupFile, quota: Option<CgroupFile> },
    Two { stat: CgroupFile },
}

#[derive(Debug)]
enum Memory {
    One {
        usage: CgroupFile,
        stat: CgroupFile,
        max: CgroupFile,
        hits: CgroupFile,
        oom: CgroupFile,
    },
    Two {
        usage: CgroupFile,
        stat: CgroupFile,
        max: CgroupFile,
        swap: CgroupFile,
        events: CgroupFile,
    },
}

/// Where the bounds are.
#[derive(Debug)]
struct Rare {
    cpu: Option<Controller>,
    memory: Option<Controller>,
    pids: Option<Controller>,
}

fn own(controller: &Controller) -> Option<&Path> {
    let (Controller::One(chain) | Controller::Two(chain)) = controller;
    chain.first().map(std::path::PathBuf::as_path)
}

impl Files {
    pub(super) fn new(hierarchies: &Hierarchies, is_root: bool) -> Self {
        let of = |name| hierarchies.controller(name);
        let cpu = of("cpuacct").and_then(|controller| {
            let own = own(&controller)?;
            Some(match &controller {
                Controller::One(_) => Cpu::One {
                    usage: CgroupFile::new(own, "cpuacct.usage"),
                    stat: CgroupFile::new(own, "cpuacct.stat"),
                    quota: match of("cpu") {
                        Some(Controller::One(chain)) => {
                            chain.first().map(|own| CgroupFile::new(own, "cpu.stat"))
                        }
                        _ => None,
                    },
                },
                Controller::Two(_) => Cpu::Two { stat: CgroupFile::new(own, "cpu.stat") },
            })
        });
        let memory = of("memory").and_then(|controller| {
            let own = own(&controller)?;
            let file = |name| CgroupFile::new(own, name);
            Some(match &controller {
                Controller::One(_) => Memory::One {
                    usage: file("memory.usage_in_bytes"),
                    stat: file("memory.stat"),
                    max: file("memory.max_usage_in_bytes"),
                    hits: file("memory.failcnt"),
                    oom: file("memory.oom_control"),
                },
                Controller::Two(_) => Memory::Two {
                    usage: file("memory.current"),
                    stat: file("memory.stat"),
                    max: file("memory.peak"),
                    swap: file("memory.swap.current"),
                    events: file("memory.events"),
                },
            })
        });
        let pids = of("pids");
        let in_pids = |name| Some(CgroupFile::new(own(pids.as_ref()?)?, name));
        let disks = of(if hierarchies.has_one("blkio") { "blkio" } else { "io" });
        Self {
            cpu,
            memory,
            disks: disks.and_then(|controller| DiskFiles::new(&controller)),
            threads: in_pids("pids.current"),
            processes: in_pids("cgroup.procs"),
            pressures: hierarchies
                .own_two()
                .map(|own| PRESSURES.map(|name| CgroupFile::new(own, &format!("{name}.pressure")))),
            rare: Rare { cpu: of("cpu"), memory: of("memory"), pids },
            bounds: None,
            is_root,
        }
    }

    /// What they tell; `None`: the control group is gone.
    pub(super) fn read(
        &mut self,
        roots: &Roots,
        now: Now,
        buffer: &mut Vec<u8>,
    ) -> Option<Numbers> {
        let mut numbers = Numbers::default();
        if let Some(cpu) = &mut self.cpu {
            cpu.read(&mut numbers, buffer);
        }
        if let Some(memory) = &mut self.memory {
            memory.read(&mut numbers, buffer);
        }
        if self.is_root && numbers.usage.is_none() {
            of_machine(&mut numbers, roots);
        }
        if numbers.cpu.is_none() && numbers.usage.is_none() {
            return None;
        }
        if let Some(disks) = &mut self.disks {
            numbers.disks = disks.read(buffer).unwrap_or_default();
        }
        if !self.is_root {
            numbers.threads = self.threads.as_mut().and_then(|file| file.number(buffer));
            let processes = self.processes.as_mut().and_then(|file| file.read(buffer));
            numbers.processes = processes.map(|text| text.lines().count() as f64);
            if self.bounds.is_none_or(|(at, _)| now.is_past(at, BOUNDS_HOLD)) {
                self.bounds = Some((now, self.rare.read(buffer)));
            }
            numbers.bounds = self.bounds.map(|(_, bounds)| bounds).unwrap_or_default();
        }
        for (file, told) in self.pressures.iter_mut().flatten().zip(&mut numbers.pressures) {
            let Some(text) = file.read(buffer) else { continue };
            *told = ["some ", "full "].map(|kind| {
                let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
                let total =
                    line.split_ascii_whitespace().find_map(|it| it.strip_prefix("total="))?;
                whole(total).map(|micros| micros / MICROS)
            });
        }
        Some(numbers)
    }
}

impl Cpu {
    fn read(&mut self, numbers: &mut Numbers, buffer: &mut Vec<u8>) {
        let (throttling, per_second, key) = match self {
            Self::One { usage, stat, quota } => {
                numbers.cpu = usage.number(buffer).map(|nanos| nanos / NANOS);
                if let Some(text) = stat.read(buffer) {
                    numbers.user = field(text, "user").map(|ticks| ticks / TICKS);
                    numbers.system = field(text, "system").map(|ticks| ticks / TICKS);
                }
                (quota.as_mut().and_then(|file| file.read(buffer)), NANOS, "throttled_time")
            }
            Self::Two { stat } => {
                let text = stat.read(buffer);
                if let Some(text) = text {
                    let seconds = |key| field(text, key).map(|micros| micros / MICROS);
                    numbers.cpu = seconds("usage_usec");
                    numbers.user = seconds("user_usec");
                    numbers.system = seconds("system_usec");
                }
                (text, MICROS, "throttled_usec")
            }
        };
        if let Some(text) = throttling {
            numbers.periods = field(text, "nr_periods");
            numbers.throttled_periods = field(text, "nr_throttled");
            numbers.throttled_seconds = field(text, key).map(|time| time / per_second);
        }
    }
}

impl Memory {
    fn read(&mut self, numbers: &mut Numbers, buffer: &mut Vec<u8>) {
        let (stat, is_one) = match self {
            Self::One { usage, stat, max, hits, oom } => {
                numbers.usage = usage.number(buffer);
                numbers.max_usage = max.number(buffer);
                numbers.limit_hits = hits.number(buffer);
                numbers.oom_kills = oom.read(buffer).and_then(|text| field(text, "oom_kill"));
                (stat, true)
            }
            Self::Two { usage, stat, max, swap, events } => {
                numbers.usage = usage.number(buffer);
                numbers.max_usage = max.number(buffer);
                numbers.swap = swap.number(buffer);
                if let Some(text) = events.read(buffer) {
                    numbers.limit_hits = field(text, "max");
                    numbers.oom_kills = field(text, "oom_kill");
                }
                (stat, false)
            }
        };
        let Some(text) = stat.read(buffer) else { return };
        if is_one {
            numbers.take_one(text);
        } else {
            numbers.take_two(text);
        }
    }
}

impl Numbers {
    /// v1's `memory.stat`: `total_` is with what is below.
    fn take_one(&mut self, text: &str) {
        for (key, value) in pairs(text) {
            let slot = match key {
                "total_cache" => &mut self.cache,
                "total_rss" => &mut self.rss,
                "total_swap" => &mut self.swap,
                "total_mapped_file" => &mut self.mapped_file,
                "total_inactive_file" => &mut self.working_set,
                "pgfault" => &mut self.faults[0][0],
                "pgmajfault" => &mut self.faults[0][1],
                "total_pgfault" => &mut self.faults[1][0],
                "total_pgmajfault" => &mut self.faults[1][1],
                _ => continue,
            };
            *slot = whole(value);
        }
        self.set_working_set();
    }

    fn take_two(&mut self, text: &str) {
        for (key, value) in pairs(text) {
            let slot = match key {
                "file" => &mut self.cache,
                "anon" => &mut self.rss,
                "file_mapped" => &mut self.mapped_file,
                "inactive_file" => &mut self.working_set,
                "pgfault" => &mut self.faults[0][0],
                "pgmajfault" => &mut self.faults[0][1],
                _ => continue,
            };
            *slot = whole(value);
        }
        // With what is below; nothing tells them apart.
        self.faults[1] = self.faults[0];
        self.set_working_set();
    }

    /// From the inactive file pages that stand in its place.
    fn set_working_set(&mut self) {
        let inactive = self.working_set.unwrap_or(0.0);
        self.working_set = self.usage.map(|usage| (usage - inactive).max(0.0));
    }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(' '))
}

/// The machine's memory as that of the root.
fn of_machine(numbers: &mut Numbers, roots: &Roots) {
    let text = read_bounded(&roots.procfs.join("meminfo"));
    let bytes = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key))?.strip_prefix(':')?;
        whole(rest.split_ascii_whitespace().next()?).map(|kib| kib * KIB)
    };
    let (Some(total), Some(free)) = (bytes("MemTotal"), bytes("MemFree")) else { return };
    numbers.usage = Some((total - free).max(0.0));
    numbers.working_set = bytes("Inactive(file)");
    numbers.set_working_set();
    let swap = bytes("SwapTotal").zip(bytes("SwapFree"));
    numbers.swap = swap.map(|(total, free)| (total - free).max(0.0));
}

impl Rare {
    fn read(&self, buffer: &mut Vec<u8>) -> Bounds {
        let mut bounds = Bounds::default();
        let mut number = |controller: &Controller, name: &str, parse: fn(&str) -> Option<f64>| {
            CgroupFile::new(own(controller)?, name).read(buffer).and_then(parse)
        };
        match &self.cpu {
            Some(one @ Controller::One(_)) => {
                bounds.quota = number(one, "cpu.cfs_quota_us", limit);
                bounds.period = number(one, "cpu.cfs_period_us", limit);
                bounds.shares = number(one, "cpu.shares", limit);
            }
            Some(two @ Controller::Two(_)) => {
                bounds.quota = number(two, "cpu.max", limit);
                bounds.period = number(two, "cpu.max", second);
                bounds.shares = number(two, "cpu.weight", limit).map(shares);
            }
            None => {}
        }
        match &self.memory {
            Some(one @ Controller::One(_)) => {
                bounds.memory = number(one, "memory.limit_in_bytes", limit_or_none);
                bounds.swap = number(one, "memory.memsw.limit_in_bytes", limit_or_none);
                bounds.reservation = number(one, "memory.soft_limit_in_bytes", limit_or_none);
            }
            Some(two @ Controller::Two(_)) => {
                bounds.memory = number(two, "memory.max", limit_or_none);
                bounds.swap = number(two, "memory.swap.max", limit_or_none);
                bounds.reservation = number(two, "memory.low", limit_or_none);
            }
            None => {}
        }
        bounds.threads =
            self.pids.as_ref().and_then(|pids| number(pids, "pids.max", limit_or_none));
        bounds
    }
}

/// A limit; 0 where there is none.
fn limit_or_none(text: &str) -> Option<f64> {
    let word = text.trim();
    if word == "max" {
        Some(0.0)
    } else {
        whole(word).map(|it| if it < LIMIT_MAX { it } else { 0.0 })
    }
}

fn second(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().nth(1).and_then(whole)
}

/// v1's shares of v2's weight, as runtimes convert them.
fn shares(weight: f64) -> f64 {
    (2.0 + (weight - 1.0) * 262_142.0 / 9999.0).round()
}

#[cfg(test)]
mod tests {
    use super::super::tree::hierarchies;
    use super::*;
    use crate::sources::cgroup::mounts;

    const NOW: Now = Now { unix_micros: 0 };

    /// The numbers of `/docker/x` in a tree of these files.
    fn read(mountinfo: &str, path: &str, files: &[(&str, &str)]) -> Option<Numbers> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let roots =
            Roots { sysfs: dir.path().into(), procfs: dir.path().join("proc"), ..Roots::default() };
        let hierarchies = hierarchies(path, &mounts::parse(mountinfo), &roots);
        Files::new(&hierarchies, path == "/").read(&roots, NOW, &mut Vec::new())
    }

    #[test]
    fn v2_is_told_in_cadvisors_units() {
        let numbers = read(
            "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "/docker/x",
            &[
                ("fs/cgroup/docker/x/cpu.stat", "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 9\nnr_throttled 3\nthrottled_usec 500000\n"),
                ("fs/cgroup/docker/x/cpu.max", "50000 100000\n"),
                ("fs/cgroup/docker/x/cpu.weight", "39\n"),
                ("fs/cgroup/docker/x/memory.current", "1000\n"),
                ("fs/cgroup/docker/x/memory.max", "max\n"),
                ("fs/cgroup/docker/x/memory.peak", "1500\n"),
                ("fs/cgroup/docker/x/memory.swap.current", "10\n"),
                ("fs/cgroup/docker/x/memory.swap.max", "2048\n"),
                ("fs/cgroup/docker/x/memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n"),
                ("fs/cgroup/docker/x/memory.stat", "anon 600\nfile 300\nfile_mapped 5\ninactive_file 250\npgfault 11\npgmajfault 3\n"),
                ("fs/cgroup/docker/x/io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2\n"),
                ("fs/cgroup/docker/x/pids.current", "5\n"),
                ("fs/cgroup/docker/x/pids.max", "max\n"),
                ("fs/cgroup/docker/x/cgroup.procs", "10\n11\n"),
                ("fs/cgroup/docker/x/memory.pressure", "some avg10=0 total=2000000\nfull avg10=0 total=1000000\n"),
            ],
        )
        .unwrap();
        assert_eq!((numbers.cpu, numbers.user, numbers.system), (Some(3.0), Some(2.0), Some(1.0)));
        assert_eq!((numbers.throttled_periods, numbers.throttled_seconds), (Some(3.0), Some(0.5)));
        assert_eq!((numbers.usage, numbers.working_set), (Some(1000.0), Some(750.0)));
        assert_eq!(
            (numbers.cache, numbers.rss, numbers.swap),
            (Some(300.0), Some(600.0), Some(10.0))
        );
        assert_eq!((numbers.max_usage, numbers.limit_hits), (Some(1500.0), Some(7.0)));
        assert_eq!((numbers.oom_kills, numbers.faults), (Some(2.0), [[Some(11.0), Some(3.0)]; 2]));
        assert_eq!(numbers.disks["8:0"].written_bytes, Some(8192.0));
        assert_eq!((numbers.threads, numbers.processes), (Some(5.0), Some(2.0)));
        assert_eq!(numbers.pressures, [[None; 2], [Some(2.0), Some(1.0)], [None; 2]]);
        let bounds = Bounds {
            quota: Some(50_000.0),
            period: Some(100_000.0),
            shares: Some(998.0),
            memory: Some(0.0),
            swap: Some(2048.0),
            reservation: None,
            threads: Some(0.0),
        };
        assert_eq!(numbers.bounds, bounds);
    }

    #[test]
    fn v1_is_told_in_cadvisors_units() {
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                         32 25 0:28 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
                         33 25 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let numbers = read(
            mountinfo,
            "/docker/x",
            &[
                ("fs/cgroup/cpu,cpuacct/docker/x/cpuacct.usage", "3000000000\n"),
                ("fs/cgroup/cpu,cpuacct/docker/x/cpuacct.stat", "user 200\nsystem 100\n"),
                ("fs/cgroup/cpu,cpuacct/docker/x/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 500000000\n"),
                ("fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n"),
                ("fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n"),
                ("fs/cgroup/cpu,cpuacct/docker/x/cpu.shares", "1024\n"),
                ("fs/cgroup/memory/docker/x/memory.usage_in_bytes", "1000\n"),
                ("fs/cgroup/memory/docker/x/memory.max_usage_in_bytes", "1500\n"),
                ("fs/cgroup/memory/docker/x/memory.failcnt", "7\n"),
                ("fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n"),
                ("fs/cgroup/memory/docker/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
                ("fs/cgroup/memory/docker/x/memory.stat", "cache 1\npgfault 4\ntotal_cache 300\ntotal_rss 600\ntotal_swap 10\ntotal_inactive_file 250\ntotal_pgfault 11\n"),
                ("fs/cgroup/blkio/docker/x/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\n"),
                ("fs/cgroup/blkio/docker/x/blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n"),
                ("fs/cgroup/pids/docker/x/pids.current", "5\n"),
                ("fs/cgroup/pids/docker/x/cgroup.procs", "10\n11\n"),
            ],
        )
        .unwrap();
        assert_eq!((numbers.cpu, numbers.user, numbers.system), (Some(3.0), Some(2.0), Some(1.0)));
        assert_eq!((numbers.throttled_periods, numbers.throttled_seconds), (Some(3.0), Some(0.5)));
        assert_eq!((numbers.usage, numbers.working_set), (Some(1000.0), Some(750.0)));
        assert_eq!(
            (numbers.cache, numbers.rss, numbers.swap),
            (Some(300.0), Some(600.0), Some(10.0))
        );
        assert_eq!((numbers.max_usage, numbers.limit_hits), (Some(1500.0), Some(7.0)));
        assert_eq!(numbers.faults, [[Some(4.0), None], [Some(11.0), None]]);
        assert_eq!((numbers.oom_kills, numbers.processes), (Some(2.0), Some(2.0)));
        assert_eq!(numbers.disks["8:0"].writes, Some(2.0));
        let bounds = Bounds {
            period: Some(100_000.0),
            shares: Some(1024.0),
            memory: Some(0.0),
            ..Bounds::default()
        };
        assert_eq!(numbers.bounds, bounds);
    }

    #[test]
    fn what_is_gone_tells_nothing_and_the_root_is_the_machine() {
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(read(mountinfo, "/docker/x", &[]), None);
        assert_eq!(read("", "/docker/x", &[]), None);
        let meminfo = "MemTotal: 100 kB\nMemFree: 40 kB\nInactive(file): 10 kB\n";
        let numbers = read(mountinfo, "/", &[("proc/meminfo", meminfo)]).unwrap();
        assert_eq!(numbers.usage, Some(60.0 * KIB));
        assert_eq!(numbers.working_set, Some(50.0 * KIB));
    }
}
