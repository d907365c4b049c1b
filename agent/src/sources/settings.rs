//! Which sources are read and what of each: node_exporter's defaults, as data in one place.

use std::time::Duration;

use regex::Regex;

/// A pattern did not compile.
#[derive(Debug, thiserror::Error)]
#[error("pattern {pattern:?} is not valid")]
pub struct PatternError {
    /// The pattern as given.
    pub pattern: String,
    /// What the compiler said.
    #[source]
    pub source: Box<regex::Error>,
}

/// The settings of the host's sources as written: patterns are texts, found anywhere in a name unless
/// anchored, as node_exporter's flags are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// Sources not to read.
    pub disabled: Vec<String>,
    /// Sources to read that are off by default (`host::OPTIONAL`).
    pub optional: Vec<String>,
    /// Whether to read `/proc/cpuinfo`.
    pub cpu_info: bool,
    /// Which CPU flags to tell; `None`: none. Implies `cpu_info`.
    pub cpu_flags: Option<String>,
    /// Which CPU bugs to tell; `None`: none. Implies `cpu_info`.
    pub cpu_bugs: Option<String>,
    /// Whether to tell soft interrupts by vector.
    pub stat_softirq: bool,
    /// Block devices.
    pub disk_devices: PatternPair,
    /// Mount points.
    pub mount_points: PatternPair,
    /// Types of file systems.
    pub fs_types: PatternPair,
    /// How long a reading waits for one mount to answer; an answer that comes later counts for the
    /// next reading.
    pub mount_patience: Duration,
    /// How long a mount may leave a question unanswered before it is told as failed.
    pub mount_timeout: Duration,
    /// Network devices to tell counters of.
    pub netdev_devices: PatternPair,
    /// Network devices to tell properties of.
    pub netclass_devices: PatternPair,
    /// Whether a speed the device does not know is left out rather than told as -125000 B/s.
    pub netclass_ignore_invalid_speed: bool,
    /// Fields of `/proc/net/netstat`, `snmp` and `snmp6`, as `Protocol_Field`.
    pub netstat_fields: String,
    /// Fields of `/proc/vmstat`.
    pub vmstat_fields: String,
    /// Sensor chips.
    pub hwmon_chips: PatternPair,
    /// Sensors, as `chip;sensor`.
    pub hwmon_sensors: PatternPair,
    /// Whether to tell how bcache uses its devices, which is costly for the kernel.
    pub bcache_priority_stats: bool,
    /// How often sensors, network device properties, file systems and CPU frequencies are read:
    /// asking costs more there than the answer changes.
    pub slow_interval: Duration,
}

/// What to keep and what to leave out; an empty text says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternPair {
    /// If not empty, only what it matches is kept.
    pub include: String,
    /// If not empty, what it matches is left out.
    pub exclude: String,
}

impl PatternPair {
    /// Leaves out what `pattern` matches.
    #[must_use]
    pub fn exclude(pattern: &str) -> Self {
        Self { include: String::new(), exclude: pattern.to_owned() }
    }

    /// Keeps only what `pattern` matches.
    #[must_use]
    pub fn include(pattern: &str) -> Self {
        Self { include: pattern.to_owned(), exclude: String::new() }
    }
}

const DISKS_EXCLUDED: &str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";
const MOUNT_POINTS_EXCLUDED: &str =
    "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
const FS_TYPES_EXCLUDED: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts\
    |devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs\
    |securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";
const NETSTAT_FIELDS: &str = "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)\
    |Icmp6?_(InMsgs|OutMsgs)\
    |TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)\
    |Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)\
    |Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$";
const VMSTAT_FIELDS: &str = "^(oom_kill|pgpg|pswp|pg.*fault).*";

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            disabled: Vec::new(),
            optional: Vec::new(),
            cpu_info: false,
            cpu_flags: None,
            cpu_bugs: None,
            stat_softirq: false,
            disk_devices: PatternPair::exclude(DISKS_EXCLUDED),
            mount_points: PatternPair::exclude(MOUNT_POINTS_EXCLUDED),
            fs_types: PatternPair::exclude(FS_TYPES_EXCLUDED),
            mount_patience: Duration::from_millis(20),
            mount_timeout: Duration::from_secs(5),
            netdev_devices: PatternPair::default(),
            netclass_devices: PatternPair::default(),
            netclass_ignore_invalid_speed: false,
            netstat_fields: NETSTAT_FIELDS.to_owned(),
            vmstat_fields: VMSTAT_FIELDS.to_owned(),
            hwmon_chips: PatternPair::default(),
            hwmon_sensors: PatternPair::default(),
            bcache_priority_stats: false,
            slow_interval: Duration::from_secs(5),
        }
    }
}

impl HostSettings {
    /// Whether `/proc/cpuinfo` is read, and so tells the CPUs' frequencies.
    pub(crate) fn reads_cpu_info(&self) -> bool {
        self.cpu_info || self.cpu_flags.is_some() || self.cpu_bugs.is_some()
    }
}

/// A [`PatternPair`] as meant.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Filter {
    pub(crate) fn new(pair: &PatternPair) -> Result<Self, PatternError> {
        let compiled = |text: &str| (!text.is_empty()).then(|| pattern(text)).transpose();
        Ok(Self { include: compiled(&pair.include)?, exclude: compiled(&pair.exclude)? })
    }

    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|re| re.is_match(name))
            && !self.exclude.as_ref().is_some_and(|re| re.is_match(name))
    }
}

/// Compiles a pattern as found anywhere in a text.
pub(crate) fn pattern(text: &str) -> Result<Regex, PatternError> {
    Regex::new(text)
        .map_err(|source| PatternError { pattern: text.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pair: &PatternPair, kept: &[&str], left_out: &[&str]) {
        let filter = Filter::new(pair).unwrap();
        for name in kept {
            assert!(filter.keeps(name), "{name}");
        }
        for name in left_out {
            assert!(!filter.keeps(name), "{name}");
        }
    }

    #[test]
    fn the_defaults_leave_out_what_node_exporter_does() {
        let settings = HostSettings::default();
        check(
            &settings.disk_devices,
            &["sda", "nvme0n1", "dm-0", "md0", "sr0", "mmcblk0p1", "zd0", "vda"],
            &["sda1", "loop7", "ram0", "zram0", "nvme0n1p2", "vdb3", "xvda1", "fd0"],
        );
        check(
            &settings.mount_points,
            &["/", "/home", "/run", "/var/lib/docker", "/devices"],
            &["/dev", "/dev/shm", "/sys/fs", "/proc", "/var/lib/docker/overlay2/x"],
        );
        check(&settings.fs_types, &["ext4", "zfs", "nfs4", "tmpfs"], &["overlay", "cgroup2"]);
        check(&PatternPair::include("^lo$"), &["lo"], &["eth0", "lo0"]);
        assert!(Filter::new(&PatternPair::exclude("(")).is_err());
    }
}
