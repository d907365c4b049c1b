//! What is issued is accepted by the verifiers that will see it, and the CA survives its dangers.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;

const NOW: TimestampMs = 1_800_000_000_000;
const DAY_MS: TimestampMs = 86_400_000;

fn ca() -> (tempfile::TempDir, Ca) {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(dir.path(), false, NOW).unwrap();
    (dir, ca)
}

fn csr(key: &KeyPair, name: &str) -> Vec<u8> {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn at(ms: TimestampMs) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(ms.try_into().unwrap()))
}

fn roots(ca: &Ca) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add(ca.cert().clone()).unwrap();
    Arc::new(store)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[test]
fn a_host_certificate_carries_the_approved_name_and_lasts_seven_days() {
    let (_dir, ca) = ca();
    let host = HostId::parse("pve1").unwrap();
    let key = KeyPair::generate().unwrap();
    let made = ca.issue_host(&csr(&key, "someone-else"), &host, NOW).unwrap();
    let leaf = made.chain.first().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = names.value.general_names.iter().map(|n| format!("{n:?}")).collect();
    assert_eq!(names, ["DNSName(\"pve1\")"]);
    assert_eq!(Serial::from_bytes(parsed.raw_serial()), Some(made.serial));
    assert_eq!(Serial::parse(&made.serial.to_string()), Some(made.serial));
    assert_eq!(made.not_after_ms, NOW + 7 * DAY_MS);

    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(&ca), provider()).build().unwrap();
    let valid = |ms| verifier.verify_client_cert(leaf, &[], at(ms)).is_ok();
    assert!(valid(NOW) && valid(NOW - DAY_MS / 25) && valid(made.not_after_ms));
    assert!(!valid(made.not_after_ms + 1000) && !valid(NOW - DAY_MS));

    // A host cannot pose as the collector, nor the collector's certificate as a host's.
    let servers =
        WebPkiServerVerifier::builder_with_provider(roots(&ca), provider()).build().unwrap();
    let name = ServerName::try_from("pve1").unwrap();
    assert!(servers.verify_server_cert(leaf, &[], &name, &[], at(NOW)).is_err());
    let own = ca.issue_server(&[], &[], NOW).unwrap();
    assert!(verifier.verify_client_cert(own.chain.first().unwrap(), &[], at(NOW)).is_err());
}

#[test]
fn a_server_certificate_is_good_for_its_names() {
    let (_dir, ca) = ca();
    let address: IpAddr = "192.168.1.5".parse().unwrap();
    let made = ca.issue_server(&["stoa.lan".to_owned()], &[address], NOW).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&ca), provider()).build().unwrap();
    let leaf = made.chain.first().unwrap();
    let check = |name: &str, ms, good: bool| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.verify_server_cert(leaf, &[], &name, &[], at(ms));
        assert_eq!(verified.is_ok(), good, "{name:?} {verified:?}");
    };
    check(SERVER_NAME, NOW, true);
    check("stoa.lan", NOW, true);
    check("192.168.1.5", NOW, true);
    check("evil.lan", NOW, false);
    check(SERVER_NAME, made.renew_at_ms, true);
    check(SERVER_NAME, NOW + 31 * DAY_MS, false);
    CertSlot::new(made).unwrap();
}

#[test]
fn only_a_request_signed_by_its_own_p256_key_is_granted() {
    let (_dir, ca) = ca();
    let host = HostId::parse("pve1").unwrap();
    let check = |csr: &[u8], what: &str| {
        let refused = ca.issue_host(csr, &host, NOW);
        assert!(matches!(refused, Err(CaError::Request { .. })), "{what}: {refused:?}");
    };
    let good = csr(&KeyPair::generate().unwrap(), "x");
    assert!(ca.issue_host(&good, &host, NOW).is_ok());
    check(&[], "empty");
    check(&[0x30; 5000], "too large");
    for cut in [1, 50, good.len() - 1] {
        check(&good[..cut], "cut short");
    }
    let mut forged = good;
    *forged.last_mut().unwrap() ^= 1;
    check(&forged, "forged signature");
    for alg in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        check(&csr(&KeyPair::generate_for(alg).unwrap(), "x"), "other key");
    }
}

#[test]
fn the_ca_outlives_restarts_and_is_never_replaced() {
    let (dir, first) = ca();
    let (key_path, cert_path) = (dir.path().join("ca/ca.key"), dir.path().join("ca/ca.pem"));
    for (path, mode) in [(dir.path().join("ca"), 0o700), (key_path.clone(), 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
    }
    let again = Ca::open(dir.path(), true, NOW + DAY_MS).unwrap();
    assert_eq!(again.sha256(), first.sha256());

    // The certificate lost: a new one for the same key, which hosts still accept.
    let cert = fs::read(&cert_path).unwrap();
    fs::remove_file(&cert_path).unwrap();
    let recovered = Ca::open(dir.path(), true, NOW + DAY_MS).unwrap();
    let server = recovered.issue_server(&[], &[], NOW + DAY_MS).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&first), provider()).build().unwrap();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let leaf = server.chain.first().unwrap();
    verifier.verify_server_cert(leaf, &[], &name, &[], at(NOW + DAY_MS)).unwrap();

    // Damage and loss of the key are said, and nothing is written.
    fs::write(&cert_path, &cert).unwrap();
    let key = fs::read(&key_path).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (path, bytes) in
        [(&key_path, b"junk".to_vec()), (&cert_path, b"junk".to_vec()), (&key_path, other.into())]
    {
        let before = fs::read(path).unwrap();
        fs::write(path, &bytes).unwrap();
        assert!(matches!(Ca::open(dir.path(), true, NOW), Err(CaError::Damaged { .. })));
        assert_eq!(fs::read(path).unwrap(), bytes);
        fs::write(path, before).unwrap();
    }
    assert_eq!(fs::read(&key_path).unwrap(), key);
    fs::remove_file(&key_path).unwrap();
    for made_before in [true, false] {
        let lost = Ca::open(dir.path(), made_before, NOW);
        assert!(matches!(lost, Err(CaError::KeyMissing { .. })), "{lost:?}");
    }
    fs::remove_file(&cert_path).unwrap();
    assert!(matches!(Ca::open(dir.path(), true, NOW), Err(CaError::KeyMissing { .. })));
}
