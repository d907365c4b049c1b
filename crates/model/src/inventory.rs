//! What a host is made of, as one document: sections of items of fields.
//!
//! A **section** (`machine`, `disks`, `mounts`, …) has **items** by key (`sda`, `/boot`), an item has
//! fields by name; a section of which there is one only has an item with an empty key. Names are open:
//! whoever keeps or shows a document need not know what an agent newer than itself writes down.
//! Everything is sorted, so two documents that say the same are equal.
//!
//! What is here changes rarely: free bytes, counters and the like are samples and none of this.
//!
//! Bounds: [`SECTIONS_MAX`], [`ITEMS_MAX`], [`FIELDS_MAX`], [`LIST_MAX`], [`TEXT_BYTES_MAX`],
//! [`DOCUMENT_BYTES_MAX`]; an item that does not fit is counted in [`Section::left_out`].

mod change;
mod tree;

use std::collections::BTreeMap;

pub use change::{Change, What, changes};
pub use tree::{NODES, Node, NodeKind};

/// Sections of one document, at most.
pub const SECTIONS_MAX: usize = 32;

/// Items of one section, at most; more are counted.
pub const ITEMS_MAX: usize = 512;

/// Fields of one item, at most.
pub const FIELDS_MAX: usize = 32;

/// Texts of one list, at most; the last one says how many more there are.
pub const LIST_MAX: usize = 64;

/// The longest name of a section or a field, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The longest key of an item, or text, in bytes; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 512;

/// What the items of a document take at most, in bytes as [`Inventory::bytes`] counts; those beyond are left
/// out. Sections are not counted in: whether an item fits must not depend on what came before it.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Fields by name.
pub type Fields = BTreeMap<String, Value>;

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A whole number; the field's name ends with its unit.
    Number(u64),
    /// A text.
    Text(String),
    /// Several texts, in an order that means something or is sorted.
    List(Vec<String>),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Flag(_) => 1,
            Self::Number(_) => 10,
            Self::Text(text) => text.len(),
            Self::List(texts) => texts.iter().map(|text| text.len() + 4).sum(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::List(texts)
    }
}

/// Items of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The items by key.
    pub items: BTreeMap<String, Fields>,
    /// Items there are and that did not fit.
    pub left_out: u64,
}

/// Why something is in no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// A section's or field's name.
    #[error("a name is not 1 to {NAME_BYTES_MAX} of a-z, 0-9 and '_'")]
    Name,
    /// A key, a text or a list.
    #[error(
        "a text is longer than {TEXT_BYTES_MAX} bytes, or a list has more than {LIST_MAX} of them"
    )]
    Text,
    /// Too many sections.
    #[error("there are more than {SECTIONS_MAX} sections")]
    Sections,
    /// Too many items.
    #[error("a section has more than {ITEMS_MAX} items")]
    Items,
    /// Too many fields.
    #[error("an item has more than {FIELDS_MAX} fields")]
    Fields,
    /// An item twice.
    #[error("an item is there twice")]
    Twice,
    /// Too large.
    #[error("the items of the document take more than {DOCUMENT_BYTES_MAX} bytes")]
    Bytes,
}

/// A host's document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    sections: BTreeMap<String, Section>,
    /// What the items take.
    item_bytes: usize,
}

impl Inventory {
    /// An empty document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The sections by name; none is empty.
    #[must_use]
    pub fn sections(&self) -> &BTreeMap<String, Section> {
        &self.sections
    }

    /// The items of a section.
    pub fn items(&self, section: &str) -> impl Iterator<Item = (&str, &Fields)> {
        let items = self.sections.get(section).into_iter().flat_map(|section| &section.items);
        items.map(|(key, fields)| (key.as_str(), fields))
    }

    /// How large the document is: no less than its form on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.item_bytes + self.sections.keys().map(|name| section_bytes(name)).sum::<usize>()
    }

    /// Adds an item; what does not fit is cut or, as a whole, counted as left out. An item without
    /// fields, or of a key that is there already, is not added.
    pub fn put(
        &mut self,
        section: &str,
        key: &str,
        fields: impl IntoIterator<Item = (String, Value)>,
    ) {
        let fields: Fields =
            fields.into_iter().map(|(name, value)| (name, fitted(value))).collect();
        if fields.is_empty() {
            return;
        }
        match self.try_put(section, cut(key), fields) {
            Ok(()) | Err(InventoryError::Twice) => {}
            Err(_over) => self.leave_out(section, 1),
        }
    }

    /// Adds an item as it is.
    ///
    /// # Errors
    /// [`InventoryError`] when it does not fit; the document is unchanged then.
    pub fn try_put(
        &mut self,
        section: &str,
        key: &str,
        fields: Fields,
    ) -> Result<(), InventoryError> {
        check_name(section)?;
        fields.keys().try_for_each(|name| check_name(name))?;
        if key.len() > TEXT_BYTES_MAX || !fields.values().all(fits) {
            return Err(InventoryError::Text);
        }
        if fields.len() > FIELDS_MAX {
            return Err(InventoryError::Fields);
        }
        let bytes = item_bytes(key, &fields);
        if self.item_bytes + bytes > DOCUMENT_BYTES_MAX {
            return Err(InventoryError::Bytes);
        }
        if let Some(there) = self.sections.get(section) {
            if there.items.contains_key(key) {
                return Err(InventoryError::Twice);
            }
            if there.items.len() >= ITEMS_MAX {
                return Err(InventoryError::Items);
            }
        }
        self.section(section)?.items.insert(key.to_owned(), fields);
        self.item_bytes += bytes;
        Ok(())
    }

    /// Counts items as left out.
    pub fn leave_out(&mut self, section: &str, count: u64) {
        if count > 0
            && check_name(section).is_ok()
            && let Ok(section) = self.section(section)
        {
            section.left_out = section.left_out.saturating_add(count);
        }
    }

    /// Takes a section over from another document, in the place of its own.
    pub fn take_over(&mut self, other: &Self, name: &str) {
        self.remove_section(name);
        let Some(section) = other.sections.get(name) else { return };
        for (key, fields) in &section.items {
            if self.try_put(name, key, fields.clone()).is_err() {
                self.leave_out(name, 1);
            }
        }
        self.leave_out(name, section.left_out);
    }

    fn remove_section(&mut self, name: &str) {
        let Some(section) = self.sections.remove(name) else { return };
        let items =
            section.items.iter().map(|(key, fields)| item_bytes(key, fields)).sum::<usize>();
        self.item_bytes = self.item_bytes.saturating_sub(items);
    }

    fn section(&mut self, name: &str) -> Result<&mut Section, InventoryError> {
        if !self.sections.contains_key(name) && self.sections.len() >= SECTIONS_MAX {
            return Err(InventoryError::Sections);
        }
        Ok(self.sections.entry(name.to_owned()).or_default())
    }
}

fn section_bytes(name: &str) -> usize {
    name.len() + 20
}

/// No less than an item's form on the wire.
fn item_bytes(key: &str, fields: &Fields) -> usize {
    let field = |(name, value): (&String, &Value)| name.len() + value.bytes() + 16;
    key.len() + 12 + fields.iter().map(field).sum::<usize>()
}

fn check_name(name: &str) -> Result<(), InventoryError> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(legal);
    if fits { Ok(()) } else { Err(InventoryError::Name) }
}

fn fits(value: &Value) -> bool {
    match value {
        Value::Flag(_) | Value::Number(_) => true,
        Value::Text(text) => text.len() <= TEXT_BYTES_MAX,
        Value::List(texts) => {
            texts.len() <= LIST_MAX && texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX)
        }
    }
}

fn fitted(value: Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(cut(&text).to_owned()),
        Value::List(texts) => {
            let more = texts.len().saturating_sub(LIST_MAX - 1);
            let all = texts.len() <= LIST_MAX;
            let mut kept: Vec<String> = texts
                .iter()
                .take(if all { LIST_MAX } else { LIST_MAX - 1 })
                .map(|text| cut(text).to_owned())
                .collect();
            if !all {
                kept.push(format!("and {more} more"));
            }
            Value::List(kept)
        }
        other => other,
    }
}

/// A text cut to its bound, between characters.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
