//! The collector's small durable facts: one redb file, `state.redb`, in the data directory.
//!
//! It owns the file and the way in and out of its tables; the parts that use a table say what is in
//! it (`tokens`, `hosts`, …). A table maps a name to one JSON document, so that a field can be added
//! without a migration. All of it is small: whoever owns a table loads it at start and keeps it in
//! memory, and every change is one transaction, synced before [`State::change`] returns.
//!
//! Damage: the whole file is checked at start. One that cannot be used is moved aside as
//! `state.redb.damaged-<time>`, said loudly, and a new one begun; it is never deleted. What must not
//! be lost with it is kept elsewhere (the CA's key, the list of revoked certificates).
//!
//! Blocking: call from a thread that may wait for the disk.

use std::fs;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stoa_model::TimestampMs;

/// The file's name in the data directory.
const FILE: &str = "state.redb";

/// Memory for pages; the whole file is usually smaller.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// A table of documents of one kind, by name.
#[derive(Debug)]
pub struct Table<T> {
    name: &'static str,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// The table of that name.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self { name, kind: PhantomData }
    }

    fn definition(&self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name)
    }
}

/// What went wrong with the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process holds the file.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be opened, for a reason that is not damage.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A damaged file could not be moved aside.
    #[error("move the damaged {} aside", path.display())]
    MoveAside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A table could not be read.
    #[error("read the table {table}")]
    Read {
        /// Its name.
        table: &'static str,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A change could not be written; nothing of it is stored.
    #[error("write the state")]
    Write {
        /// Why.
        source: Box<redb::Error>,
    },
    /// A document could not be put into words.
    #[error("encode a document of the table {table}")]
    Encode {
        /// The table.
        table: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// A damaged file that was found at start, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the file was moved.
    pub moved_to: PathBuf,
    /// What was wrong.
    pub why: String,
}

/// The open state.
#[derive(Debug)]
pub struct State {
    db: Database,
}

impl State {
    /// Opens the state in a data directory, which must exist; a damaged one is moved aside.
    ///
    /// # Errors
    /// [`StateError`] when the file is in use or cannot be reached. Never for damage.
    pub fn open(
        data_dir: &Path,
        now_ms: TimestampMs,
    ) -> Result<(Self, Option<Damage>), StateError> {
        let path = data_dir.join(FILE);
        let why = match open_checked(&path)? {
            Opened::Whole(db) => return Ok((Self { db }, None)),
            Opened::Damaged(why) => why,
        };
        let moved_to = data_dir.join(format!("{FILE}.damaged-{now_ms}"));
        fs::rename(&path, &moved_to)
            .map_err(|source| StateError::MoveAside { path: path.clone(), source })?;
        tracing::error!(
            path = %path.display(),
            moved_to = %moved_to.display(),
            why,
            "the state database is damaged; moved it aside and began a new one: tokens and the \
             host list are empty, certificates stay valid, revoked ones stay revoked"
        );
        match open_checked(&path)? {
            Opened::Whole(db) => Ok((Self { db }, Some(Damage { moved_to, why }))),
            Opened::Damaged(why) => Err(StateError::Open {
                path,
                source: Box::new(redb::Error::Corrupted(format!("a new file: {why}"))),
            }),
        }
    }

    /// Every document of a table, by name; none when the table was never written. One that cannot
    /// be decoded is left out with an error in the log, and stays stored.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn all<T: Serialize + DeserializeOwned>(
        &self,
        table: &Table<T>,
    ) -> Result<Vec<(String, T)>, StateError> {
        let read = || -> Result<Vec<(String, T)>, redb::Error> {
            let transaction = self.db.begin_read()?;
            let rows = match transaction.open_table(table.definition()) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut documents = Vec::new();
            for row in rows.iter()? {
                let (name, bytes) = row?;
                match serde_json::from_slice(bytes.value()) {
                    Ok(document) => documents.push((name.value().to_owned(), document)),
                    Err(error) => tracing::error!(
                        table = table.name,
                        name = name.value(),
                        %error,
                        "left out a document that cannot be read"
                    ),
                }
            }
            Ok(documents)
        };
        read().map_err(|source| StateError::Read { table: table.name, source: Box::new(source) })
    }

    /// One document of a table; `None` when there is none, or it cannot be decoded, which is said in
    /// the log.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn one<T: Serialize + DeserializeOwned>(
        &self,
        table: &Table<T>,
        name: &str,
    ) -> Result<Option<T>, StateError> {
        let read = || -> Result<Option<T>, redb::Error> {
            let transaction = self.db.begin_read()?;
            let rows = match transaction.open_table(table.definition()) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let Some(bytes) = rows.get(name)? else { return Ok(None) };
            let document = serde_json::from_slice(bytes.value());
            Ok(document
                .inspect_err(|error| {
                    tracing::error!(table = table.name, name, %error, "a document cannot be read");
                })
                .ok())
        };
        read().map_err(|source| StateError::Read { table: table.name, source: Box::new(source) })
    }

    /// Makes a change, all of it or nothing, durable when this returns.
    ///
    /// # Errors
    /// [`StateError::Write`] or [`StateError::Encode`]; nothing of the change is stored.
    pub fn change(
        &self,
        make: impl FnOnce(&mut Change) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut change = Change { transaction: self.db.begin_write().map_err(write_error)? };
        make(&mut change)?;
        change.transaction.commit().map_err(write_error)
    }
}

/// A change being made; dropped without its commit, it never was.
pub struct Change {
    transaction: WriteTransaction,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

impl Change {
    /// Sets a document.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be encoded or written.
    pub fn put<T: Serialize + DeserializeOwned>(
        &mut self,
        table: &Table<T>,
        name: &str,
        document: &T,
    ) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(document)
            .map_err(|source| StateError::Encode { table: table.name, source })?;
        let mut rows = self.transaction.open_table(table.definition()).map_err(write_error)?;
        rows.insert(name, bytes.as_slice()).map_err(write_error)?;
        Ok(())
    }

    /// Removes a document; fine when there is none.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn remove<T: Serialize + DeserializeOwned>(
        &mut self,
        table: &Table<T>,
        name: &str,
    ) -> Result<(), StateError> {
        let mut rows = self.transaction.open_table(table.definition()).map_err(write_error)?;
        rows.remove(name).map_err(write_error)?;
        Ok(())
    }
}

fn write_error(source: impl Into<redb::Error>) -> StateError {
    StateError::Write { source: Box::new(source.into()) }
}

enum Opened {
    Whole(Database),
    Damaged(String),
}

/// Opens the file and reads every page of it. A page that does not add up is damage whether the
/// library reports it or, on some inputs, panics.
fn open_checked(path: &Path) -> Result<Opened, StateError> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut db = Database::builder().set_cache_size(CACHE_BYTES_MAX).create(path)?;
        if !db.check_integrity()? {
            tracing::warn!(path = %path.display(), "the state database was repaired");
        }
        Ok(db)
    }));
    match attempt {
        Ok(Ok(db)) => Ok(Opened::Whole(db)),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            Err(StateError::InUse { path: path.to_owned() })
        }
        Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
            if !matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            let source = Box::new(redb::Error::Io(error));
            Err(StateError::Open { path: path.to_owned(), source })
        }
        Ok(Err(error)) => Ok(Opened::Damaged(error.to_string())),
        Err(_panic) => Ok(Opened::Damaged("reading it fails an assertion".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    const NOTES: Table<Note> = Table::named("notes");

    fn note(text: &str) -> Note {
        Note { text: text.to_owned() }
    }

    fn written(dir: &Path, count: usize) -> Vec<(String, Note)> {
        let (state, damage) = State::open(dir, 0).unwrap();
        assert_eq!(damage, None);
        let notes: Vec<_> = (0..count).map(|i| (format!("{i:04}"), note("x"))).collect();
        state
            .change(|change| notes.iter().try_for_each(|(name, n)| change.put(&NOTES, name, n)))
            .unwrap();
        notes
    }

    #[test]
    fn documents_outlive_a_restart_and_a_failed_change_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let notes = written(dir.path(), 3);
        let (state, _) = State::open(dir.path(), 0).unwrap();
        assert_eq!(state.all(&NOTES).unwrap(), notes);
        let failed = state.change(|change| {
            change.remove(&NOTES, "0000")?;
            Err(StateError::InUse { path: PathBuf::new() })
        });
        assert!(failed.is_err());
        assert_eq!(state.all(&NOTES).unwrap(), notes);
        state.change(|change| change.remove(&NOTES, "0000")).unwrap();
        assert_eq!(state.all(&NOTES).unwrap(), notes[1..]);
        assert_eq!(state.one(&NOTES, "0000").unwrap(), None);
        assert_eq!(state.one(&NOTES, "0001").unwrap(), Some(note("x")));
        assert_eq!(state.one(&Table::<u64>::named("notes"), "0001").unwrap(), None);
        assert_eq!(state.one(&Table::<Note>::named("never"), "0001").unwrap(), None);
        assert_eq!(state.all(&Table::<Note>::named("never")).unwrap(), []);
        let second = State::open(dir.path(), 0);
        assert!(matches!(second, Err(StateError::InUse { .. })), "{second:?}");
    }

    #[test]
    fn a_document_of_another_shape_is_left_out_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 1);
        let (state, _) = State::open(dir.path(), 0).unwrap();
        let numbers: Table<u64> = Table::named("notes");
        state.change(|change| change.put(&numbers, "n", &7)).unwrap();
        assert_eq!(state.all(&NOTES).unwrap(), [("0000".to_owned(), note("x"))]);
        assert_eq!(state.all(&numbers).unwrap(), [("n".to_owned(), 7)]);
    }

    #[test]
    fn a_file_that_is_no_database_is_moved_aside() {
        let check = |bytes: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), bytes).unwrap();
            let (state, damage) = State::open(dir.path(), 77).unwrap();
            let damage = damage.unwrap();
            assert_eq!(damage.moved_to, dir.path().join("state.redb.damaged-77"));
            assert_eq!(fs::read(&damage.moved_to).unwrap(), bytes);
            state.change(|change| change.put(&NOTES, "a", &note("b"))).unwrap();
        };
        check(b"junk");
        check(&[0; 5000]);
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 100);
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        check(&whole[..whole.len() / 2]);
    }

    /// Whatever a disk does to the bytes, start-up goes on, and what is shown is either all that
    /// was written or, with the damage said, nothing of the wrong.
    #[test]
    fn overwritten_bytes_never_stop_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let notes = written(dir.path(), 200);
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
        let strategy = (0..whole.len(), proptest::collection::vec(any::<u8>(), 1..64));
        runner
            .run(&strategy, |(at, bytes)| {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join(FILE);
                fs::write(&path, &whole).unwrap();
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&bytes, at as u64).unwrap();
                drop(file);
                let (state, damage) = State::open(dir.path(), 0).unwrap();
                let found = state.all(&NOTES).unwrap();
                if damage.is_none() {
                    prop_assert_eq!(&found, &notes);
                } else {
                    prop_assert!(found.is_empty());
                }
                Ok(())
            })
            .unwrap();
    }
}
