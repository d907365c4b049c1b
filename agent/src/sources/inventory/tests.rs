//! The document of a small host of files, and what becomes of it when they change.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const FILES: &[(&str, &str)] = &[
    ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
    ("sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)\n"),
    ("sys/class/dmi/id/product_serial", "Default string\n"),
    (
        "proc/cpuinfo",
        "processor : 0\nmodel name : AMD EPYC\nphysical id : 0\ncore id : 0\nflags : fpu hypervisor\n",
    ),
    ("proc/meminfo", "MemTotal:  1024 kB\nMemFree: 7 kB\nSwapTotal:  0 kB\n"),
    ("proc/sys/kernel/hostname", "pve1\n"),
    ("proc/sys/kernel/osrelease", "6.8.12-4-pve\n"),
    ("proc/sys/kernel/random/boot_id", "0123-4567\n"),
    ("root/etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\n"),
    (
        "proc/self/mountinfo",
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /proc rw - proc proc rw\n\
         3 1 0:9 / /tank rw - zfs tank rw\n4 1 8:2 / /var/lib/docker/x rw - ext4 /dev/sda2 rw\n\
         5 1 253:0 / /data ro - xfs /dev/mapper/vg-data rw\n",
    ),
    ("sys/devices/ata1/block/sda/size", "2000\n"),
    ("sys/devices/ata1/block/sda/dev", "8:0\n"),
    ("sys/devices/ata1/block/sda/queue/rotational", "1\n"),
    ("sys/devices/ata1/block/sda/device/model", "Samsung SSD 870\n"),
    ("sys/devices/ata1/block/sda/sda1/partition", "1\n"),
    ("udev/b8:0", "E:ID_BUS=ata\nE:ID_SERIAL_SHORT=S1\n"),
    ("sys/devices/virtual/block/dm-0/dm/name", "vg-data\n"),
    ("sys/devices/virtual/block/loop0/size", "1\n"),
    ("sys/class/net/eth0/address", "aa:bb:cc:dd:ee:ff\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/speed", "1000\n"),
    ("sys/class/net/eth0/device/vendor", "0x8086\n"),
    ("sys/class/net/vmbr0/operstate", "up\n"),
    ("sys/class/net/vmbr0/mtu", "1500\n"),
    ("sys/class/net/vmbr0/speed", "10000\n"),
    ("sys/class/net/veth1/operstate", "up\n"),
    ("root/etc/systemd/system/multi-user.target.wants/ssh.service", ""),
    (
        "root/var/lib/dpkg/status",
        "Package: proxmox-ve\nStatus: install ok installed\nArchitecture: all\nVersion: 8.2\n",
    ),
];

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn offering(offer: Offer) -> InventorySource {
    let container = container::Container::shared();
    InventorySource::offering(offer, container, container::Settings::default())
}

/// A host below a directory.
fn host(dir: &Path) -> Roots {
    write(dir, FILES);
    let sys = dir.join("sys");
    for place in ["block", "class/block", "devices/virtual/block/dm-0/slaves"] {
        fs::create_dir_all(sys.join(place)).unwrap();
    }
    let link = |to: &str, from: &str| symlink(sys.join(to), sys.join(from)).unwrap();
    link("devices/ata1/block/sda", "block/sda");
    link("devices/virtual/block/dm-0", "block/dm-0");
    link("devices/virtual/block/loop0", "block/loop0");
    link("devices/ata1/block/sda", "class/block/sda");
    link("devices/ata1/block/sda/sda1", "class/block/sda1");
    link("devices/virtual/block/dm-0", "class/block/dm-0");
    link("devices/ata1/block/sda/sda1", "devices/virtual/block/dm-0/slaves/sda1");
    Roots {
        procfs: dir.join("proc"),
        sysfs: sys,
        rootfs: dir.join("root"),
        udev: dir.join("udev"),
        textfile: None,
        identity: None,
    }
}

fn written(document: &Inventory) -> String {
    let mut lines = Vec::new();
    for (section, items) in document.sections() {
        for (key, fields) in &items.items {
            // What depends on where the test runs.
            let here = [("system", "architecture"), ("mounts", "size_bytes")];
            let is_here = |name: &str| here.contains(&(section.as_str(), name));
            let fields = fields.iter().filter(|(name, _)| !is_here(name));
            let fields: Vec<String> = fields
                .map(|(name, value)| match value {
                    Value::Text(text) => format!("{name}={text}"),
                    Value::Number(number) => format!("{name}={number}"),
                    Value::Flag(flag) => format!("{name}={flag}"),
                    Value::List(texts) => format!("{name}={}", texts.join(",")),
                })
                .collect();
            lines.push(format!("{section}/{key} {}", fields.join(" ")));
        }
    }
    lines.join("\n")
}

fn read(source: &mut InventorySource, roots: &Roots) -> Reading {
    let mut reading = Reading::default();
    source.read(roots, Now { unix_micros: 0 }, &mut reading);
    reading
}

#[test]
fn a_host_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let roots = host(dir.path());
    let (offer, mut outbox) = outbox();
    let mut source = offering(offer);
    assert_eq!(outbox.current(), None);
    let reading = read(&mut source, &roots);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let named = outbox.current().unwrap();
    insta::assert_snapshot!(written(&named.document), @r"
    disks/sda bus=ata is_rotational=true model=Samsung SSD 870 serial=S1 size_bytes=1024000
    interfaces/eth0 mac=aa:bb:cc:dd:ee:ff speed_bits_per_second=1000000000
    interfaces/vmbr0 mtu=1500
    machine/ container=none product=Standard PC (Q35 + ICH9, 2009) vendor=QEMU virtualization=kvm
    memory/ size_bytes=67108864 swap_bytes=0
    mounts// device=/dev/sda1 disks=sda is_readonly=false type=ext4
    mounts//data device=/dev/mapper/vg-data disks=sda is_readonly=true type=xfs
    mounts//tank device=tank is_readonly=false type=zfs
    nodes/host kind=host name=pve1
    packages/proxmox-ve architecture=all version=8.2
    processor/ cores=1 model=AMD EPYC sockets=1 threads=1
    system/ boot_id=0123-4567 hostname=pve1 kernel=6.8.12-4-pve os=Debian GNU/Linux 12 os_id=debian os_version=12
    units/ssh.service wanted_by=multi-user.target
    ");
    let told: Vec<String> = reading
        .families()
        .flat_map(|family| {
            family.metrics.iter().map(|metric| format!("{}{}", family.name, metric.labels))
        })
        .filter(|series| !series.starts_with("stoa_host_info"))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    stoa_filesystem_disk_info{device="/dev/sda1", disk="sda", mountpoint="/"}
    stoa_filesystem_disk_info{device="/dev/mapper/vg-data", disk="sda", mountpoint="/data"}
    "#);
    assert_eq!(reading.families().next().unwrap().name, "stoa_host_info");
    let figures = outbox.figures();
    assert_eq!((figures.left_out, figures.bytes), (0, named.document.bytes() as u64));
}

#[test]
fn what_is_the_same_is_not_offered_again_and_what_cannot_be_read_stays() {
    let dir = tempfile::tempdir().unwrap();
    let roots = host(dir.path());
    let (offer, mut outbox) = outbox();
    let mut source = offering(offer);
    read(&mut source, &roots);
    let first = outbox.current().unwrap();
    let again = read(&mut source, &roots);
    assert!(!outbox.current.has_changed().unwrap());
    assert_eq!(again.families().count(), 2);
    // A meminfo that is a directory cannot be read; the packages are gone, and are so.
    fs::remove_file(roots.procfs.join("meminfo")).unwrap();
    fs::create_dir(roots.procfs.join("meminfo")).unwrap();
    fs::remove_file(roots.rootfs.join("var/lib/dpkg/status")).unwrap();
    let reading = read(&mut source, &roots);
    assert_eq!(reading.problems.len(), 1, "{:?}", reading.problems);
    let second = outbox.current().unwrap();
    assert_ne!(second.digest, first.digest);
    let changes = stoa_model::inventory::changes(&first.document, &second.document);
    let sections: Vec<&str> = changes.iter().map(|change| change.section.as_str()).collect();
    assert_eq!(sections, ["packages"]);
}

/// An LXC of 512 MiB and one and a half of the node's four CPUs, without lxcfs.
const CONTAINER: &[(&str, &str)] = &[
    ("root/run/systemd/container", "lxc\n"),
    ("proc/1/cgroup", "0::/\n"),
    ("proc/1/status", "Name:\tinit\nCpus_allowed_list:\t0-3\n"),
    ("proc/1/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
    ("proc/meminfo", "MemTotal:  16777216 kB\nSwapTotal:  1048576 kB\n"),
    (
        "proc/cpuinfo",
        "processor : 0\nmodel name : AMD EPYC\nphysical id : 0\ncore id : 0\nflags : hypervisor\n\nprocessor : 1\n\n\
         processor : 2\n\nprocessor : 3\n",
    ),
    ("sys/fs/cgroup/memory.max", "536870912\n"),
    ("sys/fs/cgroup/memory.current", "4096\n"),
    ("sys/fs/cgroup/memory.swap.max", "0\n"),
    ("sys/fs/cgroup/memory.stat", "anon 4096\n"),
    ("sys/fs/cgroup/cpu.stat", "user_usec 1\nsystem_usec 1\n"),
    ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
];

/// The lines of these sections.
fn sections(document: &Inventory, names: &[&str]) -> String {
    let text = written(document);
    let wanted = |line: &&str| names.iter().any(|name| line.starts_with(&format!("{name}/")));
    text.lines().filter(wanted).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_container_has_what_it_may_use_and_no_hardware() {
    let dir = tempfile::tempdir().unwrap();
    let roots = host(dir.path());
    write(dir.path(), CONTAINER);
    let named = |mode: &str| {
        let (offer, mut outbox) = outbox();
        let settings = toml::from_str(mode).unwrap();
        let shared = container::Container::shared();
        read(&mut InventorySource::offering(offer, shared, settings), &roots);
        outbox.current().unwrap()
    };
    let about = ["disks", "machine", "memory", "processor"];
    insta::assert_snapshot!(sections(&named("").document, &about), @r"
    machine/ container=lxc virtualization=kvm
    memory/ size_bytes=536870912 swap_bytes=0
    processor/ model=AMD EPYC threads=2
    ");
    // The node's numbers were asked for.
    insta::assert_snapshot!(sections(&named("mode = 'off'").document, &about), @r"
    disks/sda bus=ata is_rotational=true model=Samsung SSD 870 serial=S1 size_bytes=1024000
    machine/ container=lxc product=Standard PC (Q35 + ICH9, 2009) vendor=QEMU virtualization=kvm
    memory/ size_bytes=17179869184 swap_bytes=1073741824
    processor/ cores=1 model=AMD EPYC sockets=1 threads=4
    ");
    // lxcfs has the limits of cgroups that are not in sight; nothing has those of memory without it.
    for file in ["memory.max", "memory.current", "memory.swap.max", "memory.stat"] {
        fs::remove_file(roots.sysfs.join("fs/cgroup").join(file)).unwrap();
    }
    assert_eq!(sections(&named("").document, &["memory"]), "");
    let lxcfs = "31 25 0:9 / /proc/meminfo rw - fuse.lxcfs lxcfs rw\n";
    write(dir.path(), &[("proc/1/mountinfo", lxcfs), ("proc/meminfo", "MemTotal: 1000 kB\n")]);
    assert_eq!(sections(&named("").document, &["memory"]), "memory/ size_bytes=1024000");
    // That lxcfs says 0 of swap tells nothing with v2: the limit does, if there is one.
    let lxcfs = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                 31 25 0:9 / /proc/meminfo rw - fuse.lxcfs lxcfs rw\n";
    let meminfo = "MemTotal: 524288 kB\nSwapTotal: 0 kB\n";
    write(dir.path(), CONTAINER);
    write(dir.path(), &[("proc/1/mountinfo", lxcfs), ("proc/meminfo", meminfo)]);
    for (limit, told) in [("4096\n", " swap_bytes=4096"), ("max\n", "")] {
        write(dir.path(), &[("sys/fs/cgroup/memory.swap.max", limit)]);
        let expected = format!("memory/ size_bytes=536870912{told}");
        assert_eq!(sections(&named("").document, &["memory"]), expected);
    }
}

#[test]
fn a_link_that_flaps_and_a_balloon_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let roots = host(dir.path());
    let (offer, mut outbox) = outbox();
    let mut source = offering(offer);
    read(&mut source, &roots);
    outbox.current().unwrap();
    let mut changed = |files: &[(&str, &str)]| {
        write(dir.path(), files);
        read(&mut source, &roots);
        outbox.current.has_changed().unwrap() && outbox.current().is_some()
    };
    let meminfo = |kb: u64| format!("MemTotal: {kb} kB\nSwapTotal: 0 kB\n");
    assert!(!changed(&[
        ("sys/class/net/eth0/operstate", "down\n"),
        ("sys/class/net/eth0/speed", "-1\n"),
        ("proc/meminfo", &meminfo(60_000)),
    ]));
    assert!(!changed(&[("sys/class/net/eth0/operstate", "up\n")]));
    assert!(changed(&[("sys/class/net/eth0/speed", "100\n")]), "it came up slower");
    // Where the kernel tells which memory is plugged in, that is what counts.
    let blocks = [
        ("sys/devices/system/memory/block_size_bytes", "8000000\n"),
        ("sys/devices/system/memory/memory0/online", "1\n"),
        ("sys/devices/system/memory/memory1/online", "0\n"),
        ("sys/devices/system/memory/memory32/online", "1\n"),
        ("sys/devices/system/memory/uevent", "\n"),
    ];
    assert!(changed(&blocks));
    assert!(!changed(&[("proc/meminfo", &meminfo(200_000))]));
    assert!(changed(&[("sys/devices/system/memory/memory1/online", "1\n")]));
    let named = outbox.current().unwrap();
    assert_eq!(sections(&named.document, &["memory"]), "memory/ size_bytes=402653184 swap_bytes=0");
}

#[test]
fn this_host_fits() {
    let (offer, mut outbox) = outbox();
    let mut source = offering(offer);
    read(&mut source, &Roots::default());
    let named = outbox.current().unwrap();
    assert!(named.document.sections().contains_key("system"), "{:?}", named.document);
    assert_eq!(Named::new(named.document.clone()).digest, named.digest);
    assert_eq!(named.document.nodes().next().unwrap().kind, NodeKind::Host);
}
