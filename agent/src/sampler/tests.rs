use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};

use stoa_model::Labels;

use super::*;
use crate::sources::{label, no_labels};

mod log;

/// What a source does beside telling how often it was read.
type Act = Box<dyn FnMut(f64, &mut Reading) + Send>;

/// A source that does as it is told.
struct Scripted {
    name: &'static str,
    interval: Option<Duration>,
    deadline: Option<Duration>,
    labels: Labels,
    reads: f64,
    act: Act,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Source for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn interval(&self) -> Option<Duration> {
        self.interval
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        self.reads += 1.0;
        let name = format!("{}_reads", self.name);
        reading.named(&name, "", Default::default()).push(self.labels.clone(), self.reads);
        (self.act)(self.reads, reading);
    }
}

fn source(
    name: &'static str,
    interval: Option<u64>,
    act: impl FnMut(f64, &mut Reading) + Send + 'static,
) -> Box<dyn Source> {
    Box::new(Scripted {
        name,
        interval: interval.map(Duration::from_secs),
        deadline: None,
        labels: label("source", name),
        reads: 0.0,
        act: Box::new(act),
    })
}

fn quick(name: &'static str) -> Box<dyn Source> {
    source(name, None, |_, _| {})
}

fn planned(sources: Vec<Box<dyn Source>>) -> Vec<Planned> {
    let plan = |source| Planned { source, interval: None, deadline: None };
    sources.into_iter().map(plan).collect()
}

fn sampler(sources: Vec<Box<dyn Source>>) -> Sampler {
    // Long enough for a healthy source on a busy machine.
    Sampler::new(planned(sources), Roots::default(), INTERVAL).with_patience(Duration::from_secs(1))
}

fn tick(sampler: &mut Sampler, second: i64) -> BTreeMap<String, f64> {
    sampler.tick(Now { unix_micros: second * 1_000_000 });
    let mut values = BTreeMap::new();
    for family in sampler.told() {
        for metric in &family.metrics {
            let value = values.insert(format!("{}{}", family.name, metric.labels), metric.value);
            assert_eq!(value, None, "{} stands twice", family.name);
        }
    }
    values
}

#[track_caller]
fn check(told: &BTreeMap<String, f64>, expected: &[(&str, Option<f64>)]) {
    for (series, value) in expected {
        assert_eq!(told.get(*series).copied(), *value, "{series} in {told:#?}");
    }
}

const SUCCESS_A: &str = r#"node_scrape_collector_success{collector="a"}"#;
const SUCCESS_B: &str = r#"node_scrape_collector_success{collector="b"}"#;
const READS_A: &str = r#"a_reads{source="a"}"#;
const READS_B: &str = r#"b_reads{source="b"}"#;

#[test]
fn every_tick_tells_every_source_and_slow_ones_again() {
    let mut sampler = sampler(vec![quick("a"), source("b", Some(3), |_, _| {})]);
    for (second, reads_b) in [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)] {
        let told = tick(&mut sampler, second);
        check(
            &told,
            &[
                (READS_A, Some(second as f64)),
                (READS_B, Some(reads_b)),
                (SUCCESS_A, Some(1.0)),
                (SUCCESS_B, Some(1.0)),
                ("stoa_agent_ticks_total{}", Some(second as f64)),
            ],
        );
        assert!(told.contains_key(r#"node_scrape_collector_duration_seconds{collector="a"}"#));
    }
}

#[test]
fn a_stuck_source_costs_its_own_series_until_it_returns() {
    let (hold, gate): (_, Receiver<()>) = channel();
    let stuck = source("a", None, move |reads, _| {
        if reads == 2.0 {
            assert!(gate.recv().is_err(), "nothing is sent, the sender is dropped");
        }
    });
    let mut sampler = sampler(vec![stuck, quick("b")]);
    check(&tick(&mut sampler, 1), &[(READS_A, Some(1.0)), (READS_B, Some(1.0))]);
    let overdue = r#"stoa_agent_source_overdue_total{collector="a"}"#;
    let skipped = r#"stoa_agent_source_skipped_total{collector="a"}"#;
    // What is counted for the first time is told as 0 at first.
    let zero = Some(0.0);
    for (second, reads_b, late, skips) in [
        (2, 2.0, zero, None),
        (3, 3.0, zero, zero),
        (4, 4.0, zero, zero),
        (100, 5.0, Some(1.0), Some(3.0)),
    ] {
        check(
            &tick(&mut sampler, second),
            &[
                (READS_A, None),
                (SUCCESS_A, Some(0.0)),
                (READS_B, Some(reads_b)),
                (SUCCESS_B, Some(1.0)),
                (overdue, late),
                (skipped, skips),
            ],
        );
    }
    drop(hold);
    while sampler.lanes.behind() > 0 {
        tick(&mut sampler, 101);
    }
    check(&tick(&mut sampler, 102), &[(READS_A, Some(3.0)), (overdue, Some(1.0))]);
}

#[test]
fn a_foreign_family_does_not_stand_beside_one_of_its_name() {
    let family = |name: &str| {
        let mut family = Family::new(name, "", Default::default());
        family.push(no_labels(), 7.0);
        family
    };
    let names = ["a_reads", "new", "stoa_agent_ticks_total", "node_scrape_collector_success", "up"];
    let told = names.map(family);
    let (reads, success) = (family("a_reads"), family("node_scrape_collector_success"));
    let mut families = vec![&reads, &success];
    tell_new(told.iter(), &mut families);
    assert_eq!(families, [&reads, &success, &family("new")]);
}

#[test]
fn a_foreign_family_that_is_left_out_is_a_problem() {
    #[derive(Debug)]
    struct Foreign;
    impl Source for Foreign {
        fn name(&self) -> &'static str {
            "textfile"
        }
        fn tells_foreign_families(&self) -> bool {
            true
        }
        fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
            for name in ["a_reads", "new", "up"] {
                reading.named(name, "", Default::default()).push(no_labels(), 7.0);
            }
        }
    }
    let mut sampler = sampler(vec![quick("a"), Box::new(Foreign)]);
    check(&tick(&mut sampler, 1), &[(READS_A, Some(1.0)), ("new{}", Some(7.0))]);
    let seen = sampler.seen();
    let left_out = |name| format!("cannot tell the family {name:?}: the agent tells it itself");
    assert_eq!(seen[1].why, ["a_reads", "up"].map(left_out));
}

#[test]
fn a_panic_and_a_problem_are_counted_and_the_rest_goes_on() {
    let panicking = source("a", None, |reads, _| assert!(reads > 1.0, "a bug"));
    let failing = source("b", None, |reads, reading| {
        if reads == 1.0 {
            reading.fail(Problem::parse("/x", "wrong"));
            reading.note(Problem::read("/y", std::io::ErrorKind::NotFound.into()));
        }
    });
    // A panic prints where it was, which takes its time on a busy machine.
    let mut sampler = sampler(vec![panicking, failing]).with_patience(Duration::from_secs(30));
    let problems = |name| format!(r#"stoa_agent_source_problems_total{{collector="{name}"}}"#);
    check(
        &tick(&mut sampler, 1),
        &[
            (READS_A, None),
            (SUCCESS_A, Some(0.0)),
            (&problems("a"), Some(0.0)),
            (READS_B, Some(1.0)),
            (SUCCESS_B, Some(0.0)),
            (&problems("b"), Some(0.0)),
        ],
    );
    check(&tick(&mut sampler, 2), &[(READS_A, Some(2.0)), (SUCCESS_A, Some(1.0))]);
    let told = tick(&mut sampler, 100);
    check(&told, &[(&problems("a"), Some(1.0)), (&problems("b"), Some(1.0))]);
}

#[test]
fn a_source_with_a_deadline_keeps_no_tick_waiting_and_is_told_when_it_is_back() {
    let (hold, gate): (_, Receiver<()>) = channel();
    let slow = Scripted {
        name: "a",
        interval: Some(Duration::from_secs(2)),
        deadline: Some(Duration::from_secs(10)),
        labels: label("source", "a"),
        reads: 0.0,
        act: Box::new(move |_, _| assert!(gate.recv().is_ok())),
    };
    let mut sampler = sampler(vec![Box::new(slow), quick("b")]);
    let overdue = r#"stoa_agent_source_overdue_total{collector="a"}"#;
    let skipped = r#"stoa_agent_source_skipped_total{collector="a"}"#;
    let stuck = "stoa_agent_source_threads_stuck{}";
    // Nothing is known of it while it is out for the first time.
    let told = tick(&mut sampler, 1);
    check(&told, &[(READS_A, None), (SUCCESS_A, None), (READS_B, Some(1.0))]);
    // Lets it come back, and ticks until it has.
    let come_back = |sampler: &mut Sampler, second, series: &str, value| {
        hold.send(()).unwrap();
        loop {
            let told = tick(sampler, second);
            if told.get(series) == Some(&value) {
                break told;
            }
            std::thread::yield_now();
        }
    };
    let told = come_back(&mut sampler, 2, READS_A, 1.0);
    check(&told, &[(READS_A, Some(1.0)), (SUCCESS_A, Some(1.0)), (skipped, None)]);
    // Out again: what it said last is told meanwhile, until the deadline or until it is too old.
    let (one, zero) = (Some(1.0), Some(0.0));
    for (second, reads, success) in
        [(3, one, one), (7, one, one), (8, None, None), (13, None, zero)]
    {
        check(&tick(&mut sampler, second), &[(READS_A, reads), (SUCCESS_A, success)]);
    }
    check(&tick(&mut sampler, 14), &[(overdue, zero), (stuck, one)]);
    // What comes too late is not told; it is asked anew at once, and that is.
    let told = come_back(&mut sampler, 15, stuck, 0.0);
    check(&told, &[(READS_A, None), (SUCCESS_A, zero), (overdue, zero)]);
    let told = come_back(&mut sampler, 16, READS_A, 3.0);
    check(&told, &[(SUCCESS_A, one), (stuck, zero), (overdue, zero)]);
    come_back(&mut sampler, 120, overdue, 1.0);
}

#[test]
fn a_clock_that_is_set_makes_no_source_late_and_hides_none_that_is() {
    let (hold, gate): (_, Receiver<()>) = channel();
    let slow = Scripted {
        name: "a",
        interval: None,
        deadline: Some(Duration::from_secs(10)),
        labels: label("source", "a"),
        reads: 0.0,
        act: Box::new(move |_, _| assert!(gate.recv().is_err())),
    };
    let mut sampler = sampler(vec![Box::new(slow)]);
    let overdue = r#"stoa_agent_source_overdue_total{collector="a"}"#;
    tick(&mut sampler, 100_000);
    // An hour forth, then two back; what has passed counts.
    sampler.leap(set_clock(3600));
    check(&tick(&mut sampler, 103_602), &[(overdue, None)]);
    sampler.leap(set_clock(-7200));
    check(&tick(&mut sampler, 96_404), &[(overdue, None)]);
    // A sleep is no time that it had.
    sampler.leap(sleep(3600));
    check(&tick(&mut sampler, 100_009), &[(overdue, None)]);
    check(&tick(&mut sampler, 100_011), &[(overdue, Some(0.0)), (SUCCESS_A, Some(0.0))]);
    sampler.leap(set_clock(-7200));
    check(&tick(&mut sampler, 92_812), &[(overdue, Some(1.0)), (SUCCESS_A, Some(0.0))]);
    drop(hold);
}

fn set_clock(seconds: i64) -> Leap {
    Leap { set_micros: seconds * 1_000_000, slept: Duration::ZERO }
}

fn sleep(seconds: u64) -> Leap {
    Leap { set_micros: 0, slept: Duration::from_secs(seconds) }
}

#[test]
fn what_was_read_before_a_sleep_is_not_told_as_of_now() {
    const HOUR: i64 = 3600;
    let (hold, gate): (_, Receiver<()>) = channel();
    let slow = Scripted {
        name: "a",
        interval: Some(Duration::from_secs(10)),
        deadline: Some(Duration::from_secs(600)),
        labels: label("source", "a"),
        reads: 0.0,
        act: Box::new(move |_, _| {
            let _ended_with_the_test = gate.recv();
        }),
    };
    let often = source("b", Some(10), |_, _| {});
    let mut sampler = sampler(vec![Box::new(slow), often]);
    let come_back = |sampler: &mut Sampler, second, reads| {
        hold.send(()).unwrap();
        loop {
            let told = tick(sampler, second);
            match told.get(READS_A) {
                Some(told) if *told == reads => break,
                other => assert_eq!(other, None, "an old reading at {second} s"),
            }
            std::thread::yield_now();
        }
    };
    let overdue = r#"stoa_agent_source_overdue_total{collector="a"}"#;
    tick(&mut sampler, 1);
    come_back(&mut sampler, 2, 1.0);
    // A clock that is set makes no reading older, whichever way.
    for hours in [1, -1] {
        sampler.leap(set_clock(hours * HOUR));
        let now = if hours == 1 { HOUR + 3 } else { 4 };
        check(&tick(&mut sampler, now), &[(READS_A, Some(1.0)), (READS_B, Some(1.0))]);
    }
    // A short sleep is within what may be told again.
    sampler.leap(sleep(5));
    check(&tick(&mut sampler, 10), &[(READS_A, Some(1.0)), (READS_B, Some(1.0))]);
    // After a long one it is asked anew at once.
    sampler.leap(sleep(3600));
    let told = tick(&mut sampler, HOUR + 11);
    check(&told, &[(READS_A, None), (SUCCESS_A, None), (READS_B, Some(2.0))]);
    // It sleeps again while that reading is out: it is of before, and no later for it.
    sampler.leap(sleep(3600));
    check(&tick(&mut sampler, 2 * HOUR + 12), &[(READS_A, None), (overdue, None)]);
    hold.send(()).unwrap();
    come_back(&mut sampler, 2 * HOUR + 13, 3.0);
}

#[test]
fn a_stuck_source_loses_one_reading_each_time_it_is_due() {
    for deadline in [None, Some(Duration::from_secs(3))] {
        let (hold, gate): (_, Receiver<()>) = channel();
        let stuck = Scripted {
            name: "a",
            interval: Some(Duration::from_secs(5)),
            deadline,
            labels: label("source", "a"),
            reads: 0.0,
            act: Box::new(move |_, _| {
                let _ended = gate.recv();
            }),
        };
        let mut sampler = sampler(vec![Box::new(stuck)]);
        let skipped = r#"stoa_agent_source_skipped_total{collector="a"}"#;
        // Due at 6 s for the first time, told as it stands 90 s later.
        for second in 1..=110 {
            let count = match second {
                ..6 => None,
                6..96 => Some(0.0),
                _ => Some(f64::from(second - 1).div_euclid(5.0)),
            };
            check(&tick(&mut sampler, second.into()), &[(skipped, count)]);
        }
        drop(hold);
    }
}

#[test]
fn a_thread_keeps_time_until_nobody_takes_ticks_and_counts_what_is_dropped() {
    let sources = planned(vec![quick("a")]);
    let sampler = Sampler::new(sources, Roots::default(), Duration::from_millis(10));
    let (sender, ticks) = channel();
    let take = move |t_ms, _took, families: &[&Family]| {
        let dropped = families.iter().find(|family| family.name == DROPPED.name).unwrap();
        let reads = families.iter().find(|family| family.name == "a_reads").unwrap();
        let (dropped, reads) = (dropped.metrics[0].value, reads.metrics[0].value);
        match sender.send((t_ms, dropped)) {
            Err(_) => Taken::Gone,
            Ok(()) if reads == 2.0 => Taken::Full,
            Ok(()) => Taken::Yes,
        }
    };
    let handle = spawn(sampler, take).unwrap();
    for dropped in [0.0, 0.0, 1.0, 1.0] {
        let (t_ms, told): (i64, f64) = ticks.recv().unwrap();
        assert_eq!((t_ms % 10, told), (0, dropped));
    }
    assert!(!handle.is_finished());
    drop(ticks);
    while !handle.is_finished() {
        std::thread::yield_now();
    }
    handle.stop();
}

#[test]
fn a_steady_tick_keeps_the_room_of_the_one_before() {
    let mut sampler = sampler(vec![quick("a"), source("b", Some(3), |_, _| {})]);
    let mut rooms = |second| {
        tick(&mut sampler, second);
        let told = sampler.told();
        told.iter().map(|f| (f.name.as_ptr(), f.metrics.as_ptr())).collect::<Vec<_>>()
    };
    rooms(1);
    let room = rooms(2);
    for second in 3..9 {
        assert_eq!(rooms(second), room);
    }
}

#[test]
fn who_is_passed_over_comes_first_in_the_next_tick() {
    let slow = |name| source(name, None, |_, _| std::thread::sleep(Duration::from_millis(100)));
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let interval = Duration::from_millis(500);
    let sources = planned(names.map(slow).into());
    let mut sampler =
        Sampler::new(sources, Roots::default(), interval).with_patience(Duration::from_millis(400));
    let mut reads = BTreeMap::new();
    for second in 1..=2 {
        for (series, value) in tick(&mut sampler, second) {
            reads.insert(series, value);
        }
    }
    let read = |name: &str| {
        reads.get(&format!("{name}_reads{{source=\"{name}\"}}")).copied().unwrap_or_default()
    };
    let least = names.iter().map(|name| read(name)).fold(f64::INFINITY, f64::min);
    let all: f64 = names.iter().map(|name| read(name)).sum();
    assert!(least >= 1.0 && all < 20.0, "{reads:?}");
}

#[test]
fn what_one_pass_came_to_is_told_source_by_source() {
    let absent = || Problem::read("/absent", std::io::ErrorKind::NotFound.into());
    let (hold, gate) = channel::<()>();
    let mut late = Scripted {
        name: "late",
        interval: None,
        deadline: Some(Duration::from_millis(1500)),
        labels: label("source", "late"),
        reads: 0.0,
        act: Box::new(|_, _| {}),
    };
    late.act = Box::new(move |_, _| assert!(gate.recv().is_err()));
    let sources: Vec<Box<dyn Source>> = vec![
        quick("read"),
        source("absent", None, move |_, reading| {
            reading.begin();
            reading.fail(absent());
        }),
        source("part", None, |_, reading| {
            for _ in 0..8 {
                reading.note(Problem::parse("/x", "wrong"));
            }
        }),
        source("fails", None, |_, reading| reading.fail(Problem::parse("/x", "wrong"))),
        Box::new(late),
    ];
    let mut sampler = sampler(sources);
    let mut waited = Vec::new();
    sampler.read_once(Now { unix_micros: 0 }, |names| waited.push(names.to_vec()));
    drop(hold);
    assert_eq!(waited, [["late"]]);
    let seen = sampler.seen();
    let told: Vec<_> = seen.iter().map(|seen| (seen.name, seen.state, seen.series)).collect();
    assert_eq!(
        told,
        [
            ("read", State::Read, 1),
            ("absent", State::Absent, 0),
            ("part", State::Part, 1),
            ("fails", State::Fails, 1),
            ("late", State::Late, 0),
        ]
    );
    let why: Vec<String> = seen.iter().map(|seen| seen.why.join("; ")).collect();
    assert_eq!(why[0], "");
    assert_eq!(why[1], "there is no /absent");
    assert!(why[2].ends_with("; and 3 more"), "{}", why[2]);
    assert_eq!(why[3], "cannot understand /x: wrong");
    assert_eq!(why[4], "it has not come back within 1s500ms");
}
