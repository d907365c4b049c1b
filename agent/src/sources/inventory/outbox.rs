//! Where the document lies until it is told, and what came of telling it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message as _;
use stoa_model::Inventory;
use stoa_proto::message::Digest;
use stoa_proto::v1;
use tokio::sync::watch;

/// Bytes of the hash that names a document.
const DIGEST_BYTES: usize = 16;

/// A document and what names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Of the document; equal digests mean equal documents.
    pub digest: Digest,
    /// What the host is made of.
    pub document: Inventory,
}

impl Named {
    /// Gives a document its name.
    #[must_use]
    pub fn new(document: Inventory) -> Self {
        let bytes = v1::InventoryDocument::from(&document).encode_to_vec();
        let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let digest: Vec<u8> = hash.as_ref().iter().copied().take(DIGEST_BYTES).collect();
        Self { digest: Digest(digest.into()), document }
    }
}

/// What has been done with documents; shared by who tells them and who shows it.
#[derive(Debug, Default)]
pub struct Tally {
    told: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// What came of telling a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it.
    Told,
    /// The collector will not have it; it is told again when it has changed.
    Refused,
    /// Not now; it is tried again.
    Failed,
}

impl Tally {
    /// Counts.
    pub fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Told => &self.told,
            Outcome::Refused => &self.refused,
            Outcome::Failed => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where the source puts its document.
pub(crate) type Offer = watch::Sender<Option<Arc<Named>>>;

/// A place for a document, from both sides.
pub(crate) fn outbox() -> (Offer, Outbox) {
    let (offer, current) = watch::channel(None);
    (offer, Outbox { current, tally: Arc::default() })
}

/// The document as of now, for the uplink to tell; clones see the same.
#[derive(Clone, Debug)]
pub struct Outbox {
    pub(super) current: watch::Receiver<Option<Arc<Named>>>,
    tally: Arc<Tally>,
}

/// What [`crate::selfstats`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryFigures {
    /// Documents the collector has taken.
    pub told: u64,
    /// Documents it will not have.
    pub refused: u64,
    /// Times a document could not be told.
    pub failed: u64,
    /// The document's size in bytes.
    pub bytes: u64,
    /// Items left out of it for want of room.
    pub left_out: u64,
}

impl Outbox {
    /// The document as of now.
    #[must_use]
    pub fn current(&mut self) -> Option<Arc<Named>> {
        self.current.borrow_and_update().clone()
    }

    /// Waits for the next document; for ever when there will be none.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Counts what came of telling.
    pub fn count(&self, outcome: Outcome) {
        self.tally.count(outcome);
    }

    /// What has been done so far.
    #[must_use]
    pub fn figures(&self) -> InventoryFigures {
        let current = self.current.borrow();
        let document = current.as_ref().map(|named| &named.document);
        let sections = || document.into_iter().flat_map(|document| document.sections().values());
        InventoryFigures {
            told: self.tally.told.load(Ordering::Relaxed),
            refused: self.tally.refused.load(Ordering::Relaxed),
            failed: self.tally.failed.load(Ordering::Relaxed),
            bytes: document.map_or(0, |document| document.bytes() as u64),
            left_out: sections().map(|section| section.left_out).sum(),
        }
    }
}
