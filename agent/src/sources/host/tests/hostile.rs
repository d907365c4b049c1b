//! Files that no kernel writes: huge, of other words than they should have, the same things twice.

use super::*;
use crate::sources::CPUS_MAX;

/// What a source tells of files: families and series, and how many problems.
fn told(name: &str, files: &[(&str, &str)]) -> (usize, usize, usize) {
    let dir = host_of(files);
    let mut reading = Reading::default();
    source(name, &settings()).read(&roots(dir.path()), NOW, &mut reading);
    reading.end();
    let series = reading.families().map(|family| family.metrics.len()).sum();
    (reading.families().count(), series, reading.problems.len())
}

fn times(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(text).collect()
}

#[test]
fn what_is_told_is_bounded_whatever_there_is() {
    let words = |count, text: &str| text.repeat(count);
    let stat = times(CPUS_MAX + 9, |n| format!("cpu{n} 1\n"));
    // 8 modes and 2 of guests each.
    assert_eq!(told("cpu", &[("proc/stat", &stat)]), (2, CPUS_MAX * 10, 0));
    let stat = format!("softirq {}\n", words(1000, "1 "));
    let dir = host_of(&[("proc/stat", &stat)]);
    let mut reading = Reading::default();
    let mut with_vectors = settings();
    with_vectors.set("stat", "softirq", true);
    source("stat", &with_vectors).read(&roots(dir.path()), NOW, &mut reading);
    assert_eq!(lines(&reading).len(), 10);

    let memory = times(6000, |n| format!("Field{n}: 1 kB\n"));
    assert_eq!(told("meminfo", &[("proc/meminfo", &memory)]), (4096, 4096, 256));
    let cpus = times(CPUS_MAX + 9, |n| format!("CPU{n} "));
    let softirqs = format!("{cpus}\n{}", times(40, |n| format!("K{n}: 1 2\n")));
    assert_eq!(told("softirqs", &[("proc/softirqs", &softirqs)]), (1, 64, 0));
    let ones = words(CPUS_MAX, "1 ");
    let interrupts = format!("{cpus}\n{}", times(20, |n| format!("{n}: {ones} a b\n")));
    assert_eq!(told("interrupts", &[("proc/interrupts", &interrupts)]), (1, 131_072, 1));
    let caches = format!("{}\n{}\n", times(500, |n| format!("f{n} ")), words(500, "1 "));
    assert_eq!(told("lnstat", &[("proc/net/stat/arp_cache", &caches)]), (64, 64, 0));
    let fields = times(300, |n| format!("f{n} 1\n"));
    let nodes: Vec<String> = (0..3).map(|n| format!("sys/devices/system/node/node{n}/")).collect();
    let files: Vec<(String, String)> = nodes
        .iter()
        .enumerate()
        .flat_map(|(n, dir)| {
            let other = fields.replace('f', &format!("node{n}_"));
            [(format!("{dir}numastat"), other), (format!("{dir}meminfo"), String::new())]
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    assert_eq!(told("meminfo_numa", &files), (256, 256, 0));
    // A line more than any file of the kernel has.
    let softnet = words(131_073, "1\n");
    assert_eq!(told("softnet", &[("proc/net/softnet_stat", &softnet)]), (0, 0, 1));
}

#[test]
fn what_stands_twice_or_is_no_name_is_told_once_or_not() {
    for (name, path, text, expected) in [
        ("meminfo", "meminfo", "A: 1\nA: 2\nActive(x): 1\nActive_x: 2\na%b: 1\n\u{fffd}: 1\n", 4),
        ("vmstat", "vmstat", "pgpgin 1\npgpgin 2\npgpg-x 1\n", 2),
        ("netstat", "net/netstat", "A-: InErrors\nA-: 1\nB: InErrors InErrors\nB: 1 2\n", 2),
        ("sockstat", "net/sockstat", "T/P: inuse 1\nTCP: inuse 1 inuse 2\n", 2),
    ] {
        let dir = host_of(&[(&format!("proc/{path}"), text), ("proc/net/snmp", "")]);
        let mut reading = Reading::default();
        source(name, &settings()).read(&roots(dir.path()), NOW, &mut reading);
        assert_eq!(reading.problems.len(), expected, "{name}: {:?}", reading.problems);
        let mut names: Vec<&str> = reading.families().map(|f| f.name.as_str()).collect();
        assert!(!names.is_empty() && reading.families().all(|f| f.metrics.len() == 1), "{name}");
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{name}");
    }
}

#[test]
fn numbers_of_a_device_are_no_path() {
    let line = |major: &str| format!("{major} 0 sda 1 2 3\n");
    let at = |major: &str| told("diskstats", &[("proc/diskstats", &line(major))]);
    assert_eq!(at("8"), (4, 4, 0));
    assert_eq!(at("8/../../x"), (0, 0, 0));
    assert_eq!(at("-8"), (0, 0, 0));
    let udev = format!("E:ID_MODEL={}\nE:ID_FS_TYPE=ext4\n", "x".repeat(1 << 20));
    let files = [("proc/diskstats", line("8")), ("udev/b8:0", udev)];
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
    assert_eq!(told("diskstats", &files), (4, 4, 0), "what is longer is cut");
}

#[test]
fn a_device_of_any_name_is_told_as_text() {
    let dir = host_of(&[("sys/class/net/eth0/mtu", "1500\n")]);
    std::fs::create_dir_all(dir.path().join("proc/net")).unwrap();
    let columns = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
    let text = [b"\n\n\xffa:".as_slice(), columns.as_bytes(), b"eth0:", columns.as_bytes()];
    std::fs::write(dir.path().join("proc/net/dev"), text.concat()).unwrap();
    let mut reading = Reading::default();
    source("netdev", &settings()).read(&roots(dir.path()), NOW, &mut reading);
    let told = lines(&reading);
    assert_eq!(told[0], "node_network_receive_bytes_total{device=\"\u{fffd}a\"} 1");
    assert_eq!(told[1], "node_network_receive_bytes_total{device=\"eth0\"} 1");
}
