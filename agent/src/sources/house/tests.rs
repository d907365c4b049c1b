//! Each source over a few files: what it tells, as an exporter would print it.

use std::path::Path;

use stoa_exchange::exposition;

use super::*;
use crate::sources::registry;
use crate::sources::settings::Settings;
use crate::sources::{Now, Reading, Roots, Source};

/// 2026-02-02 02:40 UTC
const NOW: Now = Now { unix_micros: 1_770_000_000_250_000 };

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

fn host_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// The source `name` of the table given.
fn source(name: &str, table: &str) -> Box<dyn Source> {
    let settings = Settings::parse(&format!("[sources.{name}]\n{table}")).unwrap();
    let planned = registry::sources(&settings).unwrap().into_iter();
    planned.map(|planned| planned.source).find(|source| source.name() == name).unwrap()
}

fn read(source: &mut dyn Source, dir: &Path) -> Reading {
    let mut reading = Reading::default();
    source.read(&roots(dir), NOW, &mut reading);
    reading
}

/// The lines told, in order, without help and type.
fn lines(reading: &Reading) -> Vec<String> {
    let mut out = Vec::new();
    let families: Vec<_> = reading.families().cloned().collect();
    exposition::write(&families, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[track_caller]
fn check(source: &mut dyn Source, files: &[(&str, &str)], expected: &[&str]) {
    let dir = host_of(files);
    let reading = read(source, dir.path());
    assert_eq!(lines(&reading), expected);
    assert!(!reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
}

/// A host without what the source reads: no success, and nothing to tell anyone.
#[track_caller]
fn check_absent(source: &mut dyn Source) {
    let dir = host_of(&[]);
    let reading = read(source, dir.path());
    assert_eq!(lines(&reading), [""; 0]);
    assert!(reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
}

const STATUS: &str = "Package: openssl
Status: install ok installed
Architecture: amd64
Version: 3.0.17-1~deb12u2

Package: libssl3
Status: install ok installed
Architecture: amd64
Version: 3.0.17-1~deb12u2

Package: libssl3
Status: install ok installed
Architecture: i386
Version: 3.0.17-1~deb12u2

Package: sl
Status: install ok installed
Architecture: amd64
Version: 5.02-1
";

#[test]
fn packages_of_interest_are_told_once() {
    let mut source = source("packages", "");
    check_absent(source.as_mut());
    check(
        source.as_mut(),
        &[("var/lib/dpkg/status", STATUS)],
        &[
            r#"stoa_package_info{package="libssl3",version="3.0.17-1~deb12u2"} 1"#,
            r#"stoa_package_info{package="openssl",version="3.0.17-1~deb12u2"} 1"#,
        ],
    );
}

#[test]
fn packages_are_read_again_only_when_the_list_has_changed() {
    let dir = host_of(&[("var/lib/dpkg/status", STATUS)]);
    let mut source = source("packages", "include = '^sl$'");
    let status = dir.path().join("var/lib/dpkg/status");
    let before = std::fs::metadata(&status).unwrap().modified().unwrap();
    assert_eq!(lines(&read(source.as_mut(), dir.path())).len(), 1);

    // Same size, same time: not looked into.
    std::fs::write(&status, STATUS.replace("sl\n", "ls\n")).unwrap();
    std::fs::File::options().write(true).open(&status).unwrap().set_modified(before).unwrap();
    assert_eq!(lines(&read(source.as_mut(), dir.path())).len(), 1);

    std::fs::write(&status, "").unwrap();
    assert_eq!(lines(&read(source.as_mut(), dir.path())).len(), 0);
}

#[test]
fn a_reboot_is_required_when_packages_or_a_newer_kernel_say_so() {
    let mut source = source("reboot", "");
    check_absent(source.as_mut());
    check(source.as_mut(), &[("var/lib/dpkg/status", STATUS)], &["node_reboot_required 0"]);
    check(
        source.as_mut(),
        &[("run/reboot-required", ""), ("run/reboot-required.pkgs", "dbus\nlibc6\ndbus\n")],
        &[
            "node_reboot_required 1",
            r#"stoa_reboot_required_reason{name="dbus",reason="package"} 1"#,
            r#"stoa_reboot_required_reason{name="libc6",reason="package"} 1"#,
        ],
    );
    let proxmox = [
        ("proc/sys/kernel/osrelease", "6.8.4-2-pve\n"),
        ("boot/vmlinuz-6.8.4-2-pve", ""),
        ("boot/vmlinuz-6.8.12-1-pve", ""),
        ("boot/config-6.11.0-1-pve", ""),
    ];
    check(
        source.as_mut(),
        &proxmox,
        &[
            "node_reboot_required 1",
            r#"stoa_reboot_required_reason{name="6.8.12-1-pve",reason="kernel"} 1"#,
        ],
    );
    let pinned = [&proxmox[..], &[("etc/kernel/proxmox-boot-pin", "6.8.4-2-pve\n")]].concat();
    check(source.as_mut(), &pinned, &["node_reboot_required 0"]);
    let container =
        [&proxmox[..], &[("run/systemd/container", "lxc"), ("var/lib/dpkg/status", "")]].concat();
    check(source.as_mut(), &container, &["node_reboot_required 0"]);
}

/// A program that stands for another: a shell that runs `script`.
fn shell(script: &str) -> [&str; 4] {
    ["/bin/sh", "-c", script, "program"]
}

const APT_INPUTS: [(&str, &str); 3] = [
    ("var/lib/dpkg/status", STATUS),
    ("var/lib/apt/lists/lock", ""),
    ("var/lib/apt/periodic/x", ""),
];

#[test]
fn updates_are_told_by_origin_and_apt_is_asked_again_only_when_something_changed() {
    check_absent(&mut Apt::of(&shell("exit 1")));
    let held = STATUS.replacen("install ok", "hold ok", 1);
    let dir = host_of(&APT_INPUTS);
    let status = dir.path().join("var/lib/dpkg/status");
    std::fs::write(&status, held).unwrap();
    let runs = dir.path().join("runs");
    let script = format!(
        "echo run >>{}
         echo 'Inst openssl [3.0.17-1~deb12u2] (3.0.17-1~deb12u3 Debian-Security:12/stable-security \
[amd64])'
         echo 'Inst sl [5.02-1] (5.02-2 Debian:12.12/stable, Other:1/x [amd64]) []'",
        runs.display()
    );
    let mut source = Apt::of(&shell(&script));
    let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_769_000_000);
    let lists = dir.path().join("var/lib/apt/lists/partial");
    std::fs::create_dir(&lists).unwrap();
    std::fs::File::open(&lists).unwrap().set_modified(stamp).unwrap();
    let expected = [
        "apt_package_cache_timestamp_seconds 1.769e+09",
        r#"apt_upgrades_pending{arch="amd64",origin="Debian-Security:12/stable-security"} 1"#,
        r#"apt_upgrades_pending{arch="amd64",origin="Debian:12.12/stable,Other:1/x"} 1"#,
        r#"apt_upgrades_held{arch="amd64",origin="Debian-Security:12/stable-security"} 1"#,
        "apt_autoremove_pending 0",
        "stoa_apt_security_upgrades_pending 1",
    ];
    for _ in 0..3 {
        assert_eq!(lines(&read(&mut source, dir.path())), expected);
    }
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n");
    std::fs::File::options().write(true).open(&status).unwrap().set_modified(stamp).unwrap();
    let reading = read(&mut source, dir.path());
    let none = r#"apt_upgrades_held{arch="amd64",origin="Debian-Security:12/stable-security"} 1"#;
    assert!(lines(&reading).iter().any(|line| line == none));
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\nrun\n");
}

#[test]
fn an_apt_that_fails_is_a_fault_once_and_not_asked_again_at_once() {
    let dir = host_of(&APT_INPUTS);
    let runs = dir.path().join("runs");
    let script =
        format!("echo run >>{}; echo 'E: Unmet dependencies.' >&2; exit 100", runs.display());
    let mut source = Apt::of(&shell(&script));
    let reading = read(&mut source, dir.path());
    assert!(reading.failed);
    let [problem] = reading.problems.as_slice() else { panic!("{:?}", reading.problems) };
    assert_eq!(problem.to_string(), "apt-get: E: Unmet dependencies.");
    // Not asked, and as wrong as before.
    let again = read(&mut source, dir.path());
    assert!(again.failed);
    let again: Vec<String> = again.problems.iter().map(ToString::to_string).collect();
    assert_eq!(again, ["apt-get: E: Unmet dependencies."]);
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n");
}

#[test]
fn apt_is_asked_again_when_a_file_of_its_configuration_was_edited_in_place() {
    let dir = host_of(&APT_INPUTS);
    let runs = dir.path().join("runs");
    let script = format!("echo run >>{}", runs.display());
    let mut source = Apt::of(&shell(&script));
    let mut expected = String::new();
    let mut check = |what: &str| {
        read(&mut source, dir.path());
        expected.push_str("run\n");
        assert_eq!(std::fs::read_to_string(&runs).unwrap(), expected, "{what}");
        read(&mut source, dir.path());
        assert_eq!(std::fs::read_to_string(&runs).unwrap(), expected, "nothing after {what}");
    };
    check("the first time");
    for file in ["sources.list.d/a.sources", "preferences.d/a", "apt.conf.d/50a", "apt.conf"] {
        let path = dir.path().join("etc/apt").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "one").unwrap();
        check(file);
        let about = std::fs::metadata(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "other").unwrap();
        let after = std::fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(about.modified().unwrap(), after.modified().unwrap());
        check(file);
    }
}

#[test]
fn this_boot_is_named_and_the_journal_tells_how_the_last_ended() {
    check_absent(source("boots", "").as_mut());
    let files = [
        ("proc/sys/kernel/random/boot_id", "f0c3\n"),
        ("proc/sys/kernel/osrelease", "6.8.12-1-pve\n"),
    ];
    let info = r#"stoa_boot_info{boot_id="f0c3",kernel="6.8.12-1-pve"} 1"#;
    check(source("boots", "").as_mut(), &files, &[info]);

    // The files are made now, so that is when this host was booted.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let stat = format!("cpu 1\nbtime {now}\n");
    let kept = [("proc/stat", stat.as_str()), ("var/log/journal/m/system.journal", "")];
    let kept = [&files[..], &kept].concat();
    check(source("boots", "").as_mut(), &kept, &[info, "stoa_last_shutdown_clean 1"]);
    let aside = [("var/log/journal/m/system@0006-0a.journal~", "")];
    let aside = [&kept[..], &aside].concat();
    check(source("boots", "").as_mut(), &aside, &[info, "stoa_last_shutdown_clean 0"]);
    // Set aside by an earlier boot.
    let stat = format!("btime {}\n", now + 5000);
    let aside: Vec<_> = aside
        .iter()
        .map(|(path, text)| (*path, if *path == "proc/stat" { &stat } else { *text }))
        .collect();
    check(source("boots", "").as_mut(), &aside, &[info, "stoa_last_shutdown_clean 1"]);
}

#[test]
fn a_log_that_is_written_no_more_says_nothing_of_this_boot() {
    // Two boots without a shutdown between them.
    let mut record = [0; if cfg!(target_arch = "aarch64") { 400 } else { 384 }];
    record[0] = 2;
    let wtmp = String::from_utf8(record.repeat(2)).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let told_if_booted = |at: u64, expected: &[&str]| {
        let files: [(&str, &str); 4] = [
            ("proc/sys/kernel/random/boot_id", "f0c3\n"),
            ("proc/sys/kernel/osrelease", "6.8\n"),
            ("proc/stat", &format!("btime {at}\n")),
            ("var/log/wtmp", &wtmp),
        ];
        check(source("boots", "").as_mut(), &files, expected);
    };
    let info = r#"stoa_boot_info{boot_id="f0c3",kernel="6.8"} 1"#;
    told_if_booted(now, &[info, "stoa_boots_recorded 2", "stoa_last_shutdown_clean 0"]);
    told_if_booted(now + 5000, &[info, "stoa_boots_recorded 2"]);
}

#[test]
fn groups_are_told_once_the_kernel_has_killed_in_them() {
    check_absent(source("oom", "").as_mut());
    check(
        source("oom", "").as_mut(),
        &[
            ("sys/fs/cgroup/cgroup.controllers", "memory\n"),
            ("sys/fs/cgroup/system.slice/memory.events", "oom 2\noom_kill 2\n"),
            ("sys/fs/cgroup/system.slice/a.service/memory.events", "oom_kill 0\n"),
            ("sys/fs/cgroup/lxc/101/memory.events", "oom_kill 7\n"),
            ("sys/fs/cgroup/lxc/101/ns/memory.events", "oom_kill 7\n"),
        ],
        &[
            r#"stoa_cgroup_oom_kills_total{cgroup="/lxc/101"} 7"#,
            r#"stoa_cgroup_oom_kills_total{cgroup="/system.slice"} 2"#,
        ],
    );
    check(
        source("oom", "").as_mut(),
        &[("sys/fs/cgroup/memory/lxc/101/memory.oom_control", "under_oom 0\noom_kill 1\n")],
        &[r#"stoa_cgroup_oom_kills_total{cgroup="/lxc/101"} 1"#],
    );
}

#[test]
fn a_host_without_ups_or_with_a_client_only_is_absent() {
    check_absent(source("nut", "").as_mut());
}

#[test]
fn a_chrony_that_does_not_answer_is_down() {
    check_absent(source("time_sync", "").as_mut());
    let dir = host_of(&[("etc/chrony/chrony.conf", "")]);
    let mut source = TimeSync::of(
        time_sync::Settings::default(),
        &shell("echo '506 Cannot talk to daemon'; exit 1"),
    );
    let told = lines(&read(&mut source, dir.path()));
    assert!(told.contains(&"chrony_up 0".to_owned()), "{told:?}");
    assert!(told.contains(&r#"stoa_time_sync{source="chrony"} 0"#.to_owned()), "{told:?}");
}

/// A certificate of `name` for `days` of the year, and its key.
fn certificate(name: &str, year: i32) -> (Vec<u8>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Home");
    params.serial_number = Some(rcgen::SerialNumber::from(4711));
    params.not_before = rcgen::date_time_ymd(year, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().to_vec(), format!("{}{}", key.serialize_pem(), certificate.pem()))
}

fn told_of(name: &str, file: &str, path: &str, family: &str, value: &str) -> String {
    format!(
        "{family}{{filename=\"{file}\",filepath=\"{path}\",issuer_CN=\"{name}\",issuer_O=\"Home\",\
         serial_number=\"4711\",subject_CN=\"{name}\",subject_O=\"Home\"}} {value}"
    )
}

#[test]
fn certificates_of_files_and_directories_are_told() {
    check_absent(source("certificates", "").as_mut());
    let (der, _) = certificate("a.lan", 2026);
    let (_, pem) = certificate("b.lan", 2024);
    let dir = host_of(&[
        ("etc/letsencrypt/live/b.lan/fullchain.pem", &format!("{pem}{pem}")),
        ("etc/letsencrypt/live/README", "text"),
        ("srv/key.pem", "nothing"),
    ]);
    std::fs::write(dir.path().join("srv/a.der"), der).unwrap();
    // A loop, which is entered once, and a link to nothing.
    std::os::unix::fs::symlink(dir.path().join("srv"), dir.path().join("srv/again")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("srv/gone.pem")).unwrap();
    let reading = read(source("certificates", "paths = ['/srv']").as_mut(), dir.path());
    assert!(reading.problems.is_empty() && !reading.failed, "{:?}", reading.problems);
    let b = "/etc/letsencrypt/live/b.lan/fullchain.pem";
    assert_eq!(
        lines(&reading),
        [
            told_of("b.lan", "fullchain.pem", b, "x509_cert_not_before", "1.7040672e+09"),
            told_of("a.lan", "a.der", "/srv/a.der", "x509_cert_not_before", "1.7672256e+09"),
            told_of("b.lan", "fullchain.pem", b, "x509_cert_not_after", "1.7356896e+09"),
            told_of("a.lan", "a.der", "/srv/a.der", "x509_cert_not_after", "1.7987616e+09"),
            told_of("b.lan", "fullchain.pem", b, "x509_cert_expired", "1"),
            told_of("a.lan", "a.der", "/srv/a.der", "x509_cert_expired", "0"),
            "x509_read_errors 0".to_owned(),
        ]
    );
}

#[test]
fn a_serial_number_longer_than_any_is_refused() {
    let told = |bytes: usize| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.lan".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&vec![1; bytes]));
        let (certificates, wrong) = certificates::parse(params.self_signed(&key).unwrap().der());
        (certificates.len(), wrong)
    };
    assert_eq!(told(20), (1, 0));
    assert_eq!(told(40_000), (0, 1));
}

#[test]
fn a_certificate_that_was_asked_for_and_is_not_there_is_an_error() {
    let (_, pem) = certificate("b.lan", 2024);
    let broken = pem.replace("END CERTIFICATE", "END");
    let dir = host_of(&[("srv/broken.pem", &broken), ("srv/large.pem", &"x".repeat(2 << 20))]);
    let table =
        "well_known = false\npaths = ['/srv/broken.pem', '/srv/large.pem', '/srv/gone.pem']";
    let reading = read(source("certificates", table).as_mut(), dir.path());
    assert_eq!(lines(&reading), ["x509_read_errors 3"]);
    assert_eq!(reading.problems.len(), 3);
}

proptest::proptest! {
    #[test]
    fn any_change_of_a_certificate_is_read_or_refused(
        at in 0_usize..2000,
        byte in proptest::prelude::any::<u8>(),
        cut in 0_usize..2000,
    ) {
        static GOOD: std::sync::LazyLock<(Vec<u8>, String)> =
            std::sync::LazyLock::new(|| certificate("a.lan", 2026));
        for good in [GOOD.0.as_slice(), GOOD.1.as_bytes()] {
            let mut bytes = good.to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let (certificates, wrong) = certificates::parse(&bytes);
            proptest::prop_assert!(certificates.len() + wrong <= 2);
        }
    }
}
