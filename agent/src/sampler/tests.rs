use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// What a source does beside telling how often it was read.
type Act = Box<dyn FnMut(f64, &mut Reading) + Send>;

/// A source that does as it is told.
struct Scripted {
    name: &'static str,
    interval: Option<Duration>,
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

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        self.reads += 1.0;
        let mut family = Family::new(format!("{}_reads", self.name), "", Default::default());
        family.push(self.labels.clone(), self.reads);
        reading.families.push(family);
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
        labels: label("source", name),
        reads: 0.0,
        act: Box::new(act),
    })
}

fn quick(name: &'static str) -> Box<dyn Source> {
    source(name, None, |_, _| {})
}

fn sampler(sources: Vec<Box<dyn Source>>) -> Sampler {
    // Long enough for a healthy source on a busy machine.
    Sampler::new(sources, Roots::default(), INTERVAL).with_patience(Duration::from_secs(1))
}

fn tick(sampler: &mut Sampler, second: i64) -> BTreeMap<String, f64> {
    let tick = sampler.tick(second * 1000, Now { unix_micros: second * 1_000_000 });
    assert_eq!(tick.t_ms, second * 1000);
    let mut values = BTreeMap::new();
    for family in tick.families {
        for metric in family.metrics {
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
    for (second, skips) in [(2, 0.0), (3, 1.0), (4, 2.0)] {
        check(
            &tick(&mut sampler, second),
            &[
                (READS_A, None),
                (SUCCESS_A, Some(0.0)),
                (READS_B, Some(second as f64)),
                (SUCCESS_B, Some(1.0)),
                (overdue, Some(1.0)),
                (skipped, Some(skips)),
            ],
        );
    }
    drop(hold);
    while sampler.lanes.behind() > 0 {
        tick(&mut sampler, 5);
    }
    check(&tick(&mut sampler, 6), &[(READS_A, Some(3.0)), (overdue, Some(1.0))]);
}

#[test]
fn a_foreign_family_does_not_stand_beside_one_of_its_name() {
    let family = |name: &str| {
        let mut family = Family::new(name, "", Default::default());
        family.push(no_labels(), 7.0);
        family
    };
    let names = ["a_reads", "new", "stoa_agent_ticks_total", "node_scrape_collector_success"];
    let mut families = vec![family("a_reads")];
    assert_eq!(tell_new(&names.map(family), &mut families), 3);
    assert_eq!(families, [family("a_reads"), family("new")]);
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
    let mut sampler = sampler(vec![panicking, failing]);
    let problems = |name| format!(r#"stoa_agent_source_problems_total{{collector="{name}"}}"#);
    check(
        &tick(&mut sampler, 1),
        &[
            (READS_A, None),
            (SUCCESS_A, Some(0.0)),
            (&problems("a"), Some(1.0)),
            (READS_B, Some(1.0)),
            (SUCCESS_B, Some(0.0)),
            (&problems("b"), Some(1.0)),
        ],
    );
    check(&tick(&mut sampler, 2), &[(READS_A, Some(2.0)), (SUCCESS_A, Some(1.0))]);
}

#[test]
fn a_thread_keeps_time_until_nobody_listens_and_drops_what_nobody_takes() {
    let sampler = Sampler::new(vec![quick("a")], Roots::default(), Duration::from_millis(10));
    let (sender, mut ticks) = super::channel();
    let handle = spawn(sampler, sender).unwrap();
    let first = ticks.blocking_recv().unwrap();
    assert_eq!(first.t_ms % 10, 0);
    while ticks.len() < TICKS_MAX {
        std::thread::yield_now();
    }
    // One more tick finds the channel full; a later one that finds room says so.
    std::thread::sleep(Duration::from_millis(25));
    let dropped = |tick: &Tick| {
        let family = tick.families.iter().find(|family| family.name == DROPPED.name).unwrap();
        family.metrics[0].value
    };
    while dropped(&ticks.blocking_recv().unwrap()) == 0.0 {}
    handle.stop();
    while ticks.blocking_recv().is_some() {}
}
