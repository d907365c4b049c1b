//! Prometheus remote write, versions 1 and 2, as a receiver: `POST /api/v1/write`.
//!
//! A request is read within bounds and handed to the [way in](crate::push) for pushed samples, where its
//! message is decompressed and walked ([`message`]); the answer waits until the samples are durable.
//! Answers are those of Prometheus's receiver: 204 when all was taken, 400 with a sentence when
//! something was refused for good (the rest is stored), 415 for a message or compression not known
//! here, 413 for one too large, 503 with `Retry-After` when nothing is wrong with the request and it
//! shall come again. Senders repeat after 503 and drop after 4xx.
//!
//! Bounds: [`BODY_BYTES_MAX`], [`MESSAGE_BYTES_MAX`], those of [`stoa_exchange::remote_write`] within a
//! message, and those of the way in.

mod answer;
mod body;
mod figures;
mod message;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::{HeaderMap, header};
use stoa_exchange::remote_write::Version;

use self::answer::{Answer, Refusal};
use self::body::Form;
use self::figures::Counters;
pub use self::figures::{RemoteWriteFigures, SampleFigures};
use super::access::Principal;
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::push::{ClockDoubt, Pusher, Source, Tally, Way};
use crate::store::Store;

/// The largest compressed body, in bytes.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// The largest message after decompression, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// The receiver over a store; clones are cheap and all the same.
#[derive(Clone)]
pub struct RemoteWrite(Arc<Shared>);

struct Shared {
    pusher: Pusher,
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
        let pusher = Pusher::new(store, series_max, clock, doubt);
        Self(Arc::new(Shared { pusher, counters: Counters::default() }))
    }

    /// What has been received since the start.
    #[must_use]
    pub fn figures(&self) -> RemoteWriteFigures {
        let (senders, series) = self.0.pusher.counts(Way::RemoteWrite);
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
    async fn receive(&self, sender: &str, form: Form, request: Request) -> Result<Tally, Refusal> {
        let _room = self.pusher.room(length(request.headers())?).await?;
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
        let walk =
            move |source: &Source| message::take(source, form.version, &form.decompress(&body)?);
        self.pusher.push(Way::RemoteWrite, sender, walk).await
    }
}

/// How long the body is, or may be when the request does not say.
fn length(headers: &HeaderMap) -> Result<usize, Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let bytes = told.and_then(|text| text.parse().ok()).unwrap_or(BODY_BYTES_MAX);
    if bytes > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge(format!("{bytes} bytes are over {BODY_BYTES_MAX}")));
    }
    Ok(bytes)
}
