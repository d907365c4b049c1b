//! The host's own sources: node_exporter's names, types, help, labels and values.
//!
//! Each file reads one noun: a pure `parse` from text to numbers, and a source that gives the numbers
//! their names.

use std::sync::Arc;

use super::Source;
use super::house::{packages, reboot};
use super::settings::{HostSettings, PatternError};

mod arp;
mod arrays;
mod bcache;
mod bcachefs;
mod bonds;
mod btrfs;
mod cgroups;
mod clock;
mod conntrack;
mod cpu;
mod cpufreq;
mod disks;
mod drbd;
mod energy;
mod entropy;
mod ethtool;
mod fibre_channel;
mod file_descriptors;
mod filesystems;
mod firmware;
mod free_blocks;
mod hung_tasks;
mod infiniband;
mod interrupts;
mod ipvs;
mod ksm;
mod load;
mod memory;
mod memory_controllers;
mod multipath;
mod network_caches;
mod network_counters;
mod network_devices;
mod network_statistics;
mod nfs;
mod nfs_mounts;
mod numa;
mod nvme;
mod os_release;
mod pci_devices;
mod power_supplies;
mod pressure;
mod processes;
mod qdiscs;
mod routes;
mod scheduler;
mod selinux;
mod sensors;
mod slabs;
mod sockets;
mod softirqs;
mod softnet;
mod stat;
mod sysctl;
mod tapes;
mod tcp_states;
mod textfile;
mod thermal;
mod time;
mod udp_queues;
mod uname;
mod virtual_memory;
mod vulnerabilities;
mod watchdogs;
mod wifi;
mod xfrm;
mod xfs;
mod zfs;
mod zones;

/// All sources by name, in the order they are read.
pub const NAMES: &[&str] = &[
    "cpu",
    "stat",
    "loadavg",
    "meminfo",
    "vmstat",
    "pressure",
    "schedstat",
    "diskstats",
    "netdev",
    "netstat",
    "sockstat",
    "softnet",
    "conntrack",
    "filefd",
    "entropy",
    "time",
    "uname",
    "cpufreq",
    "netclass",
    "hwmon",
    "softirqs",
    "cpu_vulnerabilities",
    "arp",
    "buddyinfo",
    "cgroups",
    "interrupts",
    "ipvs",
    "kernel_hung",
    "ksmd",
    "lnstat",
    "meminfo_numa",
    "mountstats",
    "nfs",
    "nfsd",
    "os",
    "processes",
    "selinux",
    "slabinfo",
    "sysctl",
    "udp_queues",
    "xfrm",
    "zoneinfo",
    "ethtool",
    "network_route",
    "qdisc",
    "tcpstat",
    "timex",
    "wifi",
    "filesystem",
    "zfs",
    "xfs",
    "bcachefs",
    "infiniband",
    "bcache",
    "fibrechannel",
    "drbd",
    "pcidevice",
    "powersupplyclass",
    "btrfs",
    "tapestats",
    "watchdog",
    "mdadm",
    "dmmultipath",
    "nvme",
    "edac",
    "rapl",
    "bonding",
    "dmi",
    "thermal_zone",
    "textfile",
    "packages",
    "reboot",
];

/// The sources that are read only when asked for.
pub const OPTIONAL: &[&str] = &[
    "softirqs",
    "cpu_vulnerabilities",
    "drbd",
    "pcidevice",
    "buddyinfo",
    "lnstat",
    "meminfo_numa",
    "slabinfo",
    "sysctl",
    "zoneinfo",
    "ethtool",
    "network_route",
    "qdisc",
    "wifi",
];

/// The sources that `settings` ask for, in the order of [`NAMES`].
///
/// # Errors
/// [`PatternError`] when a pattern in `settings` does not compile.
pub fn sources(settings: &HostSettings) -> Result<Vec<Box<dyn Source>>, PatternError> {
    let stat_file = stat::StatFile::shared();
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for name in NAMES.iter().copied().filter(|name| is_wanted(name, settings)) {
        sources.push(match name {
            "cpu" => Box::new(cpu::Cpu::new(settings, Arc::clone(&stat_file))?),
            "stat" => Box::new(stat::Stat::new(settings, Arc::clone(&stat_file))),
            "loadavg" => Box::new(load::Load::new()),
            "meminfo" => Box::new(memory::Memory::new()),
            "vmstat" => Box::new(virtual_memory::VirtualMemory::new(settings)?),
            "pressure" => Box::new(pressure::Pressure::new()),
            "schedstat" => Box::new(scheduler::Scheduler::new()),
            "diskstats" => Box::new(disks::Disks::new(settings)?),
            "netdev" => Box::new(network_counters::NetworkCounters::new(settings)?),
            "netstat" => Box::new(network_statistics::NetworkStatistics::new(settings)?),
            "sockstat" => Box::new(sockets::Sockets::new()),
            "softnet" => Box::new(softnet::Softnet::new()),
            "conntrack" => Box::new(conntrack::Conntrack::new()),
            "filefd" => Box::new(file_descriptors::FileDescriptors::new()),
            "entropy" => Box::new(entropy::Entropy::new()),
            "time" => Box::new(time::Time::new()),
            "uname" => Box::new(uname::Uname::new()),
            "cpufreq" => Box::new(cpufreq::CpuFrequency::new(settings)),
            "netclass" => Box::new(network_devices::NetworkDevices::new(settings)?),
            "hwmon" => Box::new(sensors::Sensors::new(settings)?),
            "softirqs" => Box::new(softirqs::SoftIrqs::new()),
            "cpu_vulnerabilities" => Box::new(vulnerabilities::Vulnerabilities::new()),
            "arp" => Box::new(arp::Arp::new(&arp::Settings::default())?),
            "buddyinfo" => Box::new(free_blocks::FreeBlocks::new()),
            "cgroups" => Box::new(cgroups::ControlGroups::new()),
            "interrupts" => {
                Box::new(interrupts::Interrupts::new(&interrupts::Settings::default())?)
            }
            "ipvs" => Box::new(ipvs::Ipvs::new(&ipvs::Settings::default())),
            "kernel_hung" => Box::new(hung_tasks::HungTasks::new()),
            "ksmd" => Box::new(ksm::Ksm),
            "lnstat" => Box::new(network_caches::NetworkCaches::new()),
            "meminfo_numa" => Box::new(numa::Numa::new()),
            "mountstats" => Box::new(nfs_mounts::NfsMounts::new()),
            "nfs" => Box::new(nfs::NfsClient::new()),
            "nfsd" => Box::new(nfs::NfsServer::new()),
            "os" => Box::new(os_release::OsRelease::new()),
            "processes" => Box::new(processes::Processes::new()),
            "selinux" => Box::new(selinux::SeLinux),
            "slabinfo" => Box::new(slabs::Slabs::new(&slabs::Settings::default())?),
            "sysctl" => Box::new(sysctl::Sysctl::new(&sysctl::Settings::default())),
            "udp_queues" => Box::new(udp_queues::UdpQueues::new()),
            "xfrm" => Box::new(xfrm::Xfrm::new()),
            "zoneinfo" => Box::new(zones::Zones::new()),
            "ethtool" => Box::new(ethtool::Ethtool::new(&ethtool::Settings::default())?),
            "network_route" => Box::new(routes::Routes::new()),
            "qdisc" => Box::new(qdiscs::Qdiscs::new(&qdiscs::Settings::default())?),
            "tcpstat" => Box::new(tcp_states::TcpStates::new()),
            "timex" => Box::new(clock::Clock),
            "wifi" => Box::new(wifi::Wifi::new(&wifi::Settings::default())),
            "filesystem" => Box::new(filesystems::Filesystems::new(settings)?),
            "zfs" => Box::new(zfs::Zfs::new()),
            "xfs" => Box::new(xfs::Xfs::new()),
            "bcachefs" => Box::new(bcachefs::Bcachefs::new()),
            "infiniband" => Box::new(infiniband::Infiniband::new()),
            "bcache" => Box::new(bcache::Bcache::new(bcache::Settings {
                priority_stats: settings.bcache_priority_stats,
            })),
            "fibrechannel" => Box::new(fibre_channel::FibreChannel::new()),
            "drbd" => Box::new(drbd::Drbd::new()),
            "pcidevice" => Box::new(pci_devices::PciDevices::new()),
            "powersupplyclass" => {
                Box::new(power_supplies::PowerSupplies::new(&power_supplies::Settings::default())?)
            }
            "btrfs" => Box::new(btrfs::Btrfs::new()),
            "tapestats" => Box::new(tapes::Tapes::new(&tapes::Settings::default())?),
            "watchdog" => Box::new(watchdogs::Watchdogs::new()),
            "mdadm" => Box::new(arrays::Arrays::new()),
            "dmmultipath" => Box::new(multipath::Multipath::new()),
            "nvme" => Box::new(nvme::Nvme::new()),
            "edac" => Box::new(memory_controllers::MemoryControllers::new()),
            "rapl" => Box::new(energy::Energy::new(energy::Settings::default())),
            "bonding" => Box::new(bonds::Bonds::new()),
            "dmi" => Box::new(firmware::Firmware::new()),
            "thermal_zone" => Box::new(thermal::Thermal::new()),
            "textfile" => Box::new(textfile::Textfile::new(settings)),
            "packages" => Box::new(packages::Packages::new(&packages::Settings::default())?),
            _ => Box::new(reboot::Reboot::new()),
        });
    }
    Ok(sources)
}

fn is_wanted(name: &str, settings: &HostSettings) -> bool {
    let named = |list: &[String]| list.iter().any(|listed| listed == name);
    !named(&settings.disabled) && (!OPTIONAL.contains(&name) || named(&settings.optional))
}

#[cfg(test)]
mod tests;
