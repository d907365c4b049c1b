//! Memory and swap of a container, under the names of `/proc/meminfo`.
//!
//! The limit is the smallest that anybody tells: the cgroups in sight, and `/proc/meminfo`, which is
//! the node's or, under lxcfs, already the container's (lxcfs sees limits that are set above what is
//! in sight here). Free is what the limit leaves; available is that and what can be dropped (file
//! pages on the kernel's lists, and slabs that say so), as lxcfs reckons it.
//!
//! A field of which a cgroup knows nothing is absent. `Buffers` is 0 since a cgroup counts block
//! devices' pages as file pages: `Cached` has them. `SReclaimable` is 0 where v1 does not count it:
//! it only ever takes part in sums, and what is not known to be reclaimable is in use.

use std::path::Path;

use crate::sources::cgroup::file::{LIMIT_MAX, field};
use crate::sources::cgroup::{CgroupFile, Controller, Limit};
use crate::sources::{Now, Roots};

/// What lxcfs itself reckons of `/proc/meminfo`; the rest it hands through from the node.
const OF_LXCFS: [&str; 21] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "Active_anon",
    "Inactive_anon",
    "Active_file",
    "Inactive_file",
    "Unevictable",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "SReclaimable",
];

/// What the memory controller tells now.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Memory {
    /// Whether `stat` is v1's.
    is_one: bool,
    pub(super) limit: Option<f64>,
    /// Of swap alone.
    pub(super) swap_limit: Option<f64>,
    /// Of memory and swap together (v1).
    both_limit: Option<f64>,
    pub(super) usage: f64,
    swap_usage: Option<f64>,
    /// `memory.stat`, searched by key.
    stat: String,
    pub(super) oom_kills: Option<f64>,
}

impl Memory {
    /// What it means that `/proc/meminfo` says 0 of swap: with v2 lxcfs may find no accounting of it, and
    /// says so whatever the limit is. The node's is what there is then, where a limit is in sight.
    pub(super) fn no_swap_means(&self, has_lxcfs: bool, roots: &Roots) -> Option<f64> {
        if !has_lxcfs || self.is_one {
            return Some(0.0);
        }
        node_swap(roots).filter(|swap| *swap == 0.0 || self.swap_limit.is_some())
    }

    /// The value of a field of `/proc/meminfo`, named as node_exporter does without `_bytes`;
    /// `outer` is what the file itself says of the field. `None`: not known of a container.
    pub(super) fn field(&self, name: &str, outer: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let total = || {
            let told = outer("MemTotal");
            [self.limit, told].into_iter().flatten().reduce(f64::min)
        };
        let free = || total().map(|total| (total - self.usage).max(0.0));
        match name {
            "MemTotal" => total(),
            "MemFree" => free(),
            "MemAvailable" => {
                let droppable = ["active_file", "inactive_file", "slab_reclaimable"];
                let droppable: f64 = droppable.iter().filter_map(|key| self.stat(key)).sum();
                let available = free()? + droppable.min(self.usage);
                total().map(|total| available.min(total))
            }
            "SwapTotal" => self.swap_total(&outer),
            "SwapFree" => {
                let used = self.swap_usage.or_else(|| self.stat("swap"))?;
                self.swap_total(&outer).map(|total| (total - used).max(0.0))
            }
            "Buffers" => Some(0.0),
            "SReclaimable" => Some(self.stat("slab_reclaimable").unwrap_or(0.0)),
            "Cached" => {
                let swap_cached = self.stat("swapcached").unwrap_or(0.0);
                Some((self.stat("file")? - swap_cached).max(0.0))
            }
            "Active" => Some(self.stat("active_anon")? + self.stat("active_file")?),
            "Inactive" => Some(self.stat("inactive_anon")? + self.stat("inactive_file")?),
            _ => self.stat(key_of(name)?),
        }
    }

    fn swap_total(&self, outer: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let both = self.both_limit.map(|both| (both - self.limit.unwrap_or(both)).max(0.0));
        [self.swap_limit, both, outer("SwapTotal")].into_iter().flatten().reduce(f64::min)
    }

    /// A counter of `/proc/vmstat` that cgroups count under the same name.
    pub(super) fn counter(&self, name: &str) -> Option<f64> {
        match name {
            "oom_kill" => self.oom_kills,
            // v1's count charges, not pages read and written.
            "pgpgin" | "pgpgout" => None,
            _ => self.stat(name),
        }
    }

    /// A number of `memory.stat` by v2's name of it.
    fn stat(&self, key: &str) -> Option<f64> {
        if !self.is_one {
            return field(&self.stat, key);
        }
        let key = match key {
            "file" => "cache",
            "anon" => "rss",
            "file_mapped" => "mapped_file",
            "file_dirty" => "dirty",
            "file_writeback" => "writeback",
            "anon_thp" => "rss_huge",
            other => other,
        };
        // With what the cgroups below have; an old kernel may tell the own only.
        field(&self.stat, &format!("total_{key}")).or_else(|| field(&self.stat, key))
    }
}

/// The node's swap, which no file tells that lxcfs stands over; only where this machine is read.
fn node_swap(roots: &Roots) -> Option<f64> {
    let info = (roots.procfs == Path::new("/proc")).then(rustix::system::sysinfo)?;
    Some(info.totalswap as f64 * f64::from(info.mem_unit))
}

/// Whether a field is the container's where only lxcfs tells of it.
pub(super) fn is_of_lxcfs(name: &str) -> bool {
    OF_LXCFS.contains(&name)
}

/// v2's name of what `/proc/meminfo` calls `name`, where the two mean the same.
fn key_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "SwapCached" => "swapcached",
        "Active_anon" => "active_anon",
        "Inactive_anon" => "inactive_anon",
        "Active_file" => "active_file",
        "Inactive_file" => "inactive_file",
        "Unevictable" => "unevictable",
        "Dirty" => "file_dirty",
        "Writeback" => "file_writeback",
        "AnonPages" => "anon",
        "Mapped" => "file_mapped",
        "Shmem" => "shmem",
        "KReclaimable" => "slab_reclaimable",
        "Slab" => "slab",
        "SUnreclaim" => "slab_unreclaimable",
        "KernelStack" => "kernel_stack",
        "PageTables" => "pagetables",
        "SecPageTables" => "sec_pagetables",
        "Percpu" => "percpu",
        "VmallocUsed" => "vmalloc",
        "Zswap" => "zswap",
        "Zswapped" => "zswapped",
        "AnonHugePages" => "anon_thp",
        "ShmemHugePages" => "shmem_thp",
        "FileHugePages" => "file_thp",
        _ => return None,
    })
}

/// The files of the memory controller.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    is_one: bool,
    limit: Limit,
    swap_limit: Limit,
    usage: CgroupFile,
    swap_usage: CgroupFile,
    stat: CgroupFile,
    events: CgroupFile,
    /// When they were read last, and whether they told anything.
    read: Option<(Now, bool)>,
    told: Memory,
}

impl MemoryFiles {
    /// `None`: the controller has no directory.
    pub(super) fn new(controller: &Controller) -> Option<Self> {
        let (is_one, chain, names) = match controller {
            Controller::One(chain) => {
                let names = [
                    "memory.limit_in_bytes",
                    "memory.memsw.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "memory.oom_control",
                ];
                (true, chain, names)
            }
            Controller::Two(chain) => {
                let names = ["memory.max", "memory.swap.max", "memory.current", "memory.events"];
                (false, chain, names)
            }
        };
        let own = chain.first()?;
        let [limit, swap_limit, usage, events] = names;
        Some(Self {
            is_one,
            limit: Limit::new(chain, limit),
            swap_limit: Limit::new(chain, swap_limit),
            usage: CgroupFile::new(own, usage),
            // Of no meaning in v1, where `memory.stat` tells it.
            swap_usage: CgroupFile::new(own, "memory.swap.current"),
            stat: CgroupFile::new(own, "memory.stat"),
            events: CgroupFile::new(own, events),
            read: None,
            told: Memory::default(),
        })
    }

    /// What they tell; read once for all sources of a tick. `None`: the controller tells no usage, as the
    /// root's does not.
    pub(super) fn read(&mut self, at: Now, buffer: &mut Vec<u8>) -> Option<&Memory> {
        let is_told = match self.read {
            Some((before, is_told)) if before == at => is_told,
            _ => self.read_anew(buffer).is_some(),
        };
        self.read = Some((at, is_told));
        is_told.then_some(&self.told)
    }

    fn read_anew(&mut self, buffer: &mut Vec<u8>) -> Option<()> {
        let now = &mut self.told;
        now.usage = self.usage.number(buffer)?;
        now.is_one = self.is_one;
        now.limit = self.limit.read(buffer);
        now.stat.clear();
        now.stat.push_str(self.stat.read(buffer)?);
        let swap_limit = self.swap_limit.read(buffer);
        (now.swap_limit, now.both_limit) =
            if self.is_one { (None, swap_limit) } else { (swap_limit, None) };
        if self.is_one {
            // What v1 knows of cgroups that are not in sight.
            let above = |key| field(&now.stat, key).filter(|limit| *limit < LIMIT_MAX);
            let least = |limit, key| [limit, above(key)].into_iter().flatten().reduce(f64::min);
            now.limit = least(now.limit, "hierarchical_memory_limit");
            now.both_limit = least(now.both_limit, "hierarchical_memsw_limit");
            now.swap_usage = None;
        } else {
            now.swap_usage = self.swap_usage.number(buffer);
        }
        now.oom_kills = self.events.read(buffer).and_then(|text| field(text, "oom_kill"));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now { unix_micros: 0 };
    const MIB: f64 = 1024.0 * 1024.0;

    fn node(name: &str) -> Option<f64> {
        match name {
            "MemTotal" => Some(1000.0 * MIB),
            "SwapTotal" => Some(200.0 * MIB),
            _ => Some(999.0),
        }
    }

    fn read(
        controller: fn(Vec<std::path::PathBuf>) -> Controller,
        files: &[(&str, &str)],
    ) -> Memory {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut files = MemoryFiles::new(&controller(vec![dir.path().into()])).unwrap();
        files.read(NOW, &mut Vec::new()).unwrap().clone()
    }

    #[track_caller]
    fn check(memory: &Memory, expected: &[(&str, Option<f64>)]) {
        for (name, value) in expected {
            let mib = memory.field(name, node).map(|bytes| bytes / MIB);
            assert_eq!(mib, *value, "{name}");
        }
    }

    fn mib(lines: &[(&str, u64)]) -> String {
        lines.iter().map(|(key, mib)| format!("{key} {}\n", mib << 20)).collect()
    }

    #[test]
    fn v2_tells_what_the_limit_leaves() {
        let stat = mib(&[
            ("anon", 40),
            ("file", 60),
            ("slab_reclaimable", 5),
            ("slab_unreclaimable", 3),
            ("slab", 8),
            ("pagetables", 1),
            ("swapcached", 2),
            ("active_file", 20),
            ("inactive_file", 30),
            ("active_anon", 7),
            ("inactive_anon", 8),
        ]);
        let memory = read(
            Controller::Two,
            &[
                ("memory.max", "268435456\n"),
                ("memory.current", "125829120\n"),
                ("memory.swap.max", "67108864\n"),
                ("memory.swap.current", "4194304\n"),
                ("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n"),
                ("memory.stat", &format!("{stat}pgfault 77\npgpgin 5\n")),
            ],
        );
        check(
            &memory,
            &[
                ("MemTotal", Some(256.0)),
                ("MemFree", Some(136.0)),
                ("MemAvailable", Some(191.0)),
                ("SwapTotal", Some(64.0)),
                ("SwapFree", Some(60.0)),
                ("Cached", Some(58.0)),
                ("Buffers", Some(0.0)),
                ("SReclaimable", Some(5.0)),
                ("Active", Some(27.0)),
                ("Inactive", Some(38.0)),
                ("AnonPages", Some(40.0)),
                ("PageTables", Some(1.0)),
                // The node's, and of no container.
                ("CommitLimit", None),
                ("DirectMap4k", None),
                ("HugePages_Total", None),
                ("Mapped", None),
            ],
        );
        assert_eq!(memory.counter("oom_kill"), Some(1.0));
        assert_eq!(memory.counter("pgfault"), Some(77.0));
        assert_eq!(memory.counter("pgpgin"), None);
        assert_eq!(memory.counter("nr_free_pages"), None);
    }

    #[test]
    fn without_a_limit_the_node_is_the_limit_and_the_use_is_the_containers() {
        let memory = read(
            Controller::Two,
            &[
                ("memory.max", "max\n"),
                ("memory.current", "104857600\n"),
                ("memory.swap.max", "max\n"),
                ("memory.stat", "inactive_file 0\n"),
            ],
        );
        check(
            &memory,
            &[
                ("MemTotal", Some(1000.0)),
                ("MemFree", Some(900.0)),
                ("MemAvailable", Some(900.0)),
                ("SwapTotal", Some(200.0)),
                // The kernel does not account swap.
                ("SwapFree", None),
            ],
        );
    }

    #[test]
    fn v1_tells_memory_and_swap_together_and_limits_above() {
        let stat = mib(&[
            ("cache", 1),
            ("total_cache", 60),
            ("total_rss", 40),
            ("total_swap", 4),
            ("total_active_file", 20),
            ("total_inactive_file", 30),
            ("hierarchical_memory_limit", 200),
            ("hierarchical_memsw_limit", 230),
        ]);
        let memory = read(
            Controller::One,
            &[
                ("memory.limit_in_bytes", "268435456\n"),
                ("memory.memsw.limit_in_bytes", "268435456\n"),
                ("memory.usage_in_bytes", "125829120\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                ("memory.stat", &stat),
            ],
        );
        check(
            &memory,
            &[
                ("MemTotal", Some(200.0)),
                ("MemFree", Some(80.0)),
                ("MemAvailable", Some(130.0)),
                ("SwapTotal", Some(30.0)),
                ("SwapFree", Some(26.0)),
                ("Cached", Some(60.0)),
                ("AnonPages", Some(40.0)),
                ("SReclaimable", Some(0.0)),
                ("Slab", None),
            ],
        );
        assert_eq!(memory.counter("oom_kill"), Some(3.0));
    }

    #[test]
    fn the_root_which_tells_no_usage_is_no_container() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.stat"), "anon 1\n").unwrap();
        let mut files = MemoryFiles::new(&Controller::Two(vec![dir.path().into()])).unwrap();
        assert_eq!(files.read(NOW, &mut Vec::new()), None);
        assert!(MemoryFiles::new(&Controller::Two(Vec::new())).is_none());
    }

    proptest! {
        #[test]
        fn no_number_makes_more_free_than_there_is(
            usage in any::<u64>(), limit in any::<u64>(), file in any::<u64>(), stat in any::<String>(),
        ) {
            let memory = read(
                Controller::Two,
                &[
                    ("memory.max", &limit.to_string()),
                    ("memory.current", &usage.to_string()),
                    ("memory.stat", &format!("inactive_file {file}\n{stat}")),
                ],
            );
            let total = memory.field("MemTotal", node).unwrap();
            prop_assert!(total <= 1000.0 * MIB);
            for name in ["MemFree", "MemAvailable"] {
                let value = memory.field(name, node).unwrap();
                prop_assert!((0.0..=total).contains(&value), "{name} {value} of {total}");
            }
        }
    }
}
