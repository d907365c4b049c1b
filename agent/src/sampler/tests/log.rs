//! What of a source's faults is logged, by simulated clocks.

use std::fmt::Debug;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;
use crate::sampler::fault::QUIET;

/// Keeps the sampler's lines at info and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Line {
    message: String,
    /// Faults it stands for, where it says so.
    times: Option<u64>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "times" {
            self.times = Some(value);
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("stoa_agent::sampler")
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Log {
    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Ticks at these seconds with a source that fails or does not; the lines of each tick.
fn lines(turns: &[(i64, bool)]) -> Vec<Vec<Line>> {
    let fails = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&fails);
    let flapping = source("a", None, move |_, reading| {
        if told.load(Relaxed) {
            reading.fail(Problem::parse("/x", "wrong"));
        }
    });
    let mut sampler = sampler(vec![flapping]);
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let ticked = turns.iter().map(|(second, now_fails)| {
            fails.store(*now_fails, Relaxed);
            tick(&mut sampler, *second);
            log.take()
        });
        ticked.collect()
    })
}

#[test]
fn a_fault_is_logged_when_it_begins_and_when_it_ends_and_one_that_returns_is_counted() {
    let said = lines(&[
        (1, false),
        (2, true),
        (3, true),
        (4, false),
        (5, true),
        (6, false),
        (7, true),
        (603, true),
        (604, true),
        (605, false),
    ]);
    let line = |message: &str, times| vec![Line { message: message.to_owned(), times }];
    let expected = [
        vec![],
        line("source fails", None),
        vec![],
        line("source is well again", None),
        vec![],
        vec![],
        vec![],
        vec![],
        line("source fails again", Some(2)),
        line("source is well again", None),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_part_that_is_joined_by_another_is_said_again_in_time() {
    let parts = Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let told = Arc::clone(&parts);
    let partly = source("a", None, move |_, reading| {
        for _ in 0..told.load(Relaxed) {
            reading.note(Problem::parse("/x", "wrong"));
        }
    });
    let mut sampler = sampler(vec![partly]);
    let log = Log::default();
    let mut said = Vec::new();
    tracing::subscriber::with_default(log.clone(), || {
        for (second, count) in [(1, 1), (2, 3), (3, 2), (4, 2), (700, 2), (701, 4), (1400, 4)] {
            parts.store(count, Relaxed);
            tick(&mut sampler, second);
            said.extend(log.take().into_iter().map(|line| (second, line.message, line.times)));
        }
    });
    let line = |second: i64, message: &str, times| (second, message.to_owned(), times);
    let expected = [
        line(1, "part of a source fails", None),
        line(700, "part of a source fails again", Some(1)),
        line(1400, "part of a source fails again", Some(1)),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_part_that_fails_is_logged_when_it_begins_and_when_it_ends() {
    let mut readings = 0;
    let partly = source("a", None, move |_, reading| {
        readings += 1;
        if readings == 2 || readings == 3 {
            reading.note_named(Problem::read("/x", std::io::ErrorKind::NotFound.into()));
            reading.note(Problem::parse("/y", "wrong"));
        }
        if readings == 4 {
            reading.fail(Problem::parse("/z", "wrong"));
        }
        reading.note(Problem::read("/absent", std::io::ErrorKind::NotFound.into()));
    });
    let mut sampler = sampler(vec![partly]);
    let log = Log::default();
    let said: Vec<Vec<String>> = tracing::subscriber::with_default(log.clone(), || {
        let ticked = (1..=6).map(|second| {
            tick(&mut sampler, second);
            log.take().into_iter().map(|line| line.message).collect()
        });
        ticked.collect()
    });
    let expected: [&[&str]; 6] = [
        &[],
        &["part of a source fails"],
        &[],
        &["source fails"],
        &["source is well again", "all of the source is read again"],
        &[],
    ];
    assert_eq!(said, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_source_that_flaps_is_bounded_in_the_log_and_each_of_its_faults_is_in_it(
        steps in prop::collection::vec((prop_oneof![4 => 1_i64..9, 1 => 1_i64..900], any::<bool>()), 1..150),
    ) {
        let quiet = i64::try_from(QUIET.as_secs()).unwrap();
        let mut turns = vec![(0, false)];
        let mut second = 0;
        for (wait, fails) in steps.into_iter().chain([(1, false), (quiet, false)]) {
            second += wait;
            turns.push((second, fails));
        }
        let mut said: Vec<(i64, Line)> = Vec::new();
        let (mut log_says, mut was, mut since, mut faults, mut in_log) = (false, false, 0, 0, 0);
        for ((second, fails), new) in turns.iter().zip(lines(&turns)) {
            if *fails != was {
                (was, since) = (*fails, *second);
                faults += u64::from(*fails);
                // The first is said at once, and so is one that comes when all was quiet.
                let is_late = said.last().is_some_and(|(at, _)| second - at < quiet);
                prop_assert!(is_late || !new.is_empty(), "a fault at {} s of {:?}", second, said);
            }
            for line in new {
                log_says = !line.message.contains("well");
                in_log += line.times.unwrap_or(u64::from(log_says));
                said.push((*second, line));
            }
            prop_assert!(log_says == *fails || second - since < quiet, "{} s of {:?}", second, said);
        }
        prop_assert_eq!(faults, in_log, "{:?}", &said);
        for three in said.windows(3) {
            prop_assert!(three[2].0 - three[0].0 >= quiet, "{:?}", three);
        }
    }
}
