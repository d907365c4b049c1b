//! Any bytes as what sources read: for fuzz targets and tests, no part of the agent.
//!
//! A source is read as the agent reads it, over files with those bytes in them; what programs and the
//! kernel answer is given to its parser. Nothing panics, what is told is finite, named as metrics are,
//! and bounded by how much there was to read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::settings::{Settings, SettingsError};
use super::{Now, Reading, Roots, Source, registry};

/// A source, its file, and what the file says while another is tried.
type Place = (&'static str, &'static str, &'static str);

/// What the kernel writes.
pub const OF_THE_KERNEL: &[Place] = &[
    ("stat", "proc/stat", ""),
    ("loadavg", "proc/loadavg", ""),
    ("meminfo", "proc/meminfo", ""),
    ("vmstat", "proc/vmstat", ""),
    ("pressure", "proc/pressure/cpu", ""),
    ("schedstat", "proc/schedstat", ""),
    ("diskstats", "proc/diskstats", ""),
    ("diskstats", "udev/b8:0", ""),
    ("netdev", "proc/net/dev", ""),
    ("netstat", "proc/net/netstat", ""),
    ("sockstat", "proc/net/sockstat", ""),
    ("softnet", "proc/net/softnet_stat", ""),
    ("conntrack", "proc/net/stat/nf_conntrack", ""),
    ("conntrack", "proc/sys/net/netfilter/nf_conntrack_count", "1"),
    ("conntrack", "proc/sys/net/netfilter/nf_conntrack_max", "2"),
    ("softirqs", "proc/softirqs", ""),
    ("arp", "proc/net/arp", ""),
    ("buddyinfo", "proc/buddyinfo", ""),
    ("cgroups", "proc/cgroups", ""),
    ("interrupts", "proc/interrupts", ""),
    ("ipvs", "proc/net/ip_vs", ""),
    ("ipvs", "proc/net/ip_vs_stats", "a\nb\n1 2 3 4 5\n"),
    ("lnstat", "proc/net/stat/arp_cache", ""),
    ("meminfo_numa", "sys/devices/system/node/node0/meminfo", ""),
    ("meminfo_numa", "sys/devices/system/node/node0/numastat", ""),
    ("mountstats", "proc/self/mountstats", ""),
    ("nfs", "proc/net/rpc/nfs", ""),
    ("nfsd", "proc/net/rpc/nfsd", ""),
    ("processes", "proc/7/stat", ""),
    ("slabinfo", "proc/slabinfo", ""),
    ("udp_queues", "proc/net/udp", ""),
    ("xfrm", "proc/net/xfrm_stat", ""),
    ("zoneinfo", "proc/zoneinfo", ""),
    ("zfs", "proc/spl/kstat/zfs/arcstats", ""),
    ("zfs", "proc/spl/kstat/zfs/tank/io", ""),
    ("zfs", "proc/spl/kstat/zfs/tank/objset-1", ""),
    ("xfs", "sys/fs/xfs/sda/stats/stats", ""),
    ("bcachefs", "sys/fs/bcachefs/a/counters/b", ""),
    ("bcachefs", "sys/fs/bcachefs/a/compression_stats", ""),
    ("bcachefs", "sys/fs/bcachefs/a/btree_write_stats", ""),
    ("bcachefs", "sys/fs/bcachefs/a/errors", ""),
    ("bcachefs", "sys/fs/bcachefs/a/dev-0/io_done", ""),
    ("bcachefs", "sys/fs/bcachefs/a/dev-0/io_errors", ""),
    ("infiniband", "sys/class/infiniband/a/ports/1/rate", ""),
    ("infiniband", "sys/class/infiniband/a/ports/1/state", ""),
    ("bcache", "sys/fs/bcache/a-b/bdev0/writeback_rate_debug", ""),
    ("bcache", "sys/fs/bcache/a-b/btree_cache_size", ""),
    ("fibrechannel", "sys/class/fc_host/a/statistics/rx_words", ""),
    ("drbd", "proc/drbd", ""),
    ("powersupplyclass", "sys/class/power_supply/a/capacity", ""),
    ("btrfs", "sys/fs/btrfs/a-b/commit_stats", ""),
    ("arrays", "sys/fs/btrfs/a-b/devinfo/1/error_stats", ""),
    ("arrays", "sys/block/md0/md/sync_completed", ""),
    ("mdadm", "proc/mdstat", ""),
    ("edac", "sys/devices/system/edac/mc/mc0/ce_count", ""),
    ("rapl", "sys/class/powercap/intel-rapl:0/name", ""),
    ("bonding", "sys/class/net/bonding_masters", ""),
    ("thermal_zone", "sys/class/thermal/thermal_zone0/temp", ""),
    ("hwmon", "sys/class/hwmon/hwmon0/temp1_input", "1"),
    ("oom", "sys/fs/cgroup/memory/a/memory.oom_control", ""),
    ("cpu", "sys/devices/system/cpu/isolated", ""),
];

/// What programs and people leave in files.
pub const OF_PROGRAMS: &[Place] = &[
    ("smart", "reports/smart-sda.json", ""),
    ("lvm", "reports/lvs.json", r#"{"report":[{"lv":[]}]}"#),
    ("lvm", "reports/vgs.json", r#"{"report":[{"vg":[]}]}"#),
    ("lvm", "reports/pvs.json", r#"{"report":[{"pv":[]}]}"#),
    ("packages", "var/lib/dpkg/status", ""),
    ("certificates", "etc/letsencrypt/live/a.pem", ""),
    ("boots", "var/log/wtmp", ""),
    ("reboot", "run/reboot-required", ""),
    ("reboot", "run/reboot-required.pkgs", ""),
    ("os", "etc/os-release", ""),
    ("selinux", "etc/selinux/config", ""),
    ("textfile", "textfile/a.prom", ""),
];

/// A host of files that are replaced one at a time. Its sources know it from reading to reading.
#[derive(Debug)]
pub struct Host {
    dir: PathBuf,
    places: &'static [Place],
    /// Those of `places`.
    sources: Vec<Box<dyn Source>>,
    unix_micros: i64,
}

impl Host {
    /// In `dir`, which is made.
    ///
    /// # Errors
    /// When files cannot be written there.
    pub fn new(dir: PathBuf, places: &'static [Place]) -> io::Result<Self> {
        for (_, path, rest) in places {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
            std::fs::write(path, rest)?;
        }
        let mut sources = sources(&dir.join("reports")).map_err(io::Error::other)?;
        sources.retain(|source| places.iter().any(|(name, _, _)| *name == source.name()));
        Ok(Self { dir, places, sources, unix_micros: 1_770_000_000_000_000 })
    }

    /// Reads a source with `bytes` in one of its files.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// When what is told is not as it should be.
    pub fn read(&mut self, which: u8, bytes: &[u8]) -> io::Result<()> {
        let at = usize::from(which) % self.places.len();
        let Some((name, path, rest)) = self.places.get(at) else { return Ok(()) };
        let mut sources = self.sources.iter_mut();
        let Some(source) = sources.find(|source| source.name() == *name) else { return Ok(()) };
        // Long enough for whatever is looked up only now and then.
        self.unix_micros += 3_600_000_000;
        let now = Now { unix_micros: self.unix_micros };
        let path = self.dir.join(path);
        std::fs::write(&path, bytes)?;
        // What a job left is told only when it is of now.
        let at = UNIX_EPOCH + Duration::from_micros(self.unix_micros.unsigned_abs());
        File::options().write(true).open(&path)?.set_modified(at)?;
        let mut reading = Reading::default();
        source.read(&roots(&self.dir), now, &mut reading);
        let is_any_number_told = *name == "textfile";
        check(&reading, bytes.len(), is_any_number_told);
        std::fs::write(path, rest)
    }
}

/// All there are.
fn sources(reports: &Path) -> Result<Vec<Box<dyn Source>>, SettingsError> {
    let mut settings = Settings::default();
    registry::names().into_iter().for_each(|name| settings.enable(name, true));
    for source in ["smart", "lvm"] {
        settings.set(source, "reports", reports.to_string_lossy().into_owned());
    }
    Ok(registry::sources(&settings)?.into_iter().map(|planned| planned.source).collect())
}

fn roots(dir: &Path) -> Roots {
    Roots {
        procfs: dir.join("proc"),
        sysfs: dir.join("sys"),
        rootfs: dir.into(),
        udev: dir.join("udev"),
        textfile: Some(dir.join("textfile")),
    }
}

/// What is told of so many bytes.
fn check(reading: &Reading, bytes: usize, is_any_number_told: bool) {
    let mut told = 0;
    for family in reading.families() {
        let is_sign = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!family.name.is_empty() && family.name.chars().all(is_sign), "{:?}", family.name);
        for metric in &family.metrics {
            let is_told = is_any_number_told || metric.value.is_finite();
            assert!(is_told, "{}{} {}", family.name, metric.labels, metric.value);
        }
        told += family.metrics.len();
    }
    // A list of CPUs, `0-65535`, is the shortest that tells most.
    assert!(told <= 100_000 + 64 * bytes, "{told} of {bytes} bytes");
}

/// Reads what a program or a server answers.
///
/// # Panics
/// When what is told is not as it should be.
pub fn answer(which: u8, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut reading = Reading::default();
    let now = Now { unix_micros: 1_770_000_000_000_000 };
    if which & 1 == 0 {
        super::disks::tell_any(which >> 1, &text, now, &mut reading);
    } else {
        super::house::tell_any(which >> 1, &text, &mut reading);
    }
    check(&reading, text.len(), false);
}

/// Reads what the kernel answers to questions by netlink and `ioctl`.
///
/// # Panics
/// When what is told is not as it should be.
pub fn kernel_answer(bytes: &[u8]) {
    super::host::fuzzing::kernel_answer(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes, and texts of the words that the files are made of.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            "[a-z_]{1,8}",
            "[0-9]{1,4}",
            "(1e308|-1e308|1e999|NaN|inf|18446744073709551616|0x1f|0-65535|1/0)",
            "(cpu0|CPU0|Node 0, zone|device|eth0:|md0 :|active|kB|raid1|proc4|net|GT/s|1.5k)",
            "[ \t:;,/()\\[\\]{}=%@#\"\\n]{1,3}",
        ];
        let text = proptest::collection::vec((word, " |\n|\t|:|,"), 0..40);
        let text = text.prop_map(|words| {
            let words = words.into_iter().flat_map(|(word, sign)| [word, sign]);
            words.collect::<String>().into_bytes()
        });
        prop_oneof![3 => text, 1 => proptest::collection::vec(any::<u8>(), 0..400)]
    }

    fn any_host(places: &'static [Place], inputs: &[(u8, Vec<u8>)]) {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::new(dir.path().into(), places).unwrap();
        for (which, bytes) in inputs {
            host.read(*which, bytes).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn any_bytes_are_files_of_the_kernel(
            inputs in proptest::collection::vec((any::<u8>(), any_bytes()), 1..60),
        ) {
            any_host(OF_THE_KERNEL, &inputs);
        }

        #[test]
        fn any_bytes_are_files_of_programs(
            inputs in proptest::collection::vec((any::<u8>(), any_bytes()), 1..60),
        ) {
            any_host(OF_PROGRAMS, &inputs);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answers(which in any::<u8>(), bytes in any_bytes()) {
            answer(which, &bytes);
        }

        #[test]
        fn any_bytes_are_answers_of_the_kernel(
            bytes in proptest::collection::vec(prop_oneof![3 => 0_u8..40, 1 => any::<u8>()], 0..300),
        ) {
            kernel_answer(&bytes);
        }
    }

    #[test]
    fn every_place_has_its_source() {
        for places in [OF_THE_KERNEL, OF_PROGRAMS] {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::new(dir.path().into(), places).unwrap();
            for (name, _, _) in places {
                assert!(host.sources.iter().any(|source| source.name() == *name), "{name}");
            }
        }
    }
}
