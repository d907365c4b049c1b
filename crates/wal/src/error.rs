//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a log could not do what it was asked. After [`WalError::Record`] and [`WalError::Remove`] the
/// log goes on; after a failed write or sync every call is answered with [`WalError::Poisoned`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The directory could not be made, listed or made durable. Try again later.
    #[error("cannot open the log in {}", dir.display())]
    Open {
        /// The directory of the log.
        dir: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// A new segment could not be made.
    #[error("cannot create the log segment {}", path.display())]
    Create {
        /// The segment file.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// Appended bytes could not be written.
    #[error("cannot write to the log segment {}", path.display())]
    Write {
        /// The segment file.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// Appended bytes could not be made durable.
    #[error("cannot sync the log segment {}", path.display())]
    Sync {
        /// The segment file.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// A segment that is no longer needed could not be removed; it will be tried again by the next
    /// removal.
    #[error("cannot remove the log segment {}", path.display())]
    Remove {
        /// The segment file.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// The record is longer than the log takes. Nothing was written.
    #[error("record of {bytes} bytes is over the limit of {bytes_max}")]
    Record {
        /// Its payload.
        bytes: usize,
        /// What [`WalOptions::record_bytes_max`](crate::WalOptions) allows.
        bytes_max: u32,
    },
    /// An earlier write or sync failed, so nothing after it can be trusted. Open the log anew: it
    /// starts a new segment.
    #[error("the log in {} has stopped after a failure", dir.display())]
    Poisoned {
        /// The directory of the log.
        dir: PathBuf,
        /// The failure.
        #[source]
        cause: Box<Self>,
    },
}
