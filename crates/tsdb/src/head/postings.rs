//! Which series of the head have which label: a bitmap of references per name and value.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use stoa_model::Matcher;

use super::symbols::{Symbol, Symbols};
use crate::SeriesRef;
use crate::matching::Index;

/// A label: name, value.
pub(crate) type Pair = (Symbol, Symbol);

#[derive(Debug, Default)]
pub(crate) struct Postings {
    all: RoaringBitmap,
    names: HashMap<Symbol, HashMap<Symbol, RoaringBitmap>>,
}

impl Postings {
    pub(crate) fn insert(&mut self, series: SeriesRef, pairs: &[Pair]) {
        self.all.insert(series.0);
        for (name, value) in pairs {
            self.names.entry(*name).or_default().entry(*value).or_default().insert(series.0);
        }
    }

    pub(crate) fn remove(&mut self, series: SeriesRef, pairs: &[Pair]) {
        self.all.remove(series.0);
        for (name, value) in pairs {
            let Some(values) = self.names.get_mut(name) else { continue };
            let Some(bitmap) = values.get_mut(value) else { continue };
            bitmap.remove(series.0);
            if bitmap.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }
}

impl HeadIndex<'_> {
    /// How many series have the rarest of these labels, matchers for equality all: no more can have all.
    /// All series when there are no matchers.
    pub(crate) fn rarest(&self, matchers: &[Matcher]) -> u64 {
        let of = |matcher: &Matcher| {
            let name = self.symbols.get(matcher.name())?;
            let value = self.symbols.get(matcher.value())?;
            self.postings.names.get(&name)?.get(&value).map(RoaringBitmap::len)
        };
        let each = matchers.iter().map(|matcher| of(matcher).unwrap_or(0));
        each.min().unwrap_or_else(|| self.postings.all.len())
    }
}

/// The head's postings with the texts of their symbols.
pub(crate) struct HeadIndex<'a> {
    pub(crate) postings: &'a Postings,
    pub(crate) symbols: &'a Symbols,
}

impl Index for HeadIndex<'_> {
    type Error = std::convert::Infallible;

    fn all(&self) -> Result<RoaringBitmap, Self::Error> {
        Ok(self.postings.all.clone())
    }

    fn equal(&self, name: &str, value: &str) -> Result<Option<RoaringBitmap>, Self::Error> {
        let found = self.symbols.get(name).zip(self.symbols.get(value));
        let bitmap =
            found.and_then(|(name, value)| self.postings.names.get(&name)?.get(&value)).cloned();
        Ok(bitmap)
    }

    fn union(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, Self::Error> {
        let mut union = RoaringBitmap::new();
        let values = self.symbols.get(name).and_then(|name| self.postings.names.get(&name));
        for (value, bitmap) in values.into_iter().flatten() {
            if let Some(text) = self.symbols.text(*value)
                && text.starts_with(prefix)
                && keep(text)
            {
                union |= bitmap;
            }
        }
        Ok(union)
    }

    fn names(&self, each: &mut dyn FnMut(&str)) -> Result<(), Self::Error> {
        self.postings
            .names
            .keys()
            .filter_map(|name| self.symbols.text(*name))
            .for_each(|n| each(n));
        Ok(())
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&str)) -> Result<(), Self::Error> {
        let values = self.symbols.get(name).and_then(|name| self.postings.names.get(&name));
        let texts = values.into_iter().flatten().filter_map(|(value, _)| self.symbols.text(*value));
        texts.for_each(|text| each(text));
        Ok(())
    }
}
