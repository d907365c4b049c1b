//! The routing tables: every unicast route, and how many lead to each device. Off by default.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use stoa_model::Labels;

use super::qdiscs::device_names;
use crate::sources::netlink::{self, Netlink, attributes, u16_at, u32_at};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, label};

const INFO: Desc = Desc::gauge("node_network_route_info", "network routing table information");
const ROUTES: Desc = Desc::gauge("node_network_routes", "network routes by interface");
/// The answer waits for the lock of the whole network stack.
const DEADLINE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(30);
/// Named in problems.
const WHERE: &str = "netlink route";
/// Routes that are told; a host with the whole Internet's counts no further.
const ROUTES_MAX: usize = 10_000;

const GET_ROUTE: u16 = 26;
const NEW_ROUTE: u16 = 24;
const ROUTE_BYTES: usize = 12;
const TYPE_UNICAST: u8 = 1;
const DESTINATION: u16 = 1;
const DEVICE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFERRED_SOURCE: u16 = 7;
const MULTIPATH: u16 = 9;
const NEXT_HOP_BYTES: usize = 8;

/// One way to a destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hop {
    device: u32,
    gateway: Option<IpAddr>,
    /// Of several; `None`: the only one.
    weight: Option<u32>,
}

/// A unicast route.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Route {
    /// `None`: the default route.
    destination: Option<IpAddr>,
    prefix_bits: u8,
    source: Option<IpAddr>,
    priority: u32,
    protocol: u8,
    hops: Vec<Hop>,
}

/// Reads an `rtmsg`; `None` for what is not a unicast route.
pub(super) fn parse(body: &[u8]) -> Option<Route> {
    let [_, prefix_bits, _, _, _, protocol, _, kind] = *body.first_chunk()?;
    if kind != TYPE_UNICAST {
        return None;
    }
    let mut route = Route { prefix_bits, protocol, ..Route::default() };
    let mut hop = Hop::default();
    for (kind, value) in attributes(body.get(ROUTE_BYTES..)?) {
        match kind {
            DESTINATION => route.destination = address(value),
            PREFERRED_SOURCE => route.source = address(value),
            PRIORITY => route.priority = u32_at(value, 0)?,
            DEVICE => hop.device = u32_at(value, 0)?,
            GATEWAY => hop.gateway = address(value),
            MULTIPATH => route.hops = hops(value).collect(),
            _ => {}
        }
    }
    if route.hops.is_empty() {
        route.hops.push(hop);
    }
    Some(route)
}

fn hops(mut bytes: &[u8]) -> impl Iterator<Item = Hop> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let own = bytes.get(NEXT_HOP_BYTES..length)?;
        let mut hop = Hop {
            device: u32_at(bytes, 4)?,
            // The kernel counts from 0.
            weight: Some(u32::from(*bytes.get(3)?) + 1),
            gateway: None,
        };
        for (kind, value) in attributes(own) {
            if kind == GATEWAY {
                hop.gateway = address(value);
            }
        }
        bytes = bytes.get(length.saturating_add(3) & !3..).unwrap_or_default();
        Some(hop)
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Who made a route, as node_exporter calls them.
fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        17 => "mrouted",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => "unknown",
    }
}

/// The source `network_route`.
#[derive(Debug)]
pub(crate) struct Routes {
    labels: Kept<Labels>,
}

impl Configured for Routes {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

fn ask() -> std::io::Result<(HashMap<u32, String>, Vec<Route>)> {
    let mut netlink = Netlink::open(netlink::Family::Route)?;
    let names = device_names(&mut netlink)?;
    let mut routes = Vec::new();
    netlink.dump(GET_ROUTE, &[0; ROUTE_BYTES], |message| {
        if message.kind == NEW_ROUTE && routes.len() < ROUTES_MAX {
            routes.extend(parse(message.body));
        }
    })?;
    Ok((names, routes))
}

impl Source for Routes {
    fn name(&self) -> &'static str {
        "network_route"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        let (names, routes) = match ask() {
            Ok(answer) => answer,
            Err(error) => return reading.fail(Problem::read(WHERE, error)),
        };
        let mut by_device: BTreeMap<&str, u32> = BTreeMap::new();
        let mut told: BTreeSet<Labels> = BTreeSet::new();
        for route in &routes {
            let destination = route.destination.map_or_else(
                || "default".to_owned(),
                |address| format!("{address}/{}", route.prefix_bits),
            );
            let text = |address: Option<IpAddr>| address.map_or(String::new(), |a| a.to_string());
            for hop in &route.hops {
                let device = names.get(&hop.device).map_or("", String::as_str);
                *by_device.entry(device).or_default() += 1;
                let weight = hop.weight.map_or(String::new(), |weight| weight.to_string());
                told.insert(Labels::from_pairs_last_wins([
                    ("device", device),
                    ("src", &text(route.source)),
                    ("dest", &destination),
                    ("gw", &text(hop.gateway)),
                    ("priority", &route.priority.to_string()),
                    ("proto", protocol_name(route.protocol)),
                    ("weight", &weight),
                ]));
            }
        }
        let mut info = INFO.family();
        // Tables may have the same route.
        for labels in told {
            info.push(self.labels.get(&labels.to_string(), |_| labels.clone()), 1.0);
        }
        let mut counts = ROUTES.family();
        for (device, count) in by_device {
            let labels = self.labels.get(device, |device| label("device", device));
            counts.push(labels, f64::from(count));
        }
        self.labels.end_round();
        reading.family(info);
        reading.family(counts);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_route_of_several_ways_has_them_all() {
        let mut body = vec![2, 24, 0, 0, 254, 4, 0, TYPE_UNICAST, 0, 0, 0, 0];
        body.extend(netlink::attribute(DESTINATION, &[10, 0, 0, 0]));
        let gateway = netlink::attribute(GATEWAY, &[10, 0, 0, 1]);
        let mut hop = vec![16_u8, 0, 0, 4, 3_u8, 0, 0, 0];
        hop.extend(gateway);
        body.extend(netlink::attribute(MULTIPATH, &[hop.clone(), hop].concat()));
        let route = parse(&body).unwrap();
        let way =
            Hop { device: 3, gateway: Some(Ipv4Addr::new(10, 0, 0, 1).into()), weight: Some(5) };
        assert_eq!(route.hops, [way.clone(), way]);
        assert_eq!(route.destination, Some(Ipv4Addr::new(10, 0, 0, 0).into()));
        body[7] = 2;
        assert_eq!(parse(&body), None, "a local route");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            bytes in proptest::collection::vec(prop_oneof![0_u8..20, any::<u8>()], 0..200),
        ) {
            let mut unicast = vec![2, 0, 0, 0, 0, 0, 0, TYPE_UNICAST, 0, 0, 0, 0];
            unicast.extend(&bytes);
            let route = parse(&unicast).unwrap_or_default();
            prop_assert!(route.hops.len() <= 1 + bytes.len() / NEXT_HOP_BYTES);
            prop_assert!(hops(&bytes).count() <= bytes.len() / NEXT_HOP_BYTES);
        }
    }
}
