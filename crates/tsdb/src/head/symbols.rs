//! Label names and values of the head, each text once, counted by use.

use std::collections::HashMap;
use std::sync::Arc;

/// A text's number; reused once nothing uses it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol(u32);

#[derive(Debug, Default)]
pub(crate) struct Symbols {
    numbers: HashMap<Arc<str>, Symbol>,
    texts: Vec<Option<Text>>,
    free: Vec<Symbol>,
    bytes: usize,
}

#[derive(Debug)]
struct Text {
    text: Arc<str>,
    uses: u32,
}

impl Symbols {
    pub(crate) fn get(&self, text: &str) -> Option<Symbol> {
        self.numbers.get(text).copied()
    }

    /// The text's number, counted as one more use.
    pub(crate) fn hold(&mut self, text: &Arc<str>) -> Symbol {
        if let Some(symbol) = self.get(text) {
            if let Some(Some(entry)) = self.texts.get_mut(symbol.0 as usize) {
                entry.uses += 1;
            }
            return symbol;
        }
        self.bytes += text.len();
        let entry = Some(Text { text: Arc::clone(text), uses: 1 });
        let symbol = match self.free.pop() {
            Some(symbol) => symbol,
            None => {
                self.texts.push(None);
                // A process cannot hold 2^32 texts: each takes over 16 bytes.
                Symbol(u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX))
            }
        };
        if let Some(slot) = self.texts.get_mut(symbol.0 as usize) {
            *slot = entry;
        }
        self.numbers.insert(Arc::clone(text), symbol);
        symbol
    }

    /// Gives one use back.
    pub(crate) fn let_go(&mut self, symbol: Symbol) {
        let Some(slot) = self.texts.get_mut(symbol.0 as usize) else { return };
        let Some(entry) = slot else { return };
        entry.uses -= 1;
        if entry.uses == 0 {
            self.bytes -= entry.text.len();
            self.numbers.remove(&entry.text);
            *slot = None;
            self.free.push(symbol);
        }
    }

    pub(crate) fn text(&self, symbol: Symbol) -> Option<&Arc<str>> {
        self.texts.get(symbol.0 as usize)?.as_ref().map(|entry| &entry.text)
    }

    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn a_text_goes_with_its_last_use_and_its_number_is_reused() {
        let mut symbols = Symbols::default();
        let a = symbols.hold(&"a".into());
        assert_eq!(symbols.hold(&"a".into()), a);
        symbols.let_go(a);
        assert_eq!(symbols.text(a).map(AsRef::as_ref), Some("a"));
        assert_eq!(symbols.bytes(), 1);
        symbols.let_go(a);
        assert_eq!((symbols.get("a"), symbols.text(a), symbols.len()), (None, None, 0));
        assert_eq!(symbols.bytes(), 0);
        assert_eq!(symbols.hold(&"b".into()), a);
    }
}
