//! What the kernel says of wireless interfaces, by generic netlink.

use std::io::{self, ErrorKind};

use super::{Heard, Interface, Network, Station, Status};
use crate::sources::netlink::{
    Family, Message, Netlink, attribute, attributes, text, u16_at, u32_at, u64_at,
};

/// Interfaces, and stations of each, that are told; more are left out.
const INTERFACES_MAX: usize = 64;
const STATIONS_MAX: usize = 4096;

const HEADER_BYTES: usize = 4;
const CONTROL_FAMILY: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

const GET_INTERFACE: u8 = 5;
const GET_STATION: u8 = 17;
const GET_SCAN: u8 = 32;

const INTERFACE_INDEX: u16 = 3;
const INTERFACE_NAME: u16 = 4;
const MAC: u16 = 6;
const STATION_INFO: u16 = 21;
const FREQUENCY: u16 = 38;
const NETWORK: u16 = 47;

const NETWORK_BSSID: u16 = 1;
const NETWORK_ELEMENTS: u16 = 6;
const NETWORK_STATUS: u16 = 9;
const ELEMENT_SSID: u8 = 0;

const RATE_OLD: u16 = 1;
const RATE: u16 = 5;
const BITS_PER_RATE: u64 = 100_000;

/// Asks for all interfaces and what belongs to each.
pub(super) fn heard() -> io::Result<Vec<Heard>> {
    let mut netlink = Netlink::open(Family::Generic)?;
    let family = family(&mut netlink)?;
    let mut interfaces = Vec::new();
    netlink.dump(family, &command(GET_INTERFACE, &[]), |message| {
        if interfaces.len() < INTERFACES_MAX {
            // Some virtual interfaces have no name.
            interfaces.extend(parse_interface(message.body).filter(|i| !i.name.is_empty()));
        }
    })?;
    let mut all = Vec::new();
    for interface in interfaces {
        let index = attribute(INTERFACE_INDEX, &index_bytes(interface.index));
        let mut heard = Heard { interface, ..Heard::default() };
        // An interface that is down, or of a kind that has none, has no network or no stations.
        optional(netlink.dump(family, &command(GET_SCAN, &index), |message| {
            if heard.network.is_none() {
                heard.network = parse_network(message.body);
            }
        }))?;
        optional(netlink.dump(family, &command(GET_STATION, &index), |message| {
            if heard.stations.len() < STATIONS_MAX {
                heard.stations.extend(parse_station(message.body));
            }
        }))?;
        all.push(heard);
    }
    Ok(all)
}

fn optional(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// The number of the family of wireless; an error of kind `NotFound` where there is none.
fn family(netlink: &mut Netlink) -> io::Result<u16> {
    let mut id = None;
    let name = attribute(CONTROL_FAMILY_NAME, b"nl80211\0");
    netlink.get(CONTROL_FAMILY, &command(CONTROL_GET_FAMILY, &name), |message: Message<'_>| {
        for (kind, value) in payload(message.body) {
            if kind == CONTROL_FAMILY_ID {
                id = u16_at(value, 0);
            }
        }
    })?;
    id.ok_or_else(|| ErrorKind::NotFound.into())
}

fn command(command: u8, attributes: &[u8]) -> Vec<u8> {
    // Command, version, and nothing.
    [&[command, 1, 0, 0], attributes].concat()
}

#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
fn index_bytes(index: u32) -> [u8; 4] {
    index.to_ne_bytes()
}

fn payload(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(body.get(HEADER_BYTES..).unwrap_or_default())
}

fn parse_interface(body: &[u8]) -> Option<Interface> {
    let mut interface = Interface::default();
    for (kind, value) in payload(body) {
        match kind {
            INTERFACE_INDEX => interface.index = u32_at(value, 0)?,
            INTERFACE_NAME => interface.name = text(value)?.to_owned(),
            FREQUENCY => interface.frequency_mhz = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(interface)
}

/// `None` for a network that is heard but not belonged to.
fn parse_network(body: &[u8]) -> Option<Network> {
    let (_, network) = payload(body).find(|(kind, _)| *kind == NETWORK)?;
    let mut status = None;
    let mut told = Network::default();
    for (kind, value) in attributes(network) {
        match kind {
            NETWORK_BSSID => told.bssid = mac(value),
            NETWORK_ELEMENTS => told.ssid = ssid(value),
            NETWORK_STATUS => {
                status = match u32_at(value, 0)? {
                    0 => Some(Status::Authenticated),
                    1 => Some(Status::Associated),
                    2 => Some(Status::AdHoc),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Some(Network { status: status?, ..told })
}

/// The name among a network's elements: each is a kind, a length, and as many bytes.
fn ssid(mut elements: &[u8]) -> String {
    while let [kind, length, rest @ ..] = elements {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        if *kind == ELEMENT_SSID {
            return String::from_utf8_lossy(value).into_owned();
        }
        elements = rest;
    }
    String::new()
}

fn parse_station(body: &[u8]) -> Option<Station> {
    let mut station = Station::default();
    let mut has_info = false;
    for (kind, value) in payload(body) {
        match kind {
            MAC => station.mac_address = mac(value),
            STATION_INFO => {
                has_info = true;
                for (kind, value) in attributes(value) {
                    station.take(kind, value);
                }
            }
            _ => {}
        }
    }
    has_info.then_some(station)
}

/// Reads a message as each of the three that there are.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::sources::host) fn read_any(body: &[u8]) -> bool {
    let network = parse_network(body);
    // A name has at most 255 bytes, of which each may become a sign of three.
    let is_bounded = network.is_none_or(|network| network.ssid.len() <= 3 * 255);
    let is_interface = parse_interface(body).is_none_or(|i| i.name.len() <= body.len());
    is_bounded && is_interface && parse_station(body).is_none_or(|s| s.mac_address.len() <= 24)
}

impl Station {
    /// Counts of 32 bits are told where there are none of 64.
    fn take(&mut self, kind: u16, value: &[u8]) {
        let count = u32_at(value, 0).unwrap_or(0);
        let long = u64_at(value, 0).unwrap_or(0);
        match kind {
            1 => self.inactive_ms = count,
            2 => self.received_bytes = self.received_bytes.max(count.into()),
            3 => self.transmitted_bytes = self.transmitted_bytes.max(count.into()),
            7 => self.signal_dbm = value.first().map_or(0, |byte| byte.cast_signed()),
            8 => self.transmit_bits_per_second = rate(value),
            9 => self.received_packets = count,
            10 => self.transmitted_packets = count,
            11 => self.transmit_retries = count,
            12 => self.transmit_failed = count,
            14 => self.receive_bits_per_second = rate(value),
            16 => self.connected_s = count,
            18 => self.beacon_loss = count,
            23 => self.received_bytes = long,
            24 => self.transmitted_bytes = long,
            _ => {}
        }
    }
}

/// In bits per second; the newer of two attributes counts.
fn rate(nested: &[u8]) -> u64 {
    let mut rates = [None; 2];
    let [old, new] = &mut rates;
    for (kind, value) in attributes(nested) {
        match kind {
            RATE_OLD => *old = u16_at(value, 0).map(u64::from),
            RATE => *new = u32_at(value, 0).map(u64::from),
            _ => {}
        }
    }
    new.or(*old).unwrap_or(0) * BITS_PER_RATE
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; HEADER_BYTES], attributes.concat()].concat()
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        attribute(kind, &index_bytes(value))
    }

    #[test]
    fn an_interface_its_network_and_a_station_are_read() {
        let body = message(&[number(INTERFACE_INDEX, 3), attribute(INTERFACE_NAME, b"wlan0\0")]);
        let interface = parse_interface(&body).unwrap();
        assert_eq!((interface.index, interface.name.as_str()), (3, "wlan0"));

        let mut network = attribute(NETWORK_BSSID, &[0, 17, 34, 51, 68, 85]);
        network.extend(attribute(NETWORK_ELEMENTS, b"\x01\x02ab\x00\x07Example"));
        assert_eq!(parse_network(&message(&[attribute(NETWORK, &network)])), None, "not ours");
        network.extend(number(NETWORK_STATUS, 1));
        let expected = Network {
            ssid: "Example".into(),
            bssid: "00:11:22:33:44:55".into(),
            status: Status::Associated,
        };
        assert_eq!(parse_network(&message(&[attribute(NETWORK, &network)])), Some(expected));

        let mut info = number(1, 400);
        info.extend(attribute(7, &[0xcc]));
        info.extend(attribute(14, &number(RATE, 1280)));
        info.extend(number(2, 77));
        let body = message(&[attribute(MAC, &[0xaa; 6]), attribute(STATION_INFO, &info)]);
        let station = parse_station(&body).unwrap();
        assert_eq!((station.inactive_ms, station.signal_dbm), (400, -52));
        assert_eq!((station.receive_bits_per_second, station.received_bytes), (128_000_000, 77));
        assert_eq!(parse_station(&message(&[])), None);
    }

    #[test]
    fn a_kernel_without_wireless_says_so() {
        match heard() {
            Ok(heard) => assert!(heard.iter().all(|heard| !heard.interface.name.is_empty())),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            bytes in proptest::collection::vec(prop_oneof![0_u8..50, any::<u8>()], 0..200),
        ) {
            prop_assert!(ssid(&bytes).len() <= 3 * 255);
            prop_assert!(parse_interface(&bytes).is_none_or(|i| i.name.len() <= bytes.len()));
            let nested = message(&[attribute(STATION_INFO, &bytes), attribute(NETWORK, &bytes)]);
            prop_assert!(parse_station(&nested).is_some());
            prop_assert!(parse_network(&nested).is_none_or(|n| n.bssid.len() < 24));
        }
    }
}
