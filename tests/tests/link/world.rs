//! Agent, link, collector and time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use prost::Message as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stoa_agent::uplink::event::{Action as Wish, Call, Event, Moment};
use stoa_collector::ingest::event::Action;
use stoa_collector::ingest::session::Outcome;
use stoa_model::{Labels, MetricKind};
use stoa_proto::delivery::Epoch;
use stoa_proto::message::{Hello, Push, PushReply, Welcome};
use stoa_proto::tick::{FamilyInfo, Series, Tick};
use stoa_proto::v1;
use stoa_tsdb::Batch;
use stoa_wal::disk::{Fault, SimDisk, SimSnapshot};

use super::agent::Agent;
use super::collector::{Collector, DbCatalog};
use super::plan::{LIFE_MS, Mishap, Plan};

const T0: i64 = 1_700_000_000_000;
const TEN_MINUTES_MS: i64 = 600_000;
/// How long after the last tick everything must have drained.
const DRAIN_MS: i64 = 400_000;

/// What happens next.
#[derive(Debug)]
enum Next {
    Tick,
    AgentTimer,
    ToAgent { connection: u64, event: Event },
    ToCollector { connection: u64, message: Message },
    Appended { process: u64, batch: Batch },
    Mishap(Mishap),
    SnapshotAgent,
    SnapshotCollector,
    SetAgentClock { off_ms: i64 },
    StartAgent,
    StartCollector,
    Heal,
}

#[derive(Debug)]
enum Message {
    Hello(Hello),
    Ping,
    Push(Call, Push),
    CallEnded(Call),
    SessionEnded,
}

/// A stream of a connection; each is in order, none waits for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lane {
    Control,
    Push(Call),
}

#[derive(Default)]
struct Connection {
    broken: bool,
    /// When the last message of each stream arrives, either way.
    up: HashMap<Lane, i64>,
    down: HashMap<Lane, i64>,
    ended: BTreeSet<Call>,
}

pub(crate) struct World {
    seed: u64,
    verbose: bool,
    plan: Plan,
    rng: StdRng,
    now: i64,
    order: u64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    what: HashMap<u64, Next>,
    agent_disk: SimDisk,
    collector_disk: SimDisk,
    /// By how much the clock of the agent's host is off; samples are dated by the true one.
    agent_clock_off_ms: i64,
    agent: Option<Agent>,
    collector: Option<Collector>,
    agent_snapshot: Option<SimSnapshot>,
    collector_snapshot: Option<SimSnapshot>,
    connections: BTreeMap<u64, Connection>,
    link_down_until: i64,
    disk_full_until: i64,
    /// Counts collector processes.
    process: u64,
    under_way: Option<Batch>,
    timer_at: i64,
    // what the oracle knows
    series: Vec<Arc<Series>>,
    produced: HashMap<(u32, i64), f64>,
    quarantined: HashMap<(u32, i64), f64>,
    /// Acknowledged samples, told by the agent's books of ended processes and the present one.
    books: Books,
    ticks: u64,
}

/// Sums over agent processes that have ended.
#[derive(Default)]
struct Books {
    dropped: u64,
    /// In memory when a process was killed.
    killed: u64,
    /// In the spool when the last process ended.
    at_rest: u64,
    /// In the spool when its disk was set back.
    set_back: u64,
    /// At most so many were sent and not known to be stored when a session ended: dropped later,
    /// they may be counted and stored.
    in_doubt: u64,
}

impl World {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        let plan = Plan::of(seed);
        let family = Arc::new(FamilyInfo {
            name: "m".into(),
            help: "Help.".into(),
            unit: String::new(),
            kind: MetricKind::Gauge,
        });
        let series = (0..plan.series)
            .map(|id| {
                let pairs = [("__name__", "m".to_owned()), ("n", id.to_string())];
                let labels = Labels::from_pairs(pairs).unwrap();
                Arc::new(Series { id, family: Arc::clone(&family), labels })
            })
            .collect();
        Self {
            seed,
            verbose,
            rng: StdRng::seed_from_u64(seed),
            now: T0,
            order: 0,
            queue: BinaryHeap::new(),
            what: HashMap::new(),
            agent_disk: SimDisk::new(seed),
            collector_disk: SimDisk::new(seed + 1),
            agent_clock_off_ms: 0,
            agent: None,
            collector: None,
            agent_snapshot: None,
            collector_snapshot: None,
            connections: BTreeMap::new(),
            link_down_until: 0,
            disk_full_until: 0,
            process: 0,
            under_way: None,
            timer_at: i64::MAX,
            series,
            produced: HashMap::new(),
            quarantined: HashMap::new(),
            books: Books::default(),
            ticks: 0,
            plan,
        }
    }

    pub(crate) fn run(mut self) {
        self.say(&format!("{:?}", self.plan));
        self.at(0, Next::StartCollector);
        self.at(1, Next::StartAgent);
        self.at(2, Next::Tick);
        self.at(self.plan.snapshot_agent_at, Next::SnapshotAgent);
        self.at(self.plan.snapshot_collector_at, Next::SnapshotCollector);
        for (at, mishap) in self.plan.mishaps.clone() {
            self.at(at, Next::Mishap(mishap));
        }
        for (at, off_ms) in self.plan.clock_set.clone() {
            self.at(at, Next::SetAgentClock { off_ms });
        }
        self.at(LIFE_MS + 30_000, Next::Heal);
        let end = T0 + LIFE_MS + DRAIN_MS;
        while let Some(Reverse((at, order))) = self.queue.pop() {
            self.now = at;
            let drained = self.agent.as_ref().is_some_and(|agent| agent.machine.is_drained());
            if drained && at > T0 + LIFE_MS + 60_000 {
                break;
            }
            assert!(at < end, "seed {}: not drained: {:?}", self.seed, self.figures());
            let next = self.what.remove(&order).unwrap();
            self.step(next);
            self.arm_timer();
        }
        self.check();
    }

    fn figures(&self) -> Option<&stoa_agent::uplink::UplinkFigures> {
        self.agent.as_ref().map(|agent| agent.machine.figures())
    }

    fn step(&mut self, next: Next) {
        if self.verbose && !matches!(next, Next::AgentTimer) {
            let text: String = format!("{next:?}").chars().take(300).collect();
            self.say(&text);
        }
        match next {
            Next::Tick => self.tick(),
            Next::AgentTimer => {
                self.timer_at = i64::MAX;
                self.tell_agent(Event::Timer);
            }
            Next::ToAgent { connection, event } => {
                let current = self.agent.as_ref().and_then(|agent| agent.connection);
                if current == Some(connection) {
                    self.tell_agent(event);
                }
            }
            Next::ToCollector { connection, message } => self.tell_collector(connection, message),
            Next::Appended { process, batch } => self.appended(process, &batch),
            Next::Mishap(mishap) => self.mishap(mishap),
            Next::SnapshotAgent => self.agent_snapshot = Some(self.agent_disk.snapshot()),
            Next::SnapshotCollector => {
                self.collector_snapshot = Some(self.collector_disk.snapshot());
            }
            Next::SetAgentClock { off_ms } => self.agent_clock_off_ms = off_ms,
            Next::StartAgent => self.start_agent(),
            Next::StartCollector => self.start_collector(),
            Next::Heal => self.heal(),
        }
    }

    fn tick(&mut self) {
        if self.now < T0 + LIFE_MS {
            self.after(self.plan.tick_ms, Next::Tick);
        }
        self.ticks += 1;
        let ahead = self.plan.future_every > 0 && self.ticks.is_multiple_of(self.plan.future_every);
        if self.agent.is_none() {
            return;
        }
        let t = self.now + if ahead { TEN_MINUTES_MS } else { 0 };
        let mut tick = Tick { t, samples: Vec::new() };
        for series in &self.series {
            if self.rng.random_ratio(1, 10) {
                continue;
            }
            let value = match self.rng.random_range(0..3) {
                0 => 1.0,
                1 => f64::from(self.rng.random::<i32>()) / 100.0,
                _ => f64::from_bits(self.rng.random::<u64>() >> 2),
            };
            let known = if ahead { &mut self.quarantined } else { &mut self.produced };
            known.insert((series.id, t), value);
            tick.samples.push((Arc::clone(series), value));
        }
        self.tell_agent(Event::Tick(Arc::new(tick)));
    }

    fn tell_agent(&mut self, event: Event) {
        let at = self.agent_moment();
        let Some(agent) = &mut self.agent else { return };
        let wishes = agent.handle(event, at);
        for wish in wishes {
            self.wish(wish);
        }
    }

    fn agent_moment(&self) -> Moment {
        Moment { steady_ms: self.now - T0, wall_ms: self.now + self.agent_clock_off_ms }
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Dial(hello) => {
                self.order += 1;
                let connection = self.order;
                if let Some(agent) = &mut self.agent {
                    agent.connection = Some(connection);
                }
                if self.now < self.link_down_until || self.collector.is_none() {
                    let reason = "nobody answers".to_owned();
                    let wait = self.rng.random_range(1..1_500);
                    self.after(wait, Next::ToAgent { connection, event: Event::Ended { reason } });
                    return;
                }
                self.connections.insert(connection, Connection::default());
                self.send_up(connection, Lane::Control, Message::Hello(hello));
            }
            Wish::Push { call, push } => {
                if let Some(connection) = self.agent.as_ref().and_then(|agent| agent.connection) {
                    self.send_up(connection, Lane::Push(call), Message::Push(call, wired(push)));
                }
            }
            Wish::Ping { .. } => {
                if let Some(connection) = self.agent.as_ref().and_then(|agent| agent.connection) {
                    self.send_up(connection, Lane::Control, Message::Ping);
                }
            }
            Wish::HangUp { reason } => {
                self.say(&format!("agent hangs up: {reason}"));
                let in_flight = 4 * 64 * u64::from(self.plan.series);
                let (memory, spool) =
                    self.figures().map_or((0, 0), |figures| (figures.in_memory, figures.in_spool));
                self.books.in_doubt += memory + spool.min(in_flight);
                let connection = self.agent.as_mut().and_then(|agent| agent.connection.take());
                if let Some(connection) = connection {
                    self.end_up(connection);
                }
            }
            Wish::Spool(_) => unreachable!("done by the agent"),
        }
    }

    /// The agent's side of a connection ends; the collector learns of it after what was sent, or,
    /// when what was sent is lost, some time later.
    fn end_up(&mut self, connection: u64) {
        if self.rng.random_ratio(1, 3) {
            self.break_connection(connection, false);
            return;
        }
        for call in [Call::Live, Call::Backlog, Call::Critical] {
            self.send_up(connection, Lane::Push(call), Message::CallEnded(call));
        }
        self.send_up(connection, Lane::Control, Message::SessionEnded);
    }

    fn send_up(&mut self, connection: u64, lane: Lane, message: Message) {
        let delay = self.delay();
        let now = self.now;
        let Some(open) = self.connections.get_mut(&connection) else { return };
        if open.broken {
            return;
        }
        let at = open.up.entry(lane).or_insert(0);
        *at = (now + delay).max(*at);
        let at = *at - T0;
        self.at(at, Next::ToCollector { connection, message });
    }

    fn send_down(&mut self, connection: u64, lane: Lane, event: Event) {
        let delay = self.delay();
        let now = self.now;
        let Some(open) = self.connections.get_mut(&connection) else { return };
        if open.broken {
            return;
        }
        let at = open.down.entry(lane).or_insert(0);
        *at = (now + delay).max(*at);
        let at = *at - T0;
        self.at(at, Next::ToAgent { connection, event });
    }

    /// A packet lost and sent again is a delay.
    fn delay(&mut self) -> i64 {
        let lost = self.rng.random_ratio(1, 30);
        let base = self.rng.random_range(0..=self.plan.latency_ms);
        if lost { base + self.rng.random_range(0..2_000) } else { base }
    }

    fn tell_collector(&mut self, connection: u64, message: Message) {
        let Some(open) = self.connections.get(&connection) else { return };
        let arrives =
            !open.broken || matches!(message, Message::CallEnded(_) | Message::SessionEnded);
        let ended = |call: &Call| open.ended.contains(call);
        let Some(collector) = &mut self.collector else { return };
        let actions = match message {
            _ if !arrives => return,
            Message::Hello(hello) => collector.ingest.hello(connection, &hello, self.now),
            Message::Ping => {
                if collector.ingest.heard(connection, self.now) {
                    self.send_down(connection, Lane::Control, Event::Pong);
                }
                return;
            }
            Message::Push(call, _) if ended(&call) => return,
            Message::Push(call, push) => {
                let catalog = DbCatalog(&collector.db);
                collector.ingest.push(call_id(connection, call), push, &catalog, self.now)
            }
            Message::CallEnded(call) => collector.ingest.call_ended(call_id(connection, call)),
            Message::SessionEnded => collector.ingest.session_ended(connection),
        };
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Welcome { session, welcome } => {
                    let welcome = Welcome::try_from(v1::Welcome::from(welcome)).unwrap();
                    let fresh = Epoch::from_random(self.rng.random());
                    self.send_down(session, Lane::Control, Event::Welcomed { welcome, fresh });
                }
                Action::Fence { session, reason } => {
                    self.send_down(session, Lane::Control, Event::Fenced { reason });
                }
                Action::Reply { call: id, reply } => {
                    let (connection, call) = call_of(id);
                    let reply = PushReply::try_from(v1::Ack::from(reply)).unwrap();
                    if let PushReply::Durable { losses, .. } = &reply {
                        for loss in losses {
                            assert_eq!(loss.reason.as_str(), "quarantined", "{loss:?}");
                        }
                    }
                    self.send_down(connection, Lane::Push(call), Event::Reply { call, reply });
                }
                Action::End { call: id } => {
                    let (connection, call) = call_of(id);
                    if let Some(open) = self.connections.get_mut(&connection) {
                        open.ended.insert(call);
                    }
                    let reason = "the collector ended a call".to_owned();
                    self.send_down(connection, Lane::Push(call), Event::Ended { reason });
                }
                Action::Append(batch) => {
                    assert!(self.under_way.is_none(), "two batches under way");
                    self.under_way = Some(batch.clone());
                    let wait = self.rng.random_range(0..60);
                    self.after(wait, Next::Appended { process: self.process, batch });
                }
            }
        }
    }

    fn appended(&mut self, process: u64, batch: &Batch) {
        let Some(collector) = &mut self.collector else { return };
        if process != self.process {
            return;
        }
        self.under_way = None;
        let outcome = collector.append(batch, true);
        if let Outcome::Durable { known, refused, .. } = outcome {
            assert_eq!((known, refused), (0, 0), "a frame came twice and was not recognised");
        }
        let actions = collector.ingest.appended(outcome);
        if collector.has_failed() {
            self.say("the store has failed");
            self.kill_collector(false, 1_000);
            return;
        }
        self.perform(actions);
    }

    fn mishap(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::Cut { away_ms } => {
                self.link_down_until = self.now + away_ms;
                self.break_all();
            }
            Mishap::KillAgent { power } => self.kill_agent(power, false),
            Mishap::RestartAgent => {
                self.tell_agent(Event::Stop);
                if let Some(agent) = self.agent.take() {
                    let figures = agent.machine.figures();
                    self.books.dropped += figures.dropped.iter().sum::<u64>();
                    self.books.killed += figures.in_memory;
                    self.books.at_rest = figures.in_spool;
                    agent.spool.close();
                    let wait = self.rng.random_range(0..3_000);
                    self.after(wait, Next::StartAgent);
                }
            }
            Mishap::KillCollector { power, away_ms } => self.kill_collector(power, away_ms),
            Mishap::RollBackCollector { away_ms } => {
                self.kill_collector(false, away_ms);
                if let Some(snapshot) = &self.collector_snapshot {
                    self.collector_disk.restore(snapshot);
                }
            }
            Mishap::RollBackAgent => {
                let at_rest = self.books.at_rest;
                let waiting = self.figures().map_or(at_rest, |figures| figures.in_spool);
                self.kill_agent(false, true);
                self.books.set_back += waiting;
                if let Some(snapshot) = &self.agent_snapshot {
                    self.agent_disk.restore(snapshot);
                }
            }
            Mishap::FaultyDisk { agent, after_ops, full } => {
                let disk = if agent { &self.agent_disk } else { &self.collector_disk };
                disk.fail_at(after_ops, if full { Fault::Enospc } else { Fault::Eio });
            }
            Mishap::FullDisk { away_ms } => {
                self.disk_full_until = self.now + away_ms;
                self.collector_disk.set_capacity(Some(self.collector_disk.used_bytes()));
                self.after(away_ms, Next::Heal);
            }
        }
    }

    fn kill_agent(&mut self, power: bool, disk_goes_too: bool) {
        let Some(agent) = self.agent.take() else { return };
        let figures = agent.machine.figures();
        self.say(&format!("killed: {figures:?}"));
        self.books.dropped += figures.dropped.iter().sum::<u64>();
        self.books.killed += figures.in_memory;
        self.books.at_rest = figures.in_spool;
        if let Some(connection) = agent.connection {
            self.break_connection(connection, false);
        }
        drop(agent);
        if power && !disk_goes_too {
            self.agent_disk.crash();
        }
        let wait = self.rng.random_range(0..10_000);
        self.after(wait, Next::StartAgent);
    }

    fn start_agent(&mut self) {
        if self.agent.is_some() {
            return;
        }
        let at = self.agent_moment();
        match Agent::start(&self.agent_disk, &self.plan, self.rng.random(), at) {
            Some((agent, dropped)) => {
                self.books.dropped += dropped;
                self.agent = Some(agent);
                self.tell_agent(Event::Timer);
            }
            None => self.after(1_000, Next::StartAgent),
        }
    }

    fn kill_collector(&mut self, power: bool, away_ms: i64) {
        self.process += 1;
        let Some(mut collector) = self.collector.take() else { return };
        if let Some(batch) = self.under_way.take()
            && self.rng.random()
        {
            // Appended and not synced when the process ended.
            let _outcome = collector.append(&batch, false);
        }
        drop(collector);
        self.break_all();
        if power {
            self.collector_disk.crash();
        }
        self.after(away_ms, Next::StartCollector);
    }

    fn start_collector(&mut self) {
        if self.collector.is_some() {
            return;
        }
        match Collector::start(&self.collector_disk, self.now) {
            Some(collector) => self.collector = Some(collector),
            None => self.after(1_000, Next::StartCollector),
        }
    }

    fn break_all(&mut self) {
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            self.break_connection(connection, true);
        }
    }

    /// What is under way on a connection is lost. Each end learns of it some time, or never.
    fn break_connection(&mut self, connection: u64, tell_agent: bool) {
        let Some(open) = self.connections.get_mut(&connection) else { return };
        if std::mem::replace(&mut open.broken, true) {
            return;
        }
        let arrived: Vec<u64> = self
            .what
            .iter()
            .filter(|(_, next)| {
                matches!(next, Next::ToAgent { connection: of, .. }
                    | Next::ToCollector { connection: of, .. } if *of == connection)
            })
            .map(|(order, _)| *order)
            .collect();
        for order in arrived {
            // The event stays in the queue as one that does nothing.
            self.what.insert(order, Next::AgentTimer);
        }
        if tell_agent && self.rng.random_ratio(3, 4) {
            let reason = "the connection broke".to_owned();
            let wait = self.rng.random_range(0..3_000);
            self.after(wait, Next::ToAgent { connection, event: Event::Ended { reason } });
        }
        if self.rng.random_ratio(3, 4) {
            let wait = self.rng.random_range(0..15_000);
            for call in [Call::Live, Call::Backlog, Call::Critical] {
                let message = Message::CallEnded(call);
                self.after(wait, Next::ToCollector { connection, message });
            }
            let message = Message::SessionEnded;
            self.after(wait, Next::ToCollector { connection, message });
        }
    }

    fn heal(&mut self) {
        if self.now >= self.disk_full_until {
            self.collector_disk.set_capacity(None);
        }
        if self.now >= T0 + LIFE_MS {
            self.collector_disk.set_capacity(None);
            self.agent_disk.clear_faults();
            self.collector_disk.clear_faults();
            self.link_down_until = 0;
        }
    }

    fn arm_timer(&mut self) {
        let Some(agent) = &self.agent else { return };
        let at = agent.machine.deadline().saturating_add(T0).max(self.now + 1);
        if at < self.timer_at && at < i64::MAX / 2 {
            self.timer_at = at;
            self.at(at - T0, Next::AgentTimer);
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        let rolled_back = self.plan.rolls_back_collector();
        // What is stored must outlive the power, too.
        self.kill_collector(true, 0);
        let collector = Collector::start(&self.collector_disk, self.now).unwrap();
        let stored = collector.samples();
        let mut once = BTreeSet::new();
        for (number, t, value) in &stored {
            assert!(once.insert((*number, *t)), "seed {seed}: stored twice: {number} at {t}");
            let told = self.produced.get(&(*number, *t));
            assert_eq!(
                told.map(|value| value.to_bits()),
                Some(value.to_bits()),
                "seed {seed}: {number} at {t} was never produced so, or was quarantined"
            );
        }
        let figures = self.figures().unwrap().clone();
        let dropped = self.books.dropped + figures.dropped.iter().sum::<u64>();
        let produced = self.produced.len() as u64;
        let missing = produced - stored.len() as u64;
        let quarantined = self.quarantined.len() as u64;
        self.say(&format!(
            "produced {produced}, stored {}, dropped {dropped}, quarantined {quarantined}, \
             killed {}, set back {}",
            stored.len(),
            self.books.killed,
            self.books.set_back,
        ));
        if rolled_back && !self.plan.spares_the_agent() {
            // What was kept to heal a rollback was itself lost.
            return;
        }
        let unknown = self.books.killed + self.books.set_back;
        assert!(
            missing <= dropped + unknown,
            "seed {seed}: {missing} are missing, {dropped} were dropped, {unknown} lost by kills"
        );
        // Of what a rolled back collector still has, records are too coarse to tell.
        let ages = self.plan.spool_age_max_ms < 3_600_000 && self.plan.rolls_back_collector();
        if unknown == 0 && !self.plan.rolls_back_agent() && !ages {
            let counted = dropped.saturating_sub(quarantined + self.books.in_doubt);
            assert!(missing >= counted, "seed {seed}: {missing} are missing, {counted} counted");
        }
    }

    fn at(&mut self, at: i64, next: Next) {
        self.order += 1;
        self.queue.push(Reverse((T0 + at, self.order)));
        self.what.insert(self.order, next);
    }

    fn after(&mut self, wait: i64, next: Next) {
        self.at(self.now - T0 + wait, next);
    }

    fn say(&self, text: &str) {
        if self.verbose {
            println!("{:>8} {text}", self.now - T0);
        }
    }
}

/// As it comes out of the bytes it travels as.
fn wired(push: Push) -> Push {
    let bytes = v1::Frame::from(push).encode_to_vec();
    Push::try_from(v1::Frame::decode(bytes.as_slice()).unwrap()).unwrap()
}

fn call_id(connection: u64, call: Call) -> u64 {
    connection * 4 + call as u64
}

fn call_of(id: u64) -> (u64, Call) {
    let call = match id % 4 {
        0 => Call::Live,
        1 => Call::Backlog,
        _ => Call::Critical,
    };
    (id / 4, call)
}
