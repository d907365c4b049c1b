//! The machine: who made it, and whether it is one.

use stoa_model::Inventory;

use super::{Item, attribute, virtualization};
use crate::sources::{Roots, Tree};

/// What firmware says where nobody has filled it in.
const PLACEHOLDERS: [&str; 8] = [
    "to be filled by o.e.m.",
    "default string",
    "system manufacturer",
    "system product name",
    "system version",
    "system serial number",
    "not specified",
    "none",
];

/// `machine`, one item; a container's own where `is_own` is false: what it runs on is another host.
pub(super) fn gather(roots: &Roots, is_own: bool, document: &mut Inventory) {
    let item = if is_own { hardware(roots) } else { Item::default() };
    item.text("virtualization", virtualization::machine(roots))
        .text("container", virtualization::container(roots))
        .put(document, "machine", "");
}

fn hardware(roots: &Roots) -> Item {
    let dmi =
        |name: &str| said(&attribute(&roots.path(Tree::Sys, "class/dmi/id").join(name))).to_owned();
    // Boards without DMI are named by their device tree, which ends texts with a zero.
    let tree = attribute(&roots.path(Tree::Proc, "device-tree/model"));
    let tree = tree.trim_end_matches('\0');
    let product = dmi("product_name");
    let product = if product.is_empty() { tree } else { &product };
    Item::default()
        .text("vendor", dmi("sys_vendor"))
        .text("product", product)
        .text("version", dmi("product_version"))
        .text("serial", dmi("product_serial"))
        .text("board", dmi("board_name"))
        .text("board_vendor", dmi("board_vendor"))
        .text("bios", dmi("bios_version"))
        .text("bios_date", dmi("bios_date"))
}

fn said(text: &str) -> &str {
    let is_placeholder = PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str());
    if is_placeholder { "" } else { text }
}
