//! Each source over a few lines of kernel text: what it tells, as an exporter would print it.

use std::path::Path;

use proptest::prelude::*;
use stoa_exchange::exposition;

use super::*;
use crate::sources::registry;
use crate::sources::settings::Settings;
use crate::sources::{Now, Reading, Roots, Source};

mod devices;
mod hostile;
mod network;

/// 2026-02-02 02:40 UTC
const NOW: Now = Now { unix_micros: 1_770_000_000_250_000 };

/// The default configuration, with every source on.
fn settings() -> Settings {
    let mut settings = Settings::default();
    registry::names().into_iter().for_each(|name| settings.enable(name, true));
    settings
}

/// Every source on, and texts for keys of one.
fn with(source: &str, keys: &[(&str, &str)]) -> Settings {
    let mut settings = settings();
    keys.iter().for_each(|(key, text)| settings.set(source, key, *text));
    settings
}

fn source(name: &str, settings: &Settings) -> Box<dyn Source> {
    let planned = registry::sources(settings).unwrap().into_iter();
    planned.map(|planned| planned.source).find(|source| source.name() == name).unwrap()
}

fn roots(dir: &Path) -> Roots {
    Roots {
        procfs: dir.join("proc"),
        sysfs: dir.join("sys"),
        rootfs: dir.into(),
        udev: dir.join("udev"),
        textfile: Some(dir.join("textfile")),
        identity: None,
    }
}

fn host_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// The lines told, in order, without help and type.
fn lines(reading: &Reading) -> Vec<String> {
    let mut out = Vec::new();
    exposition::write(reading.families(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[track_caller]
fn check_with(settings: &Settings, name: &str, files: &[(&str, &str)], expected: &[&str]) {
    let dir = host_of(files);
    let mut source = source(name, settings);
    let mut first = Reading::default();
    source.read(&roots(dir.path()), NOW, &mut first);
    assert_eq!(lines(&first), expected);
    assert!(!first.failed && first.problems.is_empty(), "{:?}", first.problems);

    let mut second = Reading::default();
    let later = Now { unix_micros: NOW.unix_micros + 1_000_000 };
    source.read(&roots(dir.path()), later, &mut second);
    for (first, second) in first.families().zip(second.families()) {
        for (first, second) in first.metrics.iter().zip(&second.metrics) {
            let same =
                std::ptr::eq(first.labels.iter().as_slice(), second.labels.iter().as_slice());
            assert!(same, "{:?} is another allocation in the second reading", second.labels);
        }
    }
}

#[track_caller]
fn check(name: &str, files: &[(&str, &str)], expected: &[&str]) {
    check_with(&settings(), name, files, expected);
}

#[test]
fn every_source_has_its_name_and_is_there_once() {
    let names = |settings: &Settings| -> Vec<&str> {
        registry::sources(settings).unwrap().iter().map(|planned| planned.source.name()).collect()
    };
    assert_eq!(names(&settings()), registry::names());
    let unique: std::collections::BTreeSet<&str> = registry::names().into_iter().collect();
    assert_eq!(unique.len(), registry::names().len());
    let mut without = Settings::default();
    without.enable("cpu", false);
    let off = registry::names_off_by_default();
    let expected: Vec<&str> = registry::names()
        .into_iter()
        .filter(|name| *name != "cpu" && !off.contains(name))
        .collect();
    assert_eq!(names(&without), expected);
}

#[test]
fn a_host_without_anything_fails_no_source_with_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    for planned in registry::sources(&settings()).unwrap() {
        let mut source = planned.source;
        let mut reading = Reading::default();
        source.read(&roots(dir.path()), NOW, &mut reading);
        if source.name() == "textfile" {
            // A directory that was asked for should be there.
            assert_eq!(lines(&reading), ["node_textfile_scrape_error 1"]);
            continue;
        }
        if source.name() == "ntp" {
            // So should a server.
            assert!(reading.failed && reading.is_empty());
            assert_eq!(reading.problems[0].to_string(), "sources.ntp.server: names nobody to ask");
            continue;
        }
        assert!(reading.problems.is_empty(), "{}: {:?}", source.name(), reading.problems);
        let asks_the_kernel = ["tcpstat", "timex", "network_route", "qdisc", "selinux"];
        let tells_anyway = ["time", "uname", "sockstat", "inventory"].contains(&source.name())
            || asks_the_kernel.contains(&source.name());
        let name = source.name();
        assert!(reading.failed || tells_anyway || reading.is_empty(), "{name} tells something");
    }
}

#[test]
fn cpu() {
    check(
        "cpu",
        &[
            ("proc/stat", "cpu  1 2 3\ncpu1 44490 19 21045 1087069 220 1 3410 0 2 1\ncpu10 5\n"),
            ("sys/devices/system/cpu/isolated", "1-2\n"),
            ("sys/devices/system/cpu/cpu0/online", "1\n"),
            ("sys/devices/system/cpu/cpu1/online", "0\n"),
            ("sys/devices/system/cpu/cpu1/topology/physical_package_id", "0\n"),
            ("sys/devices/system/cpu/cpu1/topology/core_id", "3\n"),
            ("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "7\n"),
        ],
        &[
            r#"node_cpu_seconds_total{cpu="1",mode="user"} 444.9"#,
            r#"node_cpu_seconds_total{cpu="1",mode="nice"} 0.19"#,
            r#"node_cpu_seconds_total{cpu="1",mode="system"} 210.45"#,
            r#"node_cpu_seconds_total{cpu="1",mode="idle"} 10870.69"#,
            r#"node_cpu_seconds_total{cpu="1",mode="iowait"} 2.2"#,
            r#"node_cpu_seconds_total{cpu="1",mode="irq"} 0.01"#,
            r#"node_cpu_seconds_total{cpu="1",mode="softirq"} 34.1"#,
            r#"node_cpu_seconds_total{cpu="1",mode="steal"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="user"} 0.05"#,
            r#"node_cpu_seconds_total{cpu="10",mode="nice"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="system"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="idle"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="iowait"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="irq"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="softirq"} 0"#,
            r#"node_cpu_seconds_total{cpu="10",mode="steal"} 0"#,
            r#"node_cpu_guest_seconds_total{cpu="1",mode="user"} 0.02"#,
            r#"node_cpu_guest_seconds_total{cpu="1",mode="nice"} 0.01"#,
            r#"node_cpu_guest_seconds_total{cpu="10",mode="user"} 0"#,
            r#"node_cpu_guest_seconds_total{cpu="10",mode="nice"} 0"#,
            r#"node_cpu_core_throttles_total{core="3",package="0"} 7"#,
            r#"node_cpu_online{cpu="0"} 1"#,
            r#"node_cpu_online{cpu="1"} 0"#,
            r#"node_cpu_isolated{cpu="1"} 1"#,
            r#"node_cpu_isolated{cpu="2"} 1"#,
        ],
    );
}

#[test]
fn cpu_info() {
    let settings = with("cpu", &[("info_flags_include", "^aes$"), ("info_bugs_include", "^mds")]);
    check_with(
        &settings,
        "cpu",
        &[
            ("proc/stat", ""),
            (
                "proc/cpuinfo",
                "processor\t: 0\nvendor_id\t: V\nmodel name\t: M\ncpu MHz\t: 799.998\n\
                 physical id\t: 0\ncore id\t: 1\nflags\t: fpu aes\nbugs\t: mds_x l1tf\n\n",
            ),
        ],
        &[
            r#"node_cpu_info{core="1",cpu="0",model_name="M",package="0",vendor="V"} 1"#,
            r#"node_cpu_frequency_hertz{core="1",cpu="0",package="0"} 7.99998e+08"#,
            r#"node_cpu_flag_info{flag="aes"} 1"#,
            r#"node_cpu_bug_info{bug="mds_x"} 1"#,
        ],
    );
}

#[test]
fn stat() {
    let mut settings = settings();
    settings.set("stat", "softirq", true);
    check_with(
        &settings,
        "stat",
        &[(
            "proc/stat",
            "intr 8885917 17 0\nctxt 38014093\nbtime 1418183276\nprocesses 26442\n\
             procs_running 2\nprocs_blocked 0\nsoftirq 100 7 8\n",
        )],
        &[
            "node_intr_total 8.885917e+06",
            "node_context_switches_total 3.8014093e+07",
            "node_forks_total 26442",
            "node_boot_time_seconds 1.418183276e+09",
            "node_procs_running 2",
            "node_procs_blocked 0",
            r#"node_softirqs_total{vector="hi"} 7"#,
            r#"node_softirqs_total{vector="timer"} 8"#,
        ],
    );
}

#[test]
fn loadavg() {
    check(
        "loadavg",
        &[("proc/loadavg", "0.21 0.37 0.39 1/719 19737\n")],
        &["node_load1 0.21", "node_load5 0.37", "node_load15 0.39"],
    );
}

#[test]
fn meminfo() {
    check(
        "meminfo",
        &[(
            "proc/meminfo",
            "MemTotal:       15666184 kB\nActive(anon):    2048 kB\nHugePages_Total:       3\n\
             Odd:    1 MB\n",
        )],
        &[
            "node_memory_MemTotal_bytes 1.6042172416e+10",
            "node_memory_Active_anon_bytes 2.097152e+06",
            "node_memory_HugePages_Total 3",
        ],
    );
}

#[test]
fn vmstat() {
    check(
        "vmstat",
        &[("proc/vmstat", "nr_free_pages 977769\npgpgin 7344136\npgmajfault 507162\noom_kill 0\n")],
        &[
            "node_vmstat_pgpgin 7.344136e+06",
            "node_vmstat_pgmajfault 507162",
            "node_vmstat_oom_kill 0",
        ],
    );
}

#[test]
fn pressure() {
    let some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=14036781\n";
    let full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
    let both = format!("{some}{full}");
    check(
        "pressure",
        &[
            ("proc/pressure/cpu", both.as_str()),
            ("proc/pressure/io", both.as_str()),
            ("proc/pressure/memory", both.as_str()),
        ],
        &[
            "node_pressure_cpu_waiting_seconds_total 14.036781000000001",
            "node_pressure_io_waiting_seconds_total 14.036781000000001",
            "node_pressure_io_stalled_seconds_total 5e-06",
            "node_pressure_memory_waiting_seconds_total 14.036781000000001",
            "node_pressure_memory_stalled_seconds_total 5e-06",
        ],
    );
}

#[test]
fn schedstat() {
    check(
        "schedstat",
        &[(
            "proc/schedstat",
            "version 15\ncpu0 4 0 3 2 1 5 2045936778163039 343796328169361 4767485306\n\
             domain0 3 1 2\n",
        )],
        &[
            r#"node_schedstat_running_seconds_total{cpu="0"} 2.045936778163039e+06"#,
            r#"node_schedstat_waiting_seconds_total{cpu="0"} 343796.328169361"#,
            r#"node_schedstat_timeslices_total{cpu="0"} 4.767485306e+09"#,
        ],
    );
}

#[test]
fn diskstats() {
    check(
        "diskstats",
        &[
            (
                "proc/diskstats",
                "   7       0 loop0 1 1 1 1 1 1 1 1 1 1 1\n   8       0 sda 10 1 4 2500 3 2 8 40 0 9 50\n",
            ),
            ("sys/block/sda/queue/rotational", "1\n"),
            (
                "udev/b8:0",
                "S:disk/x\nE:ID_MODEL=M\nE:ID_SERIAL=long\nE:ID_SERIAL_SHORT=S1\nE:ID_FS_TYPE=ext4\n\
                 E:DM_NAME=vg-lv\nE:ID_ATA=1\nE:ID_ATA_ROTATION_RATE_RPM=7200\n",
            ),
        ],
        &[
            r#"node_disk_reads_completed_total{device="sda"} 10"#,
            r#"node_disk_reads_merged_total{device="sda"} 1"#,
            r#"node_disk_read_bytes_total{device="sda"} 2048"#,
            r#"node_disk_read_time_seconds_total{device="sda"} 2.5"#,
            r#"node_disk_writes_completed_total{device="sda"} 3"#,
            r#"node_disk_writes_merged_total{device="sda"} 2"#,
            r#"node_disk_written_bytes_total{device="sda"} 4096"#,
            r#"node_disk_write_time_seconds_total{device="sda"} 0.04"#,
            r#"node_disk_io_now{device="sda"} 0"#,
            r#"node_disk_io_time_seconds_total{device="sda"} 0.009000000000000001"#,
            r#"node_disk_io_time_weighted_seconds_total{device="sda"} 0.05"#,
            r#"node_disk_info{device="sda",major="8",minor="0",model="M",rotational="1",serial="S1"} 1"#,
            r#"node_disk_filesystem_info{device="sda",type="ext4"} 1"#,
            r#"node_disk_device_mapper_info{device="sda",name="vg-lv"} 1"#,
            r#"node_disk_ata_rotation_rate_rpm{device="sda"} 7200"#,
        ],
    );
}

#[test]
fn filefd_and_entropy() {
    check(
        "filefd",
        &[("proc/sys/fs/file-nr", "1024\t0\t1631329\n")],
        &["node_filefd_allocated 1024", "node_filefd_maximum 1.631329e+06"],
    );
    check(
        "entropy",
        &[
            ("proc/sys/kernel/random/entropy_avail", "1337\n"),
            ("proc/sys/kernel/random/poolsize", "4096\n"),
        ],
        &["node_entropy_available_bits 1337", "node_entropy_pool_size_bits 4096"],
    );
}

#[test]
fn time() {
    let dir = host_of(&[
        ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ]);
    let mut reading = Reading::default();
    source("time", &settings()).read(&roots(dir.path()), NOW, &mut reading);
    assert_eq!(
        lines(&reading),
        [
            "node_time_seconds 1.77000000025e+09",
            r#"node_time_zone_offset_seconds{time_zone="UTC"} 0"#,
            r#"node_time_clocksource_available_info{clocksource="tsc",device="0"} 1"#,
            r#"node_time_clocksource_available_info{clocksource="hpet",device="0"} 1"#,
            r#"node_time_clocksource_current_info{clocksource="tsc",device="0"} 1"#,
        ]
    );
}

#[test]
fn uname() {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_str().unwrap().to_owned();
    let expected = format!(
        "node_uname_info{{domainname=\"{}\",machine=\"{}\",nodename=\"{}\",release=\"{}\",\
         sysname=\"{}\",version=\"{}\"}} 1",
        text(uname.domainname()),
        text(uname.machine()),
        text(uname.nodename()),
        text(uname.release()),
        text(uname.sysname()),
        text(uname.version()),
    );
    check("uname", &[], &[&expected]);
}

#[test]
fn cpufreq() {
    check(
        "cpufreq",
        &[
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_cur_freq", "1600000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1699981\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors",
                "performance powersave\n",
            ),
            ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
        ],
        &[
            r#"node_cpu_frequency_hertz{cpu="0"} 1.6e+09"#,
            r#"node_cpu_scaling_frequency_hertz{cpu="0"} 1.699981e+09"#,
            r#"node_cpu_scaling_governor{cpu="0",governor="performance"} 0"#,
            r#"node_cpu_scaling_governor{cpu="0",governor="powersave"} 1"#,
        ],
    );
}

#[test]
fn hwmon() {
    check(
        "hwmon",
        &[
            ("sys/class/hwmon/hwmon0/name", "nct6779\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "55500\n"),
            ("sys/class/hwmon/hwmon0/temp1_label", "CPU Top\n"),
            ("sys/class/hwmon/hwmon0/fan2_input", "1098\n"),
            ("sys/class/hwmon/hwmon0/fan2_alarm", "no number\n"),
            // The same name: told apart by their numbers.
            ("sys/class/hwmon/hwmon1/name", "drivetemp\n"),
            ("sys/class/hwmon/hwmon1/temp1_input", "31000\n"),
            ("sys/class/hwmon/hwmon2/name", "drivetemp\n"),
            ("sys/class/hwmon/hwmon2/temp1_input", "32000\n"),
        ],
        &[
            r#"node_hwmon_chip_names{chip="nct6779",chip_name="nct6779"} 1"#,
            r#"node_hwmon_chip_names{chip="drivetemp_hwmon1",chip_name="drivetemp"} 1"#,
            r#"node_hwmon_chip_names{chip="drivetemp_hwmon2",chip_name="drivetemp"} 1"#,
            r#"node_hwmon_sensor_label{chip="nct6779",label="CPU Top",sensor="temp1"} 1"#,
            r#"node_hwmon_fan_rpm{chip="nct6779",sensor="fan2"} 1098"#,
            r#"node_hwmon_temp_celsius{chip="nct6779",sensor="temp1"} 55.5"#,
            r#"node_hwmon_temp_celsius{chip="drivetemp_hwmon1",sensor="temp1"} 31"#,
            r#"node_hwmon_temp_celsius{chip="drivetemp_hwmon2",sensor="temp1"} 32"#,
        ],
    );
}

#[test]
fn softirqs_and_vulnerabilities() {
    check(
        "softirqs",
        &[("proc/softirqs", "          CPU0   CPU2\n  HI:  7  1\n")],
        &[
            r#"node_softirqs_functions_total{cpu="0",type="HI"} 7"#,
            r#"node_softirqs_functions_total{cpu="2",type="HI"} 1"#,
        ],
    );
    check(
        "cpu_vulnerabilities",
        &[("sys/devices/system/cpu/vulnerabilities/retbleed", "Mitigation: untrained; SMT on\n")],
        &[concat!(
            r#"node_cpu_vulnerabilities_info{codename="retbleed","#,
            r#"mitigation="untrained; SMT on",state="mitigation"} 1"#
        )],
    );
}

#[test]
fn filesystem() {
    let dir = host_of(&[(
        "proc/1/mountinfo",
        "29 1 259:2 / / rw,relatime shared:1 - ext4 /dev/dm-2 ro\n\
         30 1 0:5 / /gone rw - xfs /dev/sdb rw\n31 1 0:6 / /proc rw - proc proc rw\n",
    )]);
    let settings = with("filesystem", &[("mount_patience", "5s")]);
    let mut reading = Reading::default();
    source("filesystem", &settings).read(&roots(dir.path()), NOW, &mut reading);
    let root = r#"{device="/dev/dm-2",fstype="ext4",mountpoint="/"}"#;
    let gone = concat!(
        r#"{device="/dev/sdb",device_error="no such file or directory","#,
        r#"fstype="xfs",mountpoint="/gone"}"#
    );
    let lines = lines(&reading);
    for expected in [
        format!("node_filesystem_device_error{root} 0"),
        format!("node_filesystem_device_error{gone} 1"),
        format!("node_filesystem_readonly{root} 1"),
        format!("node_filesystem_readonly{gone} 0"),
        r#"node_filesystem_mount_info{device="/dev/dm-2",major="259",minor="2",mountpoint="/"} 1"#
            .to_owned(),
    ] {
        assert!(lines.contains(&expected), "{expected} is not in {lines:#?}");
    }
    let sizes: Vec<&str> =
        lines.iter().filter(|l| l.contains(root)).map(|l| l.split('{').next().unwrap()).collect();
    assert_eq!(
        sizes,
        [
            "node_filesystem_device_error",
            "node_filesystem_readonly",
            "node_filesystem_size_bytes",
            "node_filesystem_free_bytes",
            "node_filesystem_avail_bytes",
            "node_filesystem_files",
            "node_filesystem_files_free",
        ]
    );
}

#[test]
fn of_too_many_textfiles_the_first_are_told() {
    let files: Vec<(String, String)> = (0..300)
        .map(|n| (format!("textfile/{n:03}.prom"), format!("a{{n=\"{}\"}} 1\n", n % 200)))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let dir = host_of(&files);
    let mut reading = Reading::default();
    source("textfile", &settings()).read(&roots(dir.path()), NOW, &mut reading);
    let lines = lines(&reading);
    let of = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count();
    // 256 files are read, and what several of them tell is told once.
    assert_eq!((of("a{"), of("node_textfile_mtime_seconds{")), (200, 256));
    assert!(lines.contains(&"node_textfile_scrape_error 1".to_owned()));
    assert!(lines.contains(&"stoa_textfile_files_left_out 44".to_owned()));
    // That there are too many, and the files whose series stands before.
    assert_eq!(reading.problems.len(), 1 + 56);
}

#[test]
fn textfiles_have_room_each_and_in_all() {
    let of = |mebibytes: usize, name: &str| {
        format!("{name} 1\n{}", format!("# {}\n", "x".repeat(1021)).repeat(mebibytes << 10))
    };
    let dir = host_of(&[
        ("textfile/a.prom", &of(3, "a")),
        ("textfile/b.prom", &of(4, "b")),
        ("textfile/c.prom", &of(3, "c")),
        ("textfile/d.prom", &of(3, "d")),
        ("textfile/e.prom", "e 1\n"),
    ]);
    let mut reading = Reading::default();
    source("textfile", &settings()).read(&roots(dir.path()), NOW, &mut reading);
    let lines = lines(&reading);
    let told: Vec<&String> = lines.iter().filter(|line| !line.contains("mtime")).collect();
    let expected =
        ["node_textfile_scrape_error 1", "stoa_textfile_files_left_out 2", "a 1", "c 1", "e 1"];
    assert_eq!(told, expected);
    assert_eq!(reading.problems.len(), 2);
}

#[test]
fn a_pipe_among_textfiles_keeps_nobody_waiting() {
    let dir = host_of(&[("textfile/a.prom", "one 1\n")]);
    let pipe = dir.path().join("textfile/pipe.prom");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut reading = Reading::default();
    source("textfile", &settings()).read(&roots(dir.path()), NOW, &mut reading);
    let lines = lines(&reading);
    assert!(lines.contains(&"one 1".to_owned()), "{lines:?}");
    assert!(lines.contains(&"node_textfile_scrape_error 1".to_owned()), "{lines:?}");
}

#[test]
fn textfile() {
    let dir = host_of(&[
        ("textfile/a.prom", "# TYPE backup_last_seconds gauge\nbackup_last_seconds{job=\"x\"} 5\n"),
        ("textfile/b.prom", "# TYPE backup_last_seconds gauge\nbackup_last_seconds{job=\"x\"} 6\n"),
        ("textfile/broken.prom", "no number\n"),
        ("textfile/c.prom", "twice{a=\"x\"} 1\ntwice{a=\"x\"} 2\ntwice{a=\"y\"} 3\n"),
        ("textfile/note.txt", "other 1\n"),
    ]);
    let mut reading = Reading::default();
    source("textfile", &settings()).read(&roots(dir.path()), NOW, &mut reading);
    let lines = lines(&reading);
    let told: Vec<&String> = lines.iter().filter(|line| !line.contains("mtime")).collect();
    let expected = [
        "node_textfile_scrape_error 1",
        r#"backup_last_seconds{job="x"} 5"#,
        r#"twice{a="x"} 1"#,
        r#"twice{a="y"} 3"#,
    ];
    assert_eq!(told, expected);
    let [b, problem, c] = reading.problems.as_slice() else { panic!("{:?}", reading.problems) };
    assert!(b.to_string().ends_with("b.prom: a series stands twice, here or in a file before"));
    assert!(c.to_string().ends_with("c.prom: a series stands twice, here or in a file before"));
    let cause = std::error::Error::source(problem).unwrap().to_string();
    assert!(problem.to_string().ends_with("textfile/broken.prom"), "{problem}");
    assert_eq!(cause, "line 1, column 4: expected a number");
    assert!(!reading.failed);
}

#[test]
fn interrupts() {
    check(
        "interrupts",
        &[(
            "proc/interrupts",
            "           CPU0       CPU2\n  8:   1   0  IR-IO-APIC    8-edge      rtc0\n\
             NMI:   4   5   Non-maskable interrupts\nERR:   7\n 9: 1 2\n",
        )],
        &[
            r#"node_interrupts_total{cpu="0",devices="8-edge rtc0",info="IR-IO-APIC",type="8"} 1"#,
            r#"node_interrupts_total{cpu="0",info="Non-maskable interrupts",type="NMI"} 4"#,
            r#"node_interrupts_total{cpu="2",info="Non-maskable interrupts",type="NMI"} 5"#,
        ],
    );
}

#[test]
fn processes() {
    let stat = |command: &str, state: char, threads: u32| {
        format!("9 ({command}) {state} 1 7 7 0 -1 0 1 2 3 4 11 22 0 0 20 0 {threads} 0 99 4096 7")
    };
    check(
        "processes",
        &[
            ("proc/sys/kernel/threads-max", "100\n"),
            ("proc/sys/kernel/pid_max", "200\n"),
            ("proc/9/stat", &stat("a) R (b", 'S', 2)),
            ("proc/9/task/9/stat", &stat("a", 'S', 2)),
            ("proc/9/task/10/stat", &stat("a", 'R', 2)),
            ("proc/11/stat", &stat("one", 'D', 1)),
            ("proc/11/task/11/stat", "not looked at"),
            ("proc/12/stat", "gone"),
            ("proc/acpi/stat", &stat("none", 'S', 1)),
        ],
        &[
            "node_processes_max_threads 100",
            "node_processes_max_processes 200",
            "node_processes_pids 2",
            "node_processes_threads 3",
            r#"node_processes_state{state="D"} 1"#,
            r#"node_processes_state{state="S"} 1"#,
            r#"node_processes_threads_state{thread_state="D"} 1"#,
            r#"node_processes_threads_state{thread_state="R"} 1"#,
            r#"node_processes_threads_state{thread_state="S"} 1"#,
        ],
    );
}

#[test]
fn of_too_many_threads_no_states_are_told() {
    let stat =
        |threads: u32| format!("9 (a) S 1 7 7 0 -1 0 1 2 3 4 11 22 0 0 20 0 {threads} 0 99 4096 7");
    check(
        "processes",
        &[
            ("proc/sys/kernel/threads-max", "100000\n"),
            ("proc/sys/kernel/pid_max", "200\n"),
            ("proc/9/stat", &stat(20_000)),
            ("proc/9/task/9/stat", &stat(20_000)),
            ("proc/11/stat", &stat(1)),
            ("proc/11/task/11/stat", &stat(1)),
        ],
        &[
            "node_processes_max_threads 100000",
            "node_processes_max_processes 200",
            "node_processes_pids 2",
            "node_processes_threads 20001",
            r#"node_processes_state{state="S"} 2"#,
        ],
    );
}

#[test]
fn ipvs_over_ipv6() {
    check(
        "ipvs",
        &[
            ("proc/net/ip_vs_stats", "   Total\n   Conns\n A 2 3 4 FF\n"),
            (
                "proc/net/ip_vs",
                "IP Virtual Server\nTCP  [2620:0000:0000:0000:0000:0000:0000:0001]:0050 sh\n  \
                 -> [2620:0000:0000:0000:0000:0000:0000:0002]:0050 Route 1 2 3\n  -> bad Route\n",
            ),
        ],
        &[
            "node_ipvs_connections_total 10",
            "node_ipvs_incoming_packets_total 2",
            "node_ipvs_outgoing_packets_total 3",
            "node_ipvs_incoming_bytes_total 4",
            "node_ipvs_outgoing_bytes_total 255",
            r#"node_ipvs_backend_weight{local_address="2620::1",local_port="80",proto="TCP",remote_address="2620::2",remote_port="80"} 1"#,
            r#"node_ipvs_backend_connections_active{local_address="2620::1",local_port="80",proto="TCP",remote_address="2620::2",remote_port="80"} 2"#,
            r#"node_ipvs_backend_connections_inactive{local_address="2620::1",local_port="80",proto="TCP",remote_address="2620::2",remote_port="80"} 3"#,
        ],
    );
}

#[test]
fn selinux() {
    check("selinux", &[("proc/stat", "")], &["node_selinux_enabled 0"]);
    check(
        "selinux",
        &[
            ("sys/fs/selinux/enforce", "0"),
            ("etc/selinux/config", "# SELINUX=disabled\nSELINUX=enforcing\nSELINUXTYPE=x\n"),
        ],
        &["node_selinux_enabled 1", "node_selinux_config_mode 1", "node_selinux_current_mode 0"],
    );
}

/// Text that looks like the kernel's, and text that does not.
fn kernel_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-zA-Z_0-9:()=.-]{0,12}",
        any::<u64>().prop_map(|number| number.to_string()),
        Just("cpu0".to_owned()),
        Just("softirq".to_owned()),
        Just("CPU1".to_owned()),
        Just("Ip6In".to_owned()),
        any::<String>(),
    ];
    let line = prop::collection::vec(word, 0..20).prop_map(|words| words.join(" "));
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_breaks_a_parser(text in kernel_text()) {
        stat::parse(&text, &mut stat::Stats::default());
        load::parse(&text);
        memory::parse(&text).count();
        virtual_memory::parse(&text).count();
        pressure::parse(&text);
        scheduler::parse(&text).count();
        disks::parse(&text).count();
        network_counters::parse(&text).count();
        network_devices::parse(&text);
        network_statistics::parse_pairs(&text);
        network_statistics::parse_six(&text);
        sockets::parse(&text).count();
        softnet::parse(&text).count();
        conntrack::parse(&text);
        file_descriptors::parse(&text);
        softirqs::parse(&text);
        vulnerabilities::parse(&text);
        arp::parse(&text).count();
        free_blocks::parse(&text).count();
        cgroups::parse(&text).count();
        interrupts::parse(&text);
        ipvs::parse_totals(&text);
        ipvs::parse_backends(&text);
        network_caches::parse(&text).count();
        numa::parse_memory(&text).count();
        numa::parse_counters(&text).count();
        selinux::parse(&text);
        slabs::parse(&text).count();
        sysctl::parse(&text);
        udp_queues::parse(&text);
        xfrm::parse(&text).count();
        zones::parse(&text);
    }
}
