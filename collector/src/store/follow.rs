//! The store as those see it who pass on what is in its log.

use stoa_tsdb::{Cursor, Followed, Follower, FollowerFigures};

use super::{Store, StoreError};

/// The names of cursors begin with this, so that other followers can have others.
const PREFIX: &str = "remote_write/";

impl Store {
    /// Follows the log under a name; see [`stoa_tsdb::Db::follow`]. Waits for the store's locks: call
    /// it from a thread that may block.
    ///
    /// # Errors
    /// [`StoreError::Append`] when a new name cannot be written down now.
    pub fn follow(&self, name: &str) -> Result<Follower, StoreError> {
        self.0.db.follow(&key(name)).map_err(StoreError::Append)
    }

    /// Reads on; see [`stoa_tsdb::Db::read_on`]. Call it from a thread that may block.
    #[must_use]
    pub fn read_on(&self, follower: &mut Follower, samples_max: usize) -> Followed {
        self.0.db.read_on(follower, samples_max)
    }

    /// Takes note that what was read before a cursor is delivered.
    pub fn delivered(&self, name: &str, cursor: Cursor) {
        self.0.db.acknowledge(&key(name), cursor);
    }

    /// Writes the cursors down; they are durable with the next commit. Waits for the store's locks.
    ///
    /// # Errors
    /// [`StoreError::Append`] when the log takes nothing now.
    pub fn save_cursors(&self) -> Result<(), StoreError> {
        self.0.db.save_followers().map_err(StoreError::Append)
    }

    /// Forgets the cursors of all but some names, and lets the log go that was kept for them. Waits for
    /// the store's locks.
    ///
    /// # Errors
    /// [`StoreError::Append`] when the log takes nothing now.
    pub fn follow_only(&self, names: &[&str]) -> Result<(), StoreError> {
        for follower in self.0.db.followers() {
            let is_kept = names.iter().any(|name| key(name) == follower.name);
            if !is_kept && follower.name.starts_with(PREFIX) {
                self.0.db.unfollow(&follower.name).map_err(StoreError::Append)?;
            }
        }
        Ok(())
    }

    /// Where the follower of a name stands.
    #[must_use]
    pub fn follower(&self, name: &str) -> Option<FollowerFigures> {
        self.0.db.followers().into_iter().find(|follower| follower.name == key(name))
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}
