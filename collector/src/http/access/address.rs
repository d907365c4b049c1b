//! Blocks of addresses: `10.0.0.0/8`, `fd00::/8`, `192.168.1.5`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressBlock {
    base: IpAddr,
    bits: u8,
}

/// A text that is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an address (192.168.1.5) or a block of addresses (10.0.0.0/8)")]
pub struct AddressBlockError {
    /// The text as given.
    pub given: String,
}

impl AddressBlock {
    /// Whether every address of its kind lies in it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// Whether the address lies in the block. An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.bits);
                base.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.bits);
                base.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for AddressBlock {
    /// The block of that one address.
    fn from(base: IpAddr) -> Self {
        Self { base, bits: if base.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for AddressBlock {
    type Err = AddressBlockError;

    fn from_str(text: &str) -> Result<Self, AddressBlockError> {
        let error = || AddressBlockError { given: text.chars().take(64).collect() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let Ok(base) = address.parse::<IpAddr>() else { return Err(error()) };
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|b| *b <= most).ok_or_else(error)?,
        };
        Ok(Self { base, bits })
    }
}

impl TryFrom<String> for AddressBlock {
    type Error = AddressBlockError;

    fn try_from(text: String) -> Result<Self, AddressBlockError> {
        text.parse()
    }
}

impl From<AddressBlock> for String {
    fn from(block: AddressBlock) -> Self {
        block.to_string()
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_the_addresses_that_share_its_bits() {
        let check = |block: &str, ip: &str, inside: bool| {
            let block: AddressBlock = block.parse().unwrap();
            assert_eq!(block.contains(ip.parse().unwrap()), inside, "{ip} in {block}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.1.1", true);
        check("192.168.1.5", "192.168.1.5", true);
        check("192.168.1.5", "192.168.1.4", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "::1", false);
        check("fd00::/8", "fd12::1", true);
        check("::/0", "fe80::1", true);
        check("::1/128", "::2", false);
    }

    #[test]
    fn nonsense_is_no_block() {
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/-1", "1.2.3"] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
    }
}
