//! The one way in for samples that others push, whatever their protocol: a message is walked once on a
//! blocking thread, its series are looked up ([`senders`]), its samples put in rows of their groups
//! ([`rows`]) and handed to the store; the answer waits until they are durable.
//!
//! Bounds, over all protocols together: [`BODIES_BYTES_MAX`], [`DECODING_MAX`], [`TAKEN_BYTES_MAX`], and
//! for each sender [`SERIES_PER_SENDER_MAX`].

mod intake;
mod places;
mod rows;
mod senders;
mod starts;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use stoa_tsdb::{AppendError, Batch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use self::intake::{Intake, Source, Taken};
use self::rows::Rows;
use self::senders::Senders;
pub(crate) use self::senders::{Place, SenderStanding};
pub(crate) use self::tally::Tally;
use crate::clock::Clock;
use crate::config::PushConfig;
use crate::store::{Kept, Pending, Store, StoreError};

/// Compressed bodies in memory at once, in bytes; further requests wait up to [`TURN_WAIT`].
pub const BODIES_BYTES_MAX: u32 = 128 << 20;

/// What a request counts at least among those bytes.
const BODY_BYTES_MIN: u32 = 64 << 10;

/// Samples on their way to the store in memory at once, in bytes. Who finds no room keeps its turn to be
/// walked, so that no more is taken out of messages than the store takes in.
pub const TAKEN_BYTES_MAX: u32 = 128 << 20;

/// Messages decompressed and walked at once: it is work for the processor, and each may take as much
/// memory as its protocol allows.
pub const DECODING_MAX: usize = 2;

/// How long a request waits for its turn before it is told to come again.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Series one sender may have active; further ones are refused and counted.
pub const SERIES_PER_SENDER_MAX: usize = 500_000;

/// Tells whether the collector's own clock is in doubt, so that a sample from its future may be right.
pub type ClockDoubt = Arc<dyn Fn() -> bool + Send + Sync>;

/// How samples come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// Prometheus remote write.
    RemoteWrite,
    /// OpenTelemetry's protocol, over HTTP or gRPC.
    Otlp,
}

impl Way {
    /// What groups are told apart by; stored, so never to be changed.
    fn name(self) -> &'static str {
        match self {
            Self::RemoteWrite => "remote write",
            Self::Otlp => "otlp",
        }
    }
}

impl Way {
    /// The pool its senders are shown in.
    pub(crate) fn pool(self) -> &'static str {
        match self {
            Self::RemoteWrite => "remote_write",
            Self::Otlp => "otlp",
        }
    }
}

/// Nothing is wrong with the request, it shall come again; this is why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Later(pub(crate) String);

/// The way in; clones are cheap and all the same.
#[derive(Clone)]
pub struct Pusher(Arc<Shared>);

struct Shared {
    store: Store,
    senders: Senders,
    clock: Clock,
    doubt: ClockDoubt,
    config: PushConfig,
    bodies: Arc<Semaphore>,
    taken: Arc<Semaphore>,
    decoding: Arc<Semaphore>,
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pusher").finish_non_exhaustive()
    }
}

impl Pusher {
    /// The way into a store; `series_max` bounds the series of one sender.
    #[must_use]
    pub fn new(store: Store, series_max: usize, clock: Clock, doubt: ClockDoubt) -> Self {
        Self::with(store, series_max, clock, doubt, PushConfig::default())
    }

    /// The same with what is told otherwise than by default.
    #[must_use]
    pub fn with(
        store: Store,
        series_max: usize,
        clock: Clock,
        doubt: ClockDoubt,
        config: PushConfig,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            senders: Senders::new(series_max),
            clock,
            doubt,
            config,
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX as usize)),
            taken: Arc::new(Semaphore::new(TAKEN_BYTES_MAX as usize)),
            decoding: Arc::new(Semaphore::new(DECODING_MAX)),
        }))
    }

    /// How many senders come this way, and how many series of them.
    pub(crate) fn counts(&self, way: Way) -> (u64, u64) {
        self.0.senders.counts(way)
    }

    /// Who sends, and what became of it.
    pub(crate) fn standings(&self) -> Vec<SenderStanding> {
        self.0.senders.standings()
    }

    /// Room for a body of so many bytes, until the result is dropped.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Later> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(BODY_BYTES_MIN);
        let permit = share(&self.0.bodies, bytes, BODIES_BYTES_MAX).await?;
        Ok(Room { bodies: Arc::clone(&self.0.bodies), permit })
    }

    /// Stores what `walk` takes out of a message, on a thread that may block; it may be called twice.
    pub(crate) async fn push<E: From<Later> + Send + 'static>(
        &self,
        way: Way,
        sender: &str,
        walk: impl Fn(&Source) -> Result<Taken, E> + Send + Sync + 'static,
    ) -> Result<Tally, E> {
        let walk = Arc::new(walk);
        for _ in 0..2 {
            let (taken, _room) = self.walk(way, sender, Arc::clone(&walk)).await?;
            if let Some(tally) = self.store(taken).await? {
                let now_ms = (self.0.clock)();
                self.0.senders.stored(way, sender, now_ms, tally.complaint());
                return Ok(tally);
            }
            // The store has let go of series that came no more; now they do.
            self.0.senders.forget(way, sender);
        }
        Err(Later("series went away while they were written".to_owned()).into())
    }

    async fn walk<E: From<Later> + Send + 'static>(
        &self,
        way: Way,
        sender: &str,
        walk: Arc<impl Fn(&Source) -> Result<Taken, E> + Send + Sync + 'static>,
    ) -> Result<(Taken, OwnedSemaphorePermit), E> {
        let turn = share(&self.0.decoding, 1, 1).await?;
        let (shared, name) = (Arc::clone(&self.0), sender.to_owned());
        let walked = tokio::task::spawn_blocking(move || {
            let source = Source {
                store: shared.store.clone(),
                way,
                sender: shared.senders.named(way, &name),
                now_ms: (shared.clock)(),
                config: shared.config,
            };
            (walk(&source), turn)
        });
        let (taken, turn) = match walked.await {
            Ok((taken, turn)) => (taken?, turn),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => {
                return Err(Later("the collector is stopping".to_owned()).into());
            }
        };
        let bytes = u32::try_from(taken.bytes()).unwrap_or(u32::MAX);
        let room = share(&self.0.taken, bytes, TAKEN_BYTES_MAX).await?;
        drop(turn);
        Ok((taken, room))
    }

    /// Stores what was taken. `None` when series it names are no longer known to the store: they have
    /// been forgotten, and the same message is to be walked again.
    async fn store(&self, taken: Taken) -> Result<Option<Tally>, Later> {
        let Taken { starts, batches, histograms, exemplars, mut tally, .. } = taken;
        if tally.ahead > 0 && (self.0.doubt)() {
            return Err(Later("the collector's own clock is in doubt".to_owned()));
        }
        let store = &self.0.store;
        let mut beginning = Vec::new();
        begin(store, starts.ahead, &mut beginning).await?;
        let mut pending = Vec::with_capacity(batches.len());
        for Rows { batch, points } in batches {
            let submitted = store.submit(batch).await.map_err(unstored)?;
            pending.push((points, false, submitted));
        }
        for (group, histograms) in histograms {
            let points = rows::histogram_points(&histograms);
            let batch = Batch { group, rows: Vec::new(), marks: Vec::new() };
            let submitted = store.submit_with(batch, histograms).await.map_err(unstored)?;
            pending.push((points, true, submitted));
        }
        begin(store, starts.behind, &mut beginning).await?;
        let mut is_stale = false;
        for pending in beginning {
            match pending.stored().await {
                Ok(done) => tally.starts += done.stored,
                Err(StoreError::Append(AppendError::UnknownSeries { .. })) => is_stale = true,
                // Nobody sent it: no sender is told.
                Err(StoreError::Append(_)) => {}
                Err(error) => return Err(unstored(error)),
            }
        }
        for (points, are_histograms, pending) in pending {
            match pending.stored().await {
                Ok(done) => {
                    tally.rejected += points.refused(done);
                    tally.stored(done);
                    if are_histograms {
                        tally.histograms_written += done.stored + done.duplicate;
                    }
                }
                Err(StoreError::Append(AppendError::UnknownSeries { .. })) => is_stale = true,
                Err(StoreError::Append(error)) => {
                    tally.rejected += points.all();
                    tally.unstorable(points.samples(), &error);
                }
                Err(error) => return Err(unstored(error)),
            }
        }
        if is_stale {
            return Ok(None);
        }
        for (number, (series, exemplar)) in exemplars.into_iter().enumerate() {
            if number % 1024 == 1023 {
                tokio::task::yield_now().await;
            }
            match store.exemplars().add(&series, exemplar) {
                Kept::New | Kept::Duplicate => tally.exemplars_written += 1,
                Kept::OutOfOrder | Kept::TooLong => tally.exemplars_ignored += 1,
            }
        }
        Ok(Some(tally))
    }
}

/// Submits zeroes.
async fn begin(
    store: &Store,
    zeroes: starts::Batches,
    beginning: &mut Vec<Pending>,
) -> Result<(), Later> {
    for Rows { batch, .. } in zeroes.samples {
        beginning.push(store.submit(batch).await.map_err(unstored)?);
    }
    for (group, histograms) in zeroes.histograms {
        let batch = Batch { group, rows: Vec::new(), marks: Vec::new() };
        beginning.push(store.submit_with(batch, histograms).await.map_err(unstored)?);
    }
    Ok(())
}

/// Room that a body takes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    bodies: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Makes it room for so many bytes. Where there is none for long, whoever waits longest is told to
    /// come again, and gives room to the next.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), Later> {
        let more = bytes.saturating_sub(self.permit.num_permits());
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0 {
            self.permit.merge(share(&self.bodies, more, BODIES_BYTES_MAX).await?);
        }
        Ok(())
    }

    /// For how many bytes it is.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.num_permits()
    }
}

/// A share of what all have together, after a wait of at most [`TURN_WAIT`].
async fn share(of: &Arc<Semaphore>, share: u32, max: u32) -> Result<OwnedSemaphorePermit, Later> {
    let turn = Arc::clone(of).acquire_many_owned(share.min(max));
    match tokio::time::timeout(TURN_WAIT, turn).await {
        Ok(Ok(room)) => Ok(room),
        Ok(Err(_)) | Err(_) => Err(Later("too many requests are under way".to_owned())),
    }
}

/// The store takes nothing now; the sender keeps it.
fn unstored(error: StoreError) -> Later {
    Later(stoa_daemon::error_chain(&error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stoa_exchange::remote_write::RawLabel;
    use stoa_tsdb::{GroupId, SeriesRef};
    use stoa_wal::disk::SimDisk;

    use super::*;
    use crate::config::{Config, StorageConfig};

    #[tokio::test]
    async fn series_the_store_has_let_go_of_are_looked_up_again() {
        let storage = StorageConfig {
            retention: Duration::from_secs(86_400),
            retention_1m: Duration::ZERO,
            retention_1h: Duration::ZERO,
            out_of_order: Duration::from_secs(3600),
            free_bytes_min: 0,
            series_max: 10,
            ..Config::defaults().unwrap().storage
        };
        let clock: Clock = Arc::new(|| 1000);
        let disk = Arc::new(SimDisk::new(1));
        let opened = Store::open(disk, Path::new("/data"), &storage, Arc::clone(&clock));
        let (store, _recovery) = opened.unwrap();
        let pusher = Pusher::new(store.clone(), 10, clock, Arc::new(|| false));
        // As if the series had been there long ago.
        let gone = Place { group: GroupId(1), series: SeriesRef(77) };
        let labels: [RawLabel<'_>; 1] = [(b"__name__", b"up")];
        let sender = pusher.0.senders.named(Way::RemoteWrite, "ann");
        assert_eq!(sender.cache().place(&labels, || Ok(gone)), Ok(gone));
        let walk = |source: &Source| {
            let mut intake = source.begin();
            for (name, value) in [("other", 2.0), ("up", 1.0)] {
                let (place, _) = intake.place(&[(b"__name__", name.as_bytes())], 1).unwrap();
                intake.sample(place, 1000, value);
            }
            Ok::<_, Later>(intake.finish())
        };
        let tally = pusher.push(Way::RemoteWrite, "ann", walk).await.unwrap();
        assert_eq!((tally.done.stored, tally.done.duplicate, tally.complaint()), (1, 1, None));
        store.close().await.unwrap();
    }
}
