//! Who a host is.

use std::fmt;
use std::sync::Arc;

/// The longest host name accepted, in bytes (a DNS name's limit).
pub const HOST_ID_BYTES_MAX: usize = 253;

/// A host's verified name: what its certificate says, and what `host` and `instance` labels carry.
///
/// Always lower case ASCII letters, digits, `-`, `_` and `.`, so that it is safe in a label, a file
/// name, a URL and a terminal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(Arc<str>);

/// Why a text is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "host name {given:?} is not valid: 1 to {HOST_ID_BYTES_MAX} of a-z, 0-9, '-', '_', '.', and no leading '.' or '-'"
)]
pub struct HostIdError {
    /// The text as given, cut to a printable length.
    pub given: String,
}

impl HostId {
    /// Parses a host name; upper case is folded, anything else outside the alphabet is refused.
    ///
    /// # Errors
    /// [`HostIdError`] when empty, too long, or containing other characters.
    pub fn parse(text: &str) -> Result<Self, HostIdError> {
        let name = text.to_ascii_lowercase();
        let legal = !name.is_empty()
            && name.len() <= HOST_ID_BYTES_MAX
            && !name.starts_with(['.', '-'])
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if legal {
            Ok(Self(name.into()))
        } else {
            Err(HostIdError { given: text.chars().take(64).collect() })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_safe_everywhere_they_are_printed() {
        for good in ["pve1", "lxc-101.lan", "A1", "a_b"] {
            assert!(HostId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "-x", "a b", "a/b", "../x", "\u{1b}[31m", "ä", &"a".repeat(254)] {
            assert!(HostId::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(HostId::parse("PVE1").unwrap().as_str(), "pve1");
    }
}
