//! One file: the bytes a reader sees, the bytes on the platter, and the sectors in which they differ
//! because nobody synced them yet.

use std::collections::BTreeSet;

use super::{Dice, SECTOR_BYTES};

#[derive(Clone, Debug, Default)]
pub(super) struct SimContent {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync, successful or not.
    dirty: BTreeSet<usize>,
    /// Whether the length was changed since the last sync.
    resized: bool,
}

impl SimContent {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        let from = self.live.len();
        self.live.extend_from_slice(bytes);
        self.resized |= !bytes.is_empty();
        self.dirty.extend(from / SECTOR_BYTES..self.live.len().div_ceil(SECTOR_BYTES));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.resized |= len != self.live.len();
        let changed_from = len.min(self.live.len());
        self.live.resize(len, 0);
        let sectors = changed_from / SECTOR_BYTES..len.div_ceil(SECTOR_BYTES);
        self.dirty.extend(sectors);
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.live, &mut self.durable, sector);
        }
        self.resized = false;
    }

    /// Some pending sectors reach the disk; all count as clean. The reader sees either view.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        let on_disk = self.part_durable(dice);
        self.durable = on_disk;
        if dice.coin() {
            self.live.clone_from(&self.durable);
        }
        self.dirty.clear();
        self.resized = false;
    }

    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.live = self.part_durable(dice);
        self.durable.clone_from(&self.live);
        self.dirty.clear();
        self.resized = false;
    }

    pub(super) fn corrupt(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.sync();
        change(&mut self.live);
        self.durable.clone_from(&self.live);
    }

    /// The bytes on the disk after a random part of what is pending was written.
    fn part_durable(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if self.resized {
            let (old, new) = (self.durable.len(), self.live.len());
            let between = usize::try_from(dice.below(old.abs_diff(new) as u64)).unwrap_or(0);
            let len = match dice.below(4) {
                0 => old,
                1 => old.min(new) + between,
                _ => new,
            };
            bytes.resize(len, 0);
        }
        // All, none, a prefix (the common case on a real disk) or any subset.
        let how = dice.below(4);
        let cut = usize::try_from(dice.below(self.dirty.len() as u64 + 1)).unwrap_or(0);
        for (at, sector) in self.dirty.iter().enumerate() {
            let kept = match how {
                0 => true,
                1 => at < cut,
                _ => dice.coin(),
            };
            if kept {
                copy_sector(&self.live, &mut bytes, *sector);
            }
        }
        bytes
    }
}

/// Copies one sector as far as both files have it.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if let (Some(from), Some(to)) = (from.get(start..end), to.get_mut(start..end)) {
        to.copy_from_slice(from);
    }
}
