//! Metrics by OTLP as a receiver: `POST /v1/metrics` with protobuf or JSON, and the same call of gRPC.
//!
//! A request is read within bounds and handed to the [way in](crate::push) for pushed samples, where its
//! message is unpacked and walked ([`message`]), its names and labels made Prometheus's; the answer waits
//! until the samples are durable. Answers are the protocol's: success, also when something was refused
//! for good, which is said in `partial_success` (the rest is stored); 400, 413 or 415 for what cannot be
//! read; 503 with `Retry-After`, or `UNAVAILABLE`, when nothing is wrong with the request and it shall
//! come again. Logs and traces are not taken: 501, `UNIMPLEMENTED`.
//!
//! Points that count from the point before are added up ([`deltas`]).
//!
//! Bounds: those of [bodies](super::pushed) that push, [`JSON_BYTES_MAX`], those of
//! [`stoa_exchange::otlp`] within a message, and those of the way in.

mod answer;
mod deltas;
mod message;

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, header};
use stoa_exchange::otlp::{DeltaCounts, Form, Options};
use stoa_wal::Disk;

use self::deltas::Streams;
use super::access::Principal;
use super::grpc;
use super::pushed::body::{self, BODY_BYTES_MAX, Compression, MESSAGE_BYTES_MAX};
use super::pushed::{Counters, PushFigures, Refusal};
use super::routes::{Routes, Scope};
use crate::config::OtlpConfig;
use crate::push::{Pusher, Source, Tally, Way};

/// The largest message in JSON after decompression, in bytes: it says less with more.
pub const JSON_BYTES_MAX: usize = 16 << 20;

/// How a message may be compressed, over HTTP as over gRPC.
const COMPRESSIONS: [Compression; 3] =
    [Compression::Identity, Compression::Gzip, Compression::Zstd];

/// The receiver; clones are cheap and all the same.
#[derive(Clone)]
pub struct Otlp(Arc<Shared>);

struct Shared {
    pusher: Pusher,
    options: Arc<Options>,
    /// Where deltas are added up, if they are.
    deltas: Option<Arc<Streams>>,
    counters: Counters,
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otlp").finish_non_exhaustive()
    }
}

impl Otlp {
    /// The receiver.
    #[must_use]
    pub fn new(pusher: Pusher, config: &OtlpConfig) -> Self {
        let (options, counters) = (Arc::new(config.options.clone()), Counters::default());
        let deltas = config.deltas.map(|limits| Arc::new(Streams::new(limits)));
        Self(Arc::new(Shared { pusher, options, deltas, counters }))
    }

    /// Goes on with the deltas that the collector had when it stopped last. Waits for the disk.
    pub(crate) fn restore(&self, disk: &dyn Disk, dir: &Path) {
        if let Some(deltas) = &self.0.deltas {
            deltas.restore(disk, dir);
        }
    }

    /// Keeps what deltas have come to for the next start; to be called when nothing comes in any more.
    /// Waits for the disk.
    pub(crate) fn keep(&self, disk: &dyn Disk, dir: &Path) {
        if let Some(deltas) = &self.0.deltas {
            deltas.keep(disk, dir);
        }
    }

    /// What has been received since the start.
    #[must_use]
    pub fn figures(&self) -> PushFigures {
        let (senders, series) = self.0.pusher.counts(Way::Otlp);
        PushFigures { senders, series, ..self.0.counters.read() }
    }

    /// What became of deltas since the start; `None` where they are refused.
    #[must_use]
    pub fn deltas(&self) -> Option<DeltaCounts> {
        self.0.deltas.as_ref().map(|streams| streams.counts())
    }
}

/// The routes. The second path for metrics is Prometheus's; those for logs are OTLP's and Loki's.
pub fn routes(otlp: Otlp) -> Routes {
    const GRPC: &str = "/opentelemetry.proto.collector";
    let mut table: Routes<Arc<Shared>> = Routes::new();
    for path in ["/v1/metrics", "/api/v1/otlp/v1/metrics"] {
        table = table.post(path, Scope::Write, metrics).body_bytes_max(BODY_BYTES_MAX);
    }
    let path = format!("{GRPC}.metrics.v1.MetricsService/Export");
    table = table.post(&path, Scope::Write, export).body_bytes_max(BODY_BYTES_MAX);
    for path in ["/v1/logs", "/otlp/v1/logs", "/v1/traces"] {
        table = table.post(path, Scope::Write, not_taken);
    }
    for service in ["logs.v1.LogsService", "trace.v1.TraceService"] {
        table = table.post(&format!("{GRPC}.{service}/Export"), Scope::Write, not_exported);
    }
    table.with_state(otlp.0)
}

/// A request's message: how it is written and packed.
#[derive(Clone, Copy, Debug)]
struct Packed {
    form: Form,
    compression: Compression,
}

async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let form = form(request.headers());
    let told = match form.clone().and_then(|form| {
        let encoding = &header::CONTENT_ENCODING;
        let compression = Compression::of(request.headers(), encoding, &COMPRESSIONS)?;
        Ok(Packed { form, compression })
    }) {
        Ok(packed) => shared.receive(&principal.name, packed, request).await,
        Err(refusal) => Err(refusal),
    };
    shared.counters.answered(&told);
    answer::over_http(form.unwrap_or(Form::Protobuf), &told)
}

async fn export(
    State(shared): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let headers = request.headers();
    if !grpc::is_grpc(headers) {
        return shared.no_call();
    }
    let compression = if grpc::is_protobuf(headers) {
        Compression::of(headers, &grpc::ENCODING, &COMPRESSIONS)
    } else {
        Err(Refusal::Unknown("a call's messages are protobuf".to_owned()))
    };
    let told = match compression {
        Ok(compression) => shared.call(&principal.name, compression, request).await,
        Err(refusal) => Err(refusal),
    };
    shared.counters.answered(&told);
    answer::over_grpc(&told)
}

async fn not_taken(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    shared.counters.refused(&Refusal::Unknown(answer::NOT_TAKEN.to_owned()));
    answer::not_taken(form(&headers).unwrap_or(Form::Protobuf))
}

async fn not_exported(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !grpc::is_grpc(&headers) {
        return shared.no_call();
    }
    shared.counters.refused(&Refusal::Unknown(answer::NOT_TAKEN.to_owned()));
    grpc::refused(grpc::Code::Unimplemented, answer::NOT_TAKEN)
}

/// How the message is written, as its content type says.
fn form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let given = body::text(headers, &header::CONTENT_TYPE)?;
    let media = given.split(';').next().unwrap_or_default().trim();
    match media.to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(Form::Protobuf),
        "application/json" => Ok(Form::Json),
        _ => Err(Refusal::Unknown(format!(
            "content type {media:?} is neither application/x-protobuf nor application/json"
        ))),
    }
}

impl Shared {
    /// A request over HTTP.
    async fn receive(
        &self,
        sender: &str,
        packed: Packed,
        request: Request,
    ) -> Result<Tally, Refusal> {
        let (body, _room) = body::receive(&self.pusher, request).await?;
        self.counters.received(body.len());
        self.push(sender, packed, body).await
    }

    /// A call of gRPC.
    async fn call(
        &self,
        sender: &str,
        compression: Compression,
        request: Request,
    ) -> Result<Tally, Refusal> {
        let (body, _room) = body::receive(&self.pusher, request).await?;
        self.counters.received(body.len());
        let is_packed = grpc::unframe(&body).map_err(Refusal::Unframed)?;
        if is_packed && compression == Compression::Identity {
            let why = "a compressed message without grpc-encoding".to_owned();
            return Err(Refusal::Unframed(why));
        }
        let compression = if is_packed { compression } else { Compression::Identity };
        let packed = Packed { form: Form::Protobuf, compression };
        self.push(sender, packed, body.slice(grpc::FRAME_BYTES..)).await
    }

    async fn push(&self, sender: &str, packed: Packed, body: Bytes) -> Result<Tally, Refusal> {
        let (options, deltas) = (Arc::clone(&self.options), self.deltas.clone());
        let walk = move |source: &Source| {
            let bytes_max = match packed.form {
                Form::Protobuf => MESSAGE_BYTES_MAX,
                Form::Json => JSON_BYTES_MAX,
            };
            let message = packed.compression.decompress(&body, bytes_max)?;
            message::take(source, packed.form, &message, &options, deltas.as_deref())
        };
        self.pusher.push(Way::Otlp, sender, walk).await
    }

    /// What is told who asks for a method of gRPC by HTTP alone.
    fn no_call(&self) -> Response {
        let told = Err(Refusal::Unknown("the content type is not application/grpc".to_owned()));
        self.counters.answered(&told);
        answer::over_http(Form::Protobuf, &told)
    }
}
