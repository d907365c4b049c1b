//! What is remembered per device, CPU or field from one reading to the next.
//!
//! Bounded by what is there: what a whole round of readings did not ask for is forgotten, so that
//! interfaces of short-lived containers do not pile up.

use std::collections::HashMap;

use stoa_model::Labels;

/// Values by name; `V` is cheap to clone (an `Arc`, a label set).
#[derive(Debug)]
pub(crate) struct Kept<V> {
    round: u64,
    /// Room for the key of the labels asked for.
    key: String,
    entries: HashMap<Box<str>, Entry<V>>,
}

#[derive(Debug)]
struct Entry<V> {
    /// The last round that asked for it.
    round: u64,
    value: V,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { round: 0, key: String::new(), entries: HashMap::new() }
    }
}

impl<V: Clone> Kept<V> {
    pub(crate) fn new() -> Self {
        Self::default()
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

impl Kept<Labels> {
    /// The label set of these names and values, the same allocation as in the round before.
    pub(crate) fn of<V: AsRef<str>>(&mut self, pairs: &[(&str, V)]) -> Labels {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for part in pairs.iter().flat_map(|(name, value)| [*name, value.as_ref()]) {
            key.push_str(part);
            key.push('\0');
        }
        let pairs = pairs.iter().map(|(name, value)| (*name, value.as_ref()));
        let labels = self.get(&key, |_| Labels::from_pairs_last_wins(pairs));
        self.key = key;
        labels
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

    #[test]
    fn labels_stay_the_same_allocation() {
        let mut kept = Kept::new();
        let first = kept.of(&[("device", "sda"), ("type", "read")]);
        let other = kept.of(&[("device", "sda"), ("type", "write")]);
        let again = kept.of(&[("device", "sda".to_owned()), ("type", "read".to_owned())]);
        assert!(std::ptr::eq(first.iter().as_slice(), again.iter().as_slice()));
        assert_eq!((first.get("type"), other.get("type")), (Some("read"), Some("write")));
    }
}
