//! Clocks that are wrong and are set, the collector's and an agent's: nothing of what agents send is
//! lost by it, and nobody stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use stoa_collector::clock::Clock;
use stoa_tests::sandbox::{Point, Sandbox, until};
use stoa_tests::{Feed, feed::named};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// How far behind a clock is set, milliseconds: more than any frame may be ahead.
const BEHIND_MS: i64 = 600_000;

/// A clock, and how far from the right time it is.
fn skewed() -> (Clock, Arc<AtomicI64>) {
    let skew_ms = Arc::new(AtomicI64::new(0));
    let skew = Arc::clone(&skew_ms);
    (Arc::new(move || stoa_daemon::unix_ms() + skew.load(Ordering::SeqCst)), skew_ms)
}

/// One feed, and what it sent.
struct Sender {
    feed: Feed,
    name: &'static str,
    sent: Vec<Point>,
}

impl Sender {
    async fn start(sandbox: &Sandbox, name: &'static str) -> Self {
        Self { feed: Feed::start(sandbox, name).await, name, sent: Vec::new() }
    }

    async fn say(&mut self) {
        self.say_of(stoa_daemon::unix_ms()).await;
    }

    async fn say_of(&mut self, t_ms: i64) {
        let value = self.sent.len() as f64;
        self.feed.send(t_ms, [(named(self.name), value)]).await;
        self.sent.push((t_ms, value));
    }

    /// All it sent is answered for, and nothing of it was lost.
    async fn settled(&self) {
        let figures = self.feed.settled(self.sent.len() as u64).await;
        let lost = figures.lost.iter().chain(&figures.dropped).sum::<u64>();
        assert_eq!(lost, 0, "{}: {figures:?}", self.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leap_of_the_collectors_clock_loses_nothing_agents_send() {
    let (clock, skew_ms) = skewed();
    let sandbox = Sandbox::with_clock(clock, |_| {}).await;
    let mut senders = [Sender::start(&sandbox, "one").await, Sender::start(&sandbox, "two").await];
    for sender in &mut senders {
        sender.say().await;
        sender.settled().await;
    }
    let figures = || sandbox.server().parts().figures();
    assert!(!figures().clock_suspect);

    // Behind: senders keep what they read until the clock is right.
    skew_ms.store(-BEHIND_MS, Ordering::SeqCst);
    for sender in &mut senders {
        sender.say().await;
    }
    until("both are refused", async || (figures().ingest.clock_refused_calls >= 2).then_some(()))
        .await;
    assert!(figures().clock_suspect);
    for sender in &senders {
        let figures = sender.feed.figures();
        assert_eq!((figures.in_memory + figures.in_spool, figures.imbalance()), (1, 0));
    }
    skew_ms.store(0, Ordering::SeqCst);
    for sender in &senders {
        sender.settled().await;
    }

    // Ahead: the collector writes nothing of its own there, and takes what comes from now.
    skew_ms.store(DAY_MS, Ordering::SeqCst);
    let held = figures().own_samples_held;
    until("own samples are held back", async || (figures().own_samples_held > held).then_some(()))
        .await;
    for sender in &mut senders {
        sender.say().await;
        sender.settled().await;
    }
    let tomorrow = sandbox.query(r#"{__name__=~".+"}"#).await;
    assert!(tomorrow.is_empty(), "written a day ahead: {tomorrow:?}");
    skew_ms.store(0, Ordering::SeqCst);
    until("its own series go on", async || {
        sandbox.value("stoa_collector_own_samples_held_total > 0").await
    })
    .await;
    for sender in &mut senders {
        sender.say().await;
        sender.settled().await;
        assert_eq!(sandbox.points(sender.name).await, sender.sent);
    }
    assert_eq!(figures().store.samples.too_old, 0);
}

/// A host that starts an hour ahead has its clock set right while the collector is away, and later
/// set forward again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_clock_is_set_while_the_collector_is_away_comes_back() {
    let (clock, skew_ms) = skewed();
    skew_ms.store(HOUR_MS, Ordering::SeqCst);
    let mut sandbox = Sandbox::start().await;
    let mut feed = Feed::with_clock(&sandbox, "pve1", clock).await;
    let mut sent = vec![(feed.say("set", 0.0).await, 0.0)];
    feed.settled(1).await;
    for (round, skew) in [(1_u8, 0), (2, HOUR_MS)] {
        sandbox.stop().await;
        skew_ms.store(skew, Ordering::SeqCst);
        let value = f64::from(round);
        sent.push((feed.say("set", value).await, value));
        until("a dial has failed", async || {
            let figures = feed.figures();
            (figures.hang_ups > figures.sessions && figures.in_spool == 1).then_some(())
        })
        .await;
        sandbox.restart(|_| {}).await;
        feed.settled(sent.len() as u64).await;
        assert_eq!(feed.figures().sessions, u64::from(round) + 1);
        assert_eq!(sandbox.points("set").await, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_begins_behind_writes_nothing_amid_what_was_sent_then() {
    let (clock, skew_ms) = skewed();
    let mut sandbox = Sandbox::with_clock(clock, |_| {}).await;
    let mut senders = [Sender::start(&sandbox, "one").await, Sender::start(&sandbox, "two").await];
    let began_ms = stoa_daemon::unix_ms();
    for sender in &mut senders {
        sender.say_of(began_ms - BEHIND_MS - 30_000).await;
        sender.settled().await;
    }

    skew_ms.store(-BEHIND_MS, Ordering::SeqCst);
    sandbox.restart(|_| {}).await;
    let figures = || sandbox.server().parts().figures();
    for sender in &mut senders {
        sender.say().await;
    }
    until("both are refused", async || (figures().ingest.clock_refused_calls >= 2).then_some(()))
        .await;
    // Its own figures are due every ten seconds: twice is more than a host may be silent.
    for _ in 0..2 {
        let held = figures().own_samples_held;
        until("own samples are held back", async || {
            (figures().own_samples_held > held).then_some(())
        })
        .await;
    }
    skew_ms.store(0, Ordering::SeqCst);

    let slow_ms = stoa_daemon::unix_ms() - BEHIND_MS;
    let time = format!("{}", (slow_ms + 1000) as f64 / 1000.0);
    let past = async |selector: &str| {
        let mut points = sandbox.points(selector).await;
        points.retain(|(t_ms, _)| *t_ms <= slow_ms + 1000);
        points
    };
    for sender in &senders {
        sender.settled().await;
        assert_eq!(sandbox.points(sender.name).await, sender.sent);
        let (status, then) =
            sandbox.get("/api/v1/query", &[("query", sender.name), ("time", &time)]).await;
        assert!(status == 200 && then.contains(r#""0"]"#), "{} has ended: {then}", sender.name);
        assert_eq!(past(&format!(r#"up{{host="{}"}}"#, sender.name)).await, []);
    }
    assert_eq!(past("stoa_collector_own_samples_held_total").await, []);
}
