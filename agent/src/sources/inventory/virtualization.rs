//! Whether the host is a virtual machine or a container, and of which kind, in systemd-detect-virt's
//! words as far as an unprivileged reader can tell.

use std::fs;

use super::attribute;
use crate::sources::{Roots, Tree};

/// Vendor or product by DMI, and the kind of machine it is.
const MACHINES: [(&str, &str); 12] = [
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Parallels", "parallels"),
    ("Virtual Machine", "microsoft"),
];

/// The kind of virtual machine; `none` on bare metal.
pub(super) fn machine(roots: &Roots) -> String {
    let hypervisor = attribute(&roots.path(Tree::Sys, "hypervisor/type"));
    if !hypervisor.is_empty() {
        return hypervisor;
    }
    let says = |name: &str| attribute(&roots.path(Tree::Sys, "class/dmi/id").join(name));
    let texts = ["product_name", "sys_vendor", "board_vendor", "bios_vendor"].map(says);
    let named = |name: &str| texts.iter().any(|text| text.starts_with(name));
    let kind = MACHINES.iter().find(|(name, _)| named(name)).map(|(_, kind)| *kind);
    // QEMU without KVM has no hypervisor flag.
    let is_guest = has_flag(roots, "hypervisor");
    match (kind, is_guest) {
        (Some("qemu"), true) => "kvm",
        (Some(kind), _) => kind,
        (None, true) => "other",
        (None, false) => "none",
    }
    .to_owned()
}

/// Whether the first processor has a flag.
fn has_flag(roots: &Roots, flag: &str) -> bool {
    let text = fs::read_to_string(roots.path(Tree::Proc, "cpuinfo")).unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}

/// The kind of container; `none` outside of one.
pub(super) fn container(roots: &Roots) -> String {
    if roots.shows_kernel_threads() {
        return "none".to_owned();
    }
    // systemd writes down what whoever started it said.
    let told = attribute(&roots.on_host("/run/systemd/container"));
    if !told.is_empty() {
        return told;
    }
    let there = |path: &str| roots.on_host(path).exists();
    let of_init = fs::read(roots.path(Tree::Proc, "1/environ")).unwrap_or_default();
    let told = of_init
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"container=".as_slice()))
        .map(|kind| String::from_utf8_lossy(kind).into_owned());
    if there("/run/.containerenv") {
        return "podman".to_owned();
    }
    if there("/.dockerenv") {
        return "docker".to_owned();
    }
    if let Some(kind) = told.filter(|kind| !kind.is_empty()) {
        return kind;
    }
    let mounts = fs::read_to_string(roots.path(Tree::Proc, "self/mountinfo")).unwrap_or_default();
    let of_lxcfs = |line: &str| line.contains(" - fuse.lxcfs ") && line.contains(" /proc/");
    if mounts.lines().any(of_lxcfs) { "lxc".to_owned() } else { "none".to_owned() }
}
