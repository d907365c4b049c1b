//! Each source over a few files: what it tells, as an exporter would print it.

use std::path::Path;

use stoa_exchange::exposition;

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

fn source(settings: &Settings, name: &str) -> Box<dyn Source> {
    let planned = registry::sources(settings).unwrap().into_iter();
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
    exposition::write(reading.families(), &mut out).unwrap();
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
    let mut source = source(&Settings::default(), "packages");
    check_absent(&mut *source);
    check(
        &mut *source,
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
    let mut settings = Settings::default();
    settings.set("packages", "include", "^sl$");
    let mut source = source(&settings, "packages");
    let status = dir.path().join("var/lib/dpkg/status");
    let before = std::fs::metadata(&status).unwrap().modified().unwrap();
    assert_eq!(lines(&read(&mut *source, dir.path())).len(), 1);

    // Same size, same time: not looked into.
    std::fs::write(&status, STATUS.replace("sl\n", "ls\n")).unwrap();
    std::fs::File::options().write(true).open(&status).unwrap().set_modified(before).unwrap();
    assert_eq!(lines(&read(&mut *source, dir.path())).len(), 1);

    std::fs::write(&status, "").unwrap();
    assert_eq!(lines(&read(&mut *source, dir.path())).len(), 0);
}

#[test]
fn a_reboot_is_required_when_packages_or_a_newer_kernel_say_so() {
    let mut source = source(&Settings::default(), "reboot");
    check_absent(&mut *source);
    check(&mut *source, &[("var/lib/dpkg/status", STATUS)], &["node_reboot_required 0"]);
    check(
        &mut *source,
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
        &mut *source,
        &proxmox,
        &[
            "node_reboot_required 1",
            r#"stoa_reboot_required_reason{name="6.8.12-1-pve",reason="kernel"} 1"#,
        ],
    );
    let pinned = [&proxmox[..], &[("etc/kernel/proxmox-boot-pin", "6.8.4-2-pve\n")]].concat();
    check(&mut *source, &pinned, &["node_reboot_required 0"]);
    let container =
        [&proxmox[..], &[("run/systemd/container", "lxc"), ("var/lib/dpkg/status", "")]].concat();
    check(&mut *source, &container, &["node_reboot_required 0"]);
}
