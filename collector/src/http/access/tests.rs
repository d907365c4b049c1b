//! Every rule of access, through the router, one request at a time.

use axum::body::Body;
use http::header;
use tower::ServiceExt as _;

use super::*;
use crate::http::Routes;
use crate::http::routes::NOT_FOUND;

const READ: &str = "read-secret";
const WRITE: &str = "write-secret";
const ADMIN: &str = "admin-secret";

fn table() -> Routes {
    async fn body(text: String) -> String {
        format!("{} bytes", text.len())
    }
    Routes::new()
        .get("/open", Scope::Open, async || "open")
        .any_of(&[Method::GET, Method::POST], "/read", Scope::Read, async || "read")
        .post("/write", Scope::Write, body)
        .body_bytes_max(10)
        .delete("/admin/{id}", Scope::Admin, async || "admin")
}

fn check_secret(secret: &str) -> Option<Principal> {
    let scope = match secret {
        READ => Scope::Read,
        WRITE => Scope::Write,
        ADMIN => Scope::Admin,
        _ => return None,
    };
    Some(Principal { name: secret.to_owned(), scope })
}

/// One request to a listener, and the status it gets. `headers` are `name: value` lines.
struct Door {
    access: Arc<Access>,
    from: SocketAddr,
}

impl Door {
    fn at(config: AccessConfig) -> Self {
        let from = SocketAddr::from(([192, 168, 1, 77], 5555));
        Self { access: Access::new(config, Box::new(check_secret)), from }
    }

    fn loopback() -> Self {
        Self::at(AccessConfig::on(SocketAddr::from(([127, 0, 0, 1], 7480))))
    }

    fn remote() -> Self {
        Self::at(remote_config())
    }

    async fn answer(&self, method: Method, path: &str, headers: &[&str], body: &str) -> Response {
        let mut request = http::Request::builder().method(method).uri(path);
        if !headers.iter().any(|line| line.starts_with("host")) {
            request = request.header(header::HOST, "localhost:7480");
        }
        for line in headers {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(PeerAddress(self.from));
        let router = table().into_router((), Arc::clone(&self.access));
        router.oneshot(request).await.unwrap()
    }

    async fn check(&self, method: Method, path: &str, headers: &[&str], status: u16) {
        let answer = self.answer(method.clone(), path, headers, "").await;
        assert_eq!(answer.status(), status, "{method} {path} with {headers:?}");
    }
}

fn remote_config() -> AccessConfig {
    AccessConfig::on(SocketAddr::from(([192, 168, 1, 5], 7480)))
}

fn basic(user: &str, secret: &str) -> String {
    format!("authorization: Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

#[tokio::test]
async fn loopback_asks_for_no_credential() {
    let door = Door::loopback();
    door.check(Method::GET, "/open", &[], 200).await;
    door.check(Method::GET, "/read", &[], 200).await;
    door.check(Method::HEAD, "/read", &[], 200).await;
    door.check(Method::POST, "/write", &[], 200).await;
    door.check(Method::DELETE, "/admin/7", &[], 200).await;
    door.check(Method::GET, "/read", &["authorization: Bearer nonsense"], 200).await;
}

#[tokio::test]
async fn elsewhere_a_credential_with_the_scope_is_needed() {
    let door = Door::remote();
    door.check(Method::GET, "/open", &[], 200).await;
    for (method, path, reader, writer) in [
        (Method::GET, "/read", 200, 200),
        (Method::POST, "/read", 200, 200),
        (Method::POST, "/write", 403, 200),
        (Method::DELETE, "/admin/7", 403, 403),
    ] {
        door.check(method.clone(), path, &[], 401).await;
        door.check(method.clone(), path, &["authorization: Bearer wrong"], 401).await;
        door.check(method.clone(), path, &["authorization: Digest x"], 401).await;
        door.check(method.clone(), path, &["authorization: Basic !"], 401).await;
        door.check(method.clone(), path, &["remote-user: root"], 401).await;
        for (secret, status) in [(READ, reader), (WRITE, writer), (ADMIN, 200)] {
            let bearer = format!("authorization: Bearer {secret}");
            door.check(method.clone(), path, &[&bearer], status).await;
            door.check(method.clone(), path, &[&basic("anyone", secret)], status).await;
        }
    }
    let refused = door.answer(Method::GET, "/read", &[], "").await;
    assert!(refused.headers().contains_key(header::WWW_AUTHENTICATE));
    assert!(door.access.refusals().credential > 0);
    assert_eq!(door.access.refusals().scope, 3 * 2);
}

#[tokio::test]
async fn insecure_and_loopback_with_credentials_do_what_they_say() {
    let door = Door::at(AccessConfig { insecure: true, ..remote_config() });
    door.check(Method::DELETE, "/admin/7", &[], 200).await;
    let bind = SocketAddr::from(([127, 0, 0, 1], 7480));
    let config = AccessConfig { loopback_credentials: true, ..AccessConfig::on(bind) };
    assert!(!config.needs_tls());
    Door::at(config).check(Method::GET, "/read", &[], 401).await;
    assert!(remote_config().needs_tls());
}

#[tokio::test]
async fn a_listed_proxy_vouches_for_its_users() {
    let config = |bind: [u8; 4]| AccessConfig {
        proxies: vec!["192.168.1.77".parse().unwrap()],
        proxy_admins: vec!["root".to_owned(), "@wheel".to_owned()],
        ..AccessConfig::on(SocketAddr::from((bind, 7480)))
    };
    let mut door = Door::at(config([192, 168, 1, 5]));
    door.check(Method::GET, "/read", &["remote-user: ann"], 200).await;
    door.check(Method::POST, "/write", &["remote-user: ann"], 403).await;
    door.check(Method::DELETE, "/admin/7", &["remote-user: root"], 200).await;
    let groups = "remote-groups: users, wheel";
    door.check(Method::DELETE, "/admin/7", &["remote-user: ann", groups], 200).await;
    door.check(Method::DELETE, "/admin/7", &["remote-user: ann", "remote-groups: wheels"], 403)
        .await;
    door.check(Method::DELETE, "/admin/7", &["remote-user: @wheel"], 403).await;
    door.check(Method::DELETE, "/admin/7", &["remote-user: ann", "remote-groups: root"], 403).await;
    door.check(Method::GET, "/read", &["remote-user: ann", "remote-user: root"], 401).await;
    door.check(Method::GET, "/read", &["remote-user: "], 401).await;
    door.check(Method::GET, "/read", &["authorization: Bearer read-secret"], 200).await;
    door.from = SocketAddr::from(([192, 168, 1, 78], 5555));
    door.check(Method::GET, "/read", &["remote-user: ann"], 401).await;
    // A proxy on this machine closes loopback: what it forwards is not from a local user.
    Door::at(config([127, 0, 0, 1])).check(Method::GET, "/read", &[], 401).await;
}

#[tokio::test]
async fn a_rebound_name_and_a_foreign_origin_are_refused() {
    let door = Door::loopback();
    door.check(Method::GET, "/open", &["host: evil.example"], 403).await;
    door.check(Method::GET, "/nowhere", &["host: evil.example"], 403).await;
    door.check(Method::GET, "/open", &["host: localhost", "host: localhost"], 400).await;
    door.check(Method::GET, "/read", &["origin: http://evil.example"], 200).await;
    for path in ["/read", "/write"] {
        door.check(Method::POST, path, &["origin: http://evil.example"], 403).await;
        door.check(Method::POST, path, &["origin: null"], 403).await;
        door.check(Method::POST, path, &["origin: http://localhost:3000"], 403).await;
        door.check(Method::POST, path, &["origin: http://localhost:7480"], 200).await;
        door.check(Method::POST, path, &["sec-fetch-site: cross-site"], 403).await;
        door.check(Method::POST, path, &["sec-fetch-site: same-origin"], 200).await;
    }
    assert_eq!(door.access.refusals().host, 3);
    assert_eq!(door.access.refusals().origin, 8);
}

#[tokio::test]
async fn every_answer_carries_the_headers_and_unknown_paths_the_exact_body() {
    let door = Door::remote();
    for (path, status) in [("/open", 200), ("/read", 401), ("/api/prom/x", 404)] {
        let answer = door.answer(Method::GET, path, &[], "").await;
        assert_eq!(answer.status(), status);
        for (name, value) in ANSWER_HEADERS {
            assert_eq!(answer.headers().get(&name).unwrap(), value, "{path}");
        }
    }
    let answer = door.answer(Method::GET, "/alertmanager/api/v2/status", &[], "").await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
    assert_eq!(body, NOT_FOUND);
}

#[tokio::test]
async fn a_body_over_the_routes_bound_is_refused() {
    let door = Door::loopback();
    assert_eq!(door.answer(Method::POST, "/write", &[], "0123456789").await.status(), 200);
    assert_eq!(door.answer(Method::POST, "/write", &[], "0123456789a").await.status(), 413);
}

#[test]
fn the_list_names_every_method_of_every_route() {
    let lines =
        table().merge(crate::http::health::routes(Default::default(), Arc::new(|| None))).list();
    let lines: Vec<String> =
        lines.iter().map(|l| format!("{} {} {}", l.method, l.path, l.scope)).collect();
    assert_eq!(
        lines,
        [
            "GET /-/healthy open",
            "GET /-/ready open",
            "DELETE /admin/{id} admin",
            "GET /open open",
            "GET /read read",
            "POST /read read",
            "GET /ready open",
            "POST /write write",
        ]
    );
}
