//! The admin API as its callers see it: request in, status and document out.

use axum::Router;
use axum::body::Body;
use http::Method;
use serde_json::Value;
use stoa_model::HostId;
use stoa_proto::message::{Digest, InventoryTold};
use tower::ServiceExt as _;

use super::*;
use crate::http::Access;
use crate::members::JoinAsk;

const NOW: TimestampMs = 1_800_000_000_000;

struct Api {
    _dir: tempfile::TempDir,
    members: Arc<Members>,
    inventories: Arc<Inventories>,
    router: Router,
}

impl Api {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let members = Members::open(dir.path(), NOW).unwrap();
        let inventories = Arc::new(Inventories::open(members.state(), |_| true).unwrap());
        let admin = Admin {
            members: Arc::clone(&members),
            inventories: Arc::clone(&inventories),
            clock: Arc::new(|| NOW),
        };
        let router = routes(admin).into_router((), Access::open());
        Self { _dir: dir, members, inventories, router }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/stoa/api/v1/{path}"))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        if status == 200 {
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn made(&self, body: &str) -> TokenMade {
        let (status, made) = self.call(Method::POST, "tokens", body).await;
        assert_eq!(status, 200, "{made}");
        serde_json::from_value(made).unwrap()
    }
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let api = Api::new();
    let join = api.made(r#"{"kind":"join","host":"PVE1","ttl_s":60}"#).await;
    assert!(join.token.starts_with("STOA1."), "{join:?}");
    assert_eq!(join.expires_ms, Some(NOW + 60_000));
    let read = api.made(r#"{"kind":"api","scope":"read","remark":"grafana"}"#).await;
    assert_eq!(read.expires_ms, None);
    assert_eq!(api.members.principal(&read.token, NOW).unwrap().scope, Scope::Read);

    let (_, list) = api.call(Method::GET, "tokens", "").await;
    let list: Vec<TokenLine> = serde_json::from_value(list).unwrap();
    let find = |id: &str| list.iter().find(|line| line.id == id).unwrap();
    assert_eq!(find(&join.id).host.as_deref(), Some("pve1"));
    assert_eq!(find(&read.id).remark.as_deref(), Some("grafana"));
    assert_eq!(list.len(), 3, "and this machine's own");

    let path = format!("tokens/{}", read.id);
    assert_eq!(api.call(Method::DELETE, &path, "").await.0, 200);
    assert_eq!(api.members.principal(&read.token, NOW), None);
    let (status, error) = api.call(Method::DELETE, &path, "").await;
    assert_eq!((status, error["errorType"].as_str()), (404, Some("not_found")));
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    let api = Api::new();
    for (body, words) in [
        ("", "EOF"),
        ("{}", "kind"),
        (r#"{"kind":"other"}"#, "unknown variant"),
        (r#"{"kind":"join","host":"a b"}"#, "host name \"a b\" is not valid"),
        (r#"{"kind":"join","ttl_s":0}"#, "good for some time"),
        (r#"{"kind":"join","hots":"pve1"}"#, "unknown field"),
        (r#"{"kind":"join","host":"collector.stoa"}"#, "collector's own"),
        (r#"{"kind":"api","scope":"root"}"#, "unknown variant"),
        (r#"{"kind":"api","scope":"open"}"#, "read, write or admin"),
    ] {
        let (status, error) = api.call(Method::POST, "tokens", body).await;
        assert_eq!((status, error["status"].as_str()), (400, Some("error")), "{body}");
        assert!(error["error"].as_str().unwrap().contains(words), "{body}: {error}");
    }
}

#[tokio::test]
async fn hosts_are_listed_counted_and_revoked() {
    let api = Api::new();
    let (token, _) = api.members.create_join_token(None, 60_000, NOW).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let ask = JoinAsk {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: csr.der().to_vec(),
        host_name: "pve1".to_owned(),
        agent_version: "0.1.0".to_owned(),
    };
    let (_, cert) = api.members.join(&ask, NOW).unwrap();
    let (_, list) = api.call(Method::GET, "hosts", "").await;
    assert_eq!(list[0]["name"], "pve1");
    assert_eq!(list[0]["status"], "active");
    assert_eq!(list[0]["current"]["serial"], cert.serial.to_string());
    let lines: Vec<HostLine> = serde_json::from_value(list).unwrap();
    assert_eq!(lines.len(), 1);

    assert_eq!(api.call(Method::POST, "hosts/pve1/unlock", "").await.0, 400);
    let told = InventoryTold {
        session: 1,
        digest: Digest("1".to_owned().into()),
        document: stoa_model::Inventory::new(),
    };
    api.inventories.keep(&HostId::parse("pve1").unwrap(), &told, NOW, 0).unwrap();
    assert_eq!(api.call(Method::POST, "hosts/pve1/revoke", "").await.0, 200);
    assert_eq!(api.inventories.figures().documents, 0);
    assert!(api.members.is_revoked(&cert.serial.to_string()));
    assert_eq!(api.call(Method::POST, "hosts/nobody/revoke", "").await.0, 404);
    let (_, summary) = api.call(Method::GET, "summary", "").await;
    assert_eq!(summary["hosts"], json!({ "active": 0, "locked": 0, "revoked": 1 }));
    assert_eq!(summary["counts"]["joins"], 1);
    assert_eq!(summary["ca_sha256"].as_str().unwrap().len(), 64);
}
