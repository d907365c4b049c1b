//! `/sys/block`: the disks, and on which of them a block device lies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stoa_model::Inventory;

use super::{Item, attribute, names_in};
use crate::sources::{Problem, Roots, Tree};

/// Block devices looked at, at most.
const DEVICES_MAX: usize = 1024;

/// Block devices below one another (partition, RAID, encryption, LVM), at most.
const DEPTH_MAX: usize = 8;

/// Bytes of udev's words on a device that are read.
const UDEV_BYTES_MAX: usize = 64 << 10;

/// `disks`, an item each.
pub(super) fn gather(roots: &Roots, document: &mut Inventory) -> Result<(), Problem> {
    let block = roots.path(Tree::Sys, "block");
    for name in names_in(&block, DEVICES_MAX)? {
        let dir = block.join(&name);
        if !is_disk(&name, &dir) {
            continue;
        }
        let of = |file: &str| attribute(&dir.join(file));
        let udev = udev(roots, &of("dev"));
        let get = |property: &str| value_of(&udev, property).unwrap_or_default();
        let first = |texts: [String; 3]| {
            texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default()
        };
        let sectors: Option<u64> = of("size").parse().ok();
        let model = get("ID_MODEL").replace('_', " ");
        let serial = first([of("device/serial"), of("serial"), get("ID_SERIAL_SHORT").to_owned()]);
        Item::default()
            .text("model", first([of("device/model"), of("device/name"), model]))
            .text("vendor", of("device/vendor").trim_start_matches("0x"))
            .text("serial", serial)
            .text("firmware", first([of("device/firmware_rev"), of("device/rev"), String::new()]))
            .text("bus", bus(&name, &dir, get("ID_BUS")))
            .number("size_bytes", sectors.and_then(|sectors| sectors.checked_mul(512)))
            .flag("is_rotational", flag(&of("queue/rotational")))
            .flag("is_removable", flag(&of("removable")).filter(|removable| *removable))
            .put(document, "disks", &name);
    }
    Ok(())
}

/// Whether a block device is a thing: not made of others, of memory or of files, nor a drive that is
/// often empty.
fn is_disk(name: &str, dir: &Path) -> bool {
    let is_made = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "zd", "nbd", "rbd", "drbd"]
        .iter()
        .any(|made| {
            name.strip_prefix(made)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
    !is_made && dir.join("device").exists()
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// What the disk is attached by.
fn bus(name: &str, dir: &Path, udev: &str) -> String {
    if !udev.is_empty() {
        return udev.to_owned();
    }
    let path = fs::canonicalize(dir).unwrap_or_default();
    let path = path.to_string_lossy();
    let by_path = [("/usb", "usb"), ("/nvme", "nvme"), ("/ata", "ata"), ("/virtio", "virtio")];
    let by_path = by_path.iter().chain(&[("/mmc_host", "mmc"), ("/host", "scsi")]);
    let mut found = by_path.filter(|(part, _)| path.contains(part)).map(|(_, bus)| *bus);
    let by_name = || [("nvme", "nvme"), ("vd", "virtio"), ("mmcblk", "mmc"), ("xvd", "xen")];
    let named = || by_name().into_iter().find(|(start, _)| name.starts_with(start));
    found.next().or_else(|| named().map(|(_, bus)| bus)).unwrap_or_default().to_owned()
}

/// udev's words on a device, by its `major:minor`.
fn udev(roots: &Roots, device: &str) -> String {
    let is_number = device.bytes().all(|b| b.is_ascii_digit() || b == b':');
    if device.is_empty() || !is_number {
        return String::new();
    }
    let mut text = fs::read_to_string(roots.udev.join(format!("b{device}"))).unwrap_or_default();
    text.truncate(text.floor_char_boundary(UDEV_BYTES_MAX));
    text
}

fn value_of<'a>(text: &'a str, property: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(property)?.strip_prefix('='))
}

/// The disks a block device lies on: itself, what it is a partition of, what it is made of.
pub(super) fn below(roots: &Roots, device: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    let Some(name) = device.strip_prefix("/dev/") else { return Vec::new() };
    let name = match name.strip_prefix("mapper/") {
        Some(mapped) => mapped_name(roots, mapped).unwrap_or_default(),
        None => name.to_owned(),
    };
    if name.is_empty() || name.contains('/') || name.contains("..") {
        return Vec::new();
    }
    descend(&roots.path(Tree::Sys, "class/block").join(name), DEPTH_MAX, &mut found);
    found.into_iter().collect()
}

/// The device mapper's number of a name, `dm-3`.
fn mapped_name(roots: &Roots, mapped: &str) -> Option<String> {
    let block = roots.path(Tree::Sys, "block");
    let names = names_in(&block, DEVICES_MAX).ok()?;
    names
        .into_iter()
        .filter(|name| name.starts_with("dm-"))
        .find(|name| attribute(&block.join(name).join("dm/name")) == mapped)
}

fn descend(dir: &Path, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(dir) = fs::canonicalize(dir) else { return };
    if depth == 0 || found.len() >= DEVICES_MAX {
        return;
    }
    let slaves: Vec<PathBuf> = names_in(&dir.join("slaves"), DEVICES_MAX)
        .unwrap_or_default()
        .iter()
        .map(|name| dir.join("slaves").join(name))
        .collect();
    if dir.join("partition").exists() {
        if let Some(disk) = dir.parent() {
            descend(disk, depth - 1, found);
        }
    } else if slaves.is_empty() {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        found.insert(name.to_owned());
    }
    for slave in slaves {
        descend(&slave, depth - 1, found);
    }
}
