//! The host's sources on trees as a container shows them: what is told is the container's.

use std::collections::BTreeMap;
use std::path::Path;

use stoa_exchange::exposition;

use crate::sources::settings::Settings;
use crate::sources::{Now, Reading, Roots, Source, registry};

/// 2026-02-02 02:40 UTC
const SECOND: i64 = 1_000_000;
const NOW: Now = Now { unix_micros: 1_770_000_000 * SECOND };

/// The node's files as they show in any container, with 4 CPUs, 16 GiB, and a load of 9.
const NODE: &[(&str, &str)] = &[
    (
        "proc/meminfo",
        "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 2097152 kB\nBuffers: 7 kB\n\
         Cached: 7 kB\nSwapTotal: 1048576 kB\nSwapFree: 7 kB\nAnonPages: 7 kB\nSlab: 7 kB\n\
         SReclaimable: 7 kB\nCommitLimit: 7 kB\nDirectMap4k: 7 kB\nHugePages_Total: 7\n",
    ),
    (
        "proc/stat",
        "cpu 4 4 4 4\ncpu0 1 1 1 1\ncpu1 1 1 1 1\ncpu2 1 1 1 1\ncpu3 1 1 1 1\nintr 7\nctxt 7\n\
         btime 1769000000\nprocesses 7\nprocs_running 7\nprocs_blocked 7\n",
    ),
    ("proc/loadavg", "9.00 9.00 9.00 1/719 19737\n"),
    ("proc/uptime", "1000000.00 7.00\n"),
    ("proc/vmstat", "nr_free_pages 7\npgpgin 7\npgfault 7\npgmajfault 7\noom_kill 7\npswpin 7\n"),
    ("proc/pressure/cpu", "some avg10=0.00 total=7000000\nfull avg10=0.00 total=7000000\n"),
    ("proc/pressure/io", "some avg10=0.00 total=7000000\nfull avg10=0.00 total=7000000\n"),
    ("proc/pressure/memory", "some avg10=0.00 total=7000000\nfull avg10=0.00 total=7000000\n"),
    ("proc/schedstat", "version 15\ntimestamp 1\ncpu0 0 0 0 0 0 0 7 7 7\n"),
    (
        "proc/diskstats",
        "254 0 vda 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7\n8 0 sda 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7\n",
    ),
];

/// Init began 990,000 seconds after the node: 10,000 seconds ago.
const INIT: &[(&str, &str)] = &[
    ("proc/1/environ", "PATH=/bin\0container=lxc\0"),
    ("proc/1/stat", "1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99000000 0\n"),
    ("proc/1/status", "Name:\tinit\nCpus_allowed_list:\t1-2\n"),
    ("proc/1/uid_map", "         0     100000      65536\n"),
    ("proc/30/stat", "30 (dd) D 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99000000 0\n"),
    ("proc/31/stat", "31 (yes) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99000000 0\n"),
];

const V2: &[(&str, &str)] = &[
    ("proc/1/cgroup", "0::/init.scope\n"),
    (
        "proc/1/mountinfo",
        "1 0 254:0 / / rw - ext4 /dev/vda rw\n30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    ),
    ("sys/fs/cgroup/memory.max", "1073741824\n"),
    ("sys/fs/cgroup/memory.current", "536870912\n"),
    ("sys/fs/cgroup/memory.swap.max", "268435456\n"),
    ("sys/fs/cgroup/memory.swap.current", "0\n"),
    ("sys/fs/cgroup/memory.events", "oom_kill 2\n"),
    (
        "sys/fs/cgroup/memory.stat",
        "anon 268435456\nfile 134217728\nactive_file 67108864\ninactive_file 67108864\n\
         slab 1048576\nslab_reclaimable 524288\npgfault 11\npgmajfault 12\n",
    ),
    ("sys/fs/cgroup/cpu.stat", "user_usec 30000000\nsystem_usec 10000000\nnr_throttled 3\n"),
    ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
    ("sys/fs/cgroup/cpu.pressure", "some avg10=1.00 total=1500000\nfull avg10=0.00 total=0\n"),
    ("sys/fs/cgroup/io.pressure", "some avg10=1.00 total=2500000\nfull avg10=0.00 total=500000\n"),
    ("sys/fs/cgroup/io.stat", "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=1024 dios=1\n"),
    ("sys/fs/cgroup/pids.current", "3\n"),
    ("sys/fs/cgroup/pids.max", "max\n"),
];

type Files<'a> = &'a [&'a [(&'a str, &'a str)]];

/// Paths and texts as files; `{dir}` in a text is where they are.
fn tree(files: Files<'_>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files.iter().copied().flatten() {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("{dir}", dir.path().to_str().unwrap())).unwrap();
    }
    dir
}

fn roots(dir: &Path) -> Roots {
    Roots {
        procfs: dir.join("proc"),
        sysfs: dir.join("sys"),
        rootfs: dir.into(),
        udev: dir.join("udev"),
        textfile: None,
        identity: None,
    }
}

/// The sources that this is about; others read the machine the test runs on.
fn sources(settings: &Settings) -> Vec<Box<dyn Source>> {
    let names = [
        "cpu",
        "stat",
        "loadavg",
        "meminfo",
        "vmstat",
        "pressure",
        "schedstat",
        "diskstats",
        "filesystem",
        "container",
    ];
    let planned = registry::sources(settings).unwrap().into_iter();
    planned.map(|planned| planned.source).filter(|s| names.contains(&s.name())).collect()
}

/// Reads all sources at each of `times`; returns each series of the last with its value.
fn told(settings: &Settings, dir: &Path, times: &[Now]) -> BTreeMap<String, f64> {
    let mut last = BTreeMap::new();
    let mut sources = sources(settings);
    for now in times {
        last.clear();
        for source in &mut sources {
            let mut reading = Reading::default();
            source.read(&roots(dir), *now, &mut reading);
            assert!(reading.problems.is_empty(), "{}: {:?}", source.name(), reading.problems);
            let mut out = Vec::new();
            exposition::write(reading.families(), &mut out).unwrap();
            for line in String::from_utf8(out).unwrap().lines().filter(|l| !l.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').unwrap();
                last.insert(series.to_owned(), value.parse().unwrap());
            }
        }
    }
    last
}

fn once(files: Files<'_>) -> BTreeMap<String, f64> {
    told(&Settings::default(), tree(files).path(), &[NOW])
}

/// The series whose names begin with one of `prefixes`, as lines.
fn lines(told: &BTreeMap<String, f64>, prefixes: &[&str]) -> Vec<String> {
    let wanted = |series: &str| prefixes.iter().any(|prefix| series.starts_with(prefix));
    told.iter().filter(|(s, _)| wanted(s)).map(|(s, value)| format!("{s} {value}")).collect()
}

#[test]
fn memory_is_the_containers() {
    let told = once(&[NODE, INIT, V2]);
    assert_eq!(
        lines(&told, &["node_memory_", "node_vmstat_"]),
        [
            "node_memory_AnonPages_bytes 268435456",
            "node_memory_Buffers_bytes 0",
            "node_memory_Cached_bytes 134217728",
            "node_memory_MemAvailable_bytes 671612928",
            "node_memory_MemFree_bytes 536870912",
            "node_memory_MemTotal_bytes 1073741824",
            "node_memory_SReclaimable_bytes 524288",
            "node_memory_Slab_bytes 1048576",
            "node_memory_SwapFree_bytes 268435456",
            "node_memory_SwapTotal_bytes 268435456",
            "node_vmstat_oom_kill 2",
            "node_vmstat_pgfault 11",
            "node_vmstat_pgmajfault 12",
        ]
    );
}

#[test]
fn cpu_load_and_boot_are_the_containers() {
    let told = once(&[NODE, INIT, V2]);
    assert_eq!(
        lines(
            &told,
            &["node_cpu_", "node_load", "node_procs", "node_boot", "node_intr", "node_context"]
        ),
        [
            // Two CPUs for a quota of 1.5 and a cpuset of 2; there since 10,000 seconds.
            "node_boot_time_seconds 1769990000",
            r#"node_cpu_seconds_total{cpu="1",mode="idle"} 9980"#,
            r#"node_cpu_seconds_total{cpu="1",mode="system"} 5"#,
            r#"node_cpu_seconds_total{cpu="1",mode="user"} 15"#,
            r#"node_cpu_seconds_total{cpu="2",mode="idle"} 9980"#,
            r#"node_cpu_seconds_total{cpu="2",mode="system"} 5"#,
            r#"node_cpu_seconds_total{cpu="2",mode="user"} 15"#,
            "node_load1 2",
            "node_load15 2",
            "node_load5 2",
            "node_procs_blocked 1",
            "node_procs_running 1",
        ]
    );
    assert_eq!(lines(&told, &["node_schedstat_", "node_forks"]), [""; 0]);
}

#[test]
fn pressure_and_disks_are_the_containers() {
    let told = once(&[NODE, INIT, V2]);
    assert_eq!(
        lines(&told, &["node_pressure_"]),
        [
            "node_pressure_cpu_waiting_seconds_total 1.5",
            "node_pressure_io_stalled_seconds_total 0.5",
            "node_pressure_io_waiting_seconds_total 2.5",
        ]
    );
    let disks = lines(&told, &["node_disk_"]);
    let disks: Vec<&str> =
        disks.iter().map(String::as_str).filter(|l| !l.contains("info")).collect();
    assert_eq!(
        disks,
        [
            r#"node_disk_discarded_sectors_total{device="vda"} 2"#,
            r#"node_disk_discards_completed_total{device="vda"} 1"#,
            r#"node_disk_read_bytes_total{device="vda"} 4096"#,
            r#"node_disk_reads_completed_total{device="vda"} 1"#,
            r#"node_disk_writes_completed_total{device="vda"} 2"#,
            r#"node_disk_written_bytes_total{device="vda"} 8192"#,
        ]
    );
}

#[test]
fn what_binds_the_container_is_told() {
    assert_eq!(
        lines(&once(&[NODE, INIT, V2]), &["stoa_container_"]),
        [
            "stoa_container_cpu_limit_cpus 1.5",
            "stoa_container_cpu_throttled_periods_total 3",
            r#"stoa_container_info{cgroup="v2",runtime="lxc",unprivileged="true"} 1"#,
            "stoa_container_memory_limit_bytes 1073741824",
            "stoa_container_tasks 3",
        ]
    );
}

#[test]
fn on_a_host_and_when_turned_off_the_nodes_numbers_are_told() {
    let host: &[(&str, &str)] = &[
        ("proc/1/environ", "PATH=/bin\0"),
        ("proc/1/cgroup", "0::/init.scope\n"),
        ("proc/1/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
    ];
    let on_host = once(&[NODE, host]);
    let off = Settings::parse("[sources.container]\nmode = 'off'\n").unwrap();
    let turned_off = told(&off, tree(&[NODE, INIT, V2]).path(), &[NOW]);
    for told in [&on_host, &turned_off] {
        assert_eq!(told["node_memory_MemTotal_bytes"], 16.0 * 1024.0 * 1024.0 * 1024.0);
        assert_eq!(told["node_load1"], 9.0);
        assert_eq!(told["node_intr_total"], 7.0);
        assert_eq!(told["node_pressure_cpu_waiting_seconds_total"], 7.0);
        assert_eq!(told[r#"node_cpu_seconds_total{cpu="3",mode="idle"}"#], 0.01);
    }
    assert_eq!(lines(&on_host, &["stoa_container_"]), [""; 0]);
}

#[test]
fn the_hosts_proc_given_to_a_container_is_the_hosts() {
    // The container's own root has Docker's marker; init's is another.
    let dir = tree(&[
        NODE,
        &[
            ("proc/1/cgroup", "0::/../../../init.scope\n"),
            ("proc/1/mountinfo", "1 0 254:0 / / rw - ext4 /dev/vda rw\n"),
            ("proc/self/mountinfo", "9 0 0:99 / / rw - overlay overlay rw\n"),
        ],
    ]);
    let told = told(&Settings::default(), dir.path(), &[NOW]);
    assert_eq!(told["node_load1"], 9.0);
}

#[test]
fn idle_grows_by_what_the_use_leaves() {
    let dir = tree(&[NODE, INIT, V2]);
    let settings = Settings::default();
    let mut sources = sources(&settings);
    let mut idle = |at: i64, uptime: &str, used: &str| {
        std::fs::write(dir.path().join("proc/uptime"), uptime).unwrap();
        let stat = format!("user_usec {used}\nsystem_usec 10000000\n");
        std::fs::write(dir.path().join("sys/fs/cgroup/cpu.stat"), stat).unwrap();
        let source = sources.iter_mut().find(|source| source.name() == "cpu").unwrap();
        let mut reading = Reading::default();
        let now = Now { unix_micros: NOW.unix_micros + at * SECOND };
        source.read(&roots(dir.path()), now, &mut reading);
        let times = reading.families().find(|f| f.name == "node_cpu_seconds_total").unwrap();
        let is_idle = |labels: &stoa_model::Labels| labels.get("mode") == Some("idle");
        times.metrics.iter().filter(|m| is_idle(&m.labels)).map(|m| m.value).sum::<f64>()
    };
    let first = idle(0, "1000000.00 1\n", "30000000");
    // Ten seconds of two CPUs, of which 15 CPU seconds were used.
    let second = idle(10, "1000010.00 1\n", "45000000");
    assert!((second - first - 5.0).abs() < 1e-6, "{first} {second}");
}

#[test]
fn a_limit_that_is_changed_while_the_container_runs_is_followed() {
    let dir = tree(&[NODE, INIT, V2]);
    let settings = Settings::parse("[sources]").unwrap();
    let mut sources = sources(&settings);
    let mut told = |name: &str, at: i64| {
        let source = sources.iter_mut().find(|source| source.name() == name).unwrap();
        let mut reading = Reading::default();
        let now = Now { unix_micros: NOW.unix_micros + at * SECOND };
        source.read(&roots(dir.path()), now, &mut reading);
        let of = |name: &str| {
            reading.families().find(|family| family.name == name).map(|f| f.metrics[0].value)
        };
        [
            "node_memory_MemTotal_bytes",
            "stoa_container_memory_limit_bytes",
            "stoa_container_cpu_limit_cpus",
        ]
        .map(of)
    };
    const GIB: f64 = 1_073_741_824.0;
    assert_eq!(told("meminfo", 0), [Some(GIB), None, None]);
    let change = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
    change("sys/fs/cgroup/memory.max", "2147483648\n");
    change("proc/1/status", "Name:\tinit\nCpus_allowed_list:\t1\n");
    // What was read of memory in this tick is told in it.
    assert_eq!(told("container", 0), [None, Some(GIB), Some(1.0)]);
    assert_eq!(told("container", 1), [None, Some(2.0 * GIB), Some(1.0)]);
    assert_eq!(told("meminfo", 1), [Some(2.0 * GIB), None, None]);
}

/// What lxcfs adds: its mounts, and a limit that no cgroup in sight tells.
const LXCFS: &[(&str, &str)] = &[
    (
        "proc/1/mountinfo",
        "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
         101 83 0:41 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n\
         103 83 0:41 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw\n\
         107 83 0:41 /proc/uptime /proc/uptime rw - fuse.lxcfs lxcfs rw\n",
    ),
    ("proc/meminfo", "MemTotal: 524288 kB\nMemFree: 7 kB\nSwapTotal: 0 kB\nKernelStack: 7 kB\n"),
    ("proc/stat", "cpu 4 4 4 4\ncpu0 1 1 1 1\nbtime 1769000000\n"),
    ("proc/uptime", "10000.00 7.00\n"),
    ("sys/fs/cgroup/memory.max", "max\n"),
    ("sys/fs/cgroup/memory.current", "104857600\n"),
];

#[test]
fn lxcfs_knows_limits_that_are_set_out_of_sight() {
    let told = once(&[NODE, INIT, V2, LXCFS]);
    assert_eq!(told["node_memory_MemTotal_bytes"], 512.0 * 1024.0 * 1024.0);
    assert_eq!(told["node_memory_MemFree_bytes"], 412.0 * 1024.0 * 1024.0);
    // That lxcfs says 0 of swap tells nothing with v2; the limit is in sight.
    assert_eq!(told["node_memory_SwapTotal_bytes"], 256.0 * 1024.0 * 1024.0);
    let max: &[(&str, &str)] = &[("sys/fs/cgroup/memory.swap.max", "max\n")];
    let without = once(&[NODE, INIT, V2, LXCFS, max]);
    assert_eq!(lines(&without, &["node_memory_Swap"]), [""; 0]);
    assert_eq!(told["node_boot_time_seconds"], 1_769_990_000.0);
    // It shows one CPU, of a cpuset of two and a quota of 1.5: the whole use is that CPU's.
    assert_eq!(
        lines(&told, &["node_cpu_seconds_total"]),
        [
            r#"node_cpu_seconds_total{cpu="1",mode="idle"} 9960"#,
            r#"node_cpu_seconds_total{cpu="1",mode="system"} 10"#,
            r#"node_cpu_seconds_total{cpu="1",mode="user"} 30"#,
        ]
    );
    // The cgroup does not tell it, and the node's is not the container's.
    assert_eq!(lines(&told, &["node_memory_KernelStack"]), [""; 0]);
}

/// An unprivileged container of Proxmox 8: `lxc/101` has the limits, the container sees `lxc/101/ns`
/// as its root, where every limit reads `max` and the use is that of all below. Debian's systemd runs
/// in it, and Docker: two gibibytes of node's memory, half of one in use.
const PROXMOX: &[(&str, &str)] = &[
    ("proc/1/cgroup", "0::/init.scope\n"),
    (
        "proc/1/mountinfo",
        "1 0 0:52 / / rw,noatime - zfs rpool/data/subvol-101-disk-0 rw,xattr,posixacl\n\
         2 1 0:60 / /proc rw,nosuid - proc proc rw\n\
         3 2 0:48 /proc/cpuinfo /proc/cpuinfo rw,nosuid - fuse.lxcfs lxcfs rw,allow_other\n\
         4 2 0:48 /proc/meminfo /proc/meminfo rw,nosuid - fuse.lxcfs lxcfs rw,allow_other\n\
         5 2 0:48 /proc/stat /proc/stat rw,nosuid - fuse.lxcfs lxcfs rw,allow_other\n\
         6 2 0:48 /proc/uptime /proc/uptime rw,nosuid - fuse.lxcfs lxcfs rw,allow_other\n\
         9 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 none rw\n",
    ),
    ("proc/meminfo", "MemTotal: 2097152 kB\nMemFree: 7 kB\nSwapTotal: 524288 kB\n"),
    // With v2 lxcfs hands through the node's times, of the cpuset's CPUs and numbered anew.
    ("proc/stat", "cpu 4 4 4 4\ncpu0 7 7 7 7\ncpu1 7 7 7 7\nbtime 1769000000\n"),
    ("proc/uptime", "10000.00 7.00\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
    ("sys/fs/cgroup/cgroup.type", "domain\n"),
    ("sys/fs/cgroup/memory.max", "max\n"),
    ("sys/fs/cgroup/memory.swap.max", "max\n"),
    ("sys/fs/cgroup/memory.current", "536870912\n"),
    ("sys/fs/cgroup/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/cpuset.cpus.effective", "1-2\n"),
    // What systemd and Docker keep below, each with less of it.
    ("sys/fs/cgroup/init.scope/memory.current", "4194304\n"),
    ("sys/fs/cgroup/init.scope/memory.max", "max\n"),
    ("sys/fs/cgroup/init.scope/cpu.stat", "user_usec 1\nsystem_usec 1\n"),
    ("sys/fs/cgroup/system.slice/stoa-agent.service/memory.max", "134217728\n"),
    ("sys/fs/cgroup/system.slice/stoa-agent.service/memory.current", "8388608\n"),
];

/// The files of a Docker container in [`PROXMOX`], at `path` below the cgroup that is seen as root.
const IN_DOCKER: &[(&str, &str)] = &[
    ("proc/1/environ", "PATH=/bin\0"),
    (".dockerenv", ""),
    ("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 7 kB\nSwapTotal: 1048576 kB\n"),
    ("proc/stat", "cpu 4 4 4 4\ncpu0 1 1 1 1\ncpu1 1 1 1 1\ncpu2 1 1 1 1\nbtime 1769000000\n"),
    ("proc/uptime", "1000000.00 7.00\n"),
    (
        "proc/1/mountinfo",
        "1 0 0:70 / / rw - overlay overlay rw\n2 1 0:71 / /proc rw - proc proc rw\n\
         9 1 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
    ),
];

#[test]
fn the_shapes_that_nesting_gives_are_told_as_what_they_are() {
    const GIB: f64 = 1_073_741_824.0;
    let id = "0123456789abcdef".repeat(4);
    let scope = format!("system.slice/docker-{id}.scope");
    let below = |name: &str| format!("sys/fs/cgroup/{scope}/{name}");
    let names = ["memory.max", "memory.current", "memory.stat", "cpu.stat"].map(below);
    let [max, current, stat, times] = names.each_ref().map(String::as_str);
    let of_docker: &[(&str, &str)] = &[
        (max, "268435456\n"),
        (current, "134217728\n"),
        (stat, "anon 1\n"),
        (times, "user_usec 3000000\nsystem_usec 1000000\n"),
    ];
    let path = format!("0::/{scope}\n");
    let at_scope: &[(&str, &str)] = &[("proc/1/cgroup", &path)];
    let limit_above: &[(&str, &str)] =
        &[(max, "max\n"), ("sys/fs/cgroup/memory.max", "2147483648\n")];
    let path_of_other = format!("0::/own/{id}\n");
    let other = ["memory.max", "memory.current", "memory.stat"]
        .map(|name| format!("sys/fs/cgroup/own/{id}/{name}"));
    let [other_max, other_current, other_stat] = other.each_ref().map(String::as_str);
    let of_other: &[(&str, &str)] = &[
        ("proc/1/cgroup", &path_of_other),
        (other_max, "268435456\n"),
        (other_current, "134217728\n"),
        (other_stat, "anon 1\n"),
    ];
    // Name, files, MemTotal and what is not free of it in GiB, SwapTotal in GiB, CPU seconds used.
    type Shape<'a> = (&'a str, Vec<&'a [(&'a str, &'a str)]>, f64, f64, f64, Option<f64>);
    let shapes: Vec<Shape<'_>> = vec![
        ("limits out of sight, that lxcfs knows", vec![], 2.0, 0.5, 0.5, Some(40.0)),
        (
            "the same, and a unit of the agent's that hides lxcfs",
            vec![&[
                (
                    "proc/self/mountinfo",
                    "2 1 0:61 / {dir}/proc rw - proc proc rw,hidepid=noaccess\n",
                ),
                ("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 7 kB\nSwapTotal: 1048576 kB\n"),
                ("proc/uptime", "1000000.00 7.00\n"),
            ]],
            16.0,
            0.5,
            1.0,
            Some(40.0),
        ),
        (
            "without lxcfs nothing tells the limit; the use is the container's all the same",
            vec![&[
                ("proc/1/mountinfo", "9 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 none rw\n"),
                ("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 7 kB\nSwapTotal: 1048576 kB\n"),
                ("proc/uptime", "1000000.00 7.00\n"),
            ]],
            16.0,
            0.5,
            1.0,
            Some(40.0),
        ),
        (
            "init has moved away, as in docker:dind",
            vec![&[
                ("proc/1/cgroup", "0::/init\n"),
                ("sys/fs/cgroup/init/memory.current", "4194304\n"),
                ("sys/fs/cgroup/init/cpu.stat", "user_usec 1\nsystem_usec 1\n"),
            ]],
            2.0,
            0.5,
            0.5,
            Some(40.0),
        ),
        (
            "a Docker container in it that sees itself only",
            vec![
                IN_DOCKER,
                &[
                    ("proc/1/cgroup", "0::/\n"),
                    ("sys/fs/cgroup/memory.max", "268435456\n"),
                    ("sys/fs/cgroup/memory.current", "134217728\n"),
                ],
            ],
            0.25,
            0.125,
            1.0,
            Some(40.0),
        ),
        (
            "one with the cgroup namespace of the container it is in",
            vec![IN_DOCKER, of_docker, at_scope],
            0.25,
            0.125,
            1.0,
            Some(4.0),
        ),
        (
            "the same without a limit of its own, below one that is in sight",
            vec![IN_DOCKER, of_docker, at_scope, limit_above],
            2.0,
            0.125,
            1.0,
            Some(4.0),
        ),
        (
            "one whose cgroup has another parent than Docker's",
            vec![IN_DOCKER, of_other],
            0.25,
            0.125,
            1.0,
            None,
        ),
    ];
    for (name, files, total, used, swap, seconds) in shapes {
        let all: Vec<_> = [NODE, INIT, V2, PROXMOX].into_iter().chain(files).collect();
        let told = once(&all);
        let gib = |series: &str| told.get(series).map(|bytes| bytes / GIB);
        assert_eq!(gib("node_memory_MemTotal_bytes"), Some(total), "{name}");
        let free = gib("node_memory_MemFree_bytes");
        assert_eq!(free.map(|free| total - free), Some(used), "{name}");
        assert_eq!(gib("node_memory_SwapTotal_bytes"), Some(swap), "{name}");
        assert_eq!(told.get("node_boot_time_seconds"), Some(&1_769_990_000.0), "{name}");
        let of = |mode: &str| {
            let is_of = |series: &str| {
                series.starts_with("node_cpu_seconds_total") && series.contains(mode)
            };
            let values: Vec<f64> =
                told.iter().filter(|(series, _)| is_of(series)).map(|(_, value)| *value).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>())
        };
        let busy = of("user").zip(of("system")).map(|(user, system)| user + system);
        assert_eq!(busy, seconds, "{name}");
        // Two CPUs, for the 10,000 seconds that the container has been there.
        assert_eq!(of("idle"), seconds.map(|seconds| 20_000.0 - seconds), "{name}");
    }
}

#[test]
fn without_a_cgroup_in_sight_only_lxcfs_is_believed() {
    let blind: &[(&str, &str)] = &[("proc/1/mountinfo", ""), ("proc/1/cgroup", "0::/\n")];
    let told = once(&[NODE, INIT, blind]);
    for absent in ["node_memory_", "node_cpu_seconds_total", "node_pressure_", "node_disk_"] {
        assert_eq!(lines(&told, &[absent]), [""; 0], "{absent}");
    }
    assert_eq!(told["node_load1"], 2.0, "processes are in sight");

    let mounts = "103 83 0:41 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw\n";
    let with_lxcfs: &[(&str, &str)] = &[("proc/1/mountinfo", mounts)];
    let told = once(&[NODE, INIT, LXCFS, blind, with_lxcfs]);
    assert_eq!(
        lines(&told, &["node_memory_"]),
        [
            "node_memory_MemFree_bytes 7168",
            "node_memory_MemTotal_bytes 536870912",
            "node_memory_SwapTotal_bytes 0",
        ]
    );
}

#[test]
fn a_file_system_is_told_once() {
    let mounts = "1 0 254:0 /c1 / rw - ext4 /dev/vda rw\n\
                  2 1 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw\n\
                  3 1 0:50 / /srv rw - zfs tank/srv rw\n\
                  30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let files: &[(&str, &str)] =
        &[("proc/1/mountinfo", mounts), ("etc/hosts", ""), ("srv/x", ""), ("x", "")];
    let dir = tree(&[NODE, INIT, V2, files]);
    let settings = Settings::parse("[sources.filesystem]\nmount_patience = '5s'\n").unwrap();
    let told = told(&settings, dir.path(), &[NOW]);
    let sizes = lines(&told, &["node_filesystem_size_bytes"]);
    let points: Vec<&str> = sizes.iter().filter_map(|line| line.split('"').nth(5)).collect();
    assert_eq!(points, ["/", "/srv"], "{sizes:?}");
}

#[test]
fn v1_is_told_alike() {
    let one: &[(&str, &str)] = &[
        ("proc/1/cgroup", "4:memory:/\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n5:blkio:/\n0::/\n"),
        (
            "proc/1/mountinfo",
            "1 0 0:1 / /sys/fs/cgroup/memory ro - cgroup none rw,memory\n\
             2 0 0:2 / /sys/fs/cgroup/cpuset ro - cgroup none rw,cpuset\n\
             3 0 0:3 / /sys/fs/cgroup/cpuacct ro - cgroup none rw,cpuacct\n\
             4 0 0:4 / /sys/fs/cgroup/cpu ro - cgroup none rw,cpu\n\
             5 0 0:5 / /sys/fs/cgroup/blkio ro - cgroup none rw,blkio\n\
             6 0 0:6 / /sys/fs/cgroup/unified ro - cgroup2 none rw\n",
        ),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/memory/memory.usage_in_bytes", "536870912\n"),
        ("sys/fs/cgroup/memory/memory.stat", "total_cache 4096\ntotal_swap 0\n"),
        ("sys/fs/cgroup/cpuacct/cpuacct.usage_percpu_user", "0 1000000000 2000000000 0\n"),
        ("sys/fs/cgroup/cpuacct/cpuacct.usage_percpu_sys", "0 0 1000000000 0\n"),
        ("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "1-2\n"),
        ("sys/fs/cgroup/blkio/blkio.throttle.io_serviced_recursive", "254:0 Read 5\nTotal 5\n"),
        ("sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive", "254:0 Read 9\n"),
        ("sys/fs/cgroup/unified/memory.pressure", "some total=1000000\nfull total=0\n"),
    ];
    let told = once(&[NODE, INIT, one]);
    assert_eq!(told["node_memory_MemTotal_bytes"], 1_073_741_824.0);
    assert_eq!(told["node_memory_MemFree_bytes"], 536_870_912.0);
    assert_eq!(told[r#"node_cpu_seconds_total{cpu="1",mode="user"}"#], 1.0);
    assert_eq!(told[r#"node_cpu_seconds_total{cpu="2",mode="idle"}"#], 9997.0);
    assert_eq!(told[r#"node_disk_reads_completed_total{device="vda"}"#], 5.0);
    assert_eq!(told["node_pressure_memory_waiting_seconds_total"], 1.0);
    assert_eq!(
        lines(&told, &["stoa_container_info"]),
        [r#"stoa_container_info{cgroup="hybrid",runtime="lxc",unprivileged="true"} 1"#]
    );
}
