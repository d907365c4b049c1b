//! A document as JSON: what is answered, what `stoa host show --json` prints, and, compressed, what
//! is stored.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use stoa_model::Inventory;
use stoa_model::inventory::{Change, Fields, Value, What};

/// The largest document as JSON, in bytes: each byte of a text may take six.
const JSON_BYTES_MAX: usize = 4 << 20;

/// How hard a document is compressed; 20 KB take a millisecond.
const LEVEL: i32 = 9;

/// Fields by name.
pub type FieldsLine = BTreeMap<String, ValueLine>;

/// What a host is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Sections by name.
    pub sections: BTreeMap<String, SectionLine>,
}

/// Items by key; one item with an empty key in a section of which there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionLine {
    /// The items.
    pub items: BTreeMap<String, FieldsLine>,
    /// Items the agent left out for want of room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValueLine {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(u64),
    /// A text.
    Text(String),
    /// Texts.
    List(Vec<String>),
}

/// An item that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// Its section.
    pub section: String,
    /// Its key.
    pub item: String,
    /// What became of it.
    #[serde(flatten)]
    pub what: WhatLine,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum WhatLine {
    /// It is new.
    Added {
        /// What it is.
        fields: FieldsLine,
    },
    /// It is gone.
    Removed {
        /// What it was.
        fields: FieldsLine,
    },
    /// It differs.
    Changed {
        /// Where.
        fields: BTreeMap<String, BeforeAfter>,
    },
    /// Of the section: how many items are left out.
    LeftOut {
        /// Before.
        before: u64,
        /// After.
        after: u64,
    },
}

/// A field that differs; absent where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeAfter {
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ValueLine>,
    /// After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ValueLine>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<&Value> for ValueLine {
    fn from(value: &Value) -> Self {
        match value {
            Value::Flag(flag) => Self::Flag(*flag),
            Value::Number(number) => Self::Number(*number),
            Value::Text(text) => Self::Text(text.clone()),
            Value::List(texts) => Self::List(texts.clone()),
        }
    }
}

impl From<ValueLine> for Value {
    fn from(value: ValueLine) -> Self {
        match value {
            ValueLine::Flag(flag) => Self::Flag(flag),
            ValueLine::Number(number) => Self::Number(number),
            ValueLine::Text(text) => Self::Text(text),
            ValueLine::List(texts) => Self::List(texts),
        }
    }
}

fn fields_line(fields: &Fields) -> FieldsLine {
    fields.iter().map(|(name, value)| (name.clone(), value.into())).collect()
}

impl From<&Inventory> for Document {
    fn from(document: &Inventory) -> Self {
        let sections = document.sections().iter().map(|(name, section)| {
            let items =
                section.items.iter().map(|(key, fields)| (key.clone(), fields_line(fields)));
            let line = SectionLine { items: items.collect(), left_out: section.left_out };
            (name.clone(), line)
        });
        Self { sections: sections.collect() }
    }
}

impl From<Document> for Inventory {
    fn from(document: Document) -> Self {
        let mut made = Self::new();
        for (name, section) in document.sections {
            for (key, fields) in section.items {
                let fields = fields.into_iter().map(|(name, value)| (name, value.into()));
                if made.try_put(&name, &key, fields.collect()).is_err() {
                    made.leave_out(&name, 1);
                }
            }
            made.leave_out(&name, section.left_out);
        }
        made
    }
}

impl From<&Change> for ChangeLine {
    fn from(change: &Change) -> Self {
        let what = match &change.what {
            What::Added(fields) => WhatLine::Added { fields: fields_line(fields) },
            What::Removed(fields) => WhatLine::Removed { fields: fields_line(fields) },
            What::Changed(fields) => {
                let fields = fields.iter().map(|(name, (before, after))| {
                    let line = |value: &Option<Value>| value.as_ref().map(ValueLine::from);
                    (name.clone(), BeforeAfter { before: line(before), after: line(after) })
                });
                WhatLine::Changed { fields: fields.collect() }
            }
            What::LeftOut { before, after } => WhatLine::LeftOut { before: *before, after: *after },
        };
        Self { section: change.section.clone(), item: change.key.clone(), what }
    }
}

/// A document as it is stored: [`Document`] as JSON, compressed with zstd, in base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Packed {
    zstd: String,
}

impl Packed {
    pub(super) fn pack(document: &Inventory) -> io::Result<Self> {
        let json = serde_json::to_vec(&Document::from(document))?;
        Ok(Self { zstd: STANDARD.encode(zstd::bulk::compress(&json, LEVEL)?) })
    }

    /// `None` when it is damaged.
    pub(super) fn unpack(&self) -> Option<Inventory> {
        let bytes = STANDARD.decode(&self.zstd).ok()?;
        let json = zstd::bulk::decompress(&bytes, JSON_BYTES_MAX).ok()?;
        Some(serde_json::from_slice::<Document>(&json).ok()?.into())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.zstd.len() as u64
    }
}
