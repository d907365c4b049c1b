//! A block's label names and values: sorted, each once, front-coded by sixteens.
//!
//! The section is an offset (u32) per sixteen texts, then the texts. The first of sixteen is its
//! length and its bytes; each other one says how many bytes it shares with the one before it, then
//! the length and bytes of the rest. A text's number is its place in the order, so numbers compare
//! as texts do.

use crate::bytes::{Cursor, Malformed, put_bytes, put_varint};

const RUN: u32 = 16;

/// The texts of a block that is being written; pushed in order, each once.
#[derive(Debug, Default)]
pub(crate) struct SymbolsBuilder {
    offsets: Vec<u8>,
    body: Vec<u8>,
    last: Vec<u8>,
    count: u32,
}

impl SymbolsBuilder {
    /// Takes the next text and says its number.
    pub(crate) fn push(&mut self, text: &[u8]) -> Result<u32, Malformed> {
        let number = self.count;
        if number.is_multiple_of(RUN) {
            let offset = u32::try_from(self.body.len());
            let offset = offset.ok().ok_or(Malformed("over 4 GiB of labels"))?;
            self.offsets.extend_from_slice(&offset.to_le_bytes());
            put_bytes(&mut self.body, text);
        } else {
            let shared = shared_bytes(&self.last, text);
            put_varint(&mut self.body, shared as u64);
            put_bytes(&mut self.body, text.get(shared..).unwrap_or_default());
        }
        self.last.clear();
        self.last.extend_from_slice(text);
        self.count = number.checked_add(1).ok_or(Malformed("over 2^32 texts"))?;
        Ok(number)
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.offsets.append(&mut self.body);
        self.offsets
    }
}

fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The symbols section of an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbols<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) count: u32,
}

impl<'a> Symbols<'a> {
    /// Every text in order.
    pub(crate) fn each(self) -> impl Iterator<Item = Result<Vec<u8>, Malformed>> + 'a {
        (0..self.count.div_ceil(RUN)).flat_map(move |run| {
            let mut texts = Vec::new();
            let read = self.run(run, 0, |text| {
                texts.push(Ok(text.to_vec()));
                false
            });
            texts.extend(read.err().map(Err));
            texts
        })
    }
}

impl Symbols<'_> {
    /// The text of a number.
    pub(super) fn text(&self, number: u32) -> Result<String, Malformed> {
        if number >= self.count {
            return Err(Malformed("no symbol of that number"));
        }
        let mut text = String::new();
        self.run(number / RUN, number % RUN, |read| {
            text = String::from_utf8_lossy(read).into_owned();
            true
        })?;
        Ok(text)
    }

    /// The number of the first text that is not before `text`; the count when all are.
    pub(super) fn lower_bound(&self, text: &str) -> Result<u32, Malformed> {
        Ok(self.seek(text)?.0)
    }

    pub(super) fn find(&self, text: &str) -> Result<Option<u32>, Malformed> {
        let (number, is_it) = self.seek(text)?;
        Ok(is_it.then_some(number))
    }

    /// The number of the first text that is not before `text`, and whether it is the same.
    fn seek(&self, text: &str) -> Result<(u32, bool), Malformed> {
        let text = text.as_bytes();
        // The first run that does not begin before it.
        let (mut low, mut high) = (0, self.count.div_ceil(RUN));
        while low < high {
            let middle = low.midpoint(high);
            if self.cursor(middle)?.bytes()? < text { low = middle + 1 } else { high = middle }
        }
        let next = low * RUN;
        let Some(run) = low.checked_sub(1) else {
            return Ok((0, self.count > 0 && self.cursor(0)?.bytes()? == text));
        };
        let (mut number, mut is_it) = (run * RUN, false);
        let mut is_past = false;
        self.run(run, 0, |read| {
            is_past = read >= text;
            is_it = read == text;
            number += u32::from(!is_past);
            is_past
        })?;
        if !is_past && next < self.count {
            is_it = self.cursor(low)?.bytes()? == text;
        }
        Ok((number, is_it))
    }

    /// Where a run begins.
    fn cursor(&self, run: u32) -> Result<Cursor<'_>, Malformed> {
        let table = self.count.div_ceil(RUN) as usize * 4;
        let (offsets, body) =
            self.bytes.split_at_checked(table).ok_or(Malformed("symbols end early"))?;
        let offset = Cursor::new(offsets.get(run as usize * 4..).unwrap_or_default()).u32()?;
        Ok(Cursor::new(body.get(offset as usize..).unwrap_or_default()))
    }

    /// Reads a run from its `skip`-th text on, until `done` says so or the run ends.
    fn run(
        &self,
        run: u32,
        skip: u32,
        mut done: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Malformed> {
        let mut cursor = self.cursor(run)?;
        let mut text: Vec<u8> = Vec::new();
        for i in 0..RUN.min(self.count.saturating_sub(run * RUN)) {
            let shared = if i == 0 { 0 } else { cursor.varint_u32()? as usize };
            if shared > text.len() {
                return Err(Malformed("symbol shares more than there is"));
            }
            text.truncate(shared);
            text.extend_from_slice(cursor.bytes()?);
            if i >= skip && done(&text) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};

    use super::{Symbols, SymbolsBuilder};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_text_is_found_and_no_other(
            texts in proptest::collection::btree_set("[ab]{0,5}|node_[a-zä]{0,4}", 0..60),
            probe in "[ab]{0,5}",
        ) {
            let mut builder = SymbolsBuilder::default();
            for text in &texts {
                builder.push(text.as_bytes()).unwrap();
            }
            let count = builder.count();
            let bytes = builder.finish();
            let symbols = Symbols { bytes: &bytes, count };
            for (number, text) in (0u32..).zip(&texts) {
                assert_eq!(&symbols.text(number).unwrap(), text);
                assert_eq!(symbols.find(text).unwrap(), Some(number));
            }
            let place = texts.iter().take_while(|text| **text < probe).count();
            assert_eq!(symbols.lower_bound(&probe).unwrap() as usize, place);
            assert_eq!(symbols.find(&probe).unwrap().is_some(), texts.contains(&probe));
        }
    }
}
