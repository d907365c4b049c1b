//! Joining, renewing, revoking: with real files, keys and certificates, and time as an argument.

use std::sync::Barrier;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::tokens::JOIN_TTL_MS;

const NOW: TimestampMs = 1_800_000_000_000;
const HOUR: TimestampMs = 3_600_000;
const DAY: TimestampMs = 24 * HOUR;

struct House {
    dir: tempfile::TempDir,
    members: Arc<Members>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let members = Members::open(dir.path(), NOW).unwrap();
        Self { dir, members }
    }

    fn restarted(self, now_ms: TimestampMs) -> Self {
        let Self { dir, members } = self;
        drop(members);
        let members = Members::open(dir.path(), now_ms).unwrap();
        Self { dir, members }
    }

    fn token(&self, host: Option<&str>) -> JoinToken {
        let host = host.map(|name| HostId::parse(name).unwrap());
        self.members.create_join_token(host.as_ref(), JOIN_TTL_MS, NOW).unwrap().0
    }

    fn joined(&self, name: &str) -> Serial {
        let token = self.token(Some(name));
        self.members.join(&ask(&token, name, &csr()), NOW).unwrap().1.serial
    }

    fn renew(&self, serial: Serial, now_ms: TimestampMs) -> Result<Serial, String> {
        let host = HostId::parse("pve1").unwrap();
        let renewed = self.members.renew(&host, &serial.to_string(), &csr(), now_ms);
        renewed.map(|cert| cert.serial).map_err(|error| error.to_string())
    }

    fn standing(&self, name: &str) -> Standing {
        let hosts = self.members.hosts();
        hosts.into_iter().find(|(host, _)| host == name).unwrap().1.standing
    }

    fn is_revoked(&self, serial: Serial) -> bool {
        self.members.is_revoked(&serial.to_string())
    }
}

fn csr() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}

fn ask(token: &JoinToken, name: &str, csr_der: &[u8]) -> JoinAsk {
    JoinAsk {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: csr_der.to_vec(),
        host_name: name.to_owned(),
        agent_version: "0.1.0".to_owned(),
    }
}

#[test]
fn a_token_is_refused_in_one_clear_sentence() {
    let house = House::new();
    let members = &house.members;
    let check = |ask: &JoinAsk, now_ms, sentence: &str| {
        let refused = members.join(ask, now_ms).unwrap_err().to_string();
        assert!(refused.starts_with(sentence), "{refused:?} for {sentence:?}");
    };
    let free = house.token(None);
    let foreign = House::new().token(None);
    check(&ask(&foreign, "pve1", &csr()), NOW, "the join token is not known to this collector");
    let mut wrong = free.clone();
    wrong.secret[0] ^= 1;
    check(&ask(&wrong, "pve1", &csr()), NOW, "the join token is not known to this collector");
    check(&ask(&free, "pve1", &csr()), NOW + 3 * HOUR, "the join token expired 2 h ago");
    check(&ask(&free, "pve1", b"junk"), NOW, "the certificate request is malformed");
    for name in ["collector.stoa", "x.stoa", "a b", ""] {
        check(&ask(&free, name, &csr()), NOW, &format!("{name:?} cannot be a host's name"));
    }
    let bound = house.token(Some("pve2"));
    check(&ask(&bound, "pve1", &csr()), NOW, "the join token is for host pve2, not pve1");

    // None of that has spent it.
    members.join(&ask(&free, "PVE1", &csr()), NOW).unwrap();
    check(&ask(&free, "pve3", &csr()), NOW, "the join token has been used already, by host pve1");
    let second = house.token(None);
    check(&ask(&second, "pve1", &csr()), NOW, "the name pve1 belongs to a host that has joined");
    members.revoke_token(&second.id).unwrap();
    check(&ask(&second, "pve4", &csr()), NOW, "the join token is not known to this collector");
    assert_eq!(members.counts().joins, 1);
    assert_eq!(members.counts().joins_refused, 12);
    assert!(matches!(members.revoke_token("nope"), Err(MembersError::Missing { .. })));
}

#[test]
fn of_many_hosts_with_one_token_exactly_one_joins() {
    let house = House::new();
    for _ in 0..8 {
        let token = house.token(None);
        let start = Barrier::new(4);
        let joined: Vec<bool> = std::thread::scope(|scope| {
            let racer = |i: usize| {
                let (members, token, start) = (&house.members, &token, &start);
                let ask = ask(token, &format!("{}-{i}", token.id), &csr());
                scope.spawn(move || {
                    start.wait();
                    members.join(&ask, NOW).is_ok()
                })
            };
            let racers: Vec<_> = (0..4).map(racer).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(joined.iter().filter(|joined| **joined).count(), 1, "{joined:?}");
    }
    assert_eq!(house.members.hosts().len(), 8);
}

#[test]
fn a_lost_answer_to_a_join_can_be_had_again_with_the_same_key_only() {
    let house = House::new();
    let token = house.token(None);
    let same = ask(&token, "pve1", &csr());
    let first = house.members.join(&same, NOW).unwrap().1.serial;
    let again = house.members.join(&same, NOW + 60_000).unwrap().1.serial;
    assert_ne!(first, again);
    assert!(house.members.join(&ask(&token, "pve1", &csr()), NOW).is_err());
    assert!(house.members.join(&same, NOW + HOUR).is_err());
    let house = house.restarted(NOW + 60_000);
    assert!(house.members.join(&same, NOW + 61_000).is_ok());
    house.members.revoke_host("pve1", NOW).unwrap();
    assert!(house.members.join(&same, NOW + 62_000).is_err());
    assert!(house.is_revoked(first) && house.is_revoked(again));
}

#[test]
fn renewal_survives_lost_answers_and_restarts_and_fences_a_clone() {
    let house = House::new();
    let first = house.joined("pve1");
    let _lost = house.renew(first, NOW + 3 * DAY).unwrap();
    let house = house.restarted(NOW + 3 * DAY);
    let second = house.renew(first, NOW + 3 * DAY).unwrap();
    house.members.seen("pve1", &second.to_string()).unwrap();
    let house = house.restarted(NOW + 4 * DAY);

    let mut news = house.members.revocations();
    let refused = house.renew(first, NOW + 4 * DAY).unwrap_err();
    assert!(refused.starts_with("a newer certificate of this host is in use"), "{refused}");
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    assert!(house.is_revoked(first) && !house.is_revoked(second));
    assert!(matches!(house.standing("pve1"), Standing::Locked { .. }));
    assert_eq!(house.members.counts().fences, 1);
    let house = house.restarted(NOW + 4 * DAY);
    let refused = house.renew(second, NOW + 4 * DAY).unwrap_err();
    assert!(refused.starts_with("this host is locked"), "{refused}");
    house.members.unlock_host("pve1").unwrap();
    assert!(house.members.unlock_host("pve1").is_err());
    house.renew(second, NOW + 4 * DAY).unwrap();
    assert_eq!(house.renew(first, NOW + 4 * DAY).unwrap_err(), "this host has been revoked");
}

#[test]
fn revoking_a_host_ends_every_certificate_and_survives_the_state() {
    let house = House::new();
    let first = house.joined("pve1");
    let second = house.renew(first, NOW).unwrap();
    let bystander = house.joined("pve2");
    let mut news = house.members.revocations();
    house.members.revoke_host("pve1", NOW).unwrap();
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    assert!(house.is_revoked(first) && house.is_revoked(second) && !house.is_revoked(bystander));
    assert_eq!(house.renew(second, NOW).unwrap_err(), "this host has been revoked");
    assert!(house.members.is_revoked("not a serial"));
    assert!(house.members.revoke_host("nobody", NOW).is_err());

    // The state database damaged: the list of revoked certificates is not in it.
    let path = house.dir.path().join("state.redb");
    let ca = house.members.ca().sha256();
    let House { dir, members } = house;
    drop(members);
    fs::write(&path, b"junk").unwrap();
    let house = House { members: Members::open(dir.path(), NOW).unwrap(), dir };
    assert!(house.members.damage().is_some());
    assert_eq!(house.members.ca().sha256(), ca);
    assert!(house.is_revoked(first) && house.is_revoked(second));
    assert_eq!(house.renew(second, NOW).unwrap_err(), "this host has been revoked");

    // A host in good standing is taken in again at its next renewal.
    assert_eq!(house.members.hosts(), []);
    let pve2 = HostId::parse("pve2").unwrap();
    house.members.renew(&pve2, &bystander.to_string(), &csr(), NOW).unwrap();
    assert_eq!(house.standing("pve2"), Standing::Active);

    // The revoked name can be given to a new machine, with a new token.
    let token = house.token(None);
    house.members.join(&ask(&token, "pve1", &csr()), NOW).unwrap();
}

#[test]
fn a_bound_token_replaces_the_name_s_old_holder() {
    let house = House::new();
    let old = house.joined("pve1");
    let new = house.joined("pve1");
    assert!(house.is_revoked(old) && !house.is_revoked(new));
    let (_name, host) = house.members.hosts().remove(0);
    assert_eq!((host.generation, host.current.serial), (2, new.to_string()));
    house.renew(new, NOW).unwrap();
}

#[test]
fn api_tokens_hold_their_scope_until_revoked_or_expired() {
    let house = House::new();
    let members = &house.members;
    let (token, _) = members.create_api_token(Scope::Read, "grafana", Some(HOUR), NOW).unwrap();
    let text = token.to_string();
    assert_eq!(members.principal(&text, NOW).unwrap().scope, Scope::Read);
    assert_eq!(members.principal(&text, NOW + HOUR), None);
    assert_eq!(members.principal("nonsense", NOW), None);
    let house = house.restarted(NOW);
    assert!(house.members.principal(&text, NOW).is_some());
    house.members.revoke_token(&token.id).unwrap();
    assert_eq!(house.members.principal(&text, NOW), None);
    let house = house.restarted(NOW);
    assert_eq!(house.members.principal(&text, NOW), None);
    for (scope, remark, ttl_ms) in
        [(Scope::Open, "", None), (Scope::Read, "two\nlines", None), (Scope::Read, "", Some(0))]
    {
        assert!(house.members.create_api_token(scope, remark, ttl_ms, NOW).is_err());
    }
    assert!(house.members.create_join_token(None, 0, NOW).is_err());
    let stored = fs::read(house.dir.path().join("state.redb")).unwrap();
    let secret = text.rsplit('_').next().unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains(secret));
}

#[test]
fn an_api_token_that_has_ended_makes_room() {
    let house = House::new();
    let listed = |house: &House| {
        let ids = house.members.api_tokens().into_iter().map(|(id, _)| id);
        ids.collect::<Vec<_>>()
    };
    let make = |now| house.members.create_api_token(Scope::Read, "", Some(HOUR), now).unwrap().0.id;
    let first = make(NOW);
    let second = make(NOW + HOUR - 1);
    assert!(listed(&house).contains(&first));
    let third = make(NOW + HOUR);
    let now = listed(&house);
    assert!(!now.contains(&first) && now.contains(&second) && now.contains(&third), "{now:?}");
    assert_eq!(listed(&house.restarted(NOW)), now);
}

#[test]
fn the_local_token_is_kept_while_it_is_good() {
    let house = House::new();
    let read = |house: &House| fs::read_to_string(house.dir.path().join(LOCAL_TOKEN_FILE)).unwrap();
    let first = read(&house);
    assert_eq!(house.members.principal(&first, NOW).unwrap().scope, Scope::Admin);
    let house = house.restarted(NOW);
    assert_eq!(read(&house), first);
    let id = ApiToken::parse(&first).unwrap().id;
    house.members.revoke_token(&id).unwrap();
    let house = house.restarted(NOW);
    assert_ne!(read(&house), first);
    assert!(house.members.principal(&read(&house), NOW).is_some());
}

#[test]
fn spent_tokens_are_forgotten_in_the_end() {
    let house = House::new();
    for _ in 0..3 {
        house.token(None);
    }
    let later = NOW + JOIN_TTL_MS + tokens::JOIN_KEPT_MS + 1;
    house.members.create_join_token(None, JOIN_TTL_MS, later).unwrap();
    assert_eq!(house.members.join_tokens().len(), 1);
    let house = house.restarted(later);
    assert_eq!(house.members.join_tokens().len(), 1);
}
