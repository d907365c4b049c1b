//! Cards as their drivers show them, and processes that hold them, over a few files.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::sources::registry::made;

/// A host with cards as their drivers show them.
struct Host {
    dir: tempfile::TempDir,
    source: Drm,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap(), source: made() };
        for (path, text) in files {
            host.write(path, text);
        }
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &Path) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A card at a place, with its driver.
    fn card(&self, card: &str, pci: &str, driver: &str) {
        let device = self.dir.path().join("sys/devices/pci0000:00").join(pci);
        std::fs::create_dir_all(&device).unwrap();
        let drivers = self.dir.path().join("sys/bus/pci/drivers").join(driver);
        std::fs::create_dir_all(&drivers).unwrap();
        symlink(&drivers, device.join("driver")).unwrap();
        self.link(&format!("sys/class/drm/{card}/device"), &device);
    }

    fn holds(&self, pid: u32, cgroup: &str, comm: &str, fdinfo: &str) {
        let _again = std::fs::remove_dir_all(self.dir.path().join(format!("proc/{pid}")));
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        self.write(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.write(&format!("proc/{pid}/fdinfo/7"), fdinfo);
        self.link(&format!("proc/{pid}/fd/7"), Path::new("/dev/dri/renderD128"));
    }

    /// What is told at a second.
    fn read(&mut self, second: i64) -> (Vec<String>, Reading) {
        let root = self.dir.path();
        let roots = Roots {
            procfs: root.join("proc"),
            sysfs: root.join("sys"),
            rootfs: root.into(),
            ..Roots::default()
        };
        let mut reading = Reading::default();
        self.source.read(&roots, Now { unix_micros: second * 1_000_000 }, &mut reading);
        let mut told = Vec::new();
        for family in reading.families() {
            let lines = family.metrics.iter();
            told.extend(lines.map(|it| format!("{}{} {}", family.name, it.labels, it.value)));
        }
        told.sort();
        (told, reading)
    }
}

const AMD: &str = "sys/devices/pci0000:00/0000:03:00.0";

#[test]
fn an_amd_card_is_told_as_node_exporter_tells_it_and_by_whose_it_is() {
    let mut host = Host::new(&[
        (&format!("{AMD}/vendor"), "0x1002\n"),
        (&format!("{AMD}/device"), "0x73bf\n"),
        (&format!("{AMD}/gpu_busy_percent"), "4\n"),
        (&format!("{AMD}/mem_busy_percent"), "12\n"),
        (&format!("{AMD}/mem_info_vram_total"), "8573157376\n"),
        (&format!("{AMD}/mem_info_vram_used"), "1490378752\n"),
        (&format!("{AMD}/mem_info_vram_vendor"), "samsung\n"),
        (&format!("{AMD}/power_dpm_force_performance_level"), "auto\n"),
        (&format!("{AMD}/unique_id"), "0123456789abcdef\n"),
        ("sys/class/drm/card0-DP-1/status", "connected\n"),
        ("sys/class/drm/version", "drm 1.1.0 20060810\n"),
        ("etc/pve/lxc/101.conf", "hostname: media\n"),
    ]);
    host.card("card0", "0000:03:00.0", "amdgpu");
    host.card("card1", "0000:0a:00.0", "mgag200");
    let fdinfo = |nanos: u64| {
        format!(
            "drm-driver:\tamdgpu\ndrm-client-id:\t57\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t512 KiB\ndrm-engine-gfx:\t{nanos} ns\n"
        )
    };
    host.holds(7, "/lxc/101/ns/system.slice/jellyfin.service", "ffmpeg", &fdinfo(0));
    let (first, _) = host.read(0);
    assert!(!first.iter().any(|line| line.contains("engine")), "{first:#?}");
    host.holds(7, "/lxc/101/ns/system.slice/jellyfin.service", "ffmpeg", &fdinfo(1_250_000_000));
    let (told, reading) = host.read(5);
    assert!(reading.problems.is_empty() && !reading.failed, "{reading:?}");
    insta::assert_snapshot!(told.join("\n"), @r#"
    node_drm_card_info{card="card0", memory_vendor="samsung", power_performance_level="auto", unique_id="0123456789abcdef", vendor="amd"} 1
    node_drm_gpu_busy_percent{card="card0"} 4
    node_drm_memory_vram_size_bytes{card="card0"} 8573157376
    node_drm_memory_vram_used_bytes{card="card0"} 1490378752
    stoa_drm_card_info{card="card0", device="0x73bf", driver="amdgpu", pci="0000:03:00.0", vendor="0x1002"} 1
    stoa_drm_engine_ratio{card="card0", engine="gfx", pci="0000:03:00.0"} 0.25
    stoa_drm_memory_busy_ratio{card="card0"} 0.12
    stoa_drm_owner_engine_ratio{card="card0", engine="gfx", guest="lxc/101", guest_name="media", pci="0000:03:00.0", unit="jellyfin.service"} 0.25
    stoa_drm_owner_memory_bytes{card="card0", guest="lxc/101", guest_name="media", pci="0000:03:00.0", unit="jellyfin.service"} 524288
    stoa_drm_process_engine_ratio{card="card0", engine="gfx", guest="lxc/101", guest_name="media", name="ffmpeg", pci="0000:03:00.0", pid="7", unit="jellyfin.service"} 0.25
    stoa_drm_process_memory_bytes{card="card0", guest="lxc/101", guest_name="media", name="ffmpeg", pci="0000:03:00.0", pid="7", unit="jellyfin.service"} 524288
    "#);
}

#[test]
fn intels_cards_tell_what_their_driver_has() {
    let xe = "sys/devices/pci0000:00/0000:04:00.0/tile0/gt0";
    let mut host = Host::new(&[
        ("sys/class/drm/card0/gt/gt0/rps_act_freq_mhz", "350\n"),
        ("sys/class/drm/card0/gt/gt0/rps_max_freq_mhz", "1300\n"),
        ("sys/class/drm/card0/gt/gt0/rc6_residency_ms", "1500\n"),
        ("sys/class/drm/card1/gt_act_freq_mhz", "0\n"),
        (&format!("{xe}/freq0/act_freq"), "2000\n"),
        (&format!("{xe}/gtidle/idle_residency_ms"), "70\n"),
    ]);
    host.card("card0", "0000:00:02.0", "i915");
    host.card("card1", "0000:01:00.0", "i915");
    host.card("card2", "0000:04:00.0", "xe");
    let (told, _) = host.read(0);
    insta::assert_snapshot!(told.join("\n"), @r#"
    stoa_drm_card_info{card="card0", driver="i915", pci="0000:00:02.0"} 1
    stoa_drm_card_info{card="card1", driver="i915", pci="0000:01:00.0"} 1
    stoa_drm_card_info{card="card2", driver="xe", pci="0000:04:00.0"} 1
    stoa_drm_frequency_hertz{card="card0", gt="0", pci="0000:00:02.0"} 350000000
    stoa_drm_frequency_hertz{card="card1", gt="0", pci="0000:01:00.0"} 0
    stoa_drm_frequency_hertz{card="card2", gt="0.0", pci="0000:04:00.0"} 2000000000
    stoa_drm_frequency_max_hertz{card="card0", gt="0", pci="0000:00:02.0"} 1300000000
    stoa_drm_idle_seconds_total{card="card0", gt="0", pci="0000:00:02.0"} 1.5
    stoa_drm_idle_seconds_total{card="card2", gt="0.0", pci="0000:04:00.0"} 0.07
    "#);
}

#[test]
fn a_host_without_such_cards_tells_nothing_and_looks_at_no_process() {
    let mut host = Host::new(&[("proc/1/fd", "not even a directory")]);
    host.card("card0", "0000:0a:00.0", "mgag200");
    host.card("card1", "0000:0b:00.0", "nvidia");
    let (told, reading) = host.read(0);
    assert_eq!(told, [""; 0]);
    assert!(reading.failed && reading.problems.is_empty(), "{reading:?}");
}

#[test]
fn processes_that_may_not_be_seen_are_counted() {
    let mut host = Host::new(&[("proc/1/fd", "no directory: as good as no right")]);
    host.card("card0", "0000:03:00.0", "amdgpu");
    let (told, _) = host.read(0);
    assert!(told.contains(&"stoa_drm_processes_hidden{} 1".to_owned()), "{told:#?}");
}
