//! Prometheus's admin API of the store: deletion, what makes it final, and copies for backups.
//!
//! `POST` or `PUT`, scope admin. A deletion is final once its tombstones are cleaned or the blocks
//! are merged; until then the samples are on the disk and in no answer. A snapshot is a directory
//! that opens as a store does: `snapshots/<name>` below the store's own. One of these at a time;
//! who comes meanwhile is told to come again. What was begun is finished though its asker goes away.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use stoa_daemon::error_chain;
use stoa_tsdb::DbError;
use tokio::sync::Semaphore;

use super::prometheus::{ApiError, ErrorKind, Params, Success, TIME_MAX_MS, TIME_MIN_MS, rfc3339};
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::store::Store;

/// What the routes need.
#[derive(Clone)]
pub struct StorageAdmin(Arc<Shared>);

struct Shared {
    store: Store,
    clock: Clock,
    turn: Arc<Semaphore>,
}

impl std::fmt::Debug for StorageAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageAdmin").finish_non_exhaustive()
    }
}

impl StorageAdmin {
    /// Over a store.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self(Arc::new(Shared { store, clock, turn: Arc::new(Semaphore::new(1)) }))
    }

    /// Runs `work` on a thread that may block, alone.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, i64) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = "the store is being deleted from, cleaned or copied; try again later";
        let Ok(turn) = Arc::clone(&self.0.turn).try_acquire_owned() else {
            return Err(ApiError::new(ErrorKind::Unavailable, busy));
        };
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&shared.store, (shared.clock)());
            drop(turn);
            done
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                let kind = match error {
                    DbError::DiskFull(_) | DbError::NoRoom(_) => ErrorKind::Unavailable,
                    _ => ErrorKind::Internal,
                };
                Err(ApiError::new(kind, error_chain(&error)))
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(ApiError::new(ErrorKind::Unavailable, "shutting down")),
        }
    }
}

/// The routes.
pub fn routes(admin: StorageAdmin) -> Routes {
    let asked = [Method::POST, Method::PUT];
    Routes::new()
        .any_of(&asked, "/api/v1/admin/tsdb/delete_series", Scope::Admin, delete_series)
        .any_of(&asked, "/api/v1/admin/tsdb/clean_tombstones", Scope::Admin, clean_tombstones)
        .any_of(&asked, "/api/v1/admin/tsdb/snapshot", Scope::Admin, snapshot)
        .with_state(admin)
}

/// Deletes the samples from `start` to `end` of the series that match any `match[]`; 204.
async fn delete_series(
    State(admin): State<StorageAdmin>,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = params.selectors().map_err(|reason| ApiError::invalid("match[]", reason))?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let start = params.time_or("start", TIME_MIN_MS)?;
    let end = params.time_or("end", TIME_MAX_MS)?;
    if end < start {
        return Err(ApiError::invalid("end", "end timestamp must not be before start time"));
    }
    admin
        .run(move |store, now_ms| {
            for matchers in &selectors {
                let done = store.delete_series(matchers, start, end, now_ms)?;
                let what: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                let what = format!("{{{}}}", what.join(","));
                let (from, to) = (shown(start), shown(end));
                // A series counts once for each block it is in.
                let (blocks, series_in_blocks) = (done.blocks, done.series);
                tracing::info!(what, from, to, blocks, series_in_blocks, "deleted samples");
            }
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A time of a request; its least and its greatest are none anybody wrote.
fn shown(t: i64) -> String {
    match t {
        TIME_MIN_MS => "the first".to_owned(),
        TIME_MAX_MS => "the last".to_owned(),
        t => rfc3339(t),
    }
}

/// Takes what was deleted off the disk; 204, or 503 when some blocks were left as they are.
async fn clean_tombstones(State(admin): State<StorageAdmin>) -> Result<Response, ApiError> {
    let done = admin.run(Store::clean_tombstones).await?;
    if done.skipped > 0 {
        let left = format!(
            "{} blocks with deleted samples were left as they are, for want of room on the disk, \
             damage, or a merge under way; try again later",
            done.skipped
        );
        return Err(ApiError::new(ErrorKind::Unavailable, left));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Copies the store, head included; the name of the directory. `skip_head=true` is refused: what the
/// head holds costs nothing more.
async fn snapshot(State(admin): State<StorageAdmin>, params: Params) -> Result<Success, ApiError> {
    if params.get("skip_head").is_some_and(|skip| skip != "false") {
        return Err(ApiError::invalid("skip_head", "a snapshot always has the head"));
    }
    let name = admin
        .run(|store, now_ms| {
            let stamp: String =
                rfc3339(now_ms).chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
            let name = format!("{stamp}Z-{now_ms:016x}");
            store.snapshot(&name).map(|()| name)
        })
        .await?;
    Ok(Success::data(|body| {
        body.extend_from_slice(format!("{{\"name\":\"{name}\"}}").as_bytes());
    }))
}
