//! How long it waits, what it spools, and what it counts, in virtual time.

use stoa_model::{Labels, MetricKind};
use stoa_proto::tick::{FamilyInfo, Series};

use super::*;

const T0: TimestampMs = 1_700_000_000_000;

/// How long a dial takes that is refused on both transports, milliseconds.
const DIAL_MS: i64 = 800;

/// A machine with a spool that takes everything, in its own time.
struct Drive {
    machine: Uplink,
    now: TimestampMs,
    /// A dial was wanted.
    dials: bool,
    /// Instants and sizes of what was handed to the spool.
    appended: Vec<(TimestampMs, usize)>,
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
        Self { machine: Uplink::new(config, T0), now: T0, dials: false, appended: Vec::new() }
    }

    /// Hands in an event and does the spool's work; gives the rest.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut todo = VecDeque::from(self.machine.handle(event, self.now));
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
                    self.dials |= matches!(other, Action::Dial(_));
                    rest.push(other);
                    continue;
                }
            };
            todo.extend(self.machine.handle(Event::Spool(done), self.now));
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

    fn fail(&mut self) {
        self.handle(Event::Ended { reason: "nobody is there".into() });
    }

    fn welcome(&mut self) {
        let welcome = Welcome { session: 1, marks: Vec::new(), now_ms: self.now };
        let fresh = Epoch::from_random([8; 12]);
        self.handle(Event::Welcomed { welcome, fresh });
        assert!(self.machine.is_up());
    }
}

fn tick(t: TimestampMs) -> Event {
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
    let mut machine = Drive::new(1).machine;
    let done = SpoolDone::Acknowledged { samples: 5 };
    machine.handle(Event::Spool(done), T0);
    let figures = machine.figures();
    assert_eq!((figures.in_spool, figures.miscounted, figures.acknowledged), (0, 5, 5));
    assert_eq!(figures.imbalance(), -5, "and seen: {figures:?}");
}
