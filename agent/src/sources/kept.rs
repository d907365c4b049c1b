//! What is remembered per device, CPU or field from one reading to the next.
//!
//! Bounded by what is there: what a whole round of readings did not ask for is forgotten, so that
//! interfaces of short-lived containers do not pile up.

use std::collections::HashMap;

/// Values by name; `V` is cheap to clone (an `Arc`, a label set).
#[derive(Debug)]
pub(crate) struct Kept<V> {
    round: u64,
    entries: HashMap<Box<str>, Entry<V>>,
}

#[derive(Debug)]
struct Entry<V> {
    /// The last round that asked for it.
    round: u64,
    value: V,
}

impl<V: Clone> Kept<V> {
    pub(crate) fn new() -> Self {
        Self { round: 0, entries: HashMap::new() }
    }

    /// The value kept for `key`, made now if there is none.
    pub(crate) fn get(&mut self, key: &str, make: impl FnOnce(&str) -> V) -> V {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.round = self.round;
            return entry.value.clone();
        }
        let value = make(key);
        self.entries.insert(key.into(), Entry { round: self.round, value: value.clone() });
        value
    }

    /// Ends a round: forgets what it did not ask for.
    pub(crate) fn end_round(&mut self) {
        let round = self.round;
        self.entries.retain(|_, entry| entry.round == round);
        self.round += 1;
    }

    /// Forgets everything, so that it is made anew.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_round_did_not_ask_for_is_forgotten() {
        let mut kept = Kept::new();
        assert_eq!(kept.get("a", |_| 1), 1);
        assert_eq!(kept.get("b", |_| 1), 1);
        kept.end_round();
        assert_eq!(kept.get("a", |_| 2), 1);
        kept.end_round();
        assert_eq!(kept.get("a", |_| 3), 1);
        assert_eq!(kept.get("b", |_| 3), 3);
    }
}
