//! How long it waits, what it spools, and what it counts, in virtual time.

use stoa_model::{Labels, MetricKind, TimestampMs};
use stoa_proto::tick::{FamilyInfo, Series};

use super::*;

/// When the machine starts, by the steady clock.
const T0: SteadyMs = 20_000;

/// What the host's clock says when the steady one says 0 and nobody has set it.
const WALL_MS: TimestampMs = 1_700_000_000_000;

/// By how much a host's clock is set: back, as after a start with a wrong one, and forward.
const LEAPS_MS: [i64; 2] = [-3_600_000, 86_400_000];

/// How long a dial takes that is refused on both transports, milliseconds.
const DIAL_MS: i64 = 800;

/// A machine with a spool that takes everything, in its own time.
struct Drive {
    machine: Uplink,
    now: SteadyMs,
    /// By how much the host's clock has been set since the start.
    leap_ms: i64,
    /// A dial was wanted.
    dials: bool,
    /// The clock the last Hello told.
    told_ms: TimestampMs,
    /// Instants and sizes of what was handed to the spool.
    appended: Vec<(SteadyMs, usize)>,
}

impl Drive {
    fn new(seed: u64) -> Self {
        let config = UplinkConfig {
            epoch: Epoch::from_random([7; 12]),
            boot_id: Vec::new(),
            agent_version: "0".into(),
            seed,
            recovered: 0,
        };
        let machine = Uplink::new(config, T0);
        Self { machine, now: T0, leap_ms: 0, dials: false, told_ms: 0, appended: Vec::new() }
    }

    fn moment(&self) -> Moment {
        Moment { steady_ms: self.now, wall_ms: WALL_MS + self.now + self.leap_ms }
    }

    /// Hands in an event and does the spool's work; gives the rest.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut todo = VecDeque::from(self.machine.handle(event, self.moment()));
        let mut rest = Vec::new();
        while let Some(action) = todo.pop_front() {
            let done = match action {
                Action::Spool(SpoolJob::Append { leg, seq_first, ticks }) => {
                    self.appended.push((self.now, ticks.len()));
                    let through = Some(seq_first + ticks.len() as u64 - 1);
                    SpoolDone::Appended { leg, through, dropped: Vec::new() }
                }
                Action::Spool(SpoolJob::Survey { .. }) => SpoolDone::Surveyed {
                    acknowledged: 0,
                    returned: 0,
                    live_leg_waits: false,
                    dropped: Vec::new(),
                },
                Action::Spool(SpoolJob::Next { lane, .. }) => {
                    SpoolDone::Next { lane, record: None, dropped: Vec::new() }
                }
                Action::Spool(_) => continue,
                other => {
                    if let Action::Dial(hello) = &other {
                        (self.dials, self.told_ms) = (true, hello.now_ms);
                    }
                    rest.push(other);
                    continue;
                }
            };
            todo.extend(self.machine.handle(Event::Spool(done), self.moment()));
        }
        assert_eq!(self.machine.figures().imbalance(), 0, "{:?}", self.machine.figures());
        rest
    }

    /// Lets time pass until the machine dials; how long that took.
    fn until_dial(&mut self) -> i64 {
        let from = self.now;
        while !std::mem::take(&mut self.dials) {
            self.handle(Event::Timer);
            if !self.dials {
                self.now = self.machine.deadline().max(self.now + 1);
            }
        }
        self.now - from
    }

    /// The same, while all that the collector says is that it is there.
    fn until_dial_with_pongs(&mut self) -> i64 {
        let from = self.now;
        while !std::mem::take(&mut self.dials) {
            self.now = self.machine.deadline().max(self.now + 1);
            if self.handle(Event::Timer).iter().any(|action| matches!(action, Action::Ping { .. }))
            {
                self.handle(Event::Pong);
            }
        }
        self.now - from
    }

    fn fail(&mut self) {
        self.handle(Event::Ended { reason: "nobody is there".into() });
    }

    fn welcome(&mut self) {
        let now_ms = self.moment().wall_ms;
        let welcome = Welcome { session: 1, marks: Vec::new(), now_ms, inventory: None };
        let fresh = Epoch::from_random([8; 12]);
        self.handle(Event::Welcomed { welcome, fresh });
        assert!(self.machine.is_up());
    }
}

fn tick(t: i64) -> Event {
    let name = "m".to_owned();
    let labels = Labels::from_pairs([("__name__", name.clone())]).unwrap();
    let kind = MetricKind::Gauge;
    let family = Arc::new(FamilyInfo { name, help: String::new(), unit: String::new(), kind });
    let series = Arc::new(Series { id: 0, family, labels });
    Event::Tick(Arc::new(Tick { t, samples: vec![(series, 1.0)] }))
}

#[test]
fn a_collector_that_was_away_for_hours_is_found_within_a_second() {
    for seed in 0..20 {
        let mut drive = Drive::new(seed);
        assert_eq!(drive.until_dial(), 0);
        let mut waits = Vec::new();
        while drive.now < T0 + 3 * 3_600_000 {
            drive.now += DIAL_MS;
            drive.fail();
            waits.push(drive.until_dial());
        }
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= 250 && *most <= 750, "seed {seed}: {least} to {most} ms");
        // They fill their range, and do not agree with one another.
        assert!(*least < 260 && *most > 740, "seed {seed}: {least} to {most} ms");
    }
}

#[test]
fn two_hundred_agents_do_not_return_as_one() {
    let listens = T0 + 60_000;
    let mut arrivals: Vec<i64> = (0..200)
        .map(|seed| {
            let mut drive = Drive::new(seed);
            drive.until_dial();
            // A dial that has begun when nobody listened has sent its last packet after 0.4 s.
            while drive.now < listens {
                drive.now += DIAL_MS;
                drive.fail();
                drive.until_dial();
            }
            drive.now - listens
        })
        .collect();
    arrivals.sort_unstable();
    let last = *arrivals.last().unwrap();
    assert!(last <= 400 + 750 + 400, "the last arrives after {last} ms");
    let in_a_tenth = |from: i64| arrivals.iter().filter(move |at| (from..from + 100).contains(*at));
    let most = (0..last).map(|from| in_a_tenth(from).count()).max().unwrap();
    assert!(most <= 50, "{most} within a tenth of a second");
}

#[test]
fn who_was_refused_asks_rarely_until_something_changes() {
    for (until, bounds) in [(Until::Mended, REFUSED_RETRY_MS), (Until::ClockSet, CLOCK_RETRY_MS)] {
        let mut drive = Drive::new(1);
        drive.until_dial();
        for _ in 0..50 {
            drive.handle(Event::Refused { reason: "revoked".into(), until });
            let wait = drive.until_dial();
            assert!(bounds.contains(&wait), "{until:?}: {wait} ms");
        }
        // An outage in between is one like any other.
        drive.fail();
        let wait = drive.until_dial();
        assert!(RETRY_MS.contains(&wait), "{wait} ms");
    }
}

#[test]
fn a_collector_that_lets_in_and_takes_nothing_is_asked_ever_more_rarely() {
    let mut drive = Drive::new(1);
    drive.until_dial();
    let mut waits = Vec::new();
    for _ in 0..200 {
        drive.welcome();
        drive.fail();
        waits.push(drive.until_dial());
    }
    assert_eq!(waits[0], 0, "a session that ended is followed by another at once");
    let late = &waits[20..];
    assert!(late.iter().all(|wait| *wait <= FRUITLESS_MAX_MS), "{late:?}");
    let mean = late.iter().sum::<i64>() / i64::try_from(late.len()).unwrap();
    assert!(mean > 10_000, "{mean} ms on average");
}

#[test]
fn with_the_collector_away_a_tick_is_in_the_spool_within_a_second() {
    for pace in [100, 250, 1000, 5000] {
        let mut drive = Drive::new(1);
        drive.until_dial();
        drive.handle(tick(drive.now));
        assert!(drive.appended.is_empty(), "it may still answer");
        drive.now += DIAL_MS;
        drive.fail();
        let (mut next, mut fails, end) = (drive.now + pace, i64::MAX, drive.now + 60_000);
        while drive.now < end {
            // Neither may it matter that the host's clock is set back, and then forward.
            drive.leap_ms = match end - drive.now {
                40_000.. => 0,
                20_000.. => LEAPS_MS[0],
                _ => LEAPS_MS[1],
            };
            drive.now = next.min(fails).min(drive.machine.deadline().max(drive.now));
            let actions = if drive.now == fails {
                fails = i64::MAX;
                drive.handle(Event::Ended { reason: "nobody is there".into() })
            } else if drive.now == next {
                next += pace;
                drive.handle(tick(drive.now))
            } else {
                drive.handle(Event::Timer)
            };
            if actions.iter().any(|action| matches!(action, Action::Dial(_))) {
                fails = drive.now + DIAL_MS;
            }
            let oldest = drive.machine.memory.iter().find(|held| held.place == Place::Memory);
            let age = oldest.map_or(0, |held| drive.now - held.since);
            assert!(age <= SPILL_EVERY_MS, "{age} ms old at a pace of {pace} ms");
        }
        let apart = drive.appended.windows(2).map(|two| two[1].0 - two[0].0).min().unwrap();
        assert!(apart >= SPILL_EVERY_MS, "the disk is asked again after {apart} ms");
        let ticks: usize = drive.appended.iter().map(|(_, ticks)| ticks).sum();
        assert!(ticks as i64 >= 54_000 / pace, "{ticks} ticks at a pace of {pace} ms");
    }
}

#[test]
fn a_session_that_answers_costs_the_disk_nothing() {
    let mut drive = Drive::new(1);
    drive.until_dial();
    // The first tick is read before the first welcome.
    drive.handle(tick(drive.now));
    drive.now += 40;
    drive.welcome();
    for seq in 1..=60 {
        let reply = PushReply::Durable { begin: 0, seq, losses: Vec::new() };
        drive.handle(Event::Reply { call: Call::Live, reply });
        drive.now += 1000;
        drive.handle(Event::Timer);
        drive.handle(tick(drive.now));
    }
    assert!(drive.appended.is_empty(), "{:?}", drive.appended);
    assert_eq!(drive.machine.figures().legs, 0);
}

#[test]
fn more_acknowledged_than_there_was_is_counted_and_wraps_nothing() {
    let mut drive = Drive::new(1);
    let done = SpoolDone::Acknowledged { samples: 5 };
    drive.machine.handle(Event::Spool(done), drive.moment());
    let figures = drive.machine.figures();
    assert_eq!((figures.in_spool, figures.miscounted, figures.acknowledged), (0, 5, 5));
    assert_eq!(figures.imbalance(), -5, "and seen: {figures:?}");
}

/// What a machine waits in when its host's clock is set.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// Nothing has happened yet.
    Started,
    /// A dial has failed.
    Retry,
    /// A dial is under way, and will not be answered.
    Greeting,
    /// In a session, which then ends.
    Ended,
    /// In a session of which nothing more is heard.
    Silent,
    /// In a session that says it is there and takes nothing.
    Stalled,
    /// After many sessions that took nothing.
    Fruitless,
    /// The collector asked for 20 seconds.
    Told,
    Fenced,
    Refused(Until),
}

impl Wait {
    const ALL: [Self; 11] = [
        Self::Started,
        Self::Retry,
        Self::Greeting,
        Self::Ended,
        Self::Silent,
        Self::Stalled,
        Self::Fruitless,
        Self::Told,
        Self::Fenced,
        Self::Refused(Until::Mended),
        Self::Refused(Until::ClockSet),
    ];

    /// Comes to wait, has the clock set, and waits; for how long.
    fn endure(self, drive: &mut Drive, leap_ms: i64) -> i64 {
        if !matches!(self, Self::Started) {
            drive.until_dial();
        }
        match self {
            Self::Started | Self::Greeting => {}
            Self::Retry => drive.fail(),
            Self::Ended | Self::Silent => drive.welcome(),
            Self::Stalled => {
                drive.welcome();
                drive.handle(tick(drive.now));
            }
            Self::Fruitless => {
                for _ in 0..12 {
                    drive.welcome();
                    drive.fail();
                    drive.until_dial();
                }
                drive.welcome();
                drive.fail();
            }
            Self::Told => {
                drive.welcome();
                let reply = PushReply::Refused { reason: "full".into(), retry_after_ms: 20_000 };
                drive.handle(Event::Reply { call: Call::Live, reply });
            }
            Self::Fenced => {
                drive.welcome();
                drive.handle(Event::Fenced { reason: "another".into() });
            }
            Self::Refused(until) => {
                drive.handle(Event::Refused { reason: "revoked".into(), until });
            }
        }
        drive.leap_ms += leap_ms;
        match self {
            Self::Stalled => drive.until_dial_with_pongs(),
            Self::Ended => {
                drive.fail();
                drive.until_dial()
            }
            _ => drive.until_dial(),
        }
    }

    /// How long it may wait, whatever the host's clock does.
    fn within(self) -> RangeInclusive<i64> {
        let then_at_once = |ms: i64| ms..=ms + 1;
        match self {
            Self::Started | Self::Ended => 0..=0,
            Self::Retry => RETRY_MS,
            Self::Greeting => GREETING_MS + RETRY_MS.start()..=GREETING_MS + RETRY_MS.end(),
            Self::Silent => then_at_once(SILENCE_MS),
            Self::Stalled => then_at_once(STALL_MS),
            Self::Fruitless => 0..=FRUITLESS_MAX_MS,
            Self::Told => 20_000..=20_000,
            Self::Fenced => FENCED_RETRY_MS..=FENCED_RETRY_MS,
            Self::Refused(Until::Mended) => REFUSED_RETRY_MS,
            Self::Refused(Until::ClockSet) => CLOCK_RETRY_MS,
        }
    }
}

#[test]
fn whatever_it_waits_for_a_host_whose_clock_is_set_dials_when_it_would_have() {
    for wait in Wait::ALL {
        for seed in 0..20 {
            let mut unset = Drive::new(seed);
            let waited = wait.endure(&mut unset, 0);
            assert!(wait.within().contains(&waited), "{wait:?}, seed {seed}: {waited} ms");
            for leap_ms in LEAPS_MS {
                let mut drive = Drive::new(seed);
                let leapt = wait.endure(&mut drive, leap_ms);
                assert_eq!(leapt, waited, "{wait:?}, set by {leap_ms} ms, seed {seed}");
                // The collector is told what the clock says now.
                assert_eq!(drive.told_ms, unset.told_ms + leap_ms);
            }
        }
    }
}

#[test]
fn a_session_on_a_host_whose_clock_is_set_goes_on_undisturbed() {
    for leap_ms in LEAPS_MS {
        let mut drive = Drive::new(1);
        drive.until_dial();
        drive.welcome();
        let mut pings = Vec::new();
        for seq in 1..=60 {
            drive.now += 1000;
            drive.leap_ms = if seq > 30 { leap_ms } else { 0 };
            let mut actions = drive.handle(Event::Timer);
            actions.extend(drive.handle(tick(drive.now)));
            for action in actions {
                if let Action::Ping { queue_age_ms, .. } = action {
                    pings.push((drive.now - T0, queue_age_ms));
                    drive.handle(Event::Pong);
                }
            }
            let reply = PushReply::Durable { begin: 0, seq, losses: Vec::new() };
            drive.handle(Event::Reply { call: Call::Live, reply });
        }
        let due: Vec<(i64, u64)> = (1..=12).map(|count| (count * PING_MS, 0)).collect();
        assert_eq!(pings, due, "set by {leap_ms} ms");
        assert_eq!(drive.machine.figures().hang_ups, 0);
        assert!(drive.appended.is_empty(), "{:?}", drive.appended);
    }
}
