//! Joining and renewing over the real transport on loopback; and every gRPC method against every
//! kind of caller.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stoa_model::JoinToken;
use stoa_proto::v1::enroll_client::EnrollClient;
use stoa_proto::v1::identity_client::IdentityClient;
use stoa_transport::{
    Class, ClientCredentials, DialConfig, DialError, Dialer, Listener, Refused, ResetKeys,
    join_channel,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::http::Scope;
use crate::methods::{Caller, METHODS, MethodGate};
use crate::{agents_port, clock};

const HOUR_MS: i64 = 3_600_000;

struct Collector {
    _dir: tempfile::TempDir,
    members: Arc<Members>,
    listener: Arc<Listener>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Collector {
    /// With the enrolment services, behind the gate.
    fn start() -> Self {
        Self::serving(|members| {
            let (enroll, identity) = services(members, &clock::system());
            tonic::service::Routes::new(enroll).add_service(identity)
        })
    }

    fn serving(routes: impl FnOnce(&Arc<Members>) -> tonic::service::Routes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock::system();
        let members = Members::open(dir.path(), clock()).unwrap();
        let keys = ResetKeys::generate().unwrap();
        let config = agents_port::listener_config(&members, keys, clock()).unwrap();
        let (listener, incoming) = Listener::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
        let listener = Arc::new(listener);
        let address = listener.local_addr();
        let server = stoa_transport::server()
            .layer(MethodGate::new(Arc::clone(&members)))
            .add_routes(routes(&members));
        tokio::spawn(server.serve_with_incoming(incoming));
        let stop = CancellationToken::new();
        let keep =
            agents_port::keep(Arc::clone(&listener), Arc::clone(&members), clock, stop.clone());
        tokio::spawn(keep);
        Self { _dir: dir, members, listener, address, stop }
    }

    fn token(&self, host: Option<&str>) -> JoinToken {
        let host = host.map(|name| HostId::parse(name).unwrap());
        self.members.create_join_token(host.as_ref(), HOUR_MS, clock::system()()).unwrap().0
    }

    async fn join_channel(&self) -> Channel {
        join_channel(&self.address.to_string(), self.members.ca().sha256()).await.unwrap()
    }

    async fn join(&self, token: &JoinToken, name: &str) -> Result<Agent, Status> {
        let key = KeyPair::generate().unwrap();
        let request = JoinRequest {
            token_id: token.id.clone(),
            token_secret: Bytes::copy_from_slice(&token.secret),
            csr_der: csr(&key),
            host_name: name.to_owned(),
            agent_version: "0.1.0".to_owned(),
        };
        let reply = EnrollClient::new(self.join_channel().await).join(request).await?.into_inner();
        assert_eq!(crate::ca::sha256(&reply.ca_der), token.ca_sha256);
        Ok(Agent {
            key,
            chain: reply.chain_der.iter().map(|der| der.to_vec().into()).collect(),
            ca: reply.ca_der.to_vec().into(),
            address: self.address,
        })
    }
}

fn csr(key: &KeyPair) -> Bytes {
    let params = CertificateParams::new(vec!["somebody-else".to_owned()]).unwrap();
    params.serialize_request(key).unwrap().der().to_vec().into()
}

struct Agent {
    key: KeyPair,
    chain: Vec<CertificateDer<'static>>,
    ca: CertificateDer<'static>,
    address: SocketAddr,
}

impl Agent {
    async fn connect(&self) -> Result<stoa_transport::Connection, DialError> {
        let credentials = ClientCredentials {
            chain: self.chain.clone(),
            key: PrivateKeyDer::Pkcs8(self.key.serialize_der().into()),
            roots: vec![self.ca.clone()],
        };
        Dialer::new(DialConfig::new(self.address.to_string(), credentials)).unwrap().connect().await
    }

    /// Renews over this identity's own connection; the certificate that comes back.
    async fn renew(&self) -> Result<Self, Status> {
        let connection = self.connect().await.unwrap();
        let key = KeyPair::generate().unwrap();
        let request = RenewRequest { csr_der: csr(&key) };
        let mut client = IdentityClient::new(connection.channel(Class::Control));
        let reply = client.renew(request).await?.into_inner();
        let chain = reply.chain_der.iter().map(|der| der.to_vec().into()).collect();
        Ok(Self { key, chain, ca: self.ca.clone(), address: self.address })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_joins_renews_and_is_cut_off_when_revoked() {
    let collector = Collector::start();
    let token = collector.token(None);
    let first = collector.join(&token, "PVE1").await.unwrap();
    let identity = stoa_transport::CertificateIdentity::of(&first.chain[0]).unwrap();
    assert_eq!(identity.host, "pve1");

    let second = first.renew().await.unwrap();
    let third = second.renew().await.unwrap();
    let (_, host) = collector.members.hosts().remove(0);
    assert_eq!(host.generation, 3);
    let live = third.connect().await.unwrap();

    // The first certificate again: the fence falls, and what holds it is cut.
    let stale = first.connect().await.unwrap();
    let refused = first.renew().await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    stale.closed().await;
    let again = first.connect().await.map(|_| ()).unwrap_err();
    assert!(matches!(again, DialError::Refused { reason: Refused::Revoked, .. }), "{again}");

    // The current holder goes on, without another renewal, until it is revoked: then at once.
    let locked = third.renew().await.map(|_| ()).unwrap_err();
    assert!(locked.message().starts_with("this host is locked"), "{locked}");
    let before = collector.listener.stats().cut;
    collector.members.revoke_host("pve1", clock::system()()).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), live.closed()).await.unwrap();
    assert!(collector.listener.stats().cut > before);
    let gone = third.connect().await.map(|_| ()).unwrap_err();
    assert!(matches!(gone, DialError::Refused { reason: Refused::Revoked, .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_token_has_its_code_and_sentence() {
    let collector = Collector::start();
    let used = collector.token(None);
    collector.join(&used, "pve1").await.unwrap();
    let bound = collector.token(Some("pve2"));
    let now_ms = clock::system()() - 2 * HOUR_MS;
    let (late, _) = collector.members.create_join_token(None, HOUR_MS, now_ms).unwrap();
    let mut wrong = collector.token(None);
    wrong.secret[0] ^= 1;
    for (token, name, code, sentence) in [
        (&used, "pve3", Code::Unauthenticated, "the join token has been used already"),
        (&late, "pve3", Code::Unauthenticated, "the join token expired 60 min ago"),
        (&wrong, "pve3", Code::Unauthenticated, "the join token is not known"),
        (&bound, "pve3", Code::Unauthenticated, "the join token is for host pve2, not pve3"),
        (&bound, "a b", Code::InvalidArgument, "\"a b\" cannot be a host's name"),
        (&collector.token(None), "pve1", Code::AlreadyExists, "the name pve1 belongs to a host"),
    ] {
        let refused = collector.join(token, name).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().starts_with(sentence), "{refused}");
    }
    // A token of another collector is not even sent: the CA is not the one it names.
    let foreign = join_channel(&collector.address.to_string(), [7; 32]).await.map(|_| ());
    let foreign = foreign.unwrap_err();
    assert!(matches!(foreign, DialError::Listener { reason: Refused::UnknownCa, .. }), "{foreign}");
}

/// What a call comes to: the code, or that it got past the gate.
async fn knock(channel: Channel, path: &'static str, secret: Option<&str>) -> String {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<RenewRequest, RenewReply>::default();
    let mut request = Request::new(RenewRequest::default());
    if let Some(secret) = secret {
        let bearer = format!("Bearer {secret}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(request, path, codec).await.unwrap_err();
    if answer.message() == "reached" { "reached".into() } else { format!("{:?}", answer.code()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_against_every_caller() {
    // Behind the gate, everything answers: what is refused is refused by the gate.
    let collector = Collector::serving(|_members| {
        let reached = async || Status::data_loss("reached").into_http::<axum::body::Body>();
        tonic::service::Routes::from(Router::new().fallback(reached))
    });
    let token = collector.token(None);
    // Admitted by hand: the collector's own Join is behind the stand-in.
    let key = KeyPair::generate().unwrap();
    let ask = JoinAsk {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: csr(&key).to_vec(),
        host_name: "pve1".to_owned(),
        agent_version: String::new(),
    };
    let now_ms = clock::system()();
    let (_, cert) = collector.members.join(&ask, now_ms).unwrap();
    let ca = collector.members.ca().cert().clone();
    let agent = Agent { key, chain: cert.chain, ca, address: collector.address };
    let connection = agent.connect().await.unwrap();
    let joining = collector.join_channel().await;

    let mut secrets = vec![("nothing", None)];
    for (name, scope) in [("read", Scope::Read), ("write", Scope::Write), ("admin", Scope::Admin)] {
        let (token, _) = collector.members.create_api_token(scope, "", None, now_ms).unwrap();
        secrets.push((name, Some(token.to_string())));
    }
    let unlisted = ["/stoa.v1.Enroll/Leave", "/grpc.reflection.v1.ServerReflection/Info", "/"];
    let paths = METHODS.iter().map(|(path, _)| *path).chain(unlisted);
    let mut found = Vec::new();
    for path in paths {
        for (token, secret) in &secrets {
            let secret = secret.as_deref();
            let without = knock(joining.clone(), path, secret).await;
            let host = knock(connection.channel(Class::Control), path, secret).await;
            found.push(format!("{path} + {token}: no certificate {without}, host {host}"));
        }
    }
    let mut expected = Vec::new();
    for (path, without, host) in [
        ("/stoa.v1.Enroll/Join", "reached", "PermissionDenied"),
        ("/stoa.v1.Identity/Renew", "Unauthenticated", "reached"),
        ("/stoa.v1.Control/Session", "Unauthenticated", "reached"),
        ("/stoa.v1.Ingest/Push", "Unauthenticated", "reached"),
        ("/stoa.v1.Inventories/Tell", "Unauthenticated", "reached"),
        (unlisted[0], "Unimplemented", "Unimplemented"),
        (unlisted[1], "Unimplemented", "Unimplemented"),
        (unlisted[2], "Unimplemented", "Unimplemented"),
    ] {
        // An API token changes nothing here: it is for HTTP.
        for token in ["nothing", "read", "write", "admin"] {
            expected.push(format!("{path} + {token}: no certificate {without}, host {host}"));
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn the_table_is_the_proto_files() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let mut files: Vec<String> = std::fs::read_dir(format!("{root}/stoa/v1"))
        .unwrap()
        .map(|entry| format!("stoa/v1/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    files.sort();
    let compiled = protox::compile(&files, [root]).unwrap();
    let mut described = BTreeSet::new();
    for file in &compiled.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                described.insert(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    let table: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(table, described);
    let joining = METHODS.iter().filter(|(_, caller)| *caller == Caller::Joining);
    assert_eq!(joining.count(), 1, "one method is open to strangers");
}
