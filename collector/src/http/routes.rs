//! The table of routes: method, path, scope, handler, and the way from it to a router.
//!
//! Every route declares its [`Scope`] where it is written; there is no default and no way round it.
//! The table can be listed ([`Routes::list`]), so a test can knock at every door.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use tower_http::compression::predicate::{DefaultPredicate, Predicate as _, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tracing::Instrument as _;

use super::access::{self, Access, Gate};
use super::grpc;

/// The largest request body a route takes unless it says otherwise, in bytes.
///
/// A PromQL query sent as a form is a few kilobytes; a route that takes data in bulk states its own
/// bound with [`Routes::body_bytes_max`].
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The smallest answer that is compressed, in bytes; a smaller one fits a packet as it is.
const COMPRESSED_BYTES_MIN: u16 = 1024;

/// The body of every 404, as Go's `http.NotFound` writes it; Grafana's probes compare it.
pub const NOT_FOUND: &str = "404 page not found";

/// What a caller must hold to use a route. A ladder: write includes read, admin includes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing: liveness and readiness, which tell nothing about what is stored.
    Open,
    /// Reading what is stored: queries, labels, rules, silences, targets.
    Read,
    /// Adding data or silences.
    Write,
    /// Tokens, hosts, orders, deletion.
    Admin,
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scope {given:?} is not one of read, write, admin")]
pub struct ScopeError {
    /// The text as given.
    pub given: String,
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// Parses a scope a credential can hold: `read`, `write` or `admin` (never `open`).
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(ScopeError { given: text.chars().take(32).collect() }),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The method.
    pub method: Method,
    /// The path as axum matches it, e.g. `/api/v1/label/{name}/values`.
    pub path: String,
    /// Who may call it.
    pub scope: Scope,
}

/// The routes of one part of the server, over its state `S`.
///
/// Parts build their own table over their own state, close it with [`Routes::with_state`] and are
/// joined by [`Routes::merge`]; the whole becomes a router by [`Routes::into_router`].
///
/// ```
/// use stoa_collector::http::{Access, Routes, Scope};
///
/// let table = Routes::new()
///     .get("/api/v1/labels", Scope::Read, async || "[]")
///     .post("/api/v1/write", Scope::Write, async |_body: String| "")
///     .body_bytes_max(32 << 20);
/// assert_eq!(table.list().len(), 2);
/// let router = table.into_router((), Access::open());
/// # let _ = router;
/// ```
#[must_use]
pub struct Routes<S = ()> {
    routes: Vec<Route<S>>,
}

struct Route<S> {
    methods: Vec<Method>,
    path: String,
    scope: Scope,
    body_bytes_max: usize,
    handler: MethodRouter<S>,
}

impl<S> fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.routes.iter().map(|r| (&r.methods, &r.path, r.scope));
        f.debug_list().entries(lines).finish()
    }
}

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Self { routes: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route for GET (and HEAD, which is GET without its body).
    pub fn get<H, T>(self, path: &str, scope: Scope, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.any_of(&[Method::GET], path, scope, handler)
    }

    /// Adds a route for POST.
    pub fn post<H, T>(self, path: &str, scope: Scope, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.any_of(&[Method::POST], path, scope, handler)
    }

    /// Adds a route for DELETE.
    pub fn delete<H, T>(self, path: &str, scope: Scope, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.any_of(&[Method::DELETE], path, scope, handler)
    }

    /// Adds a route for several methods with one handler. A method outside HTTP's standard nine is
    /// left out, in the list as in the router.
    pub fn any_of<H, T>(mut self, methods: &[Method], path: &str, scope: Scope, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let mut known = Vec::new();
        let mut combined: Option<MethodFilter> = None;
        for method in methods {
            if let Ok(filter) = MethodFilter::try_from(method.clone()) {
                combined = Some(combined.map_or(filter, |sum| sum.or(filter)));
                known.push(method.clone());
            }
        }
        if let Some(filter) = combined {
            self.routes.push(Route {
                methods: known,
                path: path.to_owned(),
                scope,
                body_bytes_max: BODY_BYTES_MAX,
                handler: on(filter, handler),
            });
        }
        self
    }

    /// Sets the body bound of the route added last, in bytes; a larger body is answered 413.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        if let Some(route) = self.routes.last_mut() {
            route.body_bytes_max = bytes;
        }
        self
    }

    /// Joins two tables. Two routes of one method and path are a mistake that
    /// [`Routes::into_router`] panics at, before anything is served.
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// Closes the table over its state, so that it can be merged with tables over other states.
    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        let routes = self.routes.into_iter().map(|route| Route {
            methods: route.methods,
            path: route.path,
            scope: route.scope,
            body_bytes_max: route.body_bytes_max,
            handler: route.handler.with_state(state.clone()),
        });
        Routes { routes: routes.collect() }
    }

    /// Every route, one line per method, sorted by path and method.
    #[must_use]
    pub fn list(&self) -> Vec<RouteInfo> {
        let mut lines = Vec::new();
        for route in &self.routes {
            for method in &route.methods {
                lines.push(RouteInfo {
                    method: method.clone(),
                    path: route.path.clone(),
                    scope: route.scope,
                });
            }
        }
        lines.sort_by(|a, b| (&a.path, a.method.as_str()).cmp(&(&b.path, b.method.as_str())));
        lines
    }

    /// The router: each handler behind the check of its scope, the whole behind the checks of host
    /// and origin, everything else a 404 whose body is exactly [`NOT_FOUND`].
    ///
    /// # Panics
    /// When two routes claim one method and path.
    pub fn into_router(self, state: S, access: Arc<Access>) -> Router {
        let mut router = Router::new();
        for route in self.routes {
            let gate = Gate { access: Arc::clone(&access), scope: route.scope };
            let handler = route
                .handler
                .route_layer(DefaultBodyLimit::max(route.body_bytes_max))
                .route_layer(from_fn_with_state(gate, access::admit));
            router = router.route(&route.path, handler);
        }
        let large = SizeAbove::new(COMPRESSED_BYTES_MIN).and(DefaultPredicate::new());
        // gzip is what Grafana asks for; numbers in JSON shrink tenfold at its fastest.
        let compression =
            CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(large);
        router
            .fallback(not_found)
            .layer(compression)
            .layer(from_fn_with_state(access, access::guard))
            .layer(from_fn(grpc::translate))
            .layer(from_fn(traced))
            .with_state(state)
    }
}

/// A span per request, named by its route and never by its path, which may hold anything.
async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let method = request.method().as_str();
    let span = tracing::debug_span!("http", method, route, status = tracing::field::Empty);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}

async fn not_found() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::NOT_FOUND, headers, NOT_FOUND).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::body::{Body, to_bytes};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_ask() {
        let large = "stoa ".repeat(2000);
        let text = large.clone();
        let router = Routes::new()
            .get("/large", Scope::Open, async || text)
            .get("/small", Scope::Open, async || "stoa ".repeat(100))
            .into_router((), Access::open());
        let ask = async |path: &str, accepts: &str| {
            let request = http::Request::get(path)
                .header(header::HOST, "localhost")
                .header(header::ACCEPT_ENCODING, accepts)
                .body(Body::empty());
            let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
            let encoding = answer.headers().get(header::CONTENT_ENCODING).cloned();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            (encoding.map(|e| e.to_str().unwrap().to_owned()), body)
        };
        for accepts in ["gzip", "deflate, gzip;q=1.0, *;q=0.5"] {
            let (encoding, body) = ask("/large", accepts).await;
            assert_eq!(encoding.as_deref(), Some("gzip"));
            assert!(body.len() < 1000, "{} bytes", body.len());
            let mut read = String::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut read).unwrap();
            assert_eq!(read, large);
        }
        for (path, accepts) in [("/large", "identity"), ("/large", "br"), ("/small", "gzip")] {
            let (encoding, body) = ask(path, accepts).await;
            assert!(encoding.is_none() && body.starts_with(b"stoa "), "{path} {accepts}");
        }
    }
}
