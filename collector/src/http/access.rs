//! Who may call what: the check every request passes before a handler sees it.
//!
//! Two questions are asked of every request, known path or not ([`guard`]): is the `Host` it names
//! one of ours (else a foreign page has rebound its own DNS name to this address), and, when the
//! method changes state, does its `Origin` agree (else a foreign page is posting with the reader's
//! browser). A third is asked per route ([`admit`]): does the caller hold the route's scope.
//!
//! On loopback the third question is not asked: whoever can open a socket there is a user of this
//! machine. Anywhere else it needs a token (bearer, or as the password of basic auth), or a
//! `Remote-User` header from a listed proxy. Listing a proxy, or asking for it, closes loopback too,
//! because then "from this machine" no longer means "from a user of this machine".
//!
//! This module knows no clock and no store: whether a secret is good is asked of the closure given
//! to [`Access::new`].

use std::fmt;
use std::iter::Sum;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use super::routes::Scope;
use crate::config::HttpConfig;

pub mod address;
pub mod names;

pub use address::{AddressBlock, AddressBlockError};
pub use names::HostNames;

/// The user an authenticating proxy vouches for (Authelia, Authentik, Traefik forward auth).
pub const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
/// That user's groups, separated by commas.
pub const REMOTE_GROUPS: HeaderName = HeaderName::from_static("remote-groups");

/// The address a request came from; the server puts it into the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Who is calling; in the extensions of every request a handler sees, for audit lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name to show: a token's id, a proxy's user, or `local`.
    pub name: String,
    /// What the caller holds.
    pub scope: Scope,
}

/// Answers whether a secret is a live API token, and whose.
pub type CredentialCheck = Box<dyn Fn(&str) -> Option<Principal> + Send + Sync>;

/// What access is decided from, as meant.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// The address the server listens on.
    pub bind: SocketAddr,
    /// Names this server is called by beyond its addresses (`stoa.lan`), lower case.
    pub names: Vec<String>,
    /// No TLS and no credentials although not on loopback; a warning at every start.
    pub insecure: bool,
    /// Ask for credentials on loopback too.
    pub loopback_credentials: bool,
    /// Where authenticating proxies speak from.
    pub proxies: Vec<AddressBlock>,
    /// What a proxy's user holds unless listed in `proxy_admins`.
    pub proxy_scope: Scope,
    /// Users, or groups written `@group`, that hold admin when a proxy vouches for them.
    pub proxy_admins: Vec<String>,
}

impl AccessConfig {
    /// The default for an address: no extra names, no proxies, not insecure.
    #[must_use]
    pub fn on(bind: SocketAddr) -> Self {
        Self {
            bind,
            names: Vec::new(),
            insecure: false,
            loopback_credentials: false,
            proxies: Vec::new(),
            proxy_scope: Scope::Read,
            proxy_admins: Vec::new(),
        }
    }

    /// What the configuration says.
    #[must_use]
    pub fn from_config(config: &HttpConfig) -> Self {
        Self {
            names: config.host_names.clone(),
            insecure: config.insecure,
            loopback_credentials: config.loopback_credentials,
            proxies: config.trusted_proxies.clone(),
            proxy_scope: config.proxy_scope,
            proxy_admins: config.proxy_admins.clone(),
            ..Self::on(config.listen)
        }
    }

    /// Whether requests must carry a credential.
    #[must_use]
    pub fn needs_credentials(&self) -> bool {
        let user_of_this_machine =
            self.bind.ip().is_loopback() && self.proxies.is_empty() && !self.loopback_credentials;
        !self.insecure && !user_of_this_machine
    }

    /// Whether the listener must speak TLS.
    #[must_use]
    pub fn needs_tls(&self) -> bool {
        !self.insecure && !self.bind.ip().is_loopback()
    }
}

/// How many requests were refused, by reason; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The `Host` is none of ours.
    pub host: u64,
    /// A change of state from a foreign origin.
    pub origin: u64,
    /// No credential, or one that is not good.
    pub credential: u64,
    /// A good credential without the route's scope.
    pub scope: u64,
}

impl Sum for Refusals {
    fn sum<I: Iterator<Item = Self>>(refusals: I) -> Self {
        refusals.fold(Self::default(), |sum, more| Self {
            host: sum.host + more.host,
            origin: sum.origin + more.origin,
            credential: sum.credential + more.credential,
            scope: sum.scope + more.scope,
        })
    }
}

#[derive(Debug, Default)]
struct RefusalCounters {
    host: AtomicU64,
    origin: AtomicU64,
    credential: AtomicU64,
    scope: AtomicU64,
}

/// The rules of one listener.
pub struct Access {
    needs_credentials: bool,
    names: HostNames,
    proxies: Vec<AddressBlock>,
    proxy_scope: Scope,
    proxy_admins: Vec<String>,
    check: CredentialCheck,
    refusals: RefusalCounters,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("needs_credentials", &self.needs_credentials)
            .field("names", &self.names)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// The rules for a listener; `insecure` away from loopback is warned about here, so at every
    /// start.
    #[must_use]
    pub fn new(config: AccessConfig, check: CredentialCheck) -> Arc<Self> {
        if config.insecure && !config.bind.ip().is_loopback() {
            tracing::warn!(
                address = %config.bind,
                "insecure: anyone who reaches this address can read and change everything, \
                 without TLS and without a credential"
            );
        }
        Arc::new(Self {
            needs_credentials: config.needs_credentials(),
            names: HostNames::new(config.bind.ip(), &config.names),
            proxies: config.proxies,
            proxy_scope: config.proxy_scope,
            proxy_admins: config.proxy_admins,
            check,
            refusals: RefusalCounters::default(),
        })
    }

    /// The rules of a loopback listener: no credentials; host and origin are still checked.
    #[must_use]
    pub fn open() -> Arc<Self> {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::new(AccessConfig::on(bind), Box::new(|_| None))
    }

    /// What was refused so far.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals {
            host: self.refusals.host.load(Ordering::Relaxed),
            origin: self.refusals.origin.load(Ordering::Relaxed),
            credential: self.refusals.credential.load(Ordering::Relaxed),
            scope: self.refusals.scope.load(Ordering::Relaxed),
        }
    }

    fn check_host(&self, request: &Request) -> Result<(), Refusal> {
        let Some(authority) = authority_of(request) else {
            return Err(Refusal::HostMissing);
        };
        if self.names.allows(authority) {
            Ok(())
        } else {
            Err(Refusal::Host(authority.chars().take(80).collect()))
        }
    }

    /// What the caller holds, from its proxy or its token.
    fn principal(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Principal, Refusal> {
        if !self.needs_credentials {
            return Ok(Principal { name: "local".to_owned(), scope: Scope::Admin });
        }
        let proxied = peer.is_some_and(|ip| self.proxies.iter().any(|block| block.contains(ip)));
        if proxied && let Some(user) = one(headers, &REMOTE_USER).filter(|user| !user.is_empty()) {
            return Ok(self.proxy_principal(user, one(headers, &REMOTE_GROUPS)));
        }
        let secret = match headers.get(header::AUTHORIZATION) {
            None => return Err(Refusal::CredentialMissing),
            Some(value) => secret_of(value).ok_or(Refusal::CredentialMalformed)?,
        };
        (self.check)(&secret).ok_or(Refusal::CredentialUnknown)
    }

    fn proxy_principal(&self, user: &str, groups: Option<&str>) -> Principal {
        let in_group = |group: &str| {
            let mut given = groups.unwrap_or_default().split(',').map(str::trim);
            !group.is_empty() && given.any(|g| g == group)
        };
        // A user whose name begins with `@` is in no group by that.
        let listed = |entry: &String| match entry.strip_prefix('@') {
            Some(group) => in_group(group),
            None => entry == user,
        };
        let admin = self.proxy_admins.iter().any(listed);
        let scope = if admin { Scope::Admin } else { self.proxy_scope };
        Principal { name: user.chars().take(128).collect(), scope }
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        let counter = match refusal {
            Refusal::HostMissing | Refusal::Host(_) => &self.refusals.host,
            Refusal::Origin => &self.refusals.origin,
            Refusal::CredentialMissing
            | Refusal::CredentialMalformed
            | Refusal::CredentialUnknown => &self.refusals.credential,
            Refusal::Scope { .. } => &self.refusals.scope,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        refusal.answer()
    }
}

/// Why a request goes no further.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the request names no host, or several")]
    HostMissing,
    #[error(
        "host {0:?} is not a name of this server; if it should be, add it to http.host_names in the \
         collector's configuration"
    )]
    Host(String),
    #[error("a request that changes state must come from this server's own origin")]
    Origin,
    #[error(
        "a credential is needed: a bearer token, or a token as the password of basic auth \
         (make one with: stoa token create --scope read)"
    )]
    CredentialMissing,
    #[error("the authorization header is neither a bearer token nor basic auth")]
    CredentialMalformed,
    #[error("the token is not known here, has expired, or was revoked")]
    CredentialUnknown,
    #[error("this needs the scope {needed}, the credential holds {held}")]
    Scope { needed: Scope, held: Scope },
}

impl Refusal {
    /// The answer, in the envelope of Prometheus's API.
    fn answer(&self) -> Response {
        let (status, kind) = match self {
            Self::HostMissing => (StatusCode::BAD_REQUEST, "bad_data"),
            Self::Host(_) | Self::Origin | Self::Scope { .. } => {
                (StatusCode::FORBIDDEN, "forbidden")
            }
            Self::CredentialMissing | Self::CredentialMalformed | Self::CredentialUnknown => {
                (StatusCode::UNAUTHORIZED, "unauthorized")
            }
        };
        let body = json!({ "status": "error", "errorType": kind, "error": self.to_string() });
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"stoa\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The check of one route: the listener's rules, and the scope the route declared.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The listener's rules.
    pub access: Arc<Access>,
    /// What the route asks for.
    pub scope: Scope,
}

/// Middleware of one route: lets a request through that holds the route's scope, with its
/// [`Principal`] in the extensions.
pub async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if gate.scope > Scope::Open {
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0.ip());
        let principal = match gate.access.principal(peer, request.headers()) {
            Ok(principal) => principal,
            Err(refusal) => return gate.access.refuse(&refusal),
        };
        if principal.scope < gate.scope {
            let refusal = Refusal::Scope { needed: gate.scope, held: principal.scope };
            return gate.access.refuse(&refusal);
        }
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

/// Middleware of the whole router: the host, the origin, and the headers every answer carries.
pub async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let checked = access.check_host(&request).and_then(|()| check_origin(&request));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => access.refuse(&refusal),
    };
    for (name, value) in ANSWER_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What every answer says to a browser: load nothing foreign, frame nowhere, guess no type, tell
/// no one where the reader came from.
///
/// HSTS is left out: a browser applies it to every port of a host name, and would lock a homelab's
/// other services on that name out.
const ANSWER_HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The authority a request is for: the URI's (HTTP/2), else the one `Host` header.
fn authority_of(request: &Request) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => one(request.headers(), &header::HOST),
    }
}

/// A change of state is refused when a browser says it comes from elsewhere. Programs send neither
/// header and are not asked.
fn check_origin(request: &Request) -> Result<(), Refusal> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let headers = request.headers();
    let own = if headers.contains_key(header::ORIGIN) {
        match (one(headers, &header::ORIGIN), authority_of(request)) {
            (Some(origin), Some(authority)) => names::same_origin(origin, authority),
            _ => false,
        }
    } else {
        match headers.get("sec-fetch-site") {
            None => true,
            Some(site) => site == "same-origin" || site == "none",
        }
    };
    if own { Ok(()) } else { Err(Refusal::Origin) }
}

/// A header's value when it is there exactly once, as text.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

/// The secret in an authorization header: a bearer token, or basic auth's password.
fn secret_of(value: &HeaderValue) -> Option<String> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(rest.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (_user, password) = pair.split_once(':')?;
        Some(password.to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
