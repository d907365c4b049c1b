//! Prometheus remote write, versions 1 and 2, as a receiver: `POST /api/v1/write`.
//!
//! A request is read within bounds and handed to the [way in](crate::push) for pushed samples, where its
//! message is decompressed and walked ([`message`]); the answer waits until the samples are durable.
//! Answers are those of Prometheus's receiver: 204 when all was taken, 400 with a sentence when
//! something was refused for good (the rest is stored), 415 for a message or compression not known
//! here, 413 for one too large, 503 with `Retry-After` when nothing is wrong with the request and it
//! shall come again. Senders repeat after 503 and drop after 4xx.
//!
//! Bounds: those of [bodies](super::pushed) that push, those of [`stoa_exchange::remote_write`] within a
//! message, and those of the way in.

mod answer;
mod form;
mod message;

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use stoa_exchange::remote_write::Version;

use self::answer::Answer;
use self::form::Form;
use super::access::Principal;
use super::pushed::body::{self, BODY_BYTES_MAX, MESSAGE_BYTES_MAX};
use super::pushed::{Counters, PushFigures, Refusal};
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::push::{ClockDoubt, Pusher, Source, Tally, Way};
use crate::store::Store;

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
        Self::over(Pusher::new(store, series_max, clock, doubt))
    }

    /// The receiver over a way in that it shares.
    #[must_use]
    pub fn over(pusher: Pusher) -> Self {
        Self(Arc::new(Shared { pusher, counters: Counters::default() }))
    }

    /// What has been received since the start.
    #[must_use]
    pub fn figures(&self) -> PushFigures {
        let (senders, series) = self.0.pusher.counts(Way::RemoteWrite);
        PushFigures { senders, series, ..self.0.counters.read() }
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
    shared.counters.answered(&answer.told);
    answer.into()
}

impl Shared {
    async fn receive(&self, sender: &str, form: Form, request: Request) -> Result<Tally, Refusal> {
        let (body, _room) = body::receive(&self.pusher, request).await?;
        self.counters.received(body.len());
        let walk = move |source: &Source| {
            let message = form.compression.decompress(&body, MESSAGE_BYTES_MAX)?;
            message::take(source, form.version, &message)
        };
        self.pusher.push(Way::RemoteWrite, sender, walk).await
    }
}
