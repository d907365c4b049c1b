//! The network devices and their addresses.
//!
//! Devices that come and go with guests and containers are left out, and so are addresses that the
//! kernel makes up for privacy and replaces each day.

use stoa_model::Inventory;

use super::{Item, attribute, names_in};
use crate::sources::{Problem, Roots, Tree};

mod address;

/// Devices looked at, at most.
const DEVICES_MAX: usize = 1024;

/// How the names of devices begin that belong to a guest or a container.
const OF_GUESTS: [&str; 8] = ["veth", "tap", "fwbr", "fwln", "fwpr", "cali", "vnet", "lxc"];

/// `interfaces`, an item per device but the loopback.
pub(super) fn gather(roots: &Roots, document: &mut Inventory) -> Result<(), Problem> {
    let net = roots.path(Tree::Sys, "class/net");
    let names = names_in(&net, DEVICES_MAX)?;
    // The kernel tells the addresses of where this process is: no other root has any.
    let own = roots.procfs == std::path::Path::new("/proc");
    let addresses = if own { address::addresses()? } else { Vec::new() };
    for name in names {
        if name == "lo" || OF_GUESTS.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let dir = net.join(&name);
        if !dir.is_dir() {
            continue;
        }
        let of = |file: &str| attribute(&dir.join(file));
        let index: Option<u32> = of("ifindex").parse().ok();
        let mut own: Vec<String> = addresses
            .iter()
            .filter(|address| Some(address.index) == index && !address.is_passing())
            .map(|address| format!("{}/{}", address.ip, address.prefix_length))
            .collect();
        own.sort_unstable();
        let mac = of("address");
        let master = std::fs::read_link(dir.join("master")).unwrap_or_default();
        let master = master.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mbit: Option<u64> = of("speed").parse().ok();
        Item::default()
            .text("mac", if mac == "00:00:00:00:00:00" { "" } else { mac.as_str() })
            .text("state", of("operstate"))
            .number("speed_bits_per_second", mbit.and_then(|mbit| mbit.checked_mul(1_000_000)))
            .number("mtu", of("mtu").parse().ok())
            .text("master", master)
            .list("addresses", own)
            .put(document, "interfaces", &name);
    }
    Ok(())
}
