//! CPU time of a container: what it used, and what its limit left idle.
//!
//! A container is told as a machine of as many CPUs as it may use: those of its cpuset, or the quota
//! rounded up where that is fewer, as lxcfs does. v1 tells the use of each CPU; v2 tells it of all
//! together, and so does a quota make CPUs that are none in particular: then each CPU is told an
//! equal part, so that sums and means are right. Idle is what is left of each CPU's time since the
//! container began, so that the modes of one CPU grow by one second a second, as a machine's do.
//!
//! v1 counts user and system time by the kernel's tick, which a quota makes uneven by a sixth and more;
//! how much was used in all it knows exactly. So that is what is told, in the proportion of the two.
//!
//! Modes a cgroup does not know (iowait, irq, steal…) are absent: the hardware is the node's.

use crate::sources::cgroup::file::{field, list, quota, whole};
use crate::sources::cgroup::{CgroupFile, Controller, Hierarchies, Limit};

const NANOS: f64 = 1e9;
const MICROS: f64 = 1e6;
/// v1 counts `cpuacct.stat` in ticks.
const TICKS: f64 = 100.0;

/// Time used, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    pub(super) user: f64,
    pub(super) system: f64,
}

impl Used {
    fn sum(self) -> f64 {
        self.user + self.system
    }

    fn part(self, share: f64) -> Self {
        Self { user: self.user * share, system: self.system * share }
    }

    /// In the same proportion, but `all` together.
    fn fitted(self, all: f64) -> Self {
        let sampled = self.sum();
        if sampled > 0.0 { self.part(all / sampled) } else { Self { user: all, system: 0.0 } }
    }

    /// What was used since `before`; nothing where a counter went back.
    fn since(self, before: Self) -> Self {
        Self {
            user: (self.user - before.user).max(0.0),
            system: (self.system - before.system).max(0.0),
        }
    }
}

/// What the controllers tell now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) total: Used,
    /// By CPU number, where it is known.
    pub(super) each: Option<Vec<Used>>,
    /// Seconds used in all, by CPU number, where user and system time are only sampled.
    pub(super) exact: Option<Vec<f64>>,
    /// The CPUs the container may run on.
    pub(super) allowed: Vec<u32>,
    /// How many CPUs' time the quota allows.
    pub(super) quota: Option<f64>,
    pub(super) throttling: Throttling,
}

/// How often and how long the quota made the container wait.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Throttling {
    pub(super) periods: Option<f64>,
    pub(super) throttled_periods: Option<f64>,
    pub(super) throttled_seconds: Option<f64>,
}

impl Sample {
    /// How many CPUs the container is told to have, out of those it may run on.
    pub(super) fn count(&self) -> usize {
        let all = self.allowed.len().max(1);
        match self.quota {
            // At most `all`, so that the least number that is not below the quota is found by trying.
            Some(quota) => (1..all).find(|count| *count as f64 >= quota).unwrap_or(all),
            None => all,
        }
    }
}

/// One CPU as told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CpuTime {
    pub(super) cpu: u32,
    pub(super) used: Used,
    pub(super) idle: f64,
    /// `idle` before it was kept from going back.
    idle_exact: f64,
}

/// Adds up what is told; a machine of `event -> state`, without a clock.
#[derive(Debug, Default)]
pub(super) struct CpuClock {
    cpus: Vec<CpuTime>,
    last: Option<(Sample, f64)>,
}

impl CpuClock {
    /// Takes in a sample at the container's `age` in seconds; returns what to tell.
    pub(super) fn advance(&mut self, sample: &Sample, age: f64) -> &[CpuTime] {
        let count = sample.count();
        let parts = count == sample.allowed.len() && sample.each.is_some();
        let of = |sample: &Sample, cpu: u32| -> Option<(Used, Option<f64>)> {
            let exact = sample.exact.as_deref();
            if !parts {
                let share = 1.0 / count as f64;
                let exact = exact.map(|each| each.iter().sum::<f64>() * share);
                return Some((sample.total.part(share), exact));
            }
            let at = usize::try_from(cpu).ok()?;
            let used = sample.each.as_deref()?.get(at)?;
            Some((*used, exact.and_then(|each| each.get(at)).copied()))
        };
        let since = |(now, exact): (Used, Option<f64>), (last, last_exact): (Used, Option<f64>)| {
            let used = now.since(last);
            let exact = exact.zip(last_exact).map(|(now, last)| (now - last).max(0.0));
            exact.map_or(used, |all| used.fitted(all))
        };
        let before = std::mem::take(&mut self.cpus);
        for cpu in sample.allowed.iter().copied().take(count) {
            let known = before.iter().find(|known| known.cpu == cpu).zip(self.last.as_ref());
            let next = match known {
                Some((known, (last, last_age))) => {
                    let used = of(sample, cpu).zip(of(last, cpu));
                    let used = used.map(|(now, last)| since(now, last)).unwrap_or_default();
                    let idle_exact = known.idle_exact + (age - last_age).max(0.0) - used.sum();
                    CpuTime {
                        cpu,
                        used: Used {
                            user: known.used.user + used.user,
                            system: known.used.system + used.system,
                        },
                        idle: known.idle.max(idle_exact),
                        idle_exact,
                    }
                }
                // The first reading counts from the container's beginning; a CPU that comes later
                // counts from now.
                None if self.last.is_none() => {
                    let used = of(sample, cpu)
                        .map(|(used, exact)| exact.map_or(used, |all| used.fitted(all)))
                        .unwrap_or_default();
                    let idle = (age - used.sum()).max(0.0);
                    CpuTime { cpu, used, idle, idle_exact: idle }
                }
                None => CpuTime { cpu, used: Used::default(), idle: 0.0, idle_exact: 0.0 },
            };
            self.cpus.push(next);
        }
        self.last = Some((sample.clone(), age));
        &self.cpus
    }
}

/// The files of the CPU controllers.
#[derive(Debug)]
pub(super) struct CpuFiles {
    accounting: Accounting,
    quota: Quota,
    cpuset: Option<CgroupFile>,
}

#[derive(Debug)]
enum Accounting {
    One { user: CgroupFile, system: CgroupFile, all: CgroupFile, stat: CgroupFile },
    Two { stat: CgroupFile },
}

#[derive(Debug)]
enum Quota {
    /// Quota and period by cgroup; `-1` is no quota.
    One {
        each: Vec<(CgroupFile, CgroupFile)>,
        stat: CgroupFile,
    },
    Two {
        max: Limit,
        stat: CgroupFile,
        local: CgroupFile,
    },
    None,
}

impl CpuFiles {
    /// `None`: no hierarchy in sight counts CPU time.
    pub(super) fn new(hierarchies: &Hierarchies) -> Option<Self> {
        let accounting = match hierarchies.controller("cpuacct")? {
            Controller::One(chain) => {
                let own = chain.first()?;
                Accounting::One {
                    user: CgroupFile::new(own, "cpuacct.usage_percpu_user"),
                    system: CgroupFile::new(own, "cpuacct.usage_percpu_sys"),
                    all: CgroupFile::new(own, "cpuacct.usage_percpu"),
                    stat: CgroupFile::new(own, "cpuacct.stat"),
                }
            }
            // v2 counts time whether or not the controller is on.
            Controller::Two(chain) => {
                Accounting::Two { stat: CgroupFile::new(chain.first()?, "cpu.stat") }
            }
        };
        let quota = match hierarchies.controller("cpu") {
            Some(Controller::One(chain)) => Quota::One {
                each: chain
                    .iter()
                    .map(|directory| {
                        let file = |name| CgroupFile::new(directory, name);
                        (file("cpu.cfs_quota_us"), file("cpu.cfs_period_us"))
                    })
                    .collect(),
                stat: CgroupFile::new(chain.first()?, "cpu.stat"),
            },
            Some(Controller::Two(chain)) => Quota::Two {
                max: Limit::new(&chain, "cpu.max"),
                stat: CgroupFile::new(chain.first()?, "cpu.stat"),
                local: CgroupFile::new(chain.first()?, "cpu.stat.local"),
            },
            None => Quota::None,
        };
        let cpuset = match hierarchies.controller("cpuset") {
            Some(Controller::One(chain)) => {
                chain.first().map(|own| CgroupFile::new(own, "cpuset.effective_cpus"))
            }
            Some(Controller::Two(chain)) => {
                chain.first().map(|own| CgroupFile::new(own, "cpuset.cpus.effective"))
            }
            None => None,
        };
        Some(Self { accounting, quota, cpuset })
    }

    /// `status` is init's, which tells what it may run on where no cpuset is in sight. `None`: time is
    /// not told.
    pub(super) fn read(&mut self, status: &mut CgroupFile, buffer: &mut Vec<u8>) -> Option<Sample> {
        let mut sample = Sample::default();
        match &mut self.accounting {
            Accounting::Two { stat } => {
                let text = stat.read(buffer)?;
                let seconds = |key| field(text, key).map(|micros| micros / MICROS);
                sample.total =
                    Used { user: seconds("user_usec")?, system: seconds("system_usec")? };
            }
            Accounting::One { user, system, all, stat } => {
                sample.exact = all.read(buffer).map(nanos);
                let user = user.read(buffer).map(nanos);
                let system = system.read(buffer).map(nanos);
                match user.zip(system) {
                    Some((user, system)) => {
                        let each = user.iter().zip(&system);
                        let each: Vec<Used> =
                            each.map(|(&user, &system)| Used { user, system }).collect();
                        sample.total =
                            Used { user: user.iter().sum(), system: system.iter().sum() };
                        sample.each = Some(each);
                    }
                    None => {
                        let text = stat.read(buffer)?;
                        let seconds = |key| field(text, key).map(|ticks| ticks / TICKS);
                        sample.total = Used { user: seconds("user")?, system: seconds("system")? };
                    }
                }
            }
        }
        let cpuset = self.cpuset.as_mut().and_then(|file| file.read(buffer)).and_then(list);
        sample.allowed = cpuset.or_else(|| allowed(status, buffer))?;
        match &mut self.quota {
            Quota::None => {}
            Quota::One { each, stat } => {
                let quotas = each.iter_mut().filter_map(|(quota, period)| {
                    let quota = quota.number(buffer)?;
                    let period = period.number(buffer)?;
                    (quota > 0.0 && period > 0.0).then(|| quota / period)
                });
                sample.quota = quotas.reduce(f64::min);
                let text = stat.read(buffer).unwrap_or_default();
                sample.throttling = throttling(text, "throttled_time", NANOS);
            }
            Quota::Two { max, stat, local } => {
                sample.quota = max.least(buffer, quota);
                let text = stat.read(buffer).unwrap_or_default();
                sample.throttling = throttling(text, "throttled_usec", MICROS);
                // Counts waiting for a quota that is set above what is in sight, too.
                let above = local.read(buffer).and_then(|text| field(text, "throttled_usec"));
                let above = above.map(|micros| micros / MICROS);
                let throttled = &mut sample.throttling.throttled_seconds;
                *throttled = [*throttled, above].into_iter().flatten().reduce(f64::max);
            }
        }
        Some(sample)
    }
}

/// The CPUs that a process may run on, by its `status`.
pub(super) fn allowed(status: &mut CgroupFile, buffer: &mut Vec<u8>) -> Option<Vec<u32>> {
    let mut lines = status.read(buffer)?.lines();
    lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(list)
}

fn throttling(text: &str, time: &str, per_second: f64) -> Throttling {
    Throttling {
        periods: field(text, "nr_periods"),
        throttled_periods: field(text, "nr_throttled"),
        throttled_seconds: field(text, time).map(|time| time / per_second),
    }
}

/// Nanoseconds by CPU number, as seconds; ends at what is no number.
fn nanos(text: &str) -> Vec<f64> {
    text.split_ascii_whitespace().map_while(whole).map(|nanos| nanos / NANOS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::Roots;
    use crate::sources::cgroup::mounts;

    fn sample(user: f64, system: f64, allowed: &[u32], quota: Option<f64>) -> Sample {
        let total = Used { user, system };
        Sample { total, allowed: allowed.to_vec(), quota, ..Sample::default() }
    }

    fn told(cpus: &[CpuTime]) -> Vec<(u32, f64, f64, f64)> {
        cpus.iter().map(|cpu| (cpu.cpu, cpu.used.user, cpu.used.system, cpu.idle)).collect()
    }

    #[test]
    fn as_many_cpus_as_the_limit_needs() {
        for (allowed, quota, expected) in [
            (vec![0, 1, 2, 3], None, 4),
            (vec![0, 1, 2, 3], Some(0.5), 1),
            (vec![0, 1, 2, 3], Some(1.5), 2),
            (vec![0, 1, 2, 3], Some(2.0), 2),
            (vec![0, 1, 2, 3], Some(1e18), 4),
            (vec![7], Some(2.0), 1),
            (vec![], Some(2.0), 1),
        ] {
            assert_eq!(
                sample(0.0, 0.0, &allowed, quota).count(),
                expected,
                "{allowed:?} {quota:?}"
            );
        }
    }

    #[test]
    fn what_is_sampled_makes_up_what_is_known_exactly() {
        let sampled = |user, system, exact: &[f64]| Sample {
            exact: Some(exact.to_vec()),
            ..sample(user, system, &[0], Some(0.2))
        };
        let mut clock = CpuClock::default();
        assert_eq!(
            told(clock.advance(&sampled(3.0, 1.0, &[1.0, 1.0]), 10.0)),
            [(0, 1.5, 0.5, 8.0)]
        );
        assert_eq!(
            told(clock.advance(&sampled(6.0, 1.0, &[2.0, 1.0]), 13.0)),
            [(0, 2.5, 0.5, 10.0)]
        );
        // Used, but too little at a time for the tick to see.
        assert_eq!(
            told(clock.advance(&sampled(6.0, 1.0, &[2.0, 2.0]), 15.0)),
            [(0, 3.5, 0.5, 11.0)]
        );
        assert_eq!(
            told(clock.advance(&sampled(6.0, 1.0, &[0.0, 0.0]), 16.0)),
            [(0, 3.5, 0.5, 12.0)]
        );
    }

    #[test]
    fn what_is_used_and_what_is_left_make_up_the_time() {
        let mut clock = CpuClock::default();
        let cpus = clock.advance(&sample(6.0, 2.0, &[2, 5], None), 100.0);
        assert_eq!(told(cpus), [(2, 3.0, 1.0, 96.0), (5, 3.0, 1.0, 96.0)]);
        let cpus = clock.advance(&sample(7.0, 2.0, &[2, 5], None), 101.0);
        assert_eq!(told(cpus), [(2, 3.5, 1.0, 96.5), (5, 3.5, 1.0, 96.5)]);
        // Read a little apart, the use may exceed the time: idle stands still and is made up for.
        let cpus = clock.advance(&sample(9.2, 2.0, &[2, 5], None), 102.0);
        assert_eq!(cpus.first().unwrap().idle, 96.5);
        let cpus = clock.advance(&sample(9.2, 2.0, &[2, 5], None), 103.0);
        assert!((cpus.first().unwrap().idle - 97.4).abs() < 1e-9);
    }

    #[test]
    fn a_limit_that_changes_makes_no_jump() {
        let mut clock = CpuClock::default();
        clock.advance(&sample(80.0, 0.0, &[0, 1], None), 100.0);
        let one = clock.advance(&sample(80.0, 0.0, &[0, 1], Some(0.5)), 101.0);
        assert_eq!(told(one), [(0, 40.0, 0.0, 61.0)]);
        let two = clock.advance(&sample(81.0, 0.0, &[0, 1], None), 102.0);
        assert_eq!(told(two), [(0, 40.5, 0.0, 61.5), (1, 0.0, 0.0, 0.0)]);
    }

    #[test]
    fn each_cpu_is_told_its_own_where_it_is_known() {
        let each = |a: f64, b: f64| {
            let of = |user| Used { user, system: 0.0 };
            let total = of(a + b);
            Sample { total, each: Some(vec![of(a), of(b)]), ..sample(0.0, 0.0, &[0, 1], None) }
        };
        let mut clock = CpuClock::default();
        clock.advance(&each(10.0, 1.0), 20.0);
        let cpus = clock.advance(&each(11.0, 1.0), 21.0);
        assert_eq!(told(cpus), [(0, 11.0, 0.0, 10.0), (1, 1.0, 0.0, 20.0)]);
    }

    fn files_of(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<Sample> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join("fs/cgroup").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let hierarchies = Hierarchies::find(cgroup, &mounts::parse(mountinfo), &roots);
        std::fs::write(dir.path().join("status"), "Cpus_allowed_list:\t0-2\n").unwrap();
        let mut status = CgroupFile::new(dir.path(), "status");
        CpuFiles::new(&hierarchies)?.read(&mut status, &mut Vec::new())
    }

    const V2: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn v2() {
        let sample = files_of(
            "0::/\n",
            V2,
            &[
                (
                    "cpu.stat",
                    "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 10\n\
                     nr_throttled 4\nthrottled_usec 500000\n",
                ),
                ("cpu.stat.local", "throttled_usec 700000\n"),
                ("cpu.max", "150000 100000\n"),
                ("cpuset.cpus.effective", "4-7\n"),
            ],
        );
        let sample = sample.unwrap();
        assert_eq!(sample.total, Used { user: 2.0, system: 1.0 });
        assert_eq!((sample.allowed.as_slice(), sample.quota), ([4, 5, 6, 7].as_slice(), Some(1.5)));
        let throttling = Throttling {
            periods: Some(10.0),
            throttled_periods: Some(4.0),
            throttled_seconds: Some(0.7),
        };
        assert_eq!(sample.throttling, throttling);
        let sample = files_of("0::/\n", V2, &[("cpu.stat", "user_usec 1\nsystem_usec 1\n")]);
        assert_eq!(sample.unwrap().allowed, [0, 1, 2], "what init may run on");
        assert_eq!(files_of("0::/\n", V2, &[("cpu.stat", "user_usec -1\n")]), None);
        assert_eq!(files_of("0::/\n", V2, &[]), None);
    }

    #[test]
    fn v1() {
        let mounts: String = ["cpu", "cpuacct", "cpuset"]
            .map(|c| format!("30 25 0:26 / /sys/fs/cgroup/{c} rw - cgroup cgroup rw,{c}\n"))
            .concat();
        let cgroup = "1:cpu:/a\n2:cpuacct:/a\n3:cpuset:/a\n";
        let mut files = vec![
            ("cpu/cpu.cfs_quota_us", "200000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu/a/cpu.cfs_quota_us", "-1\n"),
            ("cpu/a/cpu.cfs_period_us", "100000\n"),
            ("cpu/a/cpu.stat", "nr_periods 1\nnr_throttled 0\nthrottled_time 0\n"),
            ("cpuacct/a/cpuacct.stat", "user 150\nsystem 50\n"),
            ("cpuset/a/cpuset.effective_cpus", "0-1\n"),
        ];
        let sample = files_of(cgroup, &mounts, &files).unwrap();
        assert_eq!((sample.total, sample.each), (Used { user: 1.5, system: 0.5 }, None));
        assert_eq!((sample.quota, sample.allowed.as_slice()), (Some(2.0), [0, 1].as_slice()));
        files.push(("cpuacct/a/cpuacct.usage_percpu_user", "1000000000 2000000000\n"));
        files.push(("cpuacct/a/cpuacct.usage_percpu_sys", "500000000 0\n"));
        let sample = files_of(cgroup, &mounts, &files).unwrap();
        assert_eq!(sample.total, Used { user: 3.0, system: 0.5 });
        assert_eq!(sample.each.unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn nothing_told_goes_back(
            steps in prop::collection::vec(
                (0.0..1e6_f64, 0.0..1e6_f64, 0.0..1e6_f64,
                 prop::collection::vec(0_u32..4, 1..4), prop::option::of(0.0..1e12_f64)),
                1..20,
            ),
        ) {
            let mut clock = CpuClock::default();
            let mut before: Vec<CpuTime> = Vec::new();
            for (user, system, age, mut allowed, quota) in steps {
                allowed.sort_unstable();
                allowed.dedup();
                let cpus = clock.advance(&sample(user, system, &allowed, quota), age).to_vec();
                prop_assert!(!cpus.is_empty() && cpus.len() <= allowed.len());
                for cpu in &cpus {
                    prop_assert!(cpu.idle >= 0.0 && cpu.used.user >= 0.0);
                    if let Some(before) = before.iter().find(|before| before.cpu == cpu.cpu) {
                        prop_assert!(cpu.idle >= before.idle);
                        prop_assert!(cpu.used.user >= before.used.user);
                    }
                }
                before = cpus;
            }
        }
    }
}
