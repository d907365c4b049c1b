//! Queries changed at random: an answer or an error, never a panic, and an end soon after it is asked
//! for. `STOA_QUERIES` says how many; a failure names its seed, and `STOA_SEED` repeats one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "a test: what goes wrong is to fail it, and how long it takes is part of it"
)]

use std::time::{Duration, Instant};

use stoa_promql::script::Memory;
use stoa_promql::{Engine, Limits, parse_selector, selector_groups};

/// After this a query is told to end.
const PATIENCE: Duration = Duration::from_secs(1);
/// And this long it may take on any machine.
const LONGEST: Duration = Duration::from_secs(20);

const SCRIPTS: [&str; 5] = [
    include_str!("../testdata/buckets.test"),
    include_str!("../testdata/edges.test"),
    include_str!("../testdata/joins.test"),
    include_str!("../testdata/picks.test"),
    include_str!("../testdata/subqueries.test"),
];

const LOAD: &str = r#"load 30s
    a{l="x", m="1"} 0+1x6 stale _ 5+2x9
    a{l="y", m="1"} 10-1x20
    c_total 0+3x7 0+4x12
    d_bucket{le="0.5"} 0+1x20
    d_bucket{le="+Inf"} 0+4x20
    h{l="x"} {{schema:0 count:3 sum:4 buckets:[1 2]}}+{{schema:0 count:2 sum:1 buckets:[1 1]}}x9 1 2 3
"#;

/// Over what is loaded, so that they have answers.
const OWN: [&str; 8] = [
    "sum by (l) (rate(a[2m])) / on(l) group_left(m) a",
    "histogram_quantile(0.9, sum by (le) (rate(d_bucket[5m])))",
    "histogram_fraction(0, 2, rate(h[2m]))",
    "max_over_time(rate(c_total[1m])[5m:30s] offset -1m @ 300)",
    "topk(2, a{l=~\"x|y\"}) or label_replace(a, \"n\", \"$1\", \"l\", \"(.*)\")",
    "a and on() vector(time()) unless c_total == bool 3 % 2 ^ -1",
    "quantile(0.5, h) or count_values(\"v\", a) or absent(none{x=\"y\"})",
    "predict_linear(c_total[5m], 3600) + stddev_over_time(a[1m:])",
];

fn dice(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n << 32 | n);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The queries of a script.
fn queries(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("eval")?;
        rest.split_once(" at ").map_or(Some(rest), |(_, rest)| Some(rest.split_once(' ')?.1))
    })
}

fn change(seed: u64, corpus: &[&str]) -> String {
    let mut n = 0;
    let mut below = |end: usize| {
        n += 1;
        usize::try_from(dice(seed, n) % end.max(1) as u64).unwrap()
    };
    let mut text = corpus[below(corpus.len())].to_owned();
    for _ in 0..below(4) {
        let places: Vec<usize> =
            text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let (a, b) = (places[below(places.len())], places[below(places.len())]);
        let (from, to) = (a.min(b), a.max(b));
        let words = [
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "[5m:1s]",
            " offset ",
            "1e308",
            "-",
            "9999999999y",
            "=~\"",
            "\\",
            " by ",
            " on(",
            "@",
            "\u{0}",
            "\u{1F980}",
            "0x",
            "NaN",
            "group_left",
            "((((((((",
            "=~\"(a*)*b\"",
            ":",
            "''",
            "{__name__=\"\"}",
        ];
        match below(5) {
            0 => text.replace_range(from..to, ""),
            1 => text.insert_str(from, words[below(words.len())]),
            2 => {
                let part = text[from..to].to_owned();
                let times = if below(20) == 0 { 50 } else { 1 };
                text.insert_str(to, &part.repeat(times));
            }
            3 => {
                let other = corpus[below(corpus.len())];
                text.replace_range(from..to, other);
            }
            _ => {
                let digits = ["0", "1", "18446744073709551616", "1e-320", "9223372036854775807"];
                text.insert_str(from, digits[below(digits.len())]);
            }
        }
    }
    text
}

struct Told(u64, String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("queries: STOA_SEED={}: {}", self.0, self.1);
        }
    }
}

#[test]
fn a_query_of_any_text_is_answered_or_refused_in_time() {
    let only = std::env::var("STOA_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("STOA_QUERIES").map_or(1500, |n| n.parse().unwrap());
    let mut corpus: Vec<&str> = SCRIPTS.iter().flat_map(|script| queries(script)).collect();
    assert!(corpus.len() > 50, "{corpus:?}");
    for _ in 0..10 {
        corpus.extend(OWN);
    }
    let memory = Memory::load(LOAD).unwrap();
    let limits = Limits { samples_max: 1_000_000, points_per_series_max: 100, ..Limits::default() };
    let engine = Engine::new(limits);
    let (mut answered, mut longest) = (0u64, Duration::ZERO);
    let from = only.unwrap_or(0);
    for seed in from..only.map_or(count, |seed| seed + 1) {
        let told = Told(seed, change(seed, &corpus));
        let query = &told.1;
        let began = Instant::now();
        let cancelled = || began.elapsed() > PATIENCE;
        let instant = engine.instant(&memory, query, 300_000, &cancelled);
        let range = engine.range(&memory, query, 60_000, 300_000, 60_000, &cancelled);
        let _selector = (parse_selector(query), selector_groups(query));
        answered += u64::from(instant.is_ok() || range.is_ok());
        longest = longest.max(began.elapsed());
        assert!(longest < LONGEST, "{longest:?}");
    }
    assert!(only.is_some() || answered > count / 50, "{answered} of {count}");
    println!("queries: {answered} of {count} answered, longest {longest:.2?}");
}
