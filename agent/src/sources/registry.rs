//! All sources there are: one line each.

mod about;

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::container::{Container, ContainerSource, SharedContainer};
use super::containers::{Containers, SharedNames};
use super::inventory::{self, InventorySource, Outbox};
use super::settings::{Settings, SettingsError};
use super::{Source, container, disks, gpu, host, house, processes, proxmox, units};

/// What sources share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `/proc/stat`, read once a tick.
    pub(crate) stat_file: host::SharedStatFile,
    /// The container that is run in, if one is.
    pub(crate) container: SharedContainer,
    /// Whose numbers are told in one.
    pub(crate) of_container: container::Settings,
    /// Whether the source `cpu` tells frequencies, so that `cpufreq` does not.
    pub(crate) cpu_tells_frequencies: bool,
    /// The table of processes, scanned once for all who ask.
    pub(crate) processes: processes::SharedScan,
    /// What containers are called.
    pub(crate) names: SharedNames,
    /// Where the host's document is put.
    pub(crate) inventory: inventory::Offer,
}

/// A source that is made from its table.
pub(crate) trait Configured: Source + Sized + 'static {
    /// Its own keys.
    type Settings: DeserializeOwned;

    /// The source, having read nothing yet.
    fn new(settings: Self::Settings, shared: &Shared) -> Self;
}

/// A source, and when it is to be asked.
#[derive(Debug)]
pub struct Planned {
    /// The source.
    pub source: Box<dyn Source>,
    /// Instead of its own; [`Source::interval`].
    pub interval: Option<Duration>,
    /// Instead of its own; [`Source::deadline`].
    pub deadline: Option<Duration>,
}

/// What a table without keys of its own may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoSettings {}

type Make = fn(&str, &Settings, &Shared) -> Result<Box<dyn Source>, SettingsError>;

/// One source there is.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Whether it is read unless its table says otherwise.
    pub(crate) by_default: bool,
    make: Make,
}

const fn on<S: Configured>(name: &'static str) -> Entry {
    Entry { name, by_default: true, make: make::<S> }
}

const fn off<S: Configured>(name: &'static str) -> Entry {
    Entry { name, by_default: false, make: make::<S> }
}

fn make<S: Configured>(
    name: &str,
    settings: &Settings,
    shared: &Shared,
) -> Result<Box<dyn Source>, SettingsError> {
    Ok(Box::new(S::new(settings.of(name)?, shared)))
}

/// All sources, in the order they are read.
pub(crate) const SOURCES: &[Entry] = &[
    on::<host::Cpu>("cpu"),
    on::<host::Stat>("stat"),
    on::<host::Load>("loadavg"),
    on::<host::Memory>("meminfo"),
    on::<host::VirtualMemory>("vmstat"),
    on::<host::Pressure>("pressure"),
    on::<host::Scheduler>("schedstat"),
    on::<host::Disks>("diskstats"),
    on::<host::NetworkCounters>("netdev"),
    on::<host::NetworkStatistics>("netstat"),
    on::<host::Sockets>("sockstat"),
    on::<host::Softnet>("softnet"),
    on::<host::Conntrack>("conntrack"),
    on::<host::FileDescriptors>("filefd"),
    on::<host::Entropy>("entropy"),
    on::<host::Time>("time"),
    on::<host::Uname>("uname"),
    on::<host::CpuFrequency>("cpufreq"),
    on::<host::NetworkDevices>("netclass"),
    on::<host::Sensors>("hwmon"),
    off::<host::SoftIrqs>("softirqs"),
    off::<host::Vulnerabilities>("cpu_vulnerabilities"),
    on::<host::Arp>("arp"),
    off::<host::FreeBlocks>("buddyinfo"),
    on::<host::ControlGroups>("cgroups"),
    on::<host::Interrupts>("interrupts"),
    on::<host::Ipvs>("ipvs"),
    on::<host::HungTasks>("kernel_hung"),
    on::<host::Ksm>("ksmd"),
    off::<host::NetworkCaches>("lnstat"),
    off::<host::Numa>("meminfo_numa"),
    on::<host::NfsMounts>("mountstats"),
    on::<host::NfsClient>("nfs"),
    on::<host::NfsServer>("nfsd"),
    on::<host::OsRelease>("os"),
    on::<host::Processes>("processes"),
    on::<host::SeLinux>("selinux"),
    off::<host::Slabs>("slabinfo"),
    off::<host::Sysctl>("sysctl"),
    on::<host::UdpQueues>("udp_queues"),
    on::<host::Xfrm>("xfrm"),
    off::<host::Zones>("zoneinfo"),
    off::<host::Ethtool>("ethtool"),
    off::<host::Routes>("network_route"),
    off::<host::Qdiscs>("qdisc"),
    on::<host::TcpStates>("tcpstat"),
    on::<host::Clock>("timex"),
    off::<host::Wifi>("wifi"),
    on::<host::Filesystems>("filesystem"),
    on::<host::Zfs>("zfs"),
    on::<host::Xfs>("xfs"),
    on::<host::Bcachefs>("bcachefs"),
    on::<host::Infiniband>("infiniband"),
    on::<host::Bcache>("bcache"),
    on::<host::FibreChannel>("fibrechannel"),
    off::<host::Drbd>("drbd"),
    off::<host::PciDevices>("pcidevice"),
    on::<host::PowerSupplies>("powersupplyclass"),
    on::<host::Btrfs>("btrfs"),
    on::<host::Tapes>("tapestats"),
    on::<host::Watchdogs>("watchdog"),
    on::<host::Arrays>("mdadm"),
    on::<host::Multipath>("dmmultipath"),
    on::<host::Nvme>("nvme"),
    on::<host::MemoryControllers>("edac"),
    on::<host::Energy>("rapl"),
    on::<host::Bonds>("bonding"),
    on::<host::Firmware>("dmi"),
    on::<host::Thermal>("thermal_zone"),
    on::<disks::Smart>("smart"),
    on::<disks::Pools>("zpool"),
    on::<disks::Datasets>("zfs_datasets"),
    on::<disks::Lvm>("lvm"),
    on::<disks::Arrays>("arrays"),
    on::<house::Packages>("packages"),
    on::<house::Apt>("apt"),
    on::<house::Reboot>("reboot"),
    on::<house::Boots>("boots"),
    on::<house::Oom>("oom"),
    on::<house::TimeSync>("time_sync"),
    off::<house::Ntp>("ntp"),
    on::<house::Certificates>("certificates"),
    on::<house::Nut>("nut"),
    on::<units::Units>("systemd"),
    on::<Containers>("containers"),
    on::<gpu::Nvidia>("nvidia"),
    on::<gpu::Drm>("drm"),
    on::<proxmox::Cluster>("proxmox"),
    on::<proxmox::BackupServer>("backup_server"),
    on::<gpu::Ollama>("ollama"),
    on::<ContainerSource>("container"),
    on::<processes::Processes>("process"),
    on::<InventorySource>("inventory"),
    // The last: families of names that others have told are left out.
    on::<host::Textfile>("textfile"),
];

/// The names of all sources there are, including those that are off by default.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SOURCES.iter().map(|entry| entry.name).collect()
}

/// The names of the sources that are read only when asked for.
#[must_use]
pub fn names_off_by_default() -> Vec<&'static str> {
    SOURCES.iter().filter(|entry| !entry.by_default).map(|entry| entry.name).collect()
}

/// What to say of a name that is no source's.
#[must_use]
pub fn no_such(name: &str) -> String {
    let meant = stoa_daemon::did_you_mean(name, names());
    format!("no source is called {name:?}{meant}; `stoa-agent sources` lists them")
}

/// The sources that `settings` ask for, in the order they are read.
///
/// # Errors
/// [`SettingsError`] when `settings` name no source or say what cannot be meant.
pub fn sources(settings: &Settings) -> Result<Vec<Planned>, SettingsError> {
    sources_and_inventory(settings).map(|(sources, _outbox)| sources)
}

/// The same, and where the document of one of them is to be had.
///
/// # Errors
/// As [`sources`].
pub fn sources_and_inventory(settings: &Settings) -> Result<(Vec<Planned>, Outbox), SettingsError> {
    let (offer, outbox) = inventory::outbox();
    if let Some(name) = settings.unknown() {
        return Err(SettingsError { key: format!("sources.{name}"), message: no_such(name) });
    }
    let of_container = settings.of::<container::Settings>("container")?;
    let shared = Shared {
        stat_file: host::StatFile::shared(),
        container: Container::shared(),
        of_container: of_container.clone(),
        cpu_tells_frequencies: settings.of::<host::CpuSettings>("cpu")?.reads_info(),
        processes: processes::SharedScan::default(),
        names: SharedNames::default(),
        inventory: offer,
    };
    let mut sources = Vec::new();
    for entry in SOURCES {
        let schedule = settings.schedule(entry.name)?;
        if !entry.by_default && settings.is_undecided(entry.name) {
            return Err(SettingsError {
                key: format!("sources.{}", entry.name),
                message: "it is off unless enabled = true is said here, too".to_owned(),
            });
        }
        let source = (entry.make)(entry.name, settings, &shared)?;
        if schedule.enabled.unwrap_or(entry.by_default) {
            let (interval, deadline) = (schedule.interval, schedule.deadline);
            if deadline.is_some() && source.deadline().is_none() {
                return Err(SettingsError {
                    key: format!("sources.{}.deadline", entry.name),
                    message: "it is read within the tick and has none".to_owned(),
                });
            }
            let source = container::within(source, &of_container, &shared.container);
            sources.push(Planned { source, interval, deadline });
        }
    }
    Ok((sources, outbox))
}

/// A source there is, and when it would be read.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: &'static str,
    /// Whether it is read.
    pub is_on: bool,
    /// How often; `None`: at every tick.
    pub interval: Option<Duration>,
    /// How long it may take, where it is read beside the ticks.
    pub deadline: Option<Duration>,
    /// What it tells, in a line.
    pub about: &'static str,
}

/// All sources there are, as `settings` have them, in the order they are read.
///
/// # Errors
/// As [`sources`].
pub fn list(settings: &Settings) -> Result<Vec<Listed>, SettingsError> {
    let on: Vec<&str> = sources(settings)?.iter().map(|planned| planned.source.name()).collect();
    let mut all = settings.clone();
    names().into_iter().for_each(|name| all.enable(name, true));
    let listed = sources(&all)?.into_iter().map(|planned| {
        let name = planned.source.name();
        Listed {
            name,
            is_on: on.contains(&name),
            interval: planned.interval.or(planned.source.interval()),
            deadline: planned.source.deadline().map(|own| planned.deadline.unwrap_or(own)),
            about: about::about(name),
        }
    });
    Ok(listed.collect())
}

/// A source as its defaults have it.
#[cfg(test)]
pub(crate) fn made<S: Configured<Settings: Default>>() -> S {
    made_of(S::Settings::default())
}

/// A source as these settings have it.
#[cfg(test)]
pub(crate) fn made_of<S: Configured>(settings: S::Settings) -> S {
    let shared = Shared {
        stat_file: host::StatFile::shared(),
        container: Container::shared(),
        of_container: container::Settings::default(),
        cpu_tells_frequencies: false,
        processes: processes::SharedScan::default(),
        names: SharedNames::default(),
        inventory: inventory::outbox().0,
    };
    S::new(settings, &shared)
}

#[cfg(test)]
mod tests;
