//! The whole path, as it is walked every second and as it is interrupted: readings of a host reach
//! the answer to a query, through restarts, revocation, clones and silence.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stoa_agent::uplink;
use stoa_model::stale_nan;
use stoa_tests::feed::{Feed, labelled};
use stoa_tests::procfs::LOAD1;
use stoa_tests::sandbox::{PATIENCE, Point, Sandbox, until};
use tokio::time::{Instant, sleep};

/// How long the collector is away: longer than memory holds ticks back from the spool, and long
/// enough for a dozen dials.
const OUTAGE: Duration = Duration::from_secs(16);

/// Later than this is broken: a wait that grew with the outage, or a session left to fall silent.
/// How soon exactly is for tests in virtual time; here it is printed, and a busy machine is slow.
const LATE: Duration = Duration::from_secs(10);

/// How often a feed is given a tick.
const PACE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_of_an_agent_is_the_answer_to_a_query() {
    let sandbox = Sandbox::start().await;
    let agent = sandbox.agent("pve1").await;
    let value = until("node_load1 is stored", async || {
        sandbox.value(r#"node_load1{host="pve1",instance="pve1",job="node"}"#).await
    });
    assert!((value.await - LOAD1).abs() < f64::EPSILON);
    assert_eq!(sandbox.value(r#"up{host="pve1"}"#).await, Some(1.0));
    let series = sandbox.query(r#"{__name__=~"node_.+",host!="pve1"}"#).await;
    assert!(series.is_empty(), "not under the certificate's name: {series:?}");
    let figures = until("everything read is acknowledged at some moment", async || {
        let figures = agent.figures();
        (figures.produced > 0 && figures.in_memory == 0).then_some(figures)
    })
    .await;
    assert_eq!((figures.imbalance(), figures.lost.iter().sum::<u64>()), (0, 0), "{figures:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_cannot_speak_for_another_host() {
    let sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "pve1").await;
    let claims = [("host", "pve2"), ("instance", "pve2"), ("job", "bank")];
    let now_ms = stoa_daemon::unix_ms();
    feed.send(now_ms, [(labelled("claim", &claims), 1.0)]).await;
    feed.settled(1).await;
    let kept = r#"claim{host="pve1",instance="pve1",job="node",exported_host="pve2",
        exported_instance="pve2",exported_job="bank"}"#;
    assert_eq!(sandbox.value(kept).await, Some(1.0));
    assert!(sandbox.query(r#"{host="pve2"}"#).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_collector_leaves_no_gap() {
    let mut sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "pve1").await;
    let mut sent: Vec<Point> = Vec::new();
    let tick = async |feed: &mut Feed, sent: &mut Vec<Point>| {
        let value = sent.len() as f64;
        sent.push((feed.say("outage", value).await, value));
        sleep(PACE).await;
    };
    for _ in 0..10 {
        tick(&mut feed, &mut sent).await;
    }
    feed.settled(sent.len() as u64).await;
    sandbox.stop().await;
    let back = Instant::now() + OUTAGE;
    while Instant::now() < back {
        tick(&mut feed, &mut sent).await;
    }
    let figures = feed.figures();
    assert!(figures.in_spool > 0, "nothing was spooled: {figures:?}");
    sandbox.restart(|_| {}).await;
    let listens = Instant::now();
    let fresh = sent.len() as f64;
    loop {
        let away = listens.elapsed();
        assert!(away < PATIENCE, "no live tick comes: {:?}", feed.figures());
        tick(&mut feed, &mut sent).await;
        if sandbox.value("outage").await.is_some_and(|latest| latest >= fresh) {
            break;
        }
    }
    let took = listens.elapsed();
    println!("a new reading is there {took:?} after the collector listens");
    assert!(took < LATE, "a new reading is there only {took:?} after the collector listens");
    let figures = feed.settled(sent.len() as u64).await;
    assert!(figures.legs > 0, "live ticks have not overtaken the backlog: {figures:?}");
    assert_eq!(figures.dropped.iter().chain(&figures.lost).sum::<u64>(), 0, "{figures:?}");
    assert_eq!(sandbox.points("outage").await, sent);
    feed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_brings_what_it_had_saved() {
    let mut sandbox = Sandbox::start().await;
    let dir = sandbox.join("pve1").await;
    sandbox.stop().await;
    let mut feed = Feed::start_in(&sandbox, &dir, uplink::boot_id()).await;
    let mut sent = Vec::new();
    for value in 0..5 {
        let value = f64::from(value);
        sent.push((feed.say("saved", value).await, value));
        sleep(PACE).await;
    }
    let figures = feed.stop().await;
    assert_eq!((figures.imbalance(), figures.in_spool), (0, 5), "{figures:?}");
    sandbox.restart(|_| {}).await;
    let feed = Feed::start_in(&sandbox, &dir, uplink::boot_id()).await;
    feed.settled(5).await;
    assert_eq!(sandbox.points("saved").await, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_host_is_cut_off_and_stays_out() {
    let sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "pve1").await;
    let mut other = Feed::start(&sandbox, "pve2").await;
    feed.say("before", 1.0).await;
    feed.settled(1).await;
    other.say("before", 2.0).await;
    other.settled(1).await;
    let members = Arc::clone(&sandbox.server().parts().members);
    let revoke =
        tokio::task::spawn_blocking(move || members.revoke_host("pve1", stoa_daemon::unix_ms()));
    revoke.await.unwrap().unwrap();
    let revoked_at = Instant::now();
    until("the revoked host's session ends", async || (feed.figures().hang_ups > 0).then_some(()))
        .await;
    let took = revoked_at.elapsed();
    println!("a revoked host is cut off after {took:?}");
    assert!(took < LATE, "cut off only after {took:?}");
    feed.say("after", 1.0).await;
    other.say("after", 2.0).await;
    other.settled(2).await;
    until("it is refused", async || {
        let stats = sandbox.server().parts().figures().listener;
        (stats.refused.iter().map(|(_, count)| count).sum::<u64>() > 0).then_some(())
    })
    .await;
    assert_eq!(feed.figures().sessions, 1);
    assert_eq!(sandbox.value("after").await, Some(2.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_with_one_identity_the_older_is_fenced() {
    let sandbox = Sandbox::start().await;
    let dir = sandbox.join("pve1").await;
    let copy = sandbox.dir().join("copy");
    std::fs::create_dir(&copy).unwrap();
    stoa_agent::identity::load(&dir).unwrap().store(&copy, None).unwrap();
    let mut original = Feed::start_in(&sandbox, &dir, vec![1; 16]).await;
    original.say("original", 1.0).await;
    original.settled(1).await;
    let mut clone = Feed::start_in(&sandbox, &copy, vec![2; 16]).await;
    clone.say("clone", 1.0).await;
    clone.settled(1).await;
    until("the older is told", async || (original.figures().fenced == 1).then_some(())).await;
    assert_eq!(sandbox.ingest().identity_conflicts, 1);
    // It keeps what it reads, and does not take its turn at once.
    original.say("original", 2.0).await;
    sleep(Duration::from_secs(2)).await;
    clone.say("clone", 2.0).await;
    clone.settled(2).await;
    let figures = original.figures();
    assert_eq!((figures.fenced, figures.sessions, figures.imbalance()), (1, 1, 0), "{figures:?}");
    assert_eq!(clone.figures().fenced, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_falls_silent_is_down_and_its_series_end() {
    let sandbox = Sandbox::start().await;
    let agent = sandbox.agent("pve1").await;
    until("the host is up", async || {
        sandbox.value(r#"up{host="pve1"}"#).await.filter(|up| *up > 0.0)
    })
    .await;
    assert!(!sandbox.query("node_load1").await.is_empty());
    agent.stop().await;
    until("the host is down", async || {
        sandbox.value(r#"up{host="pve1"}"#).await.filter(|up| *up <= 0.0)
    })
    .await;
    let left = sandbox.query(r#"{host="pve1",__name__!="up"}"#).await;
    assert!(left.is_empty(), "still there: {left:?}");
    // And it comes back by itself.
    let _agent = sandbox.agent_in(&sandbox.dir().join("pve1")).await;
    until("the host is up again", async || {
        sandbox.value(r#"up{host="pve1"}"#).await.filter(|up| *up > 0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_that_ends_is_gone_at_once() {
    let sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "pve1").await;
    feed.say("short", 1.0).await;
    feed.say("long", 1.0).await;
    feed.settled(2).await;
    feed.say("short", stale_nan()).await;
    feed.settled(3).await;
    let names: BTreeSet<String> = sandbox
        .query(r#"{host="pve1"}"#)
        .await
        .iter()
        .filter_map(|series| Some(series.get("metric")?.get("__name__")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(names, BTreeSet::from(["long".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_at_the_port_for_people_is_told_which_to_use() {
    let sandbox = Sandbox::start().await;
    let token = stoa_model::JoinToken { ca_sha256: [1; 32], id: "00".repeat(8), secret: [2; 32] };
    let http = sandbox.server().http_addr().to_string();
    let joined = stoa_agent::join::join(&token.to_string(), &http, "pve1", sandbox.dir()).await;
    let error = joined.unwrap_err();
    assert!(error.is_misuse(), "{error:?}");
    assert!(error.to_string().contains("agents use 7443"), "{error}");
}
