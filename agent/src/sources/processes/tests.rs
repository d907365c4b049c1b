use std::collections::BTreeMap;

use stoa_exchange::exposition;

use super::*;

fn at(seconds: i64) -> Now {
    Now { unix_micros: seconds * 1_000_000 }
}

fn source(settings: &str) -> Processes {
    Processes::with_scan(toml::from_str(settings).unwrap(), SharedScan::default())
}

fn read(source: &mut Processes, roots: &Roots, now: Now) -> Reading {
    let mut reading = Reading::default();
    source.read(roots, now, &mut reading);
    reading.end();
    reading
}

/// The lines told, in order, without help and type, and without counts of nothing.
fn lines(reading: &Reading) -> Vec<String> {
    let mut out = Vec::new();
    exposition::write(reading.families(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let is_told =
        |line: &&str| !line.starts_with('#') && !line.starts_with("stoa_process_left_out");
    text.lines().filter(is_told).map(str::to_owned).collect()
}

fn host() -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    let roots = Roots {
        procfs: dir.path().join("proc"),
        sysfs: dir.path().join("sys"),
        rootfs: dir.path().into(),
        ..Roots::default()
    };
    (dir, roots)
}

fn put(roots: &Roots, path: &str, text: &str) {
    let path = roots.procfs.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn stat(pid: u32, comm: &str, flags: u32, ticks: u64) -> String {
    format!("{pid} ({comm}) R 1 1 1 0 -1 {flags} 7 0 3 0 {ticks} 50 0 0 20 0 3 0 100 8192 2 0\n")
}

#[test]
fn what_is_told_stands_under_names_users_units_and_groups() {
    let (dir, roots) = host();
    put(&roots, "stat", "cpu 1\nbtime 1700000000\n");
    put(&roots, "10/stat", &stat(10, "nginx", 0, 200));
    put(&roots, "10/cgroup", "0::/system.slice/nginx.service\n");
    put(&roots, "10/io", "read_bytes: 4096\nwrite_bytes: 512\n");
    put(&roots, "10/status", "Name:\tnginx\nVmSwap: 4 kB\nvoluntary_ctxt_switches: 9\n");
    put(&roots, "10/limits", "Max open files  100  200  files\n");
    put(&roots, "10/fd/0", "");
    put(&roots, "10/cmdline", "nginx: master\0");
    put(&roots, "11/stat", &stat(11, "kworker/0:1-mm", 0x0020_0000, 0));
    put(&roots, "11/cgroup", "0::/\n");
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let user = rustix::process::geteuid().as_raw();
    std::fs::write(dir.path().join("etc/passwd"), format!("www:x:{user}:0:::\n")).unwrap();
    let mut source = source("[[group]]\ncomm = ['nginx']\nname = '{{.Comm}}'");
    read(&mut source, &roots, at(10));
    put(&roots, "10/stat", &stat(10, "nginx", 0, 350));
    put(&roots, "10/io", "read_bytes: 8192\nwrite_bytes: 512\n");
    let told = lines(&read(&mut source, &roots, at(20)));
    let expected = r#"
stoa_process_cpu_seconds_total{comm="[kworker]",user="www"} 0
stoa_process_cpu_seconds_total{comm="nginx",unit="nginx.service",user="www"} 1.5
stoa_process_resident_memory_bytes{comm="[kworker]",user="www"} 8192
stoa_process_resident_memory_bytes{comm="nginx",unit="nginx.service",user="www"} 8192
stoa_process_read_bytes_total{comm="nginx",unit="nginx.service",user="www"} 4096
stoa_process_written_bytes_total{comm="nginx",unit="nginx.service",user="www"} 0
stoa_process_count{comm="[kworker]",user="www"} 1
stoa_process_count{comm="nginx",unit="nginx.service",user="www"} 1
stoa_user_cpu_seconds_total{user="www"} 1.5
stoa_user_resident_memory_bytes{user="www"} 16384
stoa_user_processes{user="www"} 2
stoa_unit_cpu_seconds_total{unit="nginx.service"} 1.5
stoa_unit_resident_memory_bytes{unit="nginx.service"} 8192
stoa_unit_read_bytes_total{unit="nginx.service"} 4096
stoa_unit_written_bytes_total{unit="nginx.service"} 0
stoa_unit_processes{unit="nginx.service"} 1
namedprocess_namegroup_num_procs{groupname="nginx"} 1
namedprocess_namegroup_cpu_seconds_total{groupname="nginx",mode="user"} 1.5
namedprocess_namegroup_cpu_seconds_total{groupname="nginx",mode="system"} 0
namedprocess_namegroup_memory_bytes{groupname="nginx",memtype="resident"} 8192
namedprocess_namegroup_memory_bytes{groupname="nginx",memtype="virtual"} 8192
namedprocess_namegroup_memory_bytes{groupname="nginx",memtype="swapped"} 4096
namedprocess_namegroup_read_bytes_total{groupname="nginx"} 4096
namedprocess_namegroup_write_bytes_total{groupname="nginx"} 0
namedprocess_namegroup_num_threads{groupname="nginx"} 3
namedprocess_namegroup_oldest_start_time_seconds{groupname="nginx"} 1.700000001e+09
namedprocess_namegroup_major_page_faults_total{groupname="nginx"} 0
namedprocess_namegroup_minor_page_faults_total{groupname="nginx"} 0
namedprocess_namegroup_context_switches_total{ctxswitchtype="voluntary",groupname="nginx"} 0
namedprocess_namegroup_context_switches_total{ctxswitchtype="nonvoluntary",groupname="nginx"} 0
namedprocess_namegroup_states{groupname="nginx",state="Running"} 1
namedprocess_namegroup_states{groupname="nginx",state="Sleeping"} 0
namedprocess_namegroup_states{groupname="nginx",state="Waiting"} 0
namedprocess_namegroup_states{groupname="nginx",state="Zombie"} 0
namedprocess_namegroup_states{groupname="nginx",state="Other"} 0
"#;
    let mut expected: Vec<&str> = expected.trim().lines().collect();
    // A directory's size is its own here, not the number of descriptors.
    let is_size = |line: &str| line.contains("open_filedesc") || line.contains("worst_fd_ratio");
    let mut told: Vec<&str> =
        told.iter().map(String::as_str).filter(|line| !is_size(line)).collect();
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn settings_are_bounded_and_said_by_name() {
    let wrong = |text: &str| toml::from_str::<Settings>(text).unwrap_err().message().to_owned();
    assert_eq!(wrong("top = 51"), "expected a number up to 50");
    assert_eq!(wrong("hold = '25h'"), "expected a duration up to 24h");
    assert!(wrong("units_max = 5000").starts_with("expected a number up to 1000"));
    assert!(wrong("[[group]]\nname = 'x'").contains("needs comm, exe or cmdline"));
    assert!(wrong("tops = 1").starts_with("unknown field"));
    let settings: Settings = toml::from_str("top = 0\nhold = '1m'").unwrap();
    assert_eq!((settings.top, settings.hold), (0, Duration::from_secs(60)));
}

#[test]
fn labels_stay_the_same_and_nothing_to_read_is_a_failure() {
    let mut source = source("[[group]]\nname='{{.Comm}}'\ncmdline=['.']");
    let roots = Roots::default();
    let first = read(&mut source, &roots, at(10));
    assert!(!first.failed);
    let places = |reading: &Reading| -> BTreeMap<String, *const stoa_model::Label> {
        let series = reading.families().flat_map(|family| {
            family.metrics.iter().map(|m| (format!("{}{}", family.name, m.labels), m.labels.iter()))
        });
        series.map(|(name, labels)| (name, labels.as_slice().as_ptr())).collect()
    };
    let second = read(&mut source, &roots, at(20));
    let (before, after) = (places(&first), places(&second));
    let same = after.iter().filter(|(name, _)| before.contains_key(*name));
    assert!(same.clone().count() > 10);
    assert!(same.clone().all(|(name, place)| before[name] == *place));

    let dir = tempfile::tempdir().unwrap();
    let roots = Roots { procfs: dir.path().join("none"), ..Roots::default() };
    assert!(read(&mut self::source(""), &roots, at(10)).failed);
}
