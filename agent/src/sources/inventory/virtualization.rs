//! Whether the host is a virtual machine or a container, and of which kind, in systemd-detect-virt's
//! words as far as an unprivileged reader can tell.

use std::fs;

use super::attribute;
use crate::sources::{Roots, Tree, container};

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
    container::runtime(roots).unwrap_or_else(|| "none".to_owned())
}
