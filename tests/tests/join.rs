//! A host joins, renews and is revoked: the agent's side against the collector's, over the real
//! transport on loopback, with real files.

use std::net::SocketAddr;
use std::sync::Arc;

use stoa_agent::identity::{self, IdentityError};
use stoa_agent::join::{JoinError, join};
use stoa_agent::renewal::{self, RenewError};
use stoa_collector::members::Members;
use stoa_collector::methods::MethodGate;
use stoa_collector::{agents_port, clock, enroll};
use stoa_model::{HostId, JoinToken};
use stoa_transport::{DialConfig, DialError, Dialer, Listener, Refused, ResetKeys};

const HOUR_MS: i64 = 3_600_000;

struct Collector {
    _dir: tempfile::TempDir,
    members: Arc<Members>,
    _listener: Arc<Listener>,
    address: SocketAddr,
}

fn start() -> Collector {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock::system();
    let members = Members::open(dir.path(), clock()).unwrap();
    let keys = ResetKeys::generate().unwrap();
    let config = agents_port::listener_config(&members, keys, clock()).unwrap();
    let (listener, incoming) = Listener::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
    let (enroll, identity) = enroll::services(&members, &clock);
    let server = stoa_transport::server()
        .layer(MethodGate::new(Arc::clone(&members)))
        .add_service(enroll)
        .add_service(identity);
    tokio::spawn(server.serve_with_incoming(incoming));
    let address = listener.local_addr();
    Collector { _dir: dir, members, _listener: Arc::new(listener), address }
}

impl Collector {
    fn token(&self, host: Option<&str>) -> JoinToken {
        let host = host.map(|name| HostId::parse(name).unwrap());
        let now_ms = clock::system()();
        self.members.create_join_token(host.as_ref(), HOUR_MS, now_ms).unwrap().0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_joins_renews_and_is_revoked() {
    let collector = start();
    let address = collector.address.to_string();
    let data = tempfile::tempdir().unwrap();
    let dir = data.path();
    assert!(matches!(identity::load(dir), Err(IdentityError::NotJoined)));
    let token = collector.token(None).to_string();
    let joined = join(&token, &address, "PVE1", dir).await.unwrap();
    assert_eq!(joined.host.as_str(), "pve1");
    assert_eq!(identity::collector_address(dir).unwrap(), Some(address.clone()));

    let first = identity::load(dir).unwrap();
    assert_eq!(first.serial, joined.serial);
    let dialer = Dialer::new(DialConfig::new(address.clone(), first.credentials())).unwrap();
    let second = renewal::renew(&first, &dialer, dir.to_owned()).await.unwrap();
    assert_eq!(identity::load(dir).unwrap().serial, second.serial);
    // The dialer shows the new one now, so that renewing again is no step back.
    let third = renewal::renew(&second, &dialer, dir.to_owned()).await.unwrap();
    assert_eq!(collector.members.hosts()[0].1.generation, 3);

    // A copy taken at the start: fenced, and told so; what it has on disk stays as it is.
    let copy = tempfile::tempdir().unwrap();
    first.store(copy.path(), None).unwrap();
    let stale = Dialer::new(DialConfig::new(address.clone(), first.credentials())).unwrap();
    let fenced = renewal::renew(&first, &stale, copy.path().to_owned()).await.unwrap_err();
    assert!(matches!(fenced, RenewError::Refused(_)), "{fenced}");
    assert!(fenced.to_string().contains("a newer certificate of this host is in use"), "{fenced}");
    assert_eq!(identity::load(copy.path()).unwrap().serial, first.serial);

    collector.members.revoke_host("pve1", clock::system()()).unwrap();
    let revoked = renewal::renew(&third, &dialer, dir.to_owned()).await.unwrap_err();
    let RenewError::Dial(DialError::Refused { reason, .. }) = revoked else {
        panic!("{revoked}");
    };
    assert_eq!(reason, Refused::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_token_is_one_sentence_and_the_callers_mistake() {
    let collector = start();
    let address = collector.address.to_string();
    let data = tempfile::tempdir().unwrap();
    let used = collector.token(None);
    join(&used.to_string(), &address, "pve1", data.path()).await.unwrap();
    let late = clock::system()() - 2 * HOUR_MS;
    let (late, _) = collector.members.create_join_token(None, HOUR_MS, late).unwrap();
    let foreign = start().token(None);
    let bound = collector.token(Some("pve9"));
    let mut unknown = collector.token(None);
    unknown.secret[0] ^= 1;
    for (token, sentence) in [
        (used.to_string(), "the join token has been used already, by host pve1"),
        (late.to_string(), "the join token expired"),
        (foreign.to_string(), "the join token is from another collector"),
        (bound.to_string(), "the join token is for host pve9, not pve2"),
        (unknown.to_string(), "the join token is not known to this collector"),
        (used.to_string().replace("STOA1", "STOA"), "the join token is malformed"),
    ] {
        let error = join(&token, &address, "pve2", data.path()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(sentence) && !text.contains('\n'), "{text}");
        assert!(error.is_misuse(), "{text}");
    }
    // What was there before is untouched.
    assert_eq!(identity::load(data.path()).unwrap().host.as_str(), "pve1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_had_again_by_asking_again() {
    let collector = start();
    let address = collector.address.to_string();
    let data = tempfile::tempdir().unwrap();
    let token = collector.token(None).to_string();
    let key = identity::join_key(data.path()).unwrap().serialize_pem();
    join(&token, &address, "pve1", data.path()).await.unwrap();
    // As if this host had died before it wrote the answer down.
    std::fs::remove_file(data.path().join("identity.pem")).unwrap();
    std::fs::write(data.path().join("join.key"), key).unwrap();
    join(&token, &address, "pve1", data.path()).await.unwrap();
    // With another key it is another host.
    std::fs::remove_file(data.path().join("identity.pem")).unwrap();
    let error = join(&token, &address, "pve1", data.path()).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused { .. }), "{error}");
}
