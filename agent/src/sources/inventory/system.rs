//! The operating system, the kernel, this boot.

use std::fs;

use rustix::system::uname;
use stoa_model::Inventory;

use super::{Item, attribute};
use crate::sources::{Problem, Roots, Tree};

/// The largest os-release read, in bytes.
const RELEASE_BYTES_MAX: usize = 64 << 10;

/// `system`, one item.
pub(super) fn system(roots: &Roots, document: &mut Inventory) -> Result<(), Problem> {
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| fs::read_to_string(roots.on_host(path)).ok())
        .unwrap_or_default();
    let release = release.get(..release.floor_char_boundary(RELEASE_BYTES_MAX)).unwrap_or_default();
    let os = |name| value_of(release, name).unwrap_or_default();
    let kernel = |name: &str| attribute(&roots.path(Tree::Proc, "sys/kernel").join(name));
    Item::default()
        .text("hostname", kernel("hostname"))
        .text("os", os("PRETTY_NAME"))
        .text("os_id", os("ID"))
        .text("os_version", os("VERSION_ID"))
        .text("kernel", kernel("osrelease"))
        .text("kernel_build", kernel("version"))
        .text("architecture", uname().machine().to_string_lossy())
        .text("boot_id", kernel("random/boot_id"))
        .text("timezone", timezone(roots))
        .put(document, "system", "");
    Ok(())
}

/// A variable of a shell-like file, its quotes taken off.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

/// The zone's name, by where `/etc/localtime` points.
fn timezone(roots: &Roots) -> String {
    let target = fs::read_link(roots.on_host("/etc/localtime")).unwrap_or_default();
    let target = target.to_string_lossy();
    target.split_once("zoneinfo/").map(|(_, zone)| zone.to_owned()).unwrap_or_default()
}
