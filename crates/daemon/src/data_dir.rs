//! A program's data directory, held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file whose lock says that the directory is in use.
const LOCK_FILE: &str = "lock";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or opened.
    #[error("open data directory {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error("data directory {} is in use by another process; stop it or choose another", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets another process in"]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory (mode 0700) when absent, and locks it.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let wrap = |source| DataDirError::Open { path: path.to_path_buf(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrap)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(wrap)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(wrap(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let held = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        drop(held);
        assert!(DataDir::open(&path).is_ok());
    }
}
