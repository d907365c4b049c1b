//! What a host is made of, and what has changed: for the command line, scripts and people.
//!
//! JSON below `/stoa/api/v1/hosts/NAME/inventory`, for the read scope. Times are milliseconds since
//! the Unix epoch. Errors are worded as [`super::admin`]'s.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use stoa_model::TimestampMs;

use super::admin::{Answer, Failure, answer};
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::inventory::Inventories;
use crate::state::StateError;

/// What differs within so long is told unless asked otherwise, milliseconds: a day.
const SINCE_MS: u64 = 86_400_000;

/// What the routes need.
#[derive(Clone)]
pub struct InventoryApi {
    /// The documents.
    pub inventories: Arc<Inventories>,
    /// Whether a host of that name has joined.
    pub has_joined: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// The time.
    pub clock: Clock,
}

impl std::fmt::Debug for InventoryApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InventoryApi").finish_non_exhaustive()
    }
}

/// The routes.
pub fn routes(api: InventoryApi) -> Routes {
    Routes::new()
        .get("/stoa/api/v1/hosts/{name}/inventory", Scope::Read, document)
        .get("/stoa/api/v1/hosts/{name}/inventory/changes", Scope::Read, changes)
        .with_state(api)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentAsk {
    /// What was so then; now when absent.
    at_ms: Option<TimestampMs>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesAsk {
    from_ms: Option<TimestampMs>,
    /// Instead of `from_ms`: so long before `to_ms`.
    since_ms: Option<u64>,
    /// Now when absent.
    to_ms: Option<TimestampMs>,
    /// The end compared with the beginning, in one step.
    #[serde(default)]
    net: bool,
}

async fn document(
    State(api): State<InventoryApi>,
    Path(name): Path<String>,
    ask: Result<Query<DocumentAsk>, QueryRejection>,
) -> Result<Answer, Failure> {
    let Query(ask) = ask.map_err(|rejection| Failure::bad(rejection.body_text()))?;
    let host = name.clone();
    let inventories = Arc::clone(&api.inventories);
    let found = blocking(move || inventories.document(&host, ask.at_ms)).await?;
    match (found, ask.at_ms) {
        (Some(dated), _) => answer(&dated),
        (None, Some(_)) if (api.has_joined)(&name) => {
            let name = short(&name);
            Err(Failure::missing(format!("the inventory of {name} at that time is not kept")))
        }
        (None, _) => Err(untold(&api, &name)),
    }
}

async fn changes(
    State(api): State<InventoryApi>,
    Path(name): Path<String>,
    ask: Result<Query<ChangesAsk>, QueryRejection>,
) -> Result<Answer, Failure> {
    let Query(ask) = ask.map_err(|rejection| Failure::bad(rejection.body_text()))?;
    let to_ms = ask.to_ms.unwrap_or_else(|| (api.clock)());
    let from_ms = match (ask.from_ms, ask.since_ms) {
        (Some(_), Some(_)) => {
            return Err(Failure::bad("give from_ms or since_ms, not both".to_owned()));
        }
        (Some(from_ms), None) => from_ms,
        (None, since_ms) => to_ms.saturating_sub_unsigned(since_ms.unwrap_or(SINCE_MS)),
    };
    if from_ms > to_ms {
        return Err(Failure::bad("from_ms is after to_ms".to_owned()));
    }
    let host = name.clone();
    let inventories = Arc::clone(&api.inventories);
    let told = blocking(move || inventories.changes(&host, from_ms, to_ms, ask.net)).await?;
    match told {
        Some(told) => answer(&told),
        None => Err(untold(&api, &name)),
    }
}

/// Why there is nothing of a host.
fn untold(api: &InventoryApi, name: &str) -> Failure {
    let is_known = (api.has_joined)(name);
    let name = short(name);
    Failure::missing(match is_known {
        true => format!("there is no inventory of {name}: its agent has told none yet"),
        false => {
            format!("no host called {name} has joined; `stoa host list` lists those that have")
        }
    })
}

fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "read an inventory");
            Failure::internal(error.to_string())
        }),
        Err(_panicked) => Err(Failure::internal(
            "the request failed inside the collector; its log says more".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use serde_json::Value;
    use stoa_model::inventory::Value as Field;
    use stoa_model::{HostId, Inventory};
    use stoa_proto::message::{Digest, InventoryTold};
    use tower::ServiceExt as _;

    use super::*;
    use crate::http::Access;
    use crate::state;

    const NOW: TimestampMs = 1_800_000_000_000;
    const DAY: TimestampMs = 86_400_000;

    fn api(dir: &std::path::Path) -> Router {
        let (state, _) = state::State::open(dir, NOW).unwrap();
        let inventories = Inventories::open(Arc::new(state), |_| true).unwrap();
        let host = HostId::parse("pve1").unwrap();
        for (i, at_ms) in [NOW - 3 * DAY, NOW - 2 * DAY, NOW - 1000].into_iter().enumerate() {
            let mut document = Inventory::new();
            let version = format!("6.{i}");
            document.put("kernel", "", [("release".to_owned(), Field::from(version.as_str()))]);
            let told = InventoryTold { session: 1, digest: Digest(version.into()), document };
            let steady_ms = i64::try_from(i).unwrap() * 60_000;
            inventories.keep(&host, &told, at_ms, steady_ms).unwrap();
        }
        let api = InventoryApi {
            inventories: Arc::new(inventories),
            has_joined: Arc::new(|name| name != "pve3"),
            clock: Arc::new(|| NOW),
        };
        routes(api).into_router((), Access::open())
    }

    async fn ask(router: &Router, path: &str) -> (u16, Value) {
        let request = http::Request::get(format!("/stoa/api/v1/hosts/{path}"))
            .header("host", "localhost")
            .body(Body::empty());
        let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_host_is_shown_as_it_is_and_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let router = api(dir.path());
        let release = |value: &Value| {
            value["sections"]["kernel"]["items"][""]["release"].as_str().map(str::to_owned)
        };
        let (status, now) = ask(&router, "pve1/inventory").await;
        assert_eq!((status, release(&now).as_deref()), (200, Some("6.2")), "{now}");
        assert_eq!((&now["host"], &now["kept"]), (&Value::from("pve1"), &Value::from(3)));
        let then = format!("pve1/inventory?at_ms={}", NOW - DAY);
        assert_eq!(release(&ask(&router, &then).await.1).as_deref(), Some("6.1"));
        let (status, error) = ask(&router, "pve1/inventory?at_ms=5").await;
        assert_eq!((status, &error["errorType"]), (404, &Value::from("not_found")), "{error}");
        for (path, why) in [
            ("pve2/inventory", "there is no inventory of pve2"),
            ("pve2/inventory/changes", "there is no inventory of pve2"),
            ("pve3/inventory?at_ms=5", "no host called pve3 has joined"),
            ("pve3/inventory", "no host called pve3 has joined"),
            ("pve3/inventory/changes", "no host called pve3 has joined"),
        ] {
            let (status, error) = ask(&router, path).await;
            assert_eq!(status, 404);
            assert!(error["error"].as_str().unwrap().starts_with(why), "{error}");
        }
    }

    #[tokio::test]
    async fn what_changed_is_told_from_then_to_then() {
        let dir = tempfile::tempdir().unwrap();
        let router = api(dir.path());
        let steps = async |query: &str| {
            let (status, told) = ask(&router, &format!("pve1/inventory/changes{query}")).await;
            assert_eq!(status, 200, "{query}: {told}");
            let steps = told["steps"].as_array().unwrap().clone();
            let releases = steps.iter().map(|step| {
                let release = &step["changes"][0]["fields"]["release"];
                format!("{}-{}", release["before"], release["after"]).replace('"', "")
            });
            releases.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(steps("").await, "6.1-6.2");
        assert_eq!(steps("?since_ms=999999999999").await, "6.0-6.1 6.1-6.2");
        assert_eq!(steps("?net=true&from_ms=0").await, "6.0-6.2");
        assert_eq!(steps(&format!("?from_ms=0&to_ms={}", NOW - DAY)).await, "6.0-6.1");
        for query in ["?from_ms=1&since_ms=1", "?from_ms=2&to_ms=1", "?from=1", "?to_ms=x"] {
            let (status, error) = ask(&router, &format!("pve1/inventory/changes{query}")).await;
            assert_eq!((status, &error["errorType"]), (400, &Value::from("bad_data")), "{error}");
        }
        assert_eq!(ask(&router, "pve2/inventory/changes").await.0, 404);
    }
}
