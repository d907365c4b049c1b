//! The column of one series in the late window: its values at some of the window's ticks, which come
//! in any order. It stays one value until a second one comes.

use crate::bytes::{Cursor, Malformed};

/// The most ticks of one window, and so the most values of one column.
pub(crate) const WINDOW_TICKS_MAX: usize = 256;

/// At which ticks of its window a series has a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Presence([u64; WINDOW_TICKS_MAX / 64]);

impl Presence {
    pub(crate) fn set(&mut self, tick: usize) {
        if let Some(word) = self.0.get_mut(tick / 64) {
            *word |= 1 << (tick % 64);
        }
    }

    pub(crate) fn has(&self, tick: usize) -> bool {
        self.0.get(tick / 64).is_some_and(|word| word >> (tick % 64) & 1 == 1)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many ticks before `tick` are set: where its value stands in the column.
    pub(crate) fn rank(&self, tick: usize) -> usize {
        let whole: usize =
            self.0.iter().take(tick / 64).map(|word| word.count_ones() as usize).sum();
        let part = self.0.get(tick / 64).map_or(0, |word| word & ((1 << (tick % 64)) - 1));
        whole + part.count_ones() as usize
    }

    /// The set ticks, ascending.
    pub(crate) fn ticks(self) -> impl Iterator<Item = usize> {
        (0..WINDOW_TICKS_MAX).filter(move |tick| self.has(*tick))
    }

    /// The first `count` ticks.
    pub(crate) fn first(count: usize) -> Self {
        let mut present = Self::default();
        for (word, first) in present.0.iter_mut().zip((0..).step_by(64)) {
            *word = match count.saturating_sub(first) {
                n @ 0..64 => (1 << n) - 1,
                _ => u64::MAX,
            };
        }
        present
    }

    /// Reads what [`super::window::put_presence`] wrote; `None`: all ticks.
    pub(crate) fn get(cursor: &mut Cursor<'_>) -> Result<Option<Self>, Malformed> {
        match cursor.u8()? {
            0 => Ok(None),
            1 => {
                let mut words = [0; WINDOW_TICKS_MAX / 64];
                for word in &mut words {
                    *word = cursor.u64()?;
                }
                Ok(Some(Self(words)))
            }
            _ => Err(Malformed("unknown presence")),
        }
    }

    pub(crate) fn words(&self) -> [u64; WINDOW_TICKS_MAX / 64] {
        self.0
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    present: Presence,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    /// At every tick present.
    Same(f64),
    /// In order of ticks.
    Each(Vec<f64>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Same(0.0)
    }
}

impl Column {
    pub(crate) fn present(&self) -> Presence {
        self.present
    }

    pub(crate) fn get(&self, tick: usize) -> Option<f64> {
        if !self.present.has(tick) {
            return None;
        }
        match &self.values {
            Values::Same(v) => Some(*v),
            Values::Each(values) => values.get(self.present.rank(tick)).copied(),
        }
    }

    /// Puts a value at a tick that has none.
    pub(crate) fn insert(&mut self, tick: usize, v: f64) {
        let count = self.present.count();
        match &mut self.values {
            Values::Same(same) if count == 0 => *same = v,
            Values::Same(same) if same.to_bits() == v.to_bits() => {}
            Values::Same(same) => {
                let mut values = Vec::with_capacity((count + 1).next_power_of_two().max(8));
                values.resize(count, *same);
                values.insert(self.present.rank(tick), v);
                self.values = Values::Each(values);
            }
            Values::Each(values) => values.insert(self.present.rank(tick).min(values.len()), v),
        }
        self.present.set(tick);
    }

    /// All values, in order of ticks.
    pub(crate) fn values(&self) -> Vec<f64> {
        match &self.values {
            Values::Same(v) => vec![*v; self.present.count()],
            Values::Each(values) => values.clone(),
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.values {
            Values::Same(_) => 0,
            Values::Each(values) => values.capacity() * 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};
    use std::collections::BTreeMap;

    use super::Column;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_column_is_a_map_of_ticks(
            inserts in proptest::collection::vec((0usize..256, 0u8..3), 0..80),
        ) {
            let (mut column, mut model) = (Column::default(), BTreeMap::new());
            for (tick, v) in inserts {
                let v = f64::from(v);
                assert_eq!(column.get(tick), model.get(&tick).copied());
                model.entry(tick).or_insert_with(|| {
                    column.insert(tick, v);
                    v
                });
            }
            assert!(column.present().ticks().eq(model.keys().copied()));
            assert!(column.values().iter().eq(model.values()));
        }
    }
}
