//! The network devices and their addresses.
//!
//! Devices that come and go with guests and containers are left out, and so are addresses that the
//! kernel makes up for privacy and replaces each day. Whether a link is up is for series to tell; which
//! speed it came up with last is what somebody looks for who asks what changed, so that stays when the
//! link goes down.

use stoa_model::Inventory;
use stoa_model::inventory::Value;

use super::{Item, attribute, names_in};
use crate::sources::{Problem, Roots, Tree};

mod address;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use address::address_of;

/// Devices looked at, at most.
const DEVICES_MAX: usize = 1024;

/// How the names of devices begin that belong to a guest or a container.
const OF_GUESTS: [&str; 7] = ["veth", "tap", "fwbr", "fwln", "fwpr", "cali", "vnet"];

/// How they begin where a number follows in hexadecimal digits, of at least so many: Cilium's
/// devices of containers, Docker's bridges of networks.
const NUMBERED: [(&str, usize); 2] = [("lxc", 1), ("br-", 12)];

const SPEED: &str = "speed_bits_per_second";

/// `interfaces`, an item per device but the loopback; `last` is the document as it was told last.
pub(super) fn gather(
    roots: &Roots,
    last: &Inventory,
    document: &mut Inventory,
) -> Result<(), Problem> {
    let net = roots.path(Tree::Sys, "class/net");
    let names = names_in(&net, DEVICES_MAX)?;
    // The kernel tells the addresses of where this process is: no other root has any.
    let own = roots.procfs == std::path::Path::new("/proc");
    let addresses = if own { address::addresses()? } else { Vec::new() };
    for name in names {
        if name == "lo" || comes_and_goes(&name) {
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
        // What no cable ends in has a speed that means nothing, or is that of its parts.
        let is_physical = dir.join("device").exists();
        let speed = if of("operstate") == "up" { speed(&of("speed")) } else { None };
        let speed = speed.or_else(|| last_speed(last, &name)).filter(|_| is_physical);
        Item::default()
            .text("mac", if mac == "00:00:00:00:00:00" { "" } else { mac.as_str() })
            .number(SPEED, speed)
            .number("mtu", of("mtu").parse().ok())
            .text("master", master)
            .list("addresses", own)
            .put(document, "interfaces", &name);
    }
    Ok(())
}

/// Whether a device is of a guest or container, and goes with it.
fn comes_and_goes(name: &str) -> bool {
    let is_numbered = |(start, least): &(&str, usize)| {
        name.strip_prefix(start).is_some_and(|number| {
            number.len() >= *least && number.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    OF_GUESTS.iter().any(|start| name.starts_with(start)) || NUMBERED.iter().any(is_numbered)
}

/// From megabits per second; what is not known is -1, or that without its sign.
fn speed(text: &str) -> Option<u64> {
    let mbit: u32 = text.parse().ok().filter(|mbit| (1..u32::MAX).contains(mbit))?;
    u64::from(mbit).checked_mul(1_000_000)
}

fn last_speed(last: &Inventory, name: &str) -> Option<u64> {
    match last.sections().get("interfaces")?.items.get(name)?.get(SPEED)? {
        Value::Number(speed) => Some(*speed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_told_from_the_hosts_own() {
        for name in [
            "veth12ab",
            "tap100i0",
            "fwbr100i0",
            "fwln100i0",
            "fwpr100p0",
            "cali0a",
            "vnet3",
            "lxc12",
            "lxc1f2e3d4c5b6a",
            "br-0123456789ab",
        ] {
            assert!(comes_and_goes(name), "{name}");
        }
        for name in
            ["eth0", "vmbr0", "lxcbr0", "lxc", "br-lan", "br-0", "br-0123456789ax", "docker0"]
        {
            assert!(!comes_and_goes(name), "{name}");
        }
    }

    #[test]
    fn a_speed_that_is_not_known_is_none() {
        assert_eq!(speed("2500"), Some(2_500_000_000));
        for text in ["", "-1", "0", "4294967295", "fast"] {
            assert_eq!(speed(text), None, "{text}");
        }
    }
}
