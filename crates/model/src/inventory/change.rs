//! What is different between two documents.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fields, Inventory, Section, Value};

/// One item that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// What became of it.
    pub what: What,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added(Fields),
    /// It is gone; what it was.
    Removed(Fields),
    /// Fields of it, before and after; `None` where there is no such field.
    Changed(BTreeMap<String, (Option<Value>, Option<Value>)>),
    /// Of the section, not of an item: how many are left out.
    LeftOut {
        /// Before.
        before: u64,
        /// After.
        after: u64,
    },
}

/// How `before` became `after`, by section and key; empty exactly when they are equal.
#[must_use]
pub fn changes(before: &Inventory, after: &Inventory) -> Vec<Change> {
    let none = Section::default();
    let mut changes = Vec::new();
    let names: BTreeSet<&String> = before.sections.keys().chain(after.sections.keys()).collect();
    for name in names {
        let old = before.sections.get(name).unwrap_or(&none);
        let new = after.sections.get(name).unwrap_or(&none);
        let mut push = |key: &str, what| {
            changes.push(Change { section: name.clone(), key: key.to_owned(), what });
        };
        if old.left_out != new.left_out {
            push("", What::LeftOut { before: old.left_out, after: new.left_out });
        }
        let keys: BTreeSet<&String> = old.items.keys().chain(new.items.keys()).collect();
        for key in keys {
            match (old.items.get(key), new.items.get(key)) {
                (None, Some(fields)) => push(key, What::Added(fields.clone())),
                (Some(fields), None) => push(key, What::Removed(fields.clone())),
                (Some(old), Some(new)) if old != new => push(key, What::Changed(fields(old, new))),
                _ => {}
            }
        }
    }
    changes
}

fn fields(old: &Fields, new: &Fields) -> BTreeMap<String, (Option<Value>, Option<Value>)> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let pairs = names.into_iter().map(|name| (name, (old.get(name), new.get(name))));
    let differ = pairs.filter(|(_, (old, new))| old != new);
    differ.map(|(name, (old, new))| (name.clone(), (old.cloned(), new.cloned()))).collect()
}

impl Inventory {
    /// The document after `changes`; those that do not fit it are passed over.
    #[must_use]
    pub fn after(&self, changes: &[Change]) -> Self {
        let mut sections = self.sections.clone();
        for Change { section, key, what } in changes {
            let section = sections.entry(section.clone()).or_default();
            match what {
                What::Added(fields) => {
                    section.items.insert(key.clone(), fields.clone());
                }
                What::Removed(_) => {
                    section.items.remove(key);
                }
                What::Changed(fields) => {
                    let Some(item) = section.items.get_mut(key) else { continue };
                    for (name, (_, after)) in fields {
                        match after {
                            Some(value) => item.insert(name.clone(), value.clone()),
                            None => item.remove(name),
                        };
                    }
                }
                What::LeftOut { after, .. } => section.left_out = *after,
            }
        }
        let mut made = Self::new();
        for (name, section) in sections {
            for (key, fields) in section.items {
                if made.try_put(&name, &key, fields).is_err() {
                    made.leave_out(&name, 1);
                }
            }
            made.leave_out(&name, section.left_out);
        }
        made
    }
}
