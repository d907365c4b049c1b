//! Any bytes as two documents that an agent tells. Property: each is read or refused without panic, with
//! little memory; what was read is within the bounds and is told and read again as it is; of a document with
//! itself nothing differs, of two no more than they have items, and what differs makes the one of the other.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_fuzz::{Counting, bounded};
use stoa_model::Inventory;
use stoa_model::inventory::changes;
use stoa_proto::convert::read_inventory;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Items, and sections as such: what can differ.
fn parts(document: &Inventory) -> usize {
    document.sections().values().map(|section| section.items.len() + 1).sum()
}

fuzz_target!(|input: (u16, &[u8])| {
    let (first, bytes) = input;
    let (before, after) = bytes.split_at(usize::from(first).min(bytes.len()));
    bounded(bytes.len(), || {
        let (before, after) = (read_inventory(before), read_inventory(after));
        let (Some(before), Some(after)) = (before, after) else { return };
        for document in [&before, &after] {
            assert_eq!(changes(document, document), []);
        }
        let forth = changes(&before, &after);
        assert!(forth.len() <= parts(&before) + parts(&after));
        assert_eq!(forth.is_empty(), before == after);
        assert_eq!(before.after(&forth), after);
        assert_eq!(after.after(&changes(&after, &before)), before);
    });
});
