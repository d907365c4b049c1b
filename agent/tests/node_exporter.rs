//! The host's sources against node_exporter's own fixtures and golden output.
//!
//! Needs the directory that `STOA_CONFORMANCE_DATA` names; says so and passes without it.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be done fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use stoa_agent::print;
use stoa_agent::sources::settings::Settings;
use stoa_agent::sources::{Now, Roots, registry};

/// Families that the sources do not tell, by the beginning of their names; a name that ends with `$`
/// is meant whole. `go_` is of Go's runtime and `promhttp_` of its HTTP server, of which there is none
/// here; the others are told by the daemon, beside its sources.
const OF_OTHER_SOURCES: &[&str] = &["go_", "process_", "promhttp_", "node_exporter_build_info$"];

/// Families of which the golden output has the head only: their values are the machine's own.
const WITHOUT_VALUES: &[&str] = &[
    "node_scrape_collector_duration_seconds",
    "node_textfile_mtime_seconds",
    "node_time_seconds",
    "node_time_zone_offset_seconds",
    "node_network_receive_bytes_total",
    "node_network_receive_packets_total",
    "node_network_transmit_bytes_total",
    "node_network_transmit_packets_total",
];

/// Sources that the golden output was made without.
const NOT_IN_GOLDEN: &[&str] = &[
    "filesystem",
    "uname",
    "smart",
    "zpool",
    "zfs_datasets",
    "lvm",
    "arrays",
    "packages",
    "process",
    "proxmox",
    "backup_server",
    "apt",
    "reboot",
    "boots",
    "oom",
    "nvidia",
    "ollama",
    "drm",
    "time_sync",
    "ntp",
    "certificates",
    "nut",
    "inventory",
    "container",
    "containers",
    "ethtool",
    "network_route",
    "selinux",
    "systemd",
    "tcpstat",
    "timex",
];

/// What the golden output was made with and the fixtures lack.
const OS_RELEASE: &str = r#"NAME="Ubuntu"
VERSION="20.04.2 LTS (Focal Fossa)"
ID=ubuntu
ID_LIKE=debian
PRETTY_NAME="Ubuntu 20.04.2 LTS"
VERSION_ID="20.04"
VERSION_CODENAME=focal
"#;

/// What the golden output's wireless readings were made from, in our own form: the fixtures lack it.
const WIFI: [(&str, &str); 3] = [
    (
        "interfaces.json",
        r#"[{"name": "wlan0", "frequency_mhz": 2412}, {"name": "wlan1", "frequency_mhz": 2412}]"#,
    ),
    (
        "wlan0/bss.json",
        r#"{"ssid": "Example", "bssid": "00:11:22:33:44:55", "status": "associated"}"#,
    ),
    (
        "wlan0/stationinfo.json",
        r#"[{"mac_address": "aa:bb:cc:dd:ee:ff", "connected_s": 30, "inactive_ms": 400,
             "receive_bits_per_second": 128000000, "transmit_bits_per_second": 164000000,
             "signal_dbm": -52, "transmit_retries": 10, "transmit_failed": 2, "beacon_loss": 1},
            {"mac_address": "01:02:03:04:05:06", "connected_s": 60, "inactive_ms": 800,
             "receive_bits_per_second": 256000000, "transmit_bits_per_second": 328000000,
             "signal_dbm": -26, "transmit_retries": 20, "transmit_failed": 4, "beacon_loss": 2}]"#,
    ),
];

/// The golden output's network counters are those of the loopback device it was made on; these are
/// all the fixtures lack of one.
const LOOPBACK: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
";

#[derive(Debug, Default, PartialEq)]
struct Family {
    help: String,
    kind: String,
    /// Values as written, by labels, sorted, without the empty ones: an empty label is no label.
    series: BTreeMap<String, String>,
}

fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            families.entry(name.into()).or_default().help = help.into();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            families.entry(name.into()).or_default().kind = kind.into();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let family = families.entry(name.into()).or_default();
            let twice = family.series.insert(without_empty(labels), value.into());
            assert_eq!(twice, None, "{series} stands twice");
        }
    }
    families
}

fn without_empty(labels: &str) -> String {
    let Some(pairs) = labels.strip_suffix("\"}") else { return String::new() };
    let mut pairs: Vec<&str> = pairs.split("\",").filter(|pair| !pair.ends_with("=\"")).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|pair| format!("{pair}\",")).collect()
}

fn is_of_other_source(name: &str) -> bool {
    OF_OTHER_SOURCES.iter().any(|prefix| match prefix.strip_suffix('$') {
        Some(whole) => whole == name,
        None => name.starts_with(prefix),
    })
}

/// The flags the golden output was made with, as configuration keys.
const GOLDEN: &str = r#"
[sources.arp]
device_exclude = "nope"
[sources.bcache]
priority_stats = true
[sources.cpu]
info = true
info_flags_include = "^(aes|avx.?|constant_tsc)$"
info_bugs_include = "^(cpu_meltdown|spectre_.*|mds)$"
[sources.hwmon]
chip_include = "(applesmc|asus_nb_wmi|coretemp|hwmon4|ieee80211|nct6779)"
[sources.netclass]
ignore_invalid_speed = true
# `^lo$` for the loopback device that is added to the fixtures.
ignored_devices = "(dmz|int|^lo$)"
[sources.netdev]
device_include = "lo"
[sources.qdisc]
device_include = "(wlan0|eth0)"
[sources.stat]
softirq = true
[sources.interrupts]
include_zeros = true
[sources.sysctl]
include = ["fs.file-nr", "fs.file-nr:total,current,max", "kernel.threads-max"]
include_info = ["kernel.seccomp.actions_avail"]
"#;

/// `fixtures`: where the fixtures of netlink are.
fn golden_settings(fixtures: &Path) -> Settings {
    let mut settings = Settings::parse(GOLDEN).unwrap();
    for name in registry::names() {
        settings.enable(name, !NOT_IN_GOLDEN.contains(&name));
    }
    for name in ["qdisc", "wifi"] {
        settings.set(name, "fixtures", fixtures.join(name).to_str().unwrap());
    }
    settings
}

fn unpack(archive: &Path, into: &Path) {
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(tar.success());
    std::fs::write(into.join("proc/net/dev"), LOOPBACK).unwrap();
    std::fs::create_dir_all(into.join("usr/lib")).unwrap();
    std::fs::write(into.join("usr/lib/os-release"), OS_RELEASE).unwrap();
    std::fs::create_dir_all(into.join("wifi/wlan0")).unwrap();
    for (path, text) in WIFI {
        std::fs::write(into.join("wifi").join(path), text).unwrap();
    }
    let statistics = into.join("sys/class/net/lo/statistics");
    std::fs::create_dir_all(&statistics).unwrap();
    std::fs::write(statistics.join("rx_nohandler"), "0\n").unwrap();
}

#[test]
fn one_pass_over_the_fixtures_equals_the_golden_output() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    let data = Path::new(&data).join("exporters/node_exporter");
    let dir = tempfile::tempdir().unwrap();
    unpack(&data.join("fixtures.tar.gz"), dir.path());
    let roots = Roots {
        procfs: dir.path().join("proc"),
        sysfs: dir.path().join("sys"),
        rootfs: dir.path().into(),
        udev: dir.path().join("udev/data"),
        textfile: Some(dir.path().join("textfile/two_metric_files")),
        identity: None,
    };
    let mut out = Vec::new();
    let now = Now { unix_micros: 1_770_000_000_000_000 };
    print::run(&roots, &golden_settings(dir.path()), now, &mut out, |_| {}).unwrap();
    // Textfiles are named by their path.
    let prefix = format!("{}/", dir.path().display());
    let text = String::from_utf8(out).unwrap().replace(&prefix, "collector/fixtures/");
    let mut ours = parse(&text);

    let golden = std::fs::read_to_string(data.join("e2e-output.txt")).unwrap();
    let mut golden = parse(&golden);
    golden.retain(|name, _| !is_of_other_source(name));
    let told = registry::names().into_iter().filter(|name| !NOT_IN_GOLDEN.contains(name));
    let our_names: BTreeSet<String> = told.map(|name| format!("collector=\"{name}\",")).collect();
    let success = golden.get_mut("node_scrape_collector_success").unwrap();
    success.series.retain(|labels, _| our_names.contains(labels));
    for name in WITHOUT_VALUES {
        let family = ours.get_mut(*name).unwrap();
        assert!(!family.series.is_empty(), "{name} has no series");
        family.series.clear();
    }

    let all = std::fs::read_to_string(data.join("e2e-output.txt")).unwrap();
    let families_in_all = all.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let names: BTreeSet<&String> = golden.keys().chain(ours.keys()).collect();
    let mut differing = Vec::new();
    for name in &names {
        let (expected, told) = (golden.get(*name), ours.get(*name));
        if expected != told {
            differing.push(format!("{name}: expected {expected:?}, told {told:?}"));
        }
    }
    let series: usize = golden.values().map(|family| family.series.len()).sum();
    let equal = names.len() - differing.len();
    println!("{equal} of {families_in_all} families equal node_exporter's ({series} series)");
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}

/// A summary's sum and count that its file does not give: node_exporter tells 0, we tell nothing.
const INVENTED: &[(&str, &str)] = &[
    ("prometheus_rule_evaluation_duration_seconds_sum", r#"handler="foo",rule_type="alerting","#),
    ("prometheus_rule_evaluation_duration_seconds_count", r#"handler="foo",rule_type="alerting","#),
];

#[test]
fn textfiles_are_told_as_node_exporter_tells_them() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    unpack(&Path::new(&data).join("exporters/node_exporter/fixtures.tar.gz"), dir.path());
    let mut compared = 0;
    for entry in std::fs::read_dir(dir.path().join("textfile")).unwrap() {
        let path = entry.unwrap().path();
        let directory = path.with_extension("");
        // Directories given by a pattern are not supported.
        if path.extension().is_none() || directory.ends_with("glob_extra_dimension") {
            continue;
        }
        let args = print::PrintArgs {
            textfile: Some(directory),
            sources: vec!["textfile".into()],
            ..print::PrintArgs::default()
        };
        let settings = args.settings(Settings::default()).unwrap();
        let mut out = Vec::new();
        let now = Now { unix_micros: 0 };
        print::run(&args.roots(Roots::default()), &settings, now, &mut out, |_| {}).unwrap();
        let prefix = format!("{}/", dir.path().display());
        let mut ours = parse(&String::from_utf8(out).unwrap().replace(&prefix, "fixtures/"));
        ours.retain(|name, _| !name.starts_with("node_scrape_collector_"));
        if let Some(modified) = ours.get_mut("node_textfile_mtime_seconds") {
            modified.series.values_mut().for_each(|value| "1".clone_into(value));
        }
        let mut golden = parse(&std::fs::read_to_string(&path).unwrap());
        for (name, labels) in INVENTED {
            golden.get_mut(*name).map(|family| family.series.remove(*labels));
        }
        assert_eq!(ours, golden, "{}", path.display());
        compared += 1;
    }
    assert_eq!(compared, 14);
}
