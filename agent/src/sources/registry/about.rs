//! What each source tells, in a line for a person.

/// By name, in no order that matters.
const ABOUT: &[(&str, &str)] = &[
    ("cpu", "time of each CPU by mode; model, flags and bugs when asked"),
    ("stat", "interrupts, context switches, forks, boot time, running processes"),
    ("loadavg", "load averages"),
    ("meminfo", "memory, every field of the kernel"),
    ("vmstat", "paging, faults, kills for want of memory"),
    ("pressure", "time lost waiting for CPU, memory, I/O and interrupts"),
    ("schedstat", "how long tasks ran and waited on each CPU"),
    ("diskstats", "I/O of each block device; model and serial number"),
    ("netdev", "bytes, packets and errors of each network device"),
    ("netstat", "counters of IP, TCP, UDP and ICMP"),
    ("sockstat", "sockets in use"),
    ("softnet", "packets handled by each CPU, and those it had no time for"),
    ("conntrack", "connections the firewall tracks"),
    ("filefd", "open files of the whole host"),
    ("entropy", "randomness the kernel has"),
    ("time", "the clock, its zone and source"),
    ("uname", "name and kernel of the host"),
    ("cpufreq", "how fast the CPUs run, and who decides"),
    ("netclass", "state, speed and addresses of each network device"),
    ("hwmon", "temperatures, fans, voltages"),
    ("softirqs", "soft interrupts of each CPU by kind"),
    ("cpu_vulnerabilities", "what the CPU is vulnerable to, and what is done about it"),
    ("arp", "neighbours on each network device"),
    ("buddyinfo", "free blocks of memory by size"),
    ("cgroups", "control groups by controller"),
    ("interrupts", "interrupts of each CPU by line"),
    ("ipvs", "the kernel's load balancer"),
    ("kernel_hung", "tasks the kernel found hung"),
    ("ksmd", "memory pages shared between guests"),
    ("lnstat", "caches of the network's stack"),
    ("meminfo_numa", "memory of each NUMA node"),
    ("mountstats", "each NFS mount, by operation"),
    ("nfs", "this host as NFS client"),
    ("nfsd", "this host as NFS server"),
    ("os", "the distribution and its version"),
    ("processes", "processes by state, threads, limits"),
    ("selinux", "whether SELinux is on"),
    ("slabinfo", "the kernel's own memory by kind; root only"),
    ("sysctl", "settings of the kernel that are named"),
    ("udp_queues", "bytes waiting in UDP sockets"),
    ("xfrm", "errors of IPsec"),
    ("zoneinfo", "memory by zone"),
    ("ethtool", "counters that network drivers keep"),
    ("network_route", "routes"),
    ("qdisc", "queues of network devices"),
    ("tcpstat", "TCP connections by state"),
    ("timex", "how the kernel disciplines its clock"),
    ("wifi", "wireless interfaces and their stations"),
    ("filesystem", "size and free space of each file system, and whether it answers"),
    ("zfs", "ZFS: cache, pools, datasets, as the kernel counts"),
    ("xfs", "XFS, as the kernel counts"),
    ("bcachefs", "bcachefs, as the kernel counts"),
    ("infiniband", "InfiniBand ports"),
    ("bcache", "bcache: hits, state, what is dirty"),
    ("fibrechannel", "Fibre Channel hosts"),
    ("drbd", "DRBD: state and traffic"),
    ("pcidevice", "PCI devices and their links"),
    ("powersupplyclass", "batteries and mains"),
    ("btrfs", "Btrfs: space by kind, errors of devices"),
    ("tapestats", "tape drives"),
    ("watchdog", "watchdogs"),
    ("mdadm", "RAID arrays: state, disks, rebuild"),
    ("dmmultipath", "paths of multipath devices"),
    ("nvme", "NVMe controllers and namespaces"),
    ("edac", "errors of memory with ECC"),
    ("rapl", "energy the CPUs use; root only on most kernels"),
    ("bonding", "bonded network devices"),
    ("dmi", "vendor, model and firmware of the machine"),
    ("thermal_zone", "thermal zones and what cools them"),
    ("packages", "versions of packages that matter"),
    ("apt", "pending updates"),
    ("reboot", "whether a reboot is due, and why"),
    ("boots", "which boot this is, and whether the one before ended well"),
    ("oom", "kills for want of memory by control group"),
    ("time_sync", "whether the clock is kept right, and by whom"),
    ("ntp", "the offset to an NTP server that is named"),
    ("certificates", "when certificates on disk end"),
    ("nut", "UPSs, through NUT"),
    ("systemd", "units: states, restarts, timers, sockets, tasks"),
    ("process", "what processes use, by name, user, unit and named group"),
    ("drm", "AMD's and Intel's GPUs, and whose processes use them"),
    ("containers", "containers of Docker and Podman, as cAdvisor tells them"),
    ("ollama", "the models Ollama has loaded, and what of them is in GPUs"),
    ("nvidia", "NVIDIA's GPUs, and whose processes use them"),
    ("proxmox", "Proxmox VE's clusters by their API: nodes, guests, storages, backups, tasks"),
    ("backup_server", "Proxmox Backup Server by its API: datastores, groups, jobs, garbage"),
    ("container", "which container this is, and what bounds it"),
    ("smart", "what disks say of their health, and what that means"),
    ("zpool", "ZFS pools: state, errors, capacity, scrubs"),
    ("zfs_datasets", "ZFS datasets: space used, left, quotas"),
    ("lvm", "LVM: groups, volumes, thin pools"),
    ("arrays", "RAID rebuilds and mismatches, errors of Btrfs devices"),
    ("inventory", "what the host is made of, told to the collector when it changes"),
    ("textfile", "what other programs leave in *.prom files"),
];

/// What a source tells; empty for one that is not known.
pub(super) fn about(name: &str) -> &'static str {
    ABOUT.iter().find(|(known, _)| *known == name).map_or("", |(_, about)| about)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_source_has_its_line_and_no_other() {
        let sources: BTreeSet<&str> = super::super::names().into_iter().collect();
        let told: BTreeSet<&str> = ABOUT.iter().map(|(name, _)| *name).collect();
        assert_eq!(told, sources);
        assert_eq!(ABOUT.len(), told.len());
    }
}
