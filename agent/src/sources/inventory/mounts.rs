//! What is mounted where, of file systems that keep data.

use std::path::PathBuf;

use stoa_model::Inventory;

use super::{Item, disks};
use crate::sources::attributes::read_whole;
use crate::sources::host::filesystems::mounts;
use crate::sources::{Problem, Roots, Tree};

/// Of the list of mounts; what stands beyond is left out.
const BYTES_MAX: u64 = 8 << 20;

/// Types of file systems without a block device that keep data; those of `fuse.*` as well.
const TYPES: [&str; 12] = [
    "zfs",
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "9p",
    "virtiofs",
    "glusterfs",
    "bcachefs",
    "afs",
    "fuseblk",
];

/// Types that are no store of the host's own.
const NOT_TYPES: [&str; 5] = ["squashfs", "iso9660", "erofs", "fuse.lxcfs", "fuse.gvfsd-fuse"];

/// Where containers and services have theirs, which come and go.
const NOT_BELOW: [&str; 10] = [
    "/var/lib/docker/",
    "/var/lib/containers/",
    "/var/lib/containerd/",
    "/var/lib/kubelet/",
    "/var/lib/lxcfs",
    "/run/",
    "/proc",
    "/sys",
    "/dev",
    "/snap/",
];

/// `mounts`, an item per mount point.
pub(super) fn gather(roots: &Roots, document: &mut Inventory) -> Result<(), Problem> {
    let places = [PathBuf::from("1/mountinfo"), PathBuf::from("self/mountinfo")];
    let read = places.map(|place| roots.path(Tree::Proc, place));
    let read =
        read.map(|path| read_whole(&path, BYTES_MAX).map_err(|why| Problem::read(path, why)));
    let [of_init, of_self] = read;
    let text = of_init.or(of_self)?;
    for mount in mounts::parse(&text).map(|mount| mount.without_prefix(&roots.rootfs)) {
        let of_device = mount.device.starts_with("/dev/");
        let kind = mount.fs_type.as_str();
        let keeps = of_device || TYPES.contains(&kind) || kind.starts_with("fuse.");
        let is_passing = NOT_BELOW.iter().any(|below| mount.mount_point.starts_with(below));
        if !keeps || is_passing || NOT_TYPES.contains(&kind) {
            continue;
        }
        // Only of a local device: a dead server would hold up whoever asks, and a pool's size
        // changes with what is in it.
        let size = of_device.then(|| size_bytes(roots, &mount.mount_point)).flatten();
        Item::default()
            .text("device", &mount.device)
            .text("type", kind)
            .number("size_bytes", size)
            .flag("is_readonly", Some(mount.is_readonly))
            .list("disks", disks::below(roots, &mount.device))
            .put(document, "mounts", &mount.mount_point);
    }
    Ok(())
}

fn size_bytes(roots: &Roots, mount_point: &str) -> Option<u64> {
    let stat = rustix::fs::statvfs(roots.on_host(mount_point)).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize)
}
