//! What a query would read, asked of storage that gives nothing, is what it reads.

#![expect(clippy::expect_used, reason = "a test; what is missing is its failure")]

#[path = "asked/queries.rs"]
mod asked;

use std::cell::RefCell;
use std::sync::Mutex;

use proptest::sample::select;
use stoa_promql::script::Memory;
use stoa_promql::storage::{HistogramSeries, RolledUp, StartSeries};
use stoa_promql::{
    Caller, Engine, Event, Hints, Limits, PlanNode, Select, Series, Storage, StorageError,
};

use asked::{apart, memory, query};

/// Has rollups of a minute for whatever these do; writes down what it is asked for, and in a rehearsal
/// gives none of it.
struct Recorder {
    memory: Memory,
    rehearses: bool,
    asked: Mutex<Vec<String>>,
}

impl Recorder {
    fn new(rehearses: bool) -> Self {
        Self { memory: memory(), rehearses, asked: Mutex::default() }
    }

    fn note(&self, what: &str, select: &Select<'_>) {
        let matchers: Vec<String> = select.matchers.iter().map(ToString::to_string).collect();
        let (start, end) = (select.start_ms, select.end_ms);
        let line = format!("{what} {} {start} {end}", matchers.join(","));
        self.asked.lock().expect("no panic").push(line);
    }
}

impl Storage for Recorder {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.note("samples", select);
        if self.rehearses { Ok(Vec::new()) } else { self.memory.select(select) }
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        self.note("newest", select);
        if self.rehearses { Ok(Some(Vec::new())) } else { self.memory.select(select).map(Some) }
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        self.note("histograms", select);
        let found = self.memory.select_histograms(select)?;
        let mark = |series: HistogramSeries| HistogramSeries::mark(series.labels, select.start_ms);
        Ok(if self.rehearses { found.into_iter().map(mark).collect() } else { found })
    }

    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        self.note("starts", select);
        Ok(Vec::new())
    }

    fn windows_ms(&self) -> &[i64] {
        &[60_000]
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        self.note("rollups", select);
        let (series, coarser) = (Vec::new(), Vec::new());
        let rolled_up =
            |window_ms| RolledUp { series, window_ms, coarser, samples_kept_ms: 0, samples: 0 };
        Ok(hints.window_ms(self.windows_ms()).map(rolled_up))
    }
}

/// Writes down what it is told of what is read.
#[derive(Default)]
struct Listener {
    rehearses: bool,
    told: RefCell<Vec<Event>>,
}

impl Caller for Listener {
    fn is_gone(&self) -> bool {
        false
    }

    fn rehearses(&self) -> bool {
        self.rehearses
    }

    fn told(&self, event: Event) {
        if !matches!(event, Event::Begun(_) | Event::Ended(..)) {
            self.told.borrow_mut().push(event);
        }
    }
}

/// What storage is asked, and what the caller is told of it; none when there is no value.
fn reads(query: &str, step: i64, rehearses: bool) -> Option<(Vec<String>, Vec<Event>)> {
    let (storage, listener) =
        (Recorder::new(rehearses), Listener { rehearses, ..Listener::default() });
    let engine = Engine::default();
    let answer = match step {
        0 => engine.instant(&storage, query, 900_000, &listener),
        step => engine.range(&storage, query, 200_000, 900_000, step, &listener),
    };
    answer.ok()?;
    Some((storage.asked.into_inner().expect("no panic"), listener.told.into_inner()))
}

#[test]
fn what_is_rehearsed_is_read() {
    for query in [
        "a",
        "1 + 1",
        "a + a offset 1m",
        "rate(c_total[5m]) / (rate(c_total[10m]))",
        "a and on (l) b unless c_total",
        "max_over_time(rate(a[1m])[5m:30s])",
        "a @ 100 + a @ start() + a @ end()",
        "h + h",
        "histogram_quantile(scalar(a{l=\"x\"}), h)",
        "histogram_count(h) + h",
        "quantile_over_time(scalar(a), a[5m])",
        "topk(scalar(count(a)), c_total) + on (l) a",
        "limit_ratio(scalar(count(a)) / 9, a)",
        "timestamp(a) - timestamp(a offset 1m)",
        "absent(nothing) or absent_over_time(nothing[5m])",
        // From rollups, and one that has histograms too.
        "rate(c_total[1d]) / c_total",
        "count_over_time(h[1d])",
        "sum_over_time(a[1d]) + sum_over_time(a[1d:1h])",
        "label_replace(a, \"m\", \"$1\", \"l\", \"(.*)\")",
        "vector(scalar(a)) + time()",
    ] {
        for step in [0, 60_000] {
            let real = reads(query, step, false);
            assert!(real.is_some(), "{query}");
            assert_eq!(reads(query, step, true), real, "{query}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_rehearsed_is_read(query in query(), step in select(vec![0, 25_000, 60_000])) {
        for query in [query.replace('§', ""), apart(&query)] {
            // Series that do not go together are found when they are there.
            if let Some(real) = reads(&query, step, false) {
                proptest::prop_assert_eq!(reads(&query, step, true), Some(real), "{}", query);
            }
        }
    }
}

#[test]
fn a_selector_is_told_by_its_place() {
    let listener = Listener::default();
    let query = "a + quantile_over_time(scalar(a), (a[5m])) - timestamp(a)";
    let answer = Engine::default().instant(&memory(), query, 900_000, &listener);
    answer.expect("a value");
    let mut selectors = Vec::new();
    let mut with_how: Vec<(&str, &str)> = Vec::new();
    for event in listener.told.into_inner() {
        match event {
            Event::Wanted { place, .. } => {
                selectors.push(place);
                let text = query.get(place.start..place.end).expect("a place");
                with_how.push((text, "alone"));
            }
            Event::ReadForOthers { start_ms, end_ms } => {
                assert_eq!((start_ms, end_ms), (600_001, 900_000));
                with_how.last_mut().expect("one").1 = "for others";
            }
            Event::Taken => with_how.last_mut().expect("one").1 = "taken",
            Event::Begun(_) | Event::Ended(..) => {}
        }
    }
    let taken = ("a", "taken");
    // A call of a range asks for rollups first, and then for samples.
    assert_eq!(with_how[..2], [("a", "for others"), taken][..]);
    assert!(with_how.contains(&("a[5m]", "taken")) && with_how.ends_with(&[taken]), "{with_how:?}");
    selectors.sort_unstable();
    selectors.dedup();
    assert_eq!(selectors.len(), 4);
}

#[test]
fn an_outline_is_of_expressions() {
    fn lines(node: &PlanNode, depth: usize, out: &mut String) {
        let matchers = node.matchers.as_ref().map_or(0, Vec::len);
        let line = format!("{}{}: {} {matchers}\n", " ".repeat(depth), node.operation, node.value);
        out.push_str(&line);
        node.children.iter().for_each(|child| lines(child, depth + 1, out));
    }
    let query = "-sum by (l) (rate(a{l!=\"x\"}[5m])) > bool on (l) \
                 (max_over_time(b[1h:5m]) * 2) or topk(1, c offset 1m)";
    let mut out = String::new();
    lines(&Engine::new(Limits::default()).outline(query).expect("a query"), 0, &mut out);
    assert_eq!(
        out,
        "or: instant vector 0\n\
         \x20> bool on (l): instant vector 0\n\
         \x20 -: instant vector 0\n\
         \x20  sum by (l): instant vector 0\n\
         \x20   rate: instant vector 0\n\
         \x20    a{l!=\"x\"}[5m]: range vector 2\n\
         \x20 *: instant vector 0\n\
         \x20  max_over_time: instant vector 0\n\
         \x20   subquery [1h:5m]: range vector 0\n\
         \x20    b: instant vector 1\n\
         \x20  2: scalar 0\n\
         \x20topk: instant vector 0\n\
         \x20 1: scalar 0\n\
         \x20 c offset 1m: instant vector 1\n"
    );
}
