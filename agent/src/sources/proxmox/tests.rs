use std::time::Duration;

use serde_json::json;

use super::fake::{Fake, PBS_TOKEN, PVE_TOKEN, Says};
use super::*;
use crate::sources::{Now, Roots, Source, settings};

const CLUSTER: &str = include_str!("scripts/cluster.json");
const BACKUP_SERVER: &str = include_str!("scripts/backup_server.json");

/// When it is.
const NOW: Now = Now { unix_micros: 1_770_000_000_000_000 };

fn cluster(fake: &Fake, more: &str) -> Cluster {
    Cluster::of(settings("proxmox", fake, "stoa@pve!agent=geheim", more), BUDGET)
}

fn backup_server(fake: &Fake, more: &str) -> BackupServer {
    let settings = settings("backup_server", fake, "stoa@pbs!agent=geheim", more);
    BackupServer::of(settings, BUDGET)
}

/// Settings for the fake; `more` goes before what would be said otherwise.
fn settings(source: &str, fake: &Fake, token: &str, more: &str) -> Settings {
    let mut text = format!("[sources.{source}]\nurl = \"https://{}\"\n{more}\n", fake.address);
    for (key, value) in
        [("instance", "pve1"), ("token", token), ("fingerprint", fake.fingerprint.as_str())]
    {
        if !more.contains(key) {
            text.push_str(&format!("{key} = \"{value}\"\n"));
        }
    }
    settings::Settings::parse(&text).unwrap().of(source).unwrap()
}

/// What a reading tells, as an exporter would print it, and what was wrong.
fn read(source: &mut dyn Source, now: Now, fake: &Fake) -> String {
    let mut reading = Reading::default();
    reading.begin();
    source.read(&Roots::default(), now, &mut reading);
    reading.end();
    let families: Vec<_> = reading.families().cloned().collect();
    let mut out = Vec::new();
    stoa_exchange::exposition::write(&families, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with("# HELP")).map(str::to_owned).collect();
    lines.extend(reading.problems.iter().map(|problem| format!("! {problem}")));
    if reading.failed {
        lines.push("! failed".to_owned());
    }
    let told = lines.join("\n").replace(&fake.address, "ADDRESS");
    assert!(!told.contains("geheim"), "{told}");
    told.replace(r#"__instance__="pve1",__job__="pve","#, "")
        .replace(r#"__instance__="pve1",__job__="pbs","#, "")
}

/// Reads once what a cluster says where `says` goes before the script: each of `expected` is a line, or
/// stands in none if it begins with `-`.
#[track_caller]
fn check(says: &[(&str, Says)], more: &str, expected: &[&str]) {
    let fake = Fake::new(PVE_TOKEN, CLUSTER, says);
    let settings = settings("proxmox", &fake, "stoa@pve!agent=geheim", more);
    // Nobody waits longer than has to be for what never comes.
    let hangs = says.iter().any(|(_, says)| matches!(says, Says::Hang));
    let budget = if hangs { Duration::from_secs(4) } else { BUDGET };
    let told = read(&mut Cluster::of(settings, budget), NOW, &fake);
    check_lines(&told, expected);
}

#[track_caller]
fn check_lines(told: &str, expected: &[&str]) {
    for line in expected {
        match line.strip_prefix('-') {
            Some(absent) => assert!(!told.contains(absent), "{absent} in\n{told}"),
            None => assert!(told.lines().any(|it| it.contains(line)), "no {line} in\n{told}"),
        }
    }
}

#[test]
fn a_cluster_with_a_node_that_is_off() {
    let fake = Fake::new(PVE_TOKEN, CLUSTER, &[]);
    let mut source = cluster(&fake, "");
    let told = read(&mut source, NOW, &fake);
    insta::assert_snapshot!("cluster", told);
    assert!(fake.asked().iter().all(|path| !path.contains("pve3") && !path.contains("..")));
    // What changes seldom is not asked again, and told.
    let again = read(&mut source, NOW.moved(30_000_000), &fake);
    assert_eq!(again, told);
    assert_eq!(fake.asked(), ["version", "cluster/status", "cluster/resources"]);
    read(&mut source, NOW.moved(61_000_000), &fake);
    assert_eq!(fake.asked().len(), 5, "and both nodes' tasks");
}

#[test]
fn a_backup_server() {
    let fake = Fake::new(PBS_TOKEN, BACKUP_SERVER, &[]);
    let told = read(&mut backup_server(&fake, ""), NOW, &fake);
    insta::assert_snapshot!("backup_server", told);
    assert!(fake.asked().iter().all(|path| !path.contains("usb") && !path.contains("..")));
}

#[test]
fn a_node_that_does_not_answer_costs_its_own_series() {
    for status in [595, 596, 599] {
        check(
            &[("nodes/pve2", Says::Status(status, ""))],
            "",
            &[
                r#"pve_up{id="node/pve2"} 1"#,
                r#"pve_onboot_status{id="qemu/100",node="pve1",type="qemu"} 1"#,
                r#"-pve_onboot_status{id="lxc/101""#,
                r#"-pve_subscription_status{id="node/pve2""#,
                &format!(
                    "! Proxmox VE: ADDRESS: node pve2: the node does not answer the one that is asked ({status})"
                ),
                "-and 1 more",
            ],
        );
    }
}

#[test]
fn a_node_that_went_away_is_no_longer_told() {
    let fake = Fake::new(PVE_TOKEN, CLUSTER, &[]);
    let mut source = cluster(&fake, "");
    let told = read(&mut source, NOW, &fake);
    check_lines(&told, &[r#"pve_subscription_status{id="node/pve2",status="notfound"} 1"#]);
    let mut status: serde_json::Value = serde_json::from_str(CLUSTER).unwrap();
    status["cluster/status"][2]["online"] = json!(0);
    let off = Fake::new(PVE_TOKEN, &status.to_string(), &[]);
    // The same cluster, asked elsewhere.
    let told = read(&mut cluster(&off, ""), NOW, &off);
    check_lines(
        &told,
        &[r#"pve_up{id="node/pve2"} 0"#, r#"-pve_subscription_status{id="node/pve2""#],
    );
}

#[test]
fn who_cannot_be_trusted_is_shown_no_token() {
    let fingerprint = format!("fingerprint = \"{}\"", "ab".repeat(32));
    let fake = Fake::new(PVE_TOKEN, CLUSTER, &[]);
    let shown = fake.fingerprint.to_uppercase();
    let digits: Vec<char> = shown.chars().collect();
    let pairs: Vec<String> = digits.chunks(2).map(String::from_iter).collect();
    let told = read(&mut cluster(&fake, &fingerprint), NOW, &fake);
    let expected = format!("its fingerprint is {}; if `pvenode cert info`", pairs.join(":"));
    check_lines(
        &told,
        &["stoa_proxmox_up{__instance__=\"pve1\",__job__=\"pve\"} 0", &expected, "! failed"],
    );
    assert!(fake.asked().is_empty());
}

#[test]
fn a_certificate_may_be_anybodys_when_that_is_said() {
    check(&[], "insecure = true\nfingerprint = \"\"", &[r#"pve_up{id="cluster/home"} 1"#]);
}

#[test]
fn tokens_that_are_refused_or_none_are_told_with_what_to_do() {
    let refused = |token: &str, expected: &str| {
        check(&[], &format!("token = \"{token}\""), &[expected, "! failed"]);
    };
    refused(
        "stoa@pve!agent=wrong",
        "the token is refused (401 invalid token value!); is it written as",
    );
    refused("stoa@pve", "token is not of the form USER@REALM!NAME=SECRET");
    refused("", "token is not of the form USER@REALM!NAME=SECRET");
    // As backup servers write them.
    check(&[], "token = \"stoa@pve!agent:geheim\"", &[r#"pve_up{id="cluster/home"} 1"#]);
}

#[test]
fn a_token_stands_in_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let more = format!("token = \"\"\ntoken_file = \"{}\"", path.display());
    check(&[], &more, &["cannot read", "! failed"]);
    std::fs::write(&path, "stoa@pve!agent=geheim\n").unwrap();
    check(&[], &more, &[r#"pve_up{id="cluster/home"} 1"#, "-! "]);
}

#[test]
fn lists_that_are_empty_for_want_of_rights_are_told() {
    let rights = |rights: serde_json::Value| ("access/permissions", Says::Data(rights));
    check(
        &[rights(json!({"/": {}})), ("cluster/resources", Says::Data(json!([])))],
        "",
        &[
            "nodes, their tasks and disks are not shown, as the token lacks Sys.Audit on /nodes",
            "guests are not shown, as the token lacks VM.Audit on /vms",
            "storages are not shown, as the token lacks Datastore.Audit on /storage",
        ],
    );
    // An auditor sees everything but backups.
    check(
        &[rights(json!({"/": {"Sys.Audit": 1, "VM.Audit": 1, "Datastore.Audit": 1}}))],
        "",
        &[
            "backups on local, pbs are not shown, as the token lacks Datastore.Allocate there; give",
            "-stoa_guest_backup",
            "-stoa_guest_never_backed_up",
        ],
    );
    // One who may see what is on one storage does not call guests unprotected by it.
    check(
        &[rights(json!({
            "/": {"Sys.Audit": 1, "VM.Audit": 1, "Datastore.Audit": 1, "Datastore.Allocate": 0},
            "/storage/local": {"Datastore.Allocate": 0},
        }))],
        "",
        &[
            "backups on pbs are not shown",
            "stoa_guest_backups{id=\"qemu/100\",node=\"pve1\",storage=\"local\"} 1",
            "-stoa_guest_never_backed_up",
        ],
    );
    check(
        &[rights(json!({
            "/": {"Sys.Audit": 1, "VM.Audit": 1, "Datastore.Audit": 1},
            "/vms": {"VM.Backup": 1},
            "/storage": {"Datastore.AllocateSpace": 1},
        }))],
        "",
        &["-backups on", "stoa_guest_never_backed_up{id=\"lxc/103\"} 1"],
    );
    // A version that does not say rights.
    check(
        &[
            ("access/permissions", Says::Status(501, "not implemented")),
            ("cluster/resources", Says::Data(json!(null))),
        ],
        "",
        &["no storage is shown, and every node has one"],
    );
    let fake = Fake::new(
        PBS_TOKEN,
        BACKUP_SERVER,
        &[rights(json!({})), ("status/datastore-usage", Says::Data(json!([])))],
    );
    let told = read(&mut backup_server(&fake, ""), NOW, &fake);
    check_lines(&told, &["as the token lacks Datastore.Audit"]);
}

#[test]
fn what_may_not_be_asked_is_told_once() {
    let denied =
        Says::Status(403, r#"{"message":"Permission check failed (/nodes/pve1, Sys.Audit)\n"}"#);
    check(
        &[("nodes/pve1", denied)],
        "",
        &[
            "and 9 more: the token may not ask this (403 Permission check failed (/nodes/pve1, Sys.Audit)); \
             give both the user and the token PVEAuditor on /",
            r#"pve_up{id="node/pve1"} 1"#,
        ],
    );
}

#[test]
fn a_storage_that_cannot_be_read_leaves_open_who_was_never_backed_up() {
    check(
        &[(
            "nodes/pve1/storage/pbs/content?content=backup",
            Says::Status(500, r#"{"message":"storage 'pbs' is not online"}"#),
        )],
        "",
        &[
            "-stoa_guest_never_backed_up",
            r#"stoa_guest_backups{id="qemu/100",node="pve1",storage="local"} 1"#,
            "nodes/pve1/storage/pbs/content?content=backup: it answers 500 storage 'pbs' is not online",
        ],
    );
}

#[test]
fn what_is_no_answer_of_the_api_is_told() {
    for (path, says, expected) in [
        ("version", Says::Html, "it answers what is no JSON; is the url that of Proxmox VE?"),
        ("version", Says::Stream, "sends more than"),
        ("version", Says::Hang, "no answer within"),
        ("cluster/resources", Says::Html, "it answers what is no JSON"),
        ("cluster/status", Says::Status(502, "<html>"), "it answers 502 Bad Gateway"),
    ] {
        let up = "stoa_proxmox_up{__instance__=\"pve1\",__job__=\"pve\"} 0";
        check(&[(path, says)], "", &[up, expected, "! failed", "-pve_up"]);
    }
}

#[test]
fn a_question_that_hangs_costs_its_own_series() {
    check(
        &[("cluster/backup-info/not-backed-up", Says::Hang)],
        "",
        &[r#"pve_up{id="node/pve1"} 1"#, "-pve_not_backed_up", "no answer within", "-! failed"],
    );
}

#[test]
fn a_server_that_hangs_leaves_the_next_its_time() {
    let hangs = Fake::new(PVE_TOKEN, CLUSTER, &[("version", Says::Hang)]);
    let answers = Fake::new(PVE_TOKEN, CLUSTER, &[]);
    let second = format!(
        "[[sources.proxmox.servers]]\nurl = \"https://{}\"\ninstance = \"other\"\n\
         token = \"stoa@pve!agent=geheim\"\nfingerprint = \"{}\"",
        answers.address, answers.fingerprint
    );
    let text = format!(
        "[sources.proxmox]\nurl = \"https://{}\"\ntoken = \"stoa@pve!agent=geheim\"\n\
         fingerprint = \"{}\"\n{second}",
        hangs.address, hangs.fingerprint
    );
    let settings = settings::Settings::parse(&text).unwrap().of("proxmox").unwrap();
    let mut source = Cluster::of(settings, Duration::from_secs(4));
    let told = read(&mut source, NOW, &answers);
    check_lines(
        &told,
        &[
            &format!("stoa_proxmox_up{{__instance__=\"{}\",__job__=\"pve\"}} 0", hangs.address),
            "stoa_proxmox_up{__instance__=\"other\",__job__=\"pve\"} 1",
            "-! failed",
        ],
    );
}

#[test]
fn many_guests_are_bounded_and_asked_a_few_at_a_time() {
    let guest = |n: usize| json!({"type": "lxc", "id": format!("lxc/{n}"), "node": "pve1", "status": "running"});
    let guests: Vec<_> = (100..100 + GUESTS_MAX + 7).map(guest).collect();
    let fake = Fake::new(PVE_TOKEN, CLUSTER, &[("cluster/resources", Says::Data(json!(guests)))]);
    let told = read(&mut cluster(&fake, ""), NOW, &fake);
    check_lines(&told, &["stoa_proxmox_left_out{__instance__=\"pve1\",__job__=\"pve\"} 7"]);
    assert_eq!(told.matches("pve_guest_info{").count(), GUESTS_MAX);
    assert!(fake.asked().len() <= 3 + 2 * QUESTIONS_MAX);
}

#[test]
fn what_cannot_be_meant_is_refused_and_shows_no_token() {
    let check = |more: &str, expected: &str| {
        let text = format!("[sources.proxmox]\ntoken = \"geheim\"\n{more}");
        let read = settings::Settings::parse(&text).unwrap().of::<Settings>("proxmox");
        let error = read.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("geheim"), "{error}");
    };
    check("url = \"http://pve1:8006\"", "expected https://");
    check("url = \"https://pve1:8006/api2\"", "without a path");
    check("url = \"pve1\"", "sources.proxmox.url");
    check("fingerprint = \"AB:CD\"", "sources.proxmox.fingerprint");
    check("fingerprints = \"\"", "sources.proxmox.fingerprints");
    check("servers = [{ token = 3 }]", "sources.proxmox.servers[0].token");
    let text = "[sources.proxmox]\nurl = \"https://a\"\ntoken = \"geheim\"";
    let read = settings::Settings::parse(text).unwrap().of::<Settings>("proxmox").unwrap();
    assert!(!format!("{read:?} {:?}", Cluster::of(read.clone(), BUDGET)).contains("geheim"));
}

#[test]
fn nothing_is_asked_unless_configured() {
    let mut reading = Reading::default();
    Cluster::of(Settings::default(), BUDGET).read(&Roots::default(), NOW, &mut reading);
    assert!(reading.failed && reading.problems.is_empty() && reading.absent.is_some());
}
