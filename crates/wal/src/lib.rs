//! A durable, segmented, checksummed log of records, and the disk under it.
//!
//! This crate knows bytes, files and the moment at which bytes are durable; it never knows what a
//! record means, what time it is, or what async is.
//!
//! A [`Wal`] appends records to numbered segment files and says when they are durable; a [`Reader`]
//! gives them back and reports what is damaged. A [`Disk`] is what both stand on: the machine's
//! own ([`disk::RealDisk`]) or one that fails by seed ([`disk::SimDisk`]).
//! A [`Queue`] keeps bounded streams of records, each in a log of its own, until they are
//! acknowledged: the agent's spool.
//! The bytes are described in `docs/formats/wal.md` and `docs/formats/spool.md`.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//! use stoa_wal::disk::SimDisk;
//! use stoa_wal::{Entry, Reader, Wal, WalOptions};
//!
//! let disk = Arc::new(SimDisk::new(1));
//! let mut wal = Wal::open(disk.clone(), Path::new("/wal"), WalOptions::default())?;
//! let position = wal.append(1, b"hello")?;
//! assert!(wal.sync()? > position);
//! drop(wal);
//! disk.crash();
//!
//! let entries: Vec<Entry> = Reader::open(disk, Path::new("/wal"), 0)?.collect();
//! assert_eq!(entries, [Entry::Record { position, kind: 1, payload: b"hello".to_vec() }]);
//! # Ok::<(), stoa_wal::WalError>(())
//! ```

pub mod disk;
mod error;
mod position;
pub mod queue;
mod reader;
mod record;
mod segment;
mod window;
mod writer;

pub use disk::{Disk, DiskFile, DiskRead};
pub use error::WalError;
pub use position::Position;
pub use queue::{Queue, QueueError, QueueOptions};
pub use reader::{DamageReason, Entry, Reader};
pub use writer::{Wal, WalOptions, remove_segments_before, segments};
