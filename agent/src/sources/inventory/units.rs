//! Which units systemd starts by itself: the links below `/etc/systemd/system/*.wants`.

use std::collections::BTreeMap;

use stoa_model::Inventory;

use super::{Item, names_in};
use crate::sources::{Problem, Roots};

/// Entries of one directory looked at, at most.
const ENTRIES_MAX: usize = 2048;

/// `units`, an item per unit that is enabled.
pub(super) fn gather(roots: &Roots, document: &mut Inventory) -> Result<(), Problem> {
    let dir = roots.on_host("/etc/systemd/system");
    let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names_in(&dir, ENTRIES_MAX)? {
        let by = name.strip_suffix(".wants").or_else(|| name.strip_suffix(".requires"));
        let Some(by) = by else { continue };
        for unit in names_in(&dir.join(&name), ENTRIES_MAX)? {
            units.entry(unit).or_default().push(by.to_owned());
        }
    }
    for (unit, by) in units {
        Item::default().list("wanted_by", by).put(document, "units", &unit);
    }
    Ok(())
}
