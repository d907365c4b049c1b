//! Prometheus remote write, versions 1 and 2, as a receiver: `POST /api/v1/write`.
//!
//! A request is read within bounds, decompressed and walked once on a blocking thread ([`intake`]),
//! its samples are put in rows of their groups ([`rows`]) and handed to the store; the answer waits
//! until they are durable. Answers are those of Prometheus's receiver: 204 when all was taken, 400
//! with a sentence when something was refused for good (the rest is stored), 415 for a message or
//! compression not known here, 413 for one too large, 503 with `Retry-After` when nothing is wrong
//! with the request and it shall come again. Senders repeat after 503 and drop after 4xx.
//!
//! Bounds: [`BODY_BYTES_MAX`], [`MESSAGE_BYTES_MAX`], [`BODIES_BYTES_MAX`], [`DECODING_MAX`], those of
//! [`stoa_exchange::remote_write`] within a message, and [`SERIES_PER_SENDER_MAX`].

mod answer;
mod body;
mod figures;
mod intake;
mod rows;
mod senders;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, header};
use stoa_exchange::remote_write::Version;
use stoa_tsdb::{AppendError, Batch};
use tokio::sync::Semaphore;

use self::answer::{Answer, Refusal};
use self::body::Form;
use self::figures::Counters;
pub use self::figures::{RemoteWriteFigures, SampleFigures};
use self::intake::{Taken, Tally};
use self::senders::Senders;
use super::access::Principal;
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::store::{Store, StoreError};

/// The largest compressed body, in bytes.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// The largest message after decompression, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Compressed bodies in memory at once, in bytes; further requests wait up to [`TURN_WAIT`].
pub const BODIES_BYTES_MAX: u32 = 128 << 20;

/// What a request counts at least among those bytes, and when it does not say its length.
const BODY_BYTES_MIN: u32 = 64 << 10;

/// Messages decompressed and walked at once: it is work for the processor, and each may take
/// [`MESSAGE_BYTES_MAX`].
pub const DECODING_MAX: usize = 2;

/// How long a request waits for its turn before it is told to come again.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// Series one sender may have active; further ones are refused and counted.
pub const SERIES_PER_SENDER_MAX: usize = 500_000;

/// Tells whether the collector's own clock is in doubt, so that a sample from its future may be right.
pub type ClockDoubt = Arc<dyn Fn() -> bool + Send + Sync>;

/// The receiver over a store; clones are cheap and all the same.
#[derive(Clone)]
pub struct RemoteWrite(Arc<Shared>);

struct Shared {
    store: Store,
    senders: Senders,
    clock: Clock,
    doubt: ClockDoubt,
    bodies: Arc<Semaphore>,
    decoding: Arc<Semaphore>,
    counters: Counters,
}

impl std::fmt::Debug for RemoteWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteWrite").finish_non_exhaustive()
    }
}

impl RemoteWrite {
    /// The receiver; `series_max` bounds the series of one sender.
    #[must_use]
    pub fn new(store: Store, series_max: usize, clock: Clock, doubt: ClockDoubt) -> Self {
        Self(Arc::new(Shared {
            store,
            senders: Senders::new(series_max),
            clock,
            doubt,
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX as usize)),
            decoding: Arc::new(Semaphore::new(DECODING_MAX)),
            counters: Counters::default(),
        }))
    }

    /// What has been received since the start.
    #[must_use]
    pub fn figures(&self) -> RemoteWriteFigures {
        let (senders, series) = self.0.senders.counts();
        RemoteWriteFigures { senders, series, ..self.0.counters.read() }
    }
}

/// The route.
pub fn routes(remote_write: RemoteWrite) -> Routes {
    let table: Routes<Arc<Shared>> =
        Routes::new().post("/api/v1/write", Scope::Write, write).body_bytes_max(BODY_BYTES_MAX);
    table.with_state(remote_write.0)
}

async fn write(
    State(shared): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let form = match Form::of(request.headers()) {
        Ok(form) => form,
        Err(refusal) => {
            shared.counters.refused(&refusal);
            return Answer::refused(Version::One, refusal).into();
        }
    };
    let answer = match shared.receive(&principal.name, form, request).await {
        Ok(tally) => Answer::told(form.version, tally),
        Err(refusal) => Answer::refused(form.version, refusal),
    };
    shared.counters.answered(&answer);
    answer.into()
}

impl Shared {
    async fn receive(
        self: &Arc<Self>,
        sender: &str,
        form: Form,
        request: Request,
    ) -> Result<Tally, Refusal> {
        let share = share(request.headers())?;
        let turn = Arc::clone(&self.bodies).acquire_many_owned(share);
        let Ok(Ok(_room)) = tokio::time::timeout(TURN_WAIT, turn).await else {
            return Err(Refusal::later("too many requests are under way"));
        };
        let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
        let body = match tokio::time::timeout(BODY_WAIT, body).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let text = format!("the body broke off or is over {BODY_BYTES_MAX} bytes");
                return Err(Refusal::TooLarge(text));
            }
            Err(_elapsed) => return Err(Refusal::later("the body took too long to arrive")),
        };
        self.counters.received(body.len());
        match self.store(sender, form, body.clone()).await? {
            Some(tally) => Ok(tally),
            // The store has let go of series that came no more; now they do.
            None => match self.store(sender, form, body).await? {
                Some(tally) => Ok(tally),
                None => Err(Refusal::later("series went away while they were written")),
            },
        }
    }

    /// Stores what a body holds. `None` when series it names are no longer known to the store: they
    /// have been forgotten, and the same body is to be given again.
    async fn store(
        self: &Arc<Self>,
        sender: &str,
        form: Form,
        body: Bytes,
    ) -> Result<Option<Tally>, Refusal> {
        let turn = Arc::clone(&self.decoding).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(TURN_WAIT, turn).await else {
            return Err(Refusal::later("too many requests are being read"));
        };
        let (shared, name) = (Arc::clone(self), sender.to_owned());
        let walked = tokio::task::spawn_blocking(move || {
            let taken = shared.walk(&name, form, &body);
            drop(turn);
            taken
        });
        let Taken { batches, histograms, mut tally } = match walked.await {
            Ok(taken) => taken?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => return Err(Refusal::later("the collector is stopping")),
        };
        if tally.ahead > 0 && (self.doubt)() {
            return Err(Refusal::later("the collector's own clock is in doubt"));
        }
        let mut pending = Vec::with_capacity(batches.len());
        for batch in batches {
            let samples = batch.rows.iter().map(|row| row.samples.len() as u64).sum::<u64>();
            pending.push((samples, false, self.store.submit(batch).await.map_err(unstored)?));
        }
        for (group, histograms) in histograms {
            let samples = histograms.len() as u64;
            let batch = Batch { group, rows: Vec::new(), marks: Vec::new() };
            let submitted = self.store.submit_with(batch, histograms).await.map_err(unstored)?;
            pending.push((samples, true, submitted));
        }
        let mut is_stale = false;
        for (samples, are_histograms, pending) in pending {
            match pending.stored().await {
                Ok(done) if are_histograms => tally.stored_histograms(done),
                Ok(done) => tally.stored(done),
                Err(StoreError::Append(AppendError::UnknownSeries { .. })) => is_stale = true,
                Err(StoreError::Append(error)) => tally.unstorable(samples, &error),
                Err(error) => return Err(unstored(error)),
            }
        }
        if is_stale {
            self.senders.forget(sender);
            return Ok(None);
        }
        Ok(Some(tally))
    }

    fn walk(&self, sender: &str, form: Form, body: &[u8]) -> Result<Taken, Refusal> {
        let message = form.decompress(body)?;
        let sender = self.senders.named(sender);
        intake::take(&self.store, &sender, form.version, &message, (self.clock)())
    }
}

/// What a request counts among [`BODIES_BYTES_MAX`].
fn share(headers: &HeaderMap) -> Result<u32, Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let bytes = told.and_then(|text| text.parse().ok()).unwrap_or(BODY_BYTES_MAX);
    if bytes > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge(format!("{bytes} bytes are over {BODY_BYTES_MAX}")));
    }
    Ok(u32::try_from(bytes).unwrap_or(u32::MAX).max(BODY_BYTES_MIN))
}

/// The store takes nothing now; the sender keeps it.
fn unstored(error: StoreError) -> Refusal {
    Refusal::later(stoa_daemon::error_chain(&error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stoa_exchange::remote_write::Writer;
    use stoa_tsdb::{GroupId, SeriesRef};
    use stoa_wal::disk::SimDisk;

    use super::senders::Place;
    use super::*;
    use crate::config::StorageConfig;

    #[tokio::test]
    async fn series_the_store_has_let_go_of_are_looked_up_again() {
        let storage = StorageConfig {
            retention: Duration::from_secs(86_400),
            retention_1m: Duration::ZERO,
            retention_1h: Duration::ZERO,
            retention_bytes_max: None,
            out_of_order: Duration::from_secs(3600),
            free_bytes_min: 0,
            series_max: 10,
        };
        let clock: Clock = Arc::new(|| 1000);
        let disk = Arc::new(SimDisk::new(1));
        let opened = Store::open(disk, Path::new("/data"), &storage, Arc::clone(&clock));
        let (store, _recovery) = opened.unwrap();
        let remote = RemoteWrite::new(store.clone(), 10, clock, Arc::new(|| false));
        // As if the series had been there long ago.
        let gone = Place { group: GroupId(1), series: SeriesRef(77) };
        let labels: [(&[u8], &[u8]); 1] = [(b"__name__", b"up")];
        let placed = remote.0.senders.named("ann").cache().place(&labels, || Ok(gone));
        assert_eq!(placed, Ok(gone));
        let mut writer = Writer::new(Version::One);
        writer.series(&[("__name__", "other")], &[(1000, 2.0)]);
        writer.series(&[("__name__", "up")], &[(1000, 1.0)]);
        let body = snap::raw::Encoder::new().compress_vec(&writer.finish()).unwrap();
        let form = Form::of(&HeaderMap::new()).unwrap();
        let request = Request::new(axum::body::Body::from(body));
        let tally = remote.0.receive("ann", form, request).await.unwrap();
        assert_eq!((tally.done.stored, tally.done.duplicate, tally.complaint()), (1, 1, None));
        store.close().await.unwrap();
    }
}
