//! Copies of the running database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_tsdb::{Db, DbError};
use stoa_wal::Disk as _;

use crate::data::Model;
use crate::world::{LAST_BATCH, World, contents};

/// A copy, and what it must hold.
pub(crate) struct Copy {
    dir: PathBuf,
    state: Model,
    expired_before: i64,
}

impl World {
    /// Makes one if there is none that waits for the next crash.
    pub(crate) fn copy(&mut self, faults: bool) {
        if self.copy.is_some() {
            return;
        }
        self.finish();
        let dir = PathBuf::from(format!("/copy-{}", self.figures["images"]));
        match self.db().snapshot(&dir) {
            Ok(()) => {
                // What it has is durable, here too.
                self.is_durable();
                let state = self.states[0].clone();
                self.copy = Some(Copy { dir, state, expired_before: self.expired_before });
                // While nothing can fail beside it.
                if !faults {
                    self.check_copy();
                }
            }
            Err(DbError::Stopped(_)) => self.restart_if_stopped(true),
            Err(DbError::Snapshot { .. } | DbError::DiskFull(_) | DbError::Remove { .. }) => {}
            Err(error) => panic!("seed {}: {error:?}", self.seed),
        }
    }

    fn check_copy(&mut self) {
        let Some(Copy { dir, state, expired_before }) = &self.copy else { return };
        let disk = Arc::new(self.disk.clone());
        let (db, recovery) = Db::open(disk, dir, self.kind.options(), self.now)
            .unwrap_or_else(|error| panic!("seed {}: the copy: {error:?}", self.seed));
        assert_eq!(recovery.damaged, 0, "seed {}: the copy: {:?}", self.seed, recovery.damage);
        let marked =
            db.mark(LAST_BATCH).map_or(0, |mark| u64::from_le_bytes(mark.try_into().unwrap()));
        assert_eq!(marked, state.batches, "seed {}: the copy", self.seed);
        let mut found = contents(&db, self.seed);
        let case = format!("seed {}: the copy of batch {marked}", self.seed);
        state.check(&mut found, *expired_before, &case);
        if self.kind.has_tiers {
            self.check_windows(&db, state, &case);
        }
        self.count("copies", 1);
    }

    /// After a crash: it is there as it was.
    pub(crate) fn check_copy_again(&mut self) {
        if self.copy.is_none() {
            return;
        }
        self.disk.set_capacity(None);
        self.check_copy();
        let copy = self.copy.take();
        let dir = copy.as_ref().map_or(Path::new("/copy"), |copy| &copy.dir);
        self.disk.remove_dir_all(dir).unwrap();
    }
}
