//! The Prometheus HTTP API: what Grafana's Prometheus data source and its kin call, with
//! Prometheus's parameters, shapes, error codes and limits.
//!
//! Handlers read parameters ([`Params`]), wait for a turn ([`Gate`]) on a blocking thread, ask the
//! engine or the index, and write JSON straight into bytes; what is short is tried before that, without a
//! change of threads. They know the store only as something to read; nothing here changes anything.
//!
//! Bounds: a form of 1 MiB ([`crate::http::routes::BODY_BYTES_MAX`]), 10,000 parameters, 100
//! selectors; a query's samples, series, points, time and concurrency by
//! [`QueryConfig`].

mod active;
mod around;
mod at_once;
mod beyond;
mod exemplars;
mod explain;
mod federate;
mod gate;
mod in_place;
mod json;
mod layout;
mod outward;
mod params;
mod pools;
mod query;
mod read;
mod reply;
mod reuse;
mod rules;
mod self_metrics;
mod series;
mod settings;
mod stats;
mod status;
mod targets;
mod value;

use std::sync::Arc;

use http::Method;
use stoa_model::TimestampMs;
use stoa_promql::{Engine, Limits};

use self::reuse::Reuse;
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::config::QueryConfig;
use crate::remote::{Elsewhere, ElsewhereFigures};
use crate::store::Store;

pub use active::Asked;
pub use around::{Attendant, Health, Notice, Surroundings, around_routes};
pub use gate::{Gate, GateFigures, Stop};
pub use outward::outward_routes;
pub use params::{
    DurationError, Params, TIME_MAX_MS, TIME_MIN_MS, TimeError, duration, rfc3339, time,
};
pub use reply::{ApiError, ErrorKind, Success, TRUNCATED};
pub use reuse::ReuseFigures;
pub use settings::settings_routes;

/// The API over a store; clones are cheap and all the same.
#[derive(Clone, Debug)]
pub struct Prometheus(Arc<Shared>);

/// What the handlers share.
#[derive(Debug)]
struct Shared {
    store: Store,
    engine: Engine,
    /// For what is answered without a turn.
    quick: Engine,
    gate: Gate,
    /// What is not tried before its turn.
    overran: in_place::Overran,
    reuse: Reuse,
    clock: ClockHandle,
    series_max: usize,
    samples_max: usize,
    bytes_max: usize,
    started_ms: TimestampMs,
    /// Who answers what reaches beyond the store.
    elsewhere: Option<Elsewhere>,
}

/// What answers a question, on a blocking thread, once it is its turn.
type Work = Box<dyn FnOnce(&Stop) -> Result<Success, ApiError> + Send>;

/// A clock that can be printed.
struct ClockHandle(Clock);

impl std::fmt::Debug for ClockHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Prometheus {
    /// The API over a store.
    #[must_use]
    pub fn new(store: Store, query: &QueryConfig, clock: Clock) -> Self {
        Self::with(store, query, clock, None)
    }

    /// The API over a store and an engine that is asked what reaches beyond it.
    #[must_use]
    pub fn with(
        store: Store,
        query: &QueryConfig,
        clock: Clock,
        elsewhere: Option<Elsewhere>,
    ) -> Self {
        let limits = Limits {
            samples_max: query.samples_max,
            bytes_max: usize::try_from(query.bytes_max).unwrap_or(usize::MAX),
            series_max: query.series_max,
            ..Limits::default()
        };
        let engine = Engine::new(limits).with_features(query.features);
        let quick = at_once::engine(limits).with_features(query.features);
        Self(Arc::new(Shared {
            store,
            engine,
            quick,
            gate: Gate::new(query.concurrency_max, query.timeout).logging(query.slow_after),
            overran: in_place::Overran::default(),
            reuse: Reuse::new(query.reuse_bytes_max),
            started_ms: clock(),
            clock: ClockHandle(clock),
            series_max: query.series_max,
            samples_max: query.samples_max,
            bytes_max: limits.bytes_max,
            elsewhere,
        }))
    }

    /// What queries have done since the start.
    #[must_use]
    pub fn figures(&self) -> GateFigures {
        self.0.gate.figures()
    }

    /// What was kept of answers, and used again.
    #[must_use]
    pub fn reuse(&self) -> ReuseFigures {
        self.0.reuse.figures()
    }

    /// What the other engine was asked since the start, if there is one.
    #[must_use]
    pub fn elsewhere(&self) -> Option<ElsewhereFigures> {
        self.0.elsewhere.as_ref().map(Elsewhere::figures)
    }
}

impl Shared {
    fn now_ms(&self) -> TimestampMs {
        (self.clock.0)()
    }
}

/// The API's routes; all of them only read.
pub fn routes(prometheus: Prometheus) -> Routes {
    let asked = [Method::GET, Method::POST];
    let table: Routes<Arc<Shared>> = Routes::new()
        .any_of(&asked, "/api/v1/query", Scope::Read, beyond::query)
        .any_of(&asked, "/api/v1/query_range", Scope::Read, beyond::query_range)
        .any_of(&asked, "/api/v1/format_query", Scope::Read, layout::format_query)
        .any_of(&asked, "/api/v1/parse_query", Scope::Read, layout::parse_query)
        .any_of(&asked, "/api/v1/query_exemplars", Scope::Read, exemplars::query_exemplars)
        .any_of(&asked, "/stoa/api/v1/explain", Scope::Read, explain::explain)
        .any_of(&asked, "/api/v1/series", Scope::Read, beyond::series)
        .any_of(&asked, "/api/v1/labels", Scope::Read, beyond::labels)
        .get("/api/v1/label/{name}/values", Scope::Read, beyond::label_values)
        .get("/api/v1/metadata", Scope::Read, series::metadata)
        .get("/api/v1/rules", Scope::Read, rules::rules)
        .get("/api/v1/alerts", Scope::Read, rules::alerts)
        .get("/api/v1/alertmanagers", Scope::Read, rules::alertmanagers)
        .get("/api/v1/status/buildinfo", Scope::Read, status::buildinfo)
        .get("/api/v1/status/runtimeinfo", Scope::Read, status::runtimeinfo)
        .get("/api/v1/status/tsdb", Scope::Read, status::tsdb)
        .get("/api/v1/status/tsdb/blocks", Scope::Read, status::blocks)
        .get("/api/v1/status/active_queries", Scope::Read, status::active_queries);
    table.with_state(prometheus.0)
}
