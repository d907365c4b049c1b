//! The collector's own API for people who run it: tokens, hosts, a summary.
//!
//! JSON in, JSON out, below `/stoa/api/v1/`; every route asks for the admin scope. An error is
//! `{"status":"error","errorType":…,"error":<one sentence>}`, as Prometheus writes them; success is
//! the document itself. A token's text is in the answer that made it and never again.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stoa_model::{Hex, HostId, TimestampMs};

use super::access::Principal;
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::hosts::Host;
use crate::inventory::Inventories;
use crate::members::{MemberCounts, Members, MembersError};
use crate::tokens::JOIN_TTL_MS;

/// What the routes need.
#[derive(Clone)]
pub struct Admin {
    /// Tokens and hosts.
    pub members: Arc<Members>,
    /// What hosts are made of.
    pub inventories: Arc<Inventories>,
    /// The time.
    pub clock: Clock,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// The routes.
pub fn routes(admin: Admin) -> Routes {
    Routes::new()
        .get("/stoa/api/v1/summary", Scope::Admin, summary)
        .get("/stoa/api/v1/tokens", Scope::Admin, list_tokens)
        .post("/stoa/api/v1/tokens", Scope::Admin, create_token)
        .delete("/stoa/api/v1/tokens/{id}", Scope::Admin, revoke_token)
        .get("/stoa/api/v1/hosts", Scope::Admin, list_hosts)
        .post("/stoa/api/v1/hosts/{name}/revoke", Scope::Admin, revoke_host)
        .post("/stoa/api/v1/hosts/{name}/unlock", Scope::Admin, unlock_host)
        .with_state(admin)
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum TokenAsk {
    /// One that lets a host join.
    Join {
        /// The one name it is for; any free name when absent.
        host: Option<String>,
        /// How long it is good, in seconds; an hour when absent.
        ttl_s: Option<u32>,
    },
    /// One for the HTTP interface.
    Api {
        /// What it may do: `read`, `write`, `admin`.
        scope: Scope,
        /// What it is for.
        remark: Option<String>,
        /// How long it is good, in seconds; for ever when absent.
        ttl_s: Option<u32>,
    },
}

/// A token just made: the only time its text is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMade {
    /// The token.
    pub token: String,
    /// Its public half: how to list and revoke it.
    pub id: String,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: Option<TimestampMs>,
}

/// A token as listed; without its secret, which is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLine {
    /// Its public half.
    pub id: String,
    /// `join` or `api`.
    pub kind: String,
    /// What an API token may do.
    pub scope: Option<Scope>,
    /// The host a join token is bound to.
    pub host: Option<String>,
    /// What an API token is for.
    pub remark: Option<String>,
    /// When it was made.
    pub created_ms: TimestampMs,
    /// When it ends.
    pub expires_ms: Option<TimestampMs>,
    /// The host that joined with it.
    pub used_by: Option<String>,
}

/// A host as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLine {
    /// Its name.
    pub name: String,
    /// Its certificates and where it stands.
    #[serde(flatten)]
    pub host: Host,
}

/// What an admin sees first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The collector's version.
    pub version: &'static str,
    /// SHA-256 of the CA's certificate, hex.
    pub ca_sha256: String,
    /// Hosts by where they stand.
    pub hosts: HostCounts,
    /// What happened since the start.
    pub counts: MemberCounts,
    /// Where a damaged state database was moved at this start.
    pub state_damaged: Option<String>,
}

/// How many hosts stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostCounts {
    /// Members.
    pub active: usize,
    /// Fenced.
    pub locked: usize,
    /// No members any more.
    pub revoked: usize,
}

/// Says of hosts how many stand where.
#[must_use]
pub fn count_hosts(hosts: &[(String, Host)]) -> HostCounts {
    use crate::hosts::Standing::{Active, Locked, Revoked};
    let mut counts = HostCounts::default();
    for (_name, host) in hosts {
        match host.standing {
            Active => counts.active += 1,
            Locked { .. } => counts.locked += 1,
            Revoked { .. } => counts.revoked += 1,
        }
    }
    counts
}

async fn summary(State(admin): State<Admin>) -> Result<Answer, Failure> {
    let members = Arc::clone(&admin.members);
    let hosts = blocking(move || Ok(members.hosts())).await?;
    let damaged = admin.members.damage();
    answer(&Summary {
        version: env!("CARGO_PKG_VERSION"),
        ca_sha256: Hex(&admin.members.ca().sha256()).to_string(),
        hosts: count_hosts(&hosts),
        counts: admin.members.counts(),
        state_damaged: damaged.map(|damage| damage.moved_to.display().to_string()),
    })
}

async fn list_tokens(State(admin): State<Admin>) -> Result<Answer, Failure> {
    let members = Arc::clone(&admin.members);
    let (join, api) = blocking(move || Ok((members.join_tokens(), members.api_tokens()))).await?;
    let join = join.into_iter().map(|(id, record)| TokenLine {
        id,
        kind: "join".to_owned(),
        scope: None,
        host: record.host,
        remark: None,
        created_ms: record.created_ms,
        expires_ms: Some(record.expires_ms),
        used_by: record.used.map(|used| used.host),
    });
    let api = api.into_iter().map(|(id, record)| TokenLine {
        id,
        kind: "api".to_owned(),
        scope: Some(record.scope),
        host: None,
        remark: Some(record.remark),
        created_ms: record.created_ms,
        expires_ms: record.expires_ms,
        used_by: None,
    });
    let mut lines: Vec<TokenLine> = join.chain(api).collect();
    lines.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
    answer(&lines)
}

async fn create_token(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    ask: Result<Json<TokenAsk>, JsonRejection>,
) -> Result<Answer, Failure> {
    let Json(ask) = ask.map_err(|rejection| Failure::bad(rejection.body_text()))?;
    let now_ms = (admin.clock)();
    let millis = |seconds: u32| TimestampMs::from(seconds) * 1000;
    let members = Arc::clone(&admin.members);
    let made = match ask {
        TokenAsk::Join { host, ttl_s } => {
            let host = host.map(|name| HostId::parse(&name)).transpose();
            let host = host.map_err(|error| Failure::bad(error.to_string()))?;
            let ttl_ms = ttl_s.map_or(JOIN_TTL_MS, millis);
            let made =
                blocking(move || members.create_join_token(host.as_ref(), ttl_ms, now_ms)).await?;
            let (token, record) = made;
            let expires_ms = Some(record.expires_ms);
            TokenMade { token: token.to_string(), id: token.id, expires_ms }
        }
        TokenAsk::Api { scope, remark, ttl_s } => {
            let (ttl_ms, remark) = (ttl_s.map(millis), remark.unwrap_or_default());
            let made =
                blocking(move || members.create_api_token(scope, &remark, ttl_ms, now_ms)).await?;
            let (token, record) = made;
            TokenMade { token: token.to_string(), id: token.id, expires_ms: record.expires_ms }
        }
    };
    tracing::info!(by = principal.name, id = made.id, "made a token");
    answer(&made)
}

async fn revoke_token(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Answer, Failure> {
    let (members, token) = (Arc::clone(&admin.members), id.clone());
    blocking(move || members.revoke_token(&token)).await?;
    tracing::info!(by = principal.name, id, "revoked a token");
    answer(&json!({ "revoked": id }))
}

async fn list_hosts(State(admin): State<Admin>) -> Result<Answer, Failure> {
    let members = Arc::clone(&admin.members);
    let hosts = blocking(move || Ok(members.hosts())).await?;
    let lines: Vec<HostLine> =
        hosts.into_iter().map(|(name, host)| HostLine { name, host }).collect();
    answer(&lines)
}

async fn revoke_host(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Answer, Failure> {
    let (host, now_ms) = (name.clone(), (admin.clock)());
    blocking(move || {
        admin.members.revoke_host(&host, now_ms)?;
        // Its name is free from now on, for another machine.
        if let Err(error) = admin.inventories.forget(&host) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, host, "cannot remove a host's inventory; the next start does");
        }
        Ok(())
    })
    .await?;
    tracing::warn!(by = principal.name, host = name, "revoked a host");
    answer(&json!({ "revoked": name }))
}

async fn unlock_host(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Answer, Failure> {
    let (members, host) = (Arc::clone(&admin.members), name.clone());
    blocking(move || members.unlock_host(&host)).await?;
    tracing::warn!(by = principal.name, host = name, "unlocked a host");
    answer(&json!({ "unlocked": name }))
}

/// A document that no cache may keep: it may hold a token.
pub(super) type Answer = ([(HeaderName, &'static str); 1], Json<serde_json::Value>);

pub(super) fn answer(document: &impl Serialize) -> Result<Answer, Failure> {
    let value = serde_json::to_value(document).map_err(|error| Failure {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        kind: "internal",
        sentence: error.to_string(),
    })?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(value)))
}

/// Runs what may wait for the disk where that holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MembersError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_panicked) => Err(Failure {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "internal",
            sentence: "the request failed inside the collector; its log says more".to_owned(),
        }),
    }
}

/// An error as told to the caller.
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    sentence: String,
}

impl Failure {
    pub(super) fn bad(sentence: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad_data", sentence }
    }

    pub(super) fn missing(sentence: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "not_found", sentence }
    }

    pub(super) fn internal(sentence: String) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "internal", sentence }
    }
}

impl From<MembersError> for Failure {
    fn from(error: MembersError) -> Self {
        let (status, kind) = match &error {
            MembersError::Missing { .. } => (StatusCode::NOT_FOUND, "not_found"),
            MembersError::Value(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            MembersError::Full { .. } => (StatusCode::CONFLICT, "full"),
            _ => {
                tracing::error!(error = &error as &dyn std::error::Error, "keep the books");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        Self { status, kind, sentence: error.to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.sentence });
        (self.status, Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests;
