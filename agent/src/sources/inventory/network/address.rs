//! The addresses of all devices, as the kernel tells them: rtnetlink(7), `RTM_GETADDR`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sources::Problem;
use crate::sources::netlink::{Family, Netlink, attributes, u32_at};

/// What a problem names.
const SOCKET: &str = "netlink route";

/// Addresses taken, at most.
const ADDRESSES_MAX: usize = 4096;

const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// The fields of an `ifaddrmsg`.
const FIELDS_BYTES: usize = 8;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const FLAGS: u16 = 8;
const TEMPORARY: u32 = 0x01;
const DEPRECATED: u32 = 0x20;
const TENTATIVE: u32 = 0x40;
const INET: u8 = 2;
const INET6: u8 = 10;

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The device's number.
    pub(super) index: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix_length: u8,
    flags: u32,
}

impl Address {
    /// Whether it will be gone or another soon.
    pub(super) fn is_passing(&self) -> bool {
        // On IPv4 the same bit says that the address is not the device's first.
        let is_temporary = self.ip.is_ipv6() && self.flags & TEMPORARY != 0;
        is_temporary || self.flags & (DEPRECATED | TENTATIVE) != 0
    }
}

/// All addresses of all devices.
pub(super) fn addresses() -> Result<Vec<Address>, Problem> {
    let mut found = Vec::new();
    let asked = Netlink::open(Family::Route).and_then(|mut netlink| {
        netlink.dump(GET_ADDRESS, &[0; FIELDS_BYTES], |message| {
            if message.kind == NEW_ADDRESS && found.len() < ADDRESSES_MAX {
                found.extend(parse(message.body));
            }
        })
    });
    asked.map(|()| found).map_err(|source| Problem::read(SOCKET, source))
}

/// Any bytes as the kernel's message of an address, as text: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn address_of(body: &[u8]) -> Option<String> {
    let address = parse(body)?;
    let passing = if address.is_passing() { " passing" } else { "" };
    Some(format!("{}/{}{passing}", address.ip, address.prefix_length))
}

/// An `ifaddrmsg` and its attributes.
fn parse(body: &[u8]) -> Option<Address> {
    let family = *body.first()?;
    let prefix_length = *body.get(1)?;
    let mut flags = u32::from(*body.get(2)?);
    let index = u32_at(body, 4)?;
    let (mut local, mut any) = (None, None);
    for (kind, value) in attributes(body.get(FIELDS_BYTES..)?) {
        match kind {
            LOCAL => local = ip(family, value),
            ADDRESS => any = ip(family, value),
            FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    // Of a link between two, the other attribute is the far end.
    Some(Address { index, ip: local.or(any)?, prefix_length, flags })
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::netlink::attribute;

    fn check(family: u8, prefix: u8, given: &[(u16, &[u8])], expected: &str) {
        let mut body = vec![family, prefix, 0, 0];
        body.extend(3_u32.to_ne_bytes());
        given.iter().for_each(|(kind, value)| body.extend(attribute(*kind, value)));
        let told = parse(&body).map(|one| {
            format!("{} {}/{} {}", one.index, one.ip, one.prefix_length, one.is_passing())
        });
        assert_eq!(told.as_deref().unwrap_or("none"), expected);
    }

    #[test]
    fn an_address_is_the_near_end_with_its_flags() {
        let mut v6 = [0; 16];
        (v6[0], v6[15]) = (0xfd, 1);
        let (far, near) = ([10, 0, 0, 9], [10, 0, 0, 1]);
        check(INET, 24, &[(ADDRESS, &far), (LOCAL, &near)], "3 10.0.0.1/24 false");
        check(INET, 24, &[(ADDRESS, &far)], "3 10.0.0.9/24 false");
        check(INET, 24, &[(LOCAL, &near), (FLAGS, &1_u32.to_ne_bytes())], "3 10.0.0.1/24 false");
        check(INET6, 64, &[(ADDRESS, &v6), (FLAGS, &1_u32.to_ne_bytes())], "3 fd00::1/64 true");
        check(INET6, 64, &[(ADDRESS, &v6), (FLAGS, &0x20_u32.to_ne_bytes())], "3 fd00::1/64 true");
        check(INET6, 64, &[(ADDRESS, &near)], "none");
        check(7, 64, &[(ADDRESS, &near)], "none");
    }

    #[test]
    fn the_kernel_tells_the_loopback_address() {
        let all = addresses().unwrap();
        assert!(all.iter().any(|address| address.ip.is_loopback()), "{all:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read = parse(&bytes);
            prop_assert!(read.is_none() || bytes.len() > FIELDS_BYTES);
        }
    }
}
