//! Every HTTP route against every kind of caller, compared with the table that is meant.
//!
//! A new route fails this test until its line is here: that is the point. An agent's certificate is
//! not a column: the HTTP listener does not ask for one, which `http::serve`'s tests show over TLS.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use stoa_collector::clock::Clock;
use stoa_collector::config::{Config, QueryConfig, StorageConfig};
use stoa_collector::http::access::{PeerAddress, REMOTE_USER};
use stoa_collector::http::admin::{self, Admin};
use stoa_collector::http::front::{self, FrontFacts};
use stoa_collector::http::handoff;
use stoa_collector::http::health::{self, Ready};
use stoa_collector::http::import::{self, Importer};
use stoa_collector::http::metrics;
use stoa_collector::http::otlp::{self, Otlp};
use stoa_collector::http::prometheus::{self, Attendant, Notice, Prometheus, Surroundings};
use stoa_collector::http::remote_write::{self, RemoteWrite};
use stoa_collector::http::storage::{self, StorageAdmin};
use stoa_collector::http::{Access, AccessConfig, Routes, Scope};
use stoa_collector::inventory::Inventories;
use stoa_collector::members::Members;
use stoa_collector::push::Pusher;
use stoa_collector::store::Store;
use stoa_model::{Family, Labels};
use stoa_wal::disk::SimDisk;
use tower::ServiceExt as _;

const NOW: i64 = 1_800_000_000_000;

/// Method, path, declared scope: on loopback; then elsewhere with nothing, a read, write and admin
/// token, and a trusted proxy's user.
const DOORS: &str = "\
GET / read: in; 401 in in in in
GET /-/healthy open: in; in in in in in
GET /-/ready open: in; in in in in in
POST /api/v1/admin/tsdb/clean_tombstones admin: in; 401 403 403 in 403
PUT /api/v1/admin/tsdb/clean_tombstones admin: in; 401 403 403 in 403
POST /api/v1/admin/tsdb/delete_series admin: in; 401 403 403 in 403
PUT /api/v1/admin/tsdb/delete_series admin: in; 401 403 403 in 403
POST /api/v1/admin/tsdb/snapshot admin: in; 401 403 403 in 403
PUT /api/v1/admin/tsdb/snapshot admin: in; 401 403 403 in 403
GET /api/v1/alertmanagers read: in; 401 in in in in
GET /api/v1/alerts read: in; 401 in in in in
GET /api/v1/features read: in; 401 in in in in
GET /api/v1/format_query read: in; 401 in in in in
POST /api/v1/format_query read: in; 401 in in in in
POST /api/v1/import/prometheus write: in; 401 403 in in 403
GET /api/v1/label/{name}/values read: in; 401 in in in in
GET /api/v1/labels read: in; 401 in in in in
POST /api/v1/labels read: in; 401 in in in in
GET /api/v1/metadata read: in; 401 in in in in
GET /api/v1/notifications read: in; 401 in in in in
POST /api/v1/otlp/v1/metrics write: in; 401 403 in in 403
GET /api/v1/parse_query read: in; 401 in in in in
POST /api/v1/parse_query read: in; 401 in in in in
GET /api/v1/query read: in; 401 in in in in
POST /api/v1/query read: in; 401 in in in in
GET /api/v1/query_exemplars read: in; 401 in in in in
POST /api/v1/query_exemplars read: in; 401 in in in in
GET /api/v1/query_range read: in; 401 in in in in
POST /api/v1/query_range read: in; 401 in in in in
POST /api/v1/read read: in; 401 in in in in
GET /api/v1/rules read: in; 401 in in in in
GET /api/v1/scrape_pools read: in; 401 in in in in
GET /api/v1/scrape_pools/config read: in; 401 in in in in
GET /api/v1/series read: in; 401 in in in in
POST /api/v1/series read: in; 401 in in in in
GET /api/v1/status/active_queries read: in; 401 in in in in
GET /api/v1/status/buildinfo read: in; 401 in in in in
GET /api/v1/status/config read: in; 401 in in in in
GET /api/v1/status/flags read: in; 401 in in in in
GET /api/v1/status/runtimeinfo read: in; 401 in in in in
GET /api/v1/status/self_metrics read: in; 401 in in in in
GET /api/v1/status/tsdb read: in; 401 in in in in
GET /api/v1/status/tsdb/blocks read: in; 401 in in in in
GET /api/v1/status/walreplay read: in; 401 in in in in
GET /api/v1/targets read: in; 401 in in in in
GET /api/v1/targets/metadata read: in; 401 in in in in
GET /api/v1/targets/relabel_steps read: in; 401 in in in in
POST /api/v1/write write: in; 401 403 in in 403
GET /federate read: in; 401 in in in in
GET /front.css read: in; 401 in in in in
GET /metrics read: in; 401 in in in in
POST /opentelemetry.proto.collector.logs.v1.LogsService/Export write: in; 401 403 in in 403
POST /opentelemetry.proto.collector.metrics.v1.MetricsService/Export write: in; 401 403 in in 403
POST /opentelemetry.proto.collector.trace.v1.TraceService/Export write: in; 401 403 in in 403
POST /otlp/v1/logs write: in; 401 403 in in 403
GET /ready open: in; in in in in in
GET /stoa/api/v1/explain read: in; 401 in in in in
POST /stoa/api/v1/explain read: in; 401 in in in in
GET /stoa/api/v1/handoff read: in; 401 in in in in
GET /stoa/api/v1/hosts admin: in; 401 403 403 in 403
POST /stoa/api/v1/hosts/{name}/revoke admin: in; 401 403 403 in 403
POST /stoa/api/v1/hosts/{name}/unlock admin: in; 401 403 403 in 403
GET /stoa/api/v1/summary admin: in; 401 403 403 in 403
GET /stoa/api/v1/tokens admin: in; 401 403 403 in 403
POST /stoa/api/v1/tokens admin: in; 401 403 403 in 403
DELETE /stoa/api/v1/tokens/{id} admin: in; 401 403 403 in 403
POST /v1/logs write: in; 401 403 in in 403
POST /v1/metrics write: in; 401 403 in in 403
POST /v1/traces write: in; 401 403 in in 403
";

struct Around;

impl Surroundings for Around {
    fn attendants(&self) -> Vec<Attendant> {
        Vec::new()
    }

    fn notices(&self) -> Vec<Notice> {
        Vec::new()
    }

    fn families(&self) -> Vec<Family> {
        Vec::new()
    }
}

/// All that the collector serves.
fn table(members: &Arc<Members>) -> Routes {
    let inventories = Arc::new(Inventories::open(members.state(), |_| true).unwrap());
    let admin = Admin { members: Arc::clone(members), inventories, clock: Arc::new(|| NOW) };
    let clock: Clock = Arc::new(|| NOW);
    let storage = StorageConfig {
        retention: Duration::from_secs(86_400),
        retention_1m: Duration::ZERO,
        retention_1h: Duration::ZERO,
        out_of_order: Duration::from_secs(3600),
        free_bytes_min: 0,
        series_max: 10,
        ..Config::defaults().unwrap().storage
    };
    let disk = Arc::new(SimDisk::new(1));
    let opened = Store::open(disk, Path::new("/data"), &storage, Arc::clone(&clock));
    let (store, _recovery) = opened.unwrap();
    let query = QueryConfig {
        timeout: Duration::from_secs(30),
        samples_max: 1000,
        series_max: 1000,
        concurrency_max: 2,
        ..Config::defaults().unwrap().query
    };
    let doubt = Arc::new(|| false);
    let pusher = Pusher::new(store.clone(), 10, Arc::clone(&clock), doubt);
    let remote_write = RemoteWrite::over(pusher.clone());
    let otlp = Otlp::new(pusher, &Config::defaults().unwrap().otlp);
    let prometheus = Prometheus::new(store.clone(), &query, Arc::clone(&clock));
    front::routes(Arc::new(FrontFacts::default))
        .merge(health::routes(Ready::default(), Arc::new(|| None)))
        .merge(admin::routes(admin))
        .merge(storage::routes(StorageAdmin::new(store.clone(), Arc::clone(&clock))))
        .merge(import::routes(Importer::new(store, clock)))
        .merge(prometheus::routes(prometheus.clone()))
        .merge(prometheus::around_routes(prometheus.clone(), Arc::new(Around)))
        .merge(prometheus::outward_routes(prometheus, Labels::empty()))
        .merge(prometheus::settings_routes(&Config::defaults().unwrap()))
        .merge(remote_write::routes(remote_write))
        .merge(otlp::routes(otlp))
        .merge(metrics::routes(Arc::new(Vec::new)))
        .merge(handoff::routes(Arc::new(Vec::new)))
}

async fn knock(router: &Router, method: &Method, path: &str, headers: &HeaderMap) -> &'static str {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    let path: Vec<&str> = parts.collect();
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.join("/").parse().unwrap();
    *request.headers_mut() = headers.clone();
    request.headers_mut().insert(header::HOST, "localhost".parse().unwrap());
    let from = if headers.contains_key(REMOTE_USER) { 9 } else { 77 };
    request.extensions_mut().insert(PeerAddress(([192, 168, 1, from], 5555).into()));
    match router.clone().oneshot(request).await.unwrap().status() {
        StatusCode::UNAUTHORIZED => "401",
        StatusCode::FORBIDDEN => "403",
        _ => "in",
    }
}

fn headers(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().unwrap())])
}

#[tokio::test]
async fn every_route_against_every_caller() {
    let dir = tempfile::tempdir().unwrap();
    let members = Members::open(dir.path(), NOW).unwrap();
    let loopback = table(&members).into_router((), Access::open());
    let config = AccessConfig {
        proxies: vec!["192.168.1.9".parse().unwrap()],
        ..AccessConfig::on("192.168.1.5:7480".parse().unwrap())
    };
    let checked = Arc::clone(&members);
    let access = Access::new(config, Box::new(move |secret| checked.principal(secret, NOW)));
    let remote = table(&members).into_router((), access);

    let mut callers = vec![HeaderMap::new()];
    for scope in [Scope::Read, Scope::Write, Scope::Admin] {
        let (token, _) = members.create_api_token(scope, "", None, NOW).unwrap();
        callers.push(headers(header::AUTHORIZATION, &format!("Bearer {token}")));
    }
    callers.push(headers(REMOTE_USER, "ann"));

    let mut found = String::new();
    for line in table(&members).list() {
        let (method, path) = (&line.method, line.path.as_str());
        let local = knock(&loopback, method, path, &HeaderMap::new()).await;
        write!(found, "{method} {path} {}: {local};", line.scope).unwrap();
        for headers in &callers {
            write!(found, " {}", knock(&remote, method, path, headers).await).unwrap();
        }
        found.push('\n');
    }
    assert_eq!(found, DOORS, "found:\n{found}");
}
