//! What a host is made of, from its files to the collector's answer, over restarts of either.

use std::fs;

use stoa_collector::inventory::{Changes, Dated, ValueLine, WhatLine};
use stoa_proto::convert::INVENTORY_BYTES_MAX;
use stoa_proto::v1;
use stoa_proto::v1::inventories_client::InventoriesClient;
use stoa_tests::{RawSession, Sandbox, until};
use stoa_transport::Class;
use tonic::Code;

async fn dated(sandbox: &Sandbox) -> Option<Dated> {
    let (status, body) = sandbox.get("/stoa/api/v1/hosts/pve1/inventory", &[]).await;
    (status == 200).then(|| serde_json::from_str(&body).unwrap())
}

fn hostname(dated: &Dated) -> Option<&ValueLine> {
    dated.document.sections.get("system")?.items.get("")?.get("hostname")
}

fn text(text: &str) -> ValueLine {
    ValueLine::Text(text.to_owned())
}

async fn changes(sandbox: &Sandbox) -> Changes {
    let path = "/stoa/api/v1/hosts/pve1/inventory/changes";
    let (status, body) = sandbox.get(path, &[]).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_tells_what_it_is_once_and_what_changed_after_it_was_away() {
    let mut sandbox = Sandbox::start().await;
    let (status, body) = sandbox.get("/stoa/api/v1/hosts/pve1/inventory", &[]).await;
    assert_eq!(status, 404, "{body}");
    let dir = sandbox.join("pve1").await;
    let name = dir.join("root/proc/sys/kernel/hostname");
    fs::create_dir_all(name.parent().unwrap()).unwrap();
    fs::write(&name, "pve1\n").unwrap();
    let agent = sandbox.agent_in(&dir).await;
    let first = until("the inventory comes", async || dated(&sandbox).await).await;
    assert_eq!(hostname(&first), Some(&text("pve1")));
    assert_eq!((first.host.as_str(), first.kept), ("pve1", 1));
    until("its series come", async || sandbox.value(r#"count(stoa_host_info{host="pve1"})"#).await)
        .await;
    agent.stop().await;

    // The same again, by another process to another one: there is nothing to tell.
    sandbox.restart(|_| {}).await;
    let agent = sandbox.agent_in(&dir).await;
    until("the collector hears the agent", async || {
        sandbox.value(r#"up{host="pve1"}"#).await.filter(|up| *up > 0.0)
    })
    .await;
    assert_eq!(dated(&sandbox).await, Some(first.clone()));
    assert!(changes(&sandbox).await.steps.is_empty());
    agent.stop().await;

    // What changed while it was away is told when it is back.
    fs::write(&name, "pve1-new\n").unwrap();
    let _agent = sandbox.agent_in(&dir).await;
    let second =
        until("the change comes", async || dated(&sandbox).await.filter(|dated| dated.kept == 2))
            .await;
    assert_eq!(hostname(&second), Some(&text("pve1-new")));
    let told = changes(&sandbox).await;
    assert_eq!((told.steps.len(), told.begins_ms), (1, Some(first.at_ms)), "{told:?}");
    let of_system = told.steps[0].changes.iter().find(|change| change.section == "system").unwrap();
    let WhatLine::Changed { fields } = &of_system.what else { panic!("{of_system:?}") };
    assert_eq!(fields["hostname"].before, Some(text("pve1")));
    assert_eq!(fields["hostname"].after, Some(text("pve1-new")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_a_bound_or_of_no_session_is_refused() {
    let sandbox = Sandbox::start().await;
    let who = sandbox.member("pve1").await;
    let mut raw = RawSession::open(&sandbox, &who).await;
    let session = raw.session;
    let mut client = InventoriesClient::new(raw.connection().channel(Class::Logs));
    let told = |session, name: &str, items: usize| {
        let item = |key: usize| v1::InventoryItem { key: key.to_string(), fields: vec![] };
        let items = (0..items).map(item).collect();
        let section = v1::InventorySection { name: name.to_owned(), items, left_out: 0 };
        let document = Some(v1::InventoryDocument { sections: vec![section] });
        v1::InventoryTold { session, digest: vec![1; 16].into(), document }
    };
    let code = |answer: Result<tonic::Response<v1::InventoryKept>, tonic::Status>| {
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code(client.tell(told(session + 1, "a", 1)).await), Code::FailedPrecondition);
    assert_eq!(code(client.tell(told(session, "Not a name", 1)).await), Code::InvalidArgument);
    assert_eq!(code(client.tell(told(session, "a", 513)).await), Code::InvalidArgument);
    let long = "x".repeat(INVENTORY_BYTES_MAX + 1);
    assert_eq!(code(client.tell(told(session, &long, 1)).await), Code::OutOfRange);
    assert_eq!(code(client.tell(told(session, "a", 512)).await), Code::Ok);
    // The next session learns what is kept; the one before may tell no more.
    let newer = RawSession::open(&sandbox, &who).await;
    assert_eq!(newer.inventory_digest.as_deref(), Some([1; 16].as_slice()));
    assert_eq!(code(client.tell(told(session, "a", 1)).await), Code::FailedPrecondition);
    assert!(matches!(raw.next().await, Some(v1::collector_message::Kind::Fenced(_))));
    let (status, body) = sandbox.get("/metrics", &[]).await;
    assert_eq!(status, 200);
    let refused = r#"stoa_collector_inventory_refused_total{reason="malformed"} 2"#;
    assert!(body.contains(refused), "{body}");
}
