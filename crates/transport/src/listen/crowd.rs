//! How many handshakes each address has under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by address; as large as there are handshakes, which are bounded.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// One handshake of an address, until dropped.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// How many the address has under way.
    pub(super) fn of(&self, address: IpAddr) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&address.to_canonical()).copied().unwrap_or(0)
    }

    /// One more for the address, unless it has `max` already.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Member> {
        let address = address.to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Member { crowd: Arc::clone(self), address })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_enters_up_to_its_bound_and_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::default());
        let (a, b) = ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        let members = [crowd.enter(a, 2), crowd.enter(b, 2)];
        assert!(members.iter().all(Option::is_some) && crowd.enter(a, 2).is_none());
        assert_eq!(crowd.of(b), 2);
        drop(members);
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
