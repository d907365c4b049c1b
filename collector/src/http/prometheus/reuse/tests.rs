//! A store whose past changes in all the ways there are, asked over and over with a window that moves on: with
//! what was kept and without the answers are the same, to the byte.

use std::path::Path;
use std::sync::Arc;

use stoa_model::{
    BucketCounts, Counts, Histogram, Labels, Matcher, ResetHint, TimestampMs, stale_nan,
};
use stoa_promql::{Answer, Engine, Limits, QueryError};
use stoa_tsdb::{Batch, Db, GroupId, HistogramSample, Options, Row};
use stoa_wal::disk::SimDisk;

use super::super::Stop;
use super::super::query::Range;
use super::super::stats::{Asking, Wanted};
use super::super::value::Printing;
use super::{Question, Reuse, ReuseFigures};
use crate::store::StoreView;

const START: TimestampMs = 1_700_000_040_000;
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Knuth's MMIX: good enough to scatter samples.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % below
    }

    fn percent(&mut self, share: i64) -> bool {
        self.below(100) < share
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(i64::try_from(from.len()).unwrap())).unwrap()]
    }
}

/// How a world goes.
#[derive(Clone, Copy)]
struct Plan {
    /// Between two readings.
    interval: i64,
    step: i64,
    /// Of the window.
    length: i64,
    block: i64,
    retention: i64,
    /// How long aggregates are kept.
    aggregates: i64,
    /// Rounds, each with some readings and some questions.
    rounds: usize,
    /// Whether the past changes: not only by what is due.
    is_restless: bool,
    bytes_max: u64,
}

const HOURS: Plan = Plan {
    interval: 15 * SECOND,
    step: MINUTE,
    length: 40 * MINUTE,
    block: 10 * MINUTE,
    retention: 2 * HOUR,
    aggregates: 0,
    rounds: 150,
    is_restless: true,
    bytes_max: 64 << 20,
};

struct World {
    disk: SimDisk,
    db: Arc<Db>,
    reuse: Reuse,
    dice: Dice,
    now: TimestampMs,
    plan: Plan,
}

const QUERIES: [&str; 18] = [
    "a",
    "b offset 3m",
    "a offset -1m",
    "rate(c_total[4m])",
    "sum by (l) (rate(c_total[4m]))",
    "rate(b[4m])",
    "sum(a) / on () group_left () count(b)",
    "avg(sum by (m) (a))",
    "topk(2, a)",
    "quantile(0.3, max_over_time(a[10m]))",
    "histogram_quantile(0.9, sum by (le) (rate(d_bucket[4m])))",
    "absent(a{l=\"y\"})",
    "time() - timestamp(a)",
    "{__name__=~\"a|b\"} > 0.5",
    "h",
    "avg_over_time(a[10m:1m])",
    "a @ end()",
    "sum(rate({__name__=~\"a|b|c_total\"}[30m]))",
];

fn labels(text: &[(&'static str, &'static str)]) -> Labels {
    Labels::from_pairs(text.iter().copied()).unwrap()
}

/// By group; the first of each stands in both.
fn series(group: u64) -> Vec<Labels> {
    let all: &[&[(&str, &str)]] = if group == 1 {
        &[
            &[("__name__", "a"), ("l", "x"), ("m", "1")],
            &[("__name__", "a"), ("l", "x"), ("m", "2")],
            &[("__name__", "a"), ("l", "y"), ("m", "1")],
            &[("__name__", "b"), ("l", "x")],
            &[("__name__", "c_total"), ("l", "x")],
            &[("__name__", "d_bucket"), ("le", "1")],
            &[("__name__", "d_bucket"), ("le", "+Inf")],
        ]
    } else {
        &[
            &[("__name__", "a"), ("l", "x"), ("m", "1")],
            &[("__name__", "a"), ("l", "z"), ("m", "3")],
            &[("__name__", "b"), ("l", "z")],
            &[("__name__", "c_total"), ("l", "z")],
        ]
    };
    all.iter().map(|one| labels(one)).collect()
}

/// What is sent, byte for byte, or why nothing is.
fn shown(answer: Result<Answer, QueryError>, view: &StoreView) -> String {
    match answer {
        Ok(Answer { value, warnings, infos, .. }) => {
            let mut out = Vec::new();
            assert!(Printing::new(value).fill(&mut out, usize::MAX));
            let value = String::from_utf8(out).unwrap();
            format!("{value} {warnings:?} {infos:?} {:?}", view.warnings())
        }
        Err(error) => error.to_string(),
    }
}

impl World {
    fn new(seed: u64, plan: Plan) -> Self {
        let options = Options {
            block_ms: plan.block,
            grace_ms: plan.block / 4,
            compaction_ms: vec![3 * plan.block],
            retention_ms: plan.retention,
            minute_retention_ms: plan.aggregates,
            hour_retention_ms: plan.aggregates,
            out_of_order_ms: plan.length,
            head_chunk_samples: 16,
            ..Options::default()
        };
        let disk = SimDisk::new(seed);
        let (db, _) = Db::open(Arc::new(disk.clone()), Path::new("/db"), options, START).unwrap();
        let reuse = Reuse::new(plan.bytes_max);
        let dice = Dice(seed);
        let mut world = Self { disk, db: Arc::new(db), reuse, dice, now: START, plan };
        while world.now < START + plan.length + plan.step {
            world.read();
        }
        world
    }

    /// Readings of both groups, most of them.
    fn read(&mut self) {
        self.now += self.plan.interval;
        for group in [1, 2] {
            let jitter = self.dice.below(3) * 10;
            self.store(group, self.now - jitter, 95);
        }
    }

    fn store(&mut self, group: u64, t: TimestampMs, share: i64) {
        let mut samples = Vec::new();
        for labels in series(group) {
            if !self.dice.percent(share) {
                continue;
            }
            let series = self.db.resolve(GroupId(group), &labels).unwrap();
            let name = labels.metric_name().unwrap();
            let value = match self.dice.below(40) {
                0 => stale_nan(),
                1 => f64::NAN,
                // A counter that begins anew now and then.
                _ if name == "c_total" || name == "d_bucket" => {
                    let minutes =
                        u32::try_from((t - START).rem_euclid(17 * MINUTE) / SECOND).unwrap();
                    f64::from(minutes) * 1.1
                }
                _ => f64::from(u32::try_from(self.dice.below(1000)).unwrap()) * 0.001,
            };
            samples.push((series, value));
        }
        let row = Row { t_ms: t, samples };
        self.db.append(&Batch { group: GroupId(group), rows: vec![row], marks: vec![] }).unwrap();
    }

    /// Something that changes the past, or may.
    fn stir(&mut self) {
        let back = self.dice.below(self.plan.length);
        let t = self.now - back;
        match self.dice.below(9) {
            0..=2 => self.store(1, t, 30),
            // Samples that are there.
            3 => {
                for _ in 0..3 {
                    let (dice, now) = (self.dice.0, self.now);
                    self.store(2, now - 7, 50);
                    self.dice.0 = dice;
                }
            }
            4 => {
                let name = self.dice.pick(&["a", "b", "c_total", "none"]);
                let matcher = Matcher::equal("__name__", name);
                self.db.delete_series(&[matcher], t - 2 * MINUTE, t, self.now).unwrap();
            }
            5 => drop(self.db.clean_tombstones(self.now).unwrap()),
            6 => {
                let mut bulk = self.db.bulk(self.now, 0);
                let imported = labels(&[("__name__", "a"), ("l", "imported")]);
                let series = bulk.series(&imported).unwrap();
                bulk.push(series, t, 4.5).unwrap();
                self.db.write_bulk(bulk, self.now, |_, _| {}).unwrap();
            }
            7 => {
                let series = self.db.resolve(GroupId(1), &labels(&[("__name__", "h")])).unwrap();
                let histogram = Histogram {
                    schema: 0,
                    zero_threshold: 0.0,
                    sum: 0.0,
                    positive_spans: Vec::new(),
                    negative_spans: Vec::new(),
                    custom_values: Vec::new(),
                    counts: Counts::Integer(BucketCounts::default()),
                    reset: ResetHint::Unknown,
                };
                let sample =
                    HistogramSample { t_ms: self.now, series, histogram: Arc::new(histogram) };
                let batch = Batch { group: GroupId(1), rows: vec![], marks: vec![] };
                self.db.append_with(&batch, &[sample]).unwrap();
            }
            _ => drop(self.db.compact(self.now).unwrap()),
        }
    }

    /// Asks as a dashboard does, whose steps mostly lie on multiples of the step; now and then somebody
    /// looks a little further back.
    fn ask_any(&mut self) {
        let text = self.dice.pick(&QUERIES);
        let phase = if self.dice.percent(85) { 0 } else { 7 * SECOND };
        let back = if self.dice.percent(5) { 3 } else { 0 };
        self.ask(text, phase, back);
    }

    fn ask(&self, text: &str, phase: i64, back: i64) {
        let Plan { step, length, .. } = self.plan;
        let end = ((self.now - phase).div_euclid(step) - back) * step + phase;
        let range = Range { start: end - length, end, step };
        let engine = Engine::new(Limits::default());
        let question = Question { engine, text, range, now_ms: self.now };
        let stop = Stop::said(false);
        let view = StoreView::of(Arc::clone(&self.db));
        let asking = Asking::new(&view, &stop, Wanted::Nothing);
        let with = shown(self.reuse.answer(&question, &view, &asking), &view);
        let view = StoreView::of(Arc::clone(&self.db));
        let asking = Asking::new(&view, &stop, Wanted::Nothing);
        let whole = engine.range(&asking, text, range.start, range.end, range.step, &asking);
        let without = shown(whole, &view);
        assert_eq!(with, without, "{text} over {range:?} at {}", self.now);
    }

    fn run(&mut self) {
        for _ in 0..self.plan.rounds {
            for _ in 0..=self.dice.below(4) {
                self.read();
            }
            if self.dice.percent(30) {
                self.db.maintain(self.now).unwrap();
            }
            if self.plan.is_restless && self.dice.percent(12) {
                self.stir();
            }
            for _ in 0..6 {
                self.ask_any();
            }
            self.check_bounds();
        }
    }

    fn check_bounds(&self) {
        let ReuseFigures { bytes, .. } = self.reuse.figures();
        assert!(bytes <= self.plan.bytes_max, "{bytes} bytes are kept");
    }
}

/// Runs some worlds; what came of what was kept.
fn run(plan: Plan, seeds: std::ops::Range<u64>) -> ReuseFigures {
    let mut all = ReuseFigures::default();
    for seed in seeds {
        let mut world = World::new(seed, plan);
        world.run();
        let of = world.reuse.figures();
        all.hits += of.hits;
        all.misses += of.misses;
        all.unfit += of.unfit;
        all.changed += of.changed;
        all.crowded_out += of.crowded_out;
    }
    all
}

#[test]
fn what_is_kept_is_what_is_there() {
    let figures = run(HOURS, 0..12);
    assert!(figures.hits > 1000 && figures.changed > 500, "{figures:?}");
}

#[test]
fn where_nothing_stirs_most_is_kept() {
    let calm = Plan { is_restless: false, block: 2 * HOUR, ..HOURS };
    let figures = run(calm, 20..22);
    assert!(figures.hits > 3 * figures.misses && figures.changed == 0, "{figures:?}");
}

#[test]
fn little_room_holds_little() {
    let figures = run(Plan { bytes_max: 40_000, rounds: 60, ..HOURS }, 30..32);
    assert!(figures.hits > 50 && figures.crowded_out > 50, "{figures:?}");
    let none = run(Plan { bytes_max: 0, rounds: 5, ..HOURS }, 32..33);
    assert_eq!(none, ReuseFigures::default());
}

/// Each of many metrics that look like no counters is told of.
#[test]
fn what_is_told_takes_room_and_much_of_it_is_not_kept() {
    let world = World::new(60, Plan { is_restless: false, ..HOURS });
    for i in 0..20 {
        let name = format!("g{i:02}");
        let labels = [("__name__", name.as_str()), ("l", name.as_str())];
        let labels = Labels::from_pairs(labels).unwrap();
        let series = world.db.resolve(GroupId(3), &labels).unwrap();
        let times = (START..world.now).step_by(usize::try_from(MINUTE).unwrap());
        let rows = times.map(|t_ms| Row { t_ms, samples: vec![(series, 1.5)] }).collect();
        world.db.append(&Batch { group: GroupId(3), rows, marks: vec![] }).unwrap();
    }
    let ask = |text: &str| {
        let before = world.reuse.figures();
        world.ask(text, 0, 0);
        world.ask(text, 0, 0);
        let after = world.reuse.figures();
        (after.hits - before.hits, after.bytes - before.bytes)
    };
    let (hits, plain) = ask("sum({__name__=~\"g0.\"})");
    assert_eq!(hits, 1);
    let (hits, told) = ask("sum(rate({__name__=~\"g0.\"}[4m]))");
    assert_eq!(hits, 1);
    assert!(told > plain + 10 * 50, "ten infos, each a line: {told} and {plain} bytes");
    assert_eq!(ask("sum(rate({__name__=~\"g.*\"}[4m]))"), (0, 0), "twenty");
}

/// Days, of which aggregates are kept longer than samples: what is answered from these is never kept.
#[test]
fn aggregates_are_not_mixed_with_samples() {
    let days = Plan {
        interval: 4 * MINUTE,
        step: 10 * MINUTE,
        length: 26 * HOUR,
        block: 2 * HOUR,
        retention: 20 * HOUR,
        aggregates: 80 * HOUR,
        rounds: 60,
        ..HOURS
    };
    let gone = run(days, 40..42);
    assert!(gone.misses > 100, "{gone:?}");
    let there = run(Plan { retention: 100 * HOUR, aggregates: 120 * HOUR, ..days }, 42..44);
    assert!(there.hits > 5, "{there:?}");
}

#[test]
fn what_damage_took_is_not_kept() {
    let world = World::new(50, Plan { is_restless: false, ..HOURS });
    // Blocks of what is over by far.
    world.db.maintain(world.now).unwrap();
    world.ask("a", 0, 0);
    world.ask("a", 0, 0);
    let before = world.reuse.figures();
    assert_eq!((before.hits, before.entries), (1, 1), "{before:?}");
    // Met by a query of something else.
    let block = stoa_wal::Disk::list(&world.disk, Path::new("/db/blocks")).unwrap().remove(0);
    let path = Path::new("/db/blocks").join(block).join("chunks");
    world.disk.corrupt(&path, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5a)).unwrap();
    world.ask("b", 0, 0);
    world.ask("a", 0, 0);
    world.ask("a", 0, 0);
    let after = world.reuse.figures();
    assert_eq!((after.hits, after.changed, after.entries), (1, 1, 0), "{after:?}");
}
