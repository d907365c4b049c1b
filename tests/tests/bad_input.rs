//! What a broken, careless or hostile sender can do, and a full disk: a clear error, a counter, and
//! nobody else harmed.

use std::time::Duration;

use bytes::Bytes;
use stoa_collector::ingest::IngestFigures;
use stoa_model::Labels;
use stoa_proto::convert::{LABEL_BYTES_MAX, LABELS_MAX};
use stoa_proto::delivery::DropReason;
use stoa_proto::v1;
use stoa_tests::feed::{Feed, labelled, named, of};
use stoa_tests::raw::{self, RawSession, data, grpc, grpc_of, prefixed};
use stoa_tests::sandbox::{Point, Sandbox, until};
use stoa_tests::small_disk::SmallDisk;
use stoa_transport::Class;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::Code;

const PUSH: &str = "/stoa.v1.Ingest/Push";
const SESSION: &str = "/stoa.v1.Control/Session";

/// Series an agent may have in these tests.
const SERIES_MAX: usize = 100;

/// A host that reads on while another one misbehaves; checked by [`Bystander::unharmed`].
struct Bystander(JoinHandle<(Feed, Vec<Point>)>, tokio_util::sync::CancellationToken);

impl Bystander {
    async fn start(sandbox: &Sandbox) -> Self {
        let mut feed = Feed::start(sandbox, "bystander").await;
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut sent = Vec::new();
            while !stopped.is_cancelled() {
                let value = sent.len() as f64;
                sent.push((feed.say("bystander", value).await, value));
                sleep(Duration::from_millis(50)).await;
            }
            (feed, sent)
        });
        Self(task, stop)
    }

    /// Everything it said is stored, and nothing had to be said twice.
    async fn unharmed(self, sandbox: &Sandbox) {
        self.1.cancel();
        let (feed, sent) = self.0.await.unwrap();
        let figures = feed.settled(sent.len() as u64).await;
        assert_eq!((figures.hang_ups, figures.resyncs), (0, 0), "{figures:?}");
        assert_eq!(figures.lost.iter().chain(&figures.dropped).sum::<u64>(), 0, "{figures:?}");
        assert_eq!(sandbox.points("bystander").await, sent);
    }
}

fn frame(kind: v1::frame::Kind) -> Vec<u8> {
    grpc_of(&v1::Frame { kind: Some(kind) })
}

fn begin(session: u64, epoch: &'static [u8], stream: i32) -> v1::frame::Kind {
    let epoch = Bytes::from_static(epoch);
    v1::frame::Kind::Begin(v1::Begin { session, epoch, stream, leg: 0, backlog: false })
}

fn hello(epoch: &'static [u8]) -> Vec<u8> {
    let hello = v1::Hello { epoch: Bytes::from_static(epoch), ..v1::Hello::default() };
    grpc_of(&v1::AgentMessage { kind: Some(v1::agent_message::Kind::Hello(hello)) })
}

/// What is sent, where, and what the sender is told.
struct Bad {
    what: &'static str,
    path: &'static str,
    body: Vec<u8>,
    code: Code,
    says: &'static str,
}

fn bad(
    what: &'static str,
    path: &'static str,
    body: Vec<u8>,
    code: Code,
    says: &'static str,
) -> Bad {
    Bad { what, path, body, code, says }
}

fn bad_messages() -> Vec<Bad> {
    let metrics = v1::Stream::Metrics.into();
    let drops = v1::DropRecords { seq: 1, records: vec![v1::DropRecord::default(); 2000] };
    let ping = v1::AgentMessage { kind: Some(v1::agent_message::Kind::Ping(v1::Ping::default())) };
    vec![
        bad("a message that ends early", PUSH, prefixed(0, 100, b"begin"), Code::Internal, "EOF"),
        bad("a prefix that ends early", PUSH, vec![0, 0], Code::Internal, "EOF"),
        bad(
            "a length of 4 GiB",
            PUSH,
            prefixed(0, u32::MAX, b""),
            Code::OutOfRange,
            "message length too large",
        ),
        bad("an unknown flag", PUSH, prefixed(7, 1, b"a"), Code::Internal, "compression flag"),
        bad("bytes that are no protobuf", PUSH, grpc(&[0xff; 64]), Code::Internal, "decode"),
        bad("a field of another type", PUSH, grpc(&[0x08, 0x01]), Code::Internal, "decode"),
        bad(
            "a frame of an unknown kind",
            PUSH,
            grpc(&[0x7a, 0x01, 0x00]),
            Code::InvalidArgument,
            "message without a valid kind",
        ),
        bad("an empty frame", PUSH, grpc(b""), Code::InvalidArgument, "without a valid kind"),
        bad(
            "an epoch of three bytes",
            PUSH,
            frame(begin(1, b"abc", metrics)),
            Code::InvalidArgument,
            "without a valid epoch",
        ),
        bad(
            "a stream that does not exist",
            PUSH,
            frame(begin(1, &[7; 16], 77)),
            Code::InvalidArgument,
            "without a valid stream",
        ),
        bad(
            "more drop records than allowed",
            PUSH,
            frame(v1::frame::Kind::Drops(drops)),
            Code::InvalidArgument,
            "number of drop records",
        ),
        bad(
            "a session that begins with a ping",
            SESSION,
            grpc_of(&ping),
            Code::InvalidArgument,
            "hello",
        ),
        bad("a session of garbage", SESSION, grpc(&[0xff; 64]), Code::InvalidArgument, "hello"),
        bad("a hello without an epoch", SESSION, hello(b""), Code::InvalidArgument, "malformed"),
        bad(
            "a hello of 64 KiB",
            SESSION,
            grpc(&[0; 64 << 10]),
            Code::InvalidArgument,
            "a session begins with a hello",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_nobody_can_read_ends_its_call_and_nothing_else() {
    let sandbox = Sandbox::start().await;
    let bystander = Bystander::start(&sandbox).await;
    let who = sandbox.member("rude").await;
    let connection = raw::connect(&sandbox, &who).await;
    for (counted, Bad { what, path, body, code, says }) in (1..).zip(bad_messages()) {
        let class = if path == SESSION { Class::Control } else { Class::Metrics };
        let ended = raw::call(&connection, class, path, body).await;
        assert_eq!(Code::from_i32(ended.code), code, "{what}: {ended:?}");
        assert!(ended.message.contains(says), "{what}: {ended:?}");
        until(&format!("{what} is counted"), async || {
            (sandbox.ingest().refused_calls == counted).then_some(())
        })
        .await;
    }
    let unknown = raw::call(&connection, Class::Metrics, "/stoa.v1.Ingest/Pull", grpc(b"")).await;
    assert_eq!(Code::from_i32(unknown.code), Code::Unimplemented, "{unknown:?}");
    // The same connection is good for a sender that has learnt its manners.
    drop(connection);
    let session = RawSession::open(&sandbox, &who).await;
    works(&session, 0).await;
    bystander.unharmed(&sandbox).await;
}

/// A key frame of one sample, as of now, is stored.
async fn works(session: &RawSession, leg: u32) {
    let frames = vec![session.begin(leg), data(1, 1, true, payload(stoa_daemon::unix_ms(), 1))];
    let (said, status) = session.push(frames, 1).await;
    let durable = v1::Durable { begin: 0, seq: 1, losses: Vec::new() };
    assert_eq!(said, [v1::ack::Kind::Durable(durable)], "{status:?}");
}

/// A key frame's payload: one tick of so many series.
fn payload(t_ms: i64, series: u32) -> Bytes {
    use std::sync::Arc;

    use stoa_proto::frame::Encoder;
    use stoa_proto::tick::{FamilyInfo, Series, Tick};

    let family = Arc::new(FamilyInfo {
        name: "raw".to_owned(),
        help: String::new(),
        unit: String::new(),
        kind: stoa_model::MetricKind::Gauge,
    });
    let one = |id: u32| {
        let labels = labelled("raw", &[("n", &id.to_string())]);
        (Arc::new(Series { id, family: Arc::clone(&family), labels }), f64::from(id))
    };
    let tick = Tick { t: t_ms, samples: (0..series).map(one).collect() };
    Encoder::new().unwrap().encode(&[&tick]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_nobody_can_read_is_answered_in_words() {
    let sandbox = Sandbox::start().await;
    let bystander = Bystander::start(&sandbox).await;
    let who = sandbox.member("odd").await;
    let session = RawSession::open(&sandbox, &who).await;
    let good = payload(stoa_daemon::unix_ms(), 50);
    let cut = good.slice(..good.len() / 2);
    let noise: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
    let unreadable = |seq, samples| format!("durable through {seq}, {samples} lost as unreadable");
    let cases: [(&str, Vec<v1::Frame>, String); 9] = [
        (
            "data before a begin",
            vec![data(1, 1, true, good.clone())],
            "data without a begin".into(),
        ),
        (
            "a begin of another session",
            vec![v1::Frame { kind: Some(begin(session.session + 1000, &[7; 16], 2)) }],
            "the session has ended".into(),
        ),
        (
            "a frame numbered 0",
            vec![session.begin(1), data(0, 1, true, good.clone())],
            "a frame numbered below 1".into(),
        ),
        (
            "no key frame first",
            vec![session.begin(2), data(1, 50, false, good.clone())],
            "resync from 1".into(),
        ),
        (
            "half a payload, not a key frame",
            vec![
                session.begin(3),
                data(1, 50, true, good.clone()),
                data(2, 50, false, cut.clone()),
            ],
            "resync from 2".into(),
        ),
        ("half a payload", vec![session.begin(4), data(1, 50, true, cut)], unreadable(1, 50)),
        ("noise", vec![session.begin(5), data(1, 9, true, noise)], unreadable(1, 9)),
        ("nothing", vec![session.begin(6), data(1, 3, true, Bytes::new())], unreadable(1, 3)),
        (
            "a payload over the bound",
            vec![session.begin(7), data(1, 1, true, vec![0; 3 << 20])],
            "message length too large".into(),
        ),
    ];
    let mut leg = 100;
    for (what, frames, expected) in cases {
        let answers = if what.contains("not a key frame") { 2 } else { 1 };
        let (said, status) = session.push(frames, answers).await;
        let ended = status.map(|status| status.message().to_owned());
        let told: Vec<String> = said.iter().map(told).chain(ended).collect();
        assert!(told.iter().any(|told| told.contains(&expected)), "{what}: {told:?}");
        leg += 1;
        works(&session, leg).await;
    }
    let IngestFigures { refused_calls, resyncs, lost, .. } = sandbox.ingest();
    assert_eq!((refused_calls, resyncs, of(&lost, DropReason::Unreadable)), (4, 2, 62));
    bystander.unharmed(&sandbox).await;
}

fn told(kind: &v1::ack::Kind) -> String {
    match kind {
        v1::ack::Kind::Refused(refused) => refused.reason.clone(),
        v1::ack::Kind::Resync(resync) => format!("resync from {}: {}", resync.seq, resync.reason),
        v1::ack::Kind::Durable(durable) => {
            let losses = durable.losses.iter().map(|loss| {
                let reason = v1::DropReason::try_from(loss.reason).unwrap();
                let reason = reason.as_str_name().trim_start_matches("DROP_REASON_");
                format!("{} lost as {}", loss.samples, reason.to_lowercase())
            });
            let losses: Vec<String> = losses.collect();
            format!("durable through {}, {}", durable.seq, losses.join(", "))
        }
    }
}

/// A feed to one collector that takes few series of an agent; the ticks are sent one by one, and
/// what is lost of each for the limit is said, on both sides alike.
async fn limited(sandbox: &Sandbox, feed: &mut Feed, ticks: Vec<Vec<Labels>>) -> Vec<u64> {
    let mut sent = feed.figures().produced;
    let mut lost_before = of(&feed.figures().lost, DropReason::Limit);
    let mut said = Vec::new();
    for (value, tick) in (0_u32..).zip(ticks) {
        sent += tick.len() as u64;
        let readings = tick.into_iter().map(|labels| (labels, f64::from(value)));
        feed.send(stoa_daemon::unix_ms(), readings).await;
        let lost = of(&feed.settled(sent).await.lost, DropReason::Limit);
        assert_eq!(of(&sandbox.ingest().lost, DropReason::Limit), lost);
        said.push(lost - lost_before);
        lost_before = lost;
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_of_series_costs_its_sender_alone() {
    let sandbox = Sandbox::with(|config| config.agents.series_max = SERIES_MAX).await;
    let bystander = Bystander::start(&sandbox).await;
    let mut feed = Feed::start(&sandbox, "bomber").await;
    let bomb = |from: usize, to: usize| -> Vec<Labels> {
        (from..to).map(|n| labelled("bomb", &[("n", &n.to_string())])).collect()
    };
    let many = 5 * SERIES_MAX;
    let ticks = vec![bomb(0, many), bomb(0, many), bomb(many, 2 * many), bomb(0, SERIES_MAX)];
    let lost = limited(&sandbox, &mut feed, ticks).await;
    assert_eq!(lost, [400, 400, 500, 0]);
    assert_eq!(sandbox.value("count(bomb)").await, Some(100.0));
    assert_eq!(sandbox.value("sum(bomb)").await, Some(300.0), "the last tick is stored");
    assert_eq!(feed.figures().hang_ups, 0);
    let lost = sandbox.get("/metrics", &[]).await.1;
    let lost =
        lost.lines().find(|line| line.contains(r#"reason="limit""#) && line.contains("1300"));
    assert!(lost.is_some(), "the loss is a series");
    bystander.unharmed(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_over_the_limits_cost_their_series_alone() {
    let sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "verbose").await;
    let names: Vec<String> = (0..LABELS_MAX).map(|n| format!("n{n}")).collect();
    let crowd: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let long = "x".repeat(LABEL_BYTES_MAX + 1);
    let fits = "x".repeat(LABEL_BYTES_MAX);
    let cases = [
        (labelled("too_many", &crowd), 1),
        (labelled("as_many_as_allowed", &crowd[1..]), 0),
        (labelled("long_value", &[("a", &long)]), 1),
        (labelled("long_name", &[(&long, "1")]), 1),
        (labelled("fits", &[("a", &fits)]), 0),
        (named(&long), 1),
        (Labels::from_pairs([("a", "nameless")]).unwrap(), 1),
    ];
    let expected: Vec<u64> = cases.iter().map(|(_, lost)| *lost).collect();
    let ticks = cases.into_iter().map(|(labels, _)| vec![labels, named("beside")]).collect();
    let lost = limited(&sandbox, &mut feed, ticks).await;
    assert_eq!(lost, expected);
    assert_eq!(sandbox.points("beside").await.len(), expected.len());
    assert_eq!(sandbox.query(r#"{__name__=~"as_many_as_allowed|fits"}"#).await.len(), 2);
    assert_eq!(feed.figures().hang_ups, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_runs_ahead_is_quarantined() {
    const HOUR_MS: i64 = 3_600_000;
    let sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "ahead").await;
    let now_ms = stoa_daemon::unix_ms();
    for ahead_ms in [400_000, 10 * HOUR_MS, 24 * 365 * HOUR_MS, i64::MAX - now_ms] {
        feed.send(now_ms + ahead_ms, [(named("sane"), -1.0)]).await;
    }
    feed.settled(4).await;
    let mut sent = vec![(feed.say("sane", 1.0).await, 1.0)];
    // Within the bound: taken as it is.
    sent.push((now_ms + 200_000, 2.0));
    feed.send(now_ms + 200_000, [(named("sane"), 2.0)]).await;
    let figures = feed.settled(6).await;
    assert_eq!(of(&figures.lost, DropReason::Quarantined), 4, "{figures:?}");
    assert_eq!(of(&sandbox.ingest().lost, DropReason::Quarantined), 4);
    let at = ((now_ms + 300_000) / 1000).to_string();
    let asked = [("query", "sane[1h]"), ("time", at.as_str())];
    let (_, body) = sandbox.get("/api/v1/query", &asked).await;
    assert!(body.contains(r#","1"],["#) && body.contains(r#","2"]]"#), "{body}");
    assert!(!body.contains(r#""-1""#), "{body}");
    // The head has not moved: others store as before.
    let mut other = Feed::start(&sandbox, "other").await;
    other.say("other", 3.0).await;
    let figures = other.settled(1).await;
    assert_eq!(figures.lost.iter().sum::<u64>(), 0, "{figures:?}");
    assert_eq!(sandbox.value("other").await, Some(3.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absurd_question_is_answered_with_an_error() {
    let sandbox = Sandbox::start().await;
    let range = |query, start, end, step| {
        [("query", query), ("start", start), ("end", end), ("step", step)]
    };
    for (asked, expected) in [
        (range("rate(", "0", "10", "1"), "parse error"),
        (range("up", "0", "9e15", "1"), "exceeded maximum resolution"),
        (range("up", "10", "0", "1"), "end timestamp must not be before start"),
        (range("up", "0", "10", "0"), "zero or negative"),
        (range("up", "-1e300", "1e300", "1e-300"), "invalid parameter"),
    ] {
        let (status, body) = sandbox.get("/api/v1/query_range", &asked).await;
        assert!(status == 400 && body.contains(expected), "{asked:?}: {status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_says_when_the_store_takes_nothing_more() {
    let sandbox = Sandbox::start().await;
    assert_eq!(sandbox.get("/-/ready", &[]).await.0, 200);
    sandbox.server().parts().store.close().await.unwrap();
    for path in ["/-/ready", "/ready"] {
        assert_eq!(sandbox.get(path, &[]).await.0, 503, "{path}");
    }
    assert_eq!(sandbox.get("/-/healthy", &[]).await.0, 200);
}

/// Says five things a second for a while; what was said.
async fn chatter(feed: &mut Feed, sent: &mut Vec<Point>, rounds: usize) {
    for _ in 0..rounds {
        let value = sent.len() as f64;
        sent.push((feed.say("kept", value).await, value));
        assert_eq!(feed.figures().imbalance(), 0, "{:?}", feed.figures());
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_little_room_is_said_and_the_sender_keeps_what_it_has() {
    let mut sandbox = Sandbox::start().await;
    let mut feed = Feed::start(&sandbox, "patient").await;
    let mut sent = Vec::new();
    chatter(&mut feed, &mut sent, 5).await;
    feed.settled(sent.len() as u64).await;
    let before = sent.clone();
    sandbox.restart(|config| config.storage.free_bytes_min = u64::MAX).await;
    chatter(&mut feed, &mut sent, 40).await;
    let figures = feed.figures();
    assert!(figures.in_spool > 0, "it waits in the spool: {figures:?}");
    let full = sandbox.server().parts().figures().store.disk_full_samples;
    assert!(full > 0, "the collector counts what it does not take");
    assert_eq!(sandbox.points("kept").await, before, "what was stored is still served");
    assert_eq!(sandbox.get("/-/ready", &[]).await.0, 200);
    sandbox.restart(|config| config.storage.free_bytes_min = 0).await;
    let figures = feed.settled(sent.len() as u64).await;
    assert_eq!(figures.lost.iter().chain(&figures.dropped).sum::<u64>(), 0, "{figures:?}");
    assert_eq!(sandbox.points("kept").await, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_stops_nothing_for_good() {
    let Some(disk) = SmallDisk::new(64 << 20) else { return };
    let mut sandbox = Sandbox::with(|config| config.data_dir = disk.path().join("collector")).await;
    let mut feed = Feed::start(&sandbox, "patient").await;
    // Enough a tick that the log's last block does not hold it.
    let tick: Vec<Labels> = (0..200).map(|n| labelled("kept", &[("n", &n.to_string())])).collect();
    let mut ticks = 0_u64;
    let say = async |feed: &mut Feed, ticks: &mut u64| {
        *ticks += 1;
        let value = rand::random::<f64>();
        let readings = tick.iter().map(|labels| (labels.clone(), value));
        feed.send(stoa_daemon::unix_ms(), readings).await;
        assert_eq!(feed.figures().imbalance(), 0, "{:?}", feed.figures());
        sleep(Duration::from_millis(200)).await;
    };
    let count = "sum(count_over_time(kept[1h]))";
    for _ in 0..5 {
        say(&mut feed, &mut ticks).await;
    }
    feed.settled(ticks * 200).await;
    disk.fill();
    let refused = || sandbox.server().parts().figures().store.disk_full_samples > 0;
    while !refused() || feed.figures().in_spool == 0 {
        assert!(ticks < 200, "nothing is refused, or nothing spooled: {:?}", feed.figures());
        say(&mut feed, &mut ticks).await;
    }
    let stored = sandbox.value(count).await;
    assert!(stored.is_some_and(|stored| stored >= 1000.0), "queries are answered: {stored:?}");
    assert_eq!(sandbox.get("/-/ready", &[]).await.0, 200);
    disk.empty();
    let figures = feed.settled(ticks * 200).await;
    assert_eq!(figures.lost.iter().chain(&figures.dropped).sum::<u64>(), 0, "{figures:?}");
    let all = Some((ticks * 200) as f64);
    assert_eq!(sandbox.value(count).await, all);
    // And what was acknowledged is on that disk.
    sandbox.restart(|_| {}).await;
    assert_eq!(sandbox.value(count).await, all);
    sandbox.stop().await;
}
