use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, proptest};
use proptest::strategy::Strategy;
use stoa_model::{Labels, MatchOp, Matcher};
use stoa_wal::disk::SimDisk;

use crate::{MINUTE_MS, START, append, labels, open};

fn matcher() -> impl Strategy<Value = Matcher> {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let name = proptest::sample::select(vec!["__name__", "job", "mode", "absent"]);
    let op = proptest::sample::select(vec![Equal, NotEqual, Regex, NotRegex]);
    let value = proptest::sample::select(vec![
        "", "up", "a", "b", "ab", "up|down", "(a|b)", "a.*", ".*", ".+", "a|", "u.", "a+b?",
        "[ab]", "^a$", "(?i)A", r"a\.b", "a.b", "d(own)?", "ab?",
    ]);
    (name, op, value).prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
}

fn series() -> Vec<Labels> {
    [
        "__name__=up",
        "__name__=up,job=a",
        "__name__=up,job=ab",
        "__name__=down,job=b",
        "__name__=up,job=a.b",
        "__name__=up,job=axb,mode=a",
        "__name__=down,mode=b",
        "job=a,mode=A",
        "__name__=down,job=abb,mode=a",
    ]
    .map(labels)
    .to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn head_and_block_find_what_each_matcher_says(
        matchers in proptest::collection::vec(matcher(), 0..4),
    ) {
        // Building the same database for each case would be most of the time.
        thread_local! {
            static DB: stoa_tsdb::Db = {
                let (db, _) = open(&SimDisk::new(1));
                for (n, labels) in series().iter().enumerate() {
                    let found = db.resolve(stoa_tsdb::GroupId(1), labels).unwrap();
                    append(&db, 1, START + i64::try_from(n).unwrap(), &[(found, 1.0)]);
                }
                assert_eq!(db.maintain(START + MINUTE_MS).unwrap().blocks_written, 1);
                for (n, labels) in series().iter().enumerate() {
                    let found = db.resolve(stoa_tsdb::GroupId(1), labels).unwrap();
                    append(&db, 1, START + MINUTE_MS + i64::try_from(n).unwrap(), &[(found, 2.0)]);
                }
                db
            };
        }
        let holds = |labels: &&Labels| {
            matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
        };
        let all = series();
        let expected: BTreeSet<&Labels> = all.iter().filter(holds).collect();
        DB.with(|db| {
            for (start, end) in [(START, START + 999), (START + MINUTE_MS, i64::MAX)] {
                let found = db.select(&matchers, start, end, 99, 99).unwrap();
                assert!(found.iter().map(|s| &s.labels).eq(expected.iter().copied()));
                assert!(found.iter().all(|s| s.values.len() == 1));
                let found = db.series(&[&matchers], start, end, 99);
                assert!(found.iter().eq(expected.iter().copied()));
                let mut names: BTreeSet<&str> = BTreeSet::new();
                expected.iter().for_each(|l| names.extend(l.iter().map(|label| &*label.name)));
                assert!(db.label_names(&matchers, start, end, 99).iter().eq(&names));
                let jobs: BTreeSet<&str> = expected.iter().filter_map(|l| l.get("job")).collect();
                assert!(db.label_values("job", &matchers, start, end, 99).iter().eq(&jobs));
            }
        });
    }
}

#[test]
fn ranges_and_limits_hold() {
    let (db, _) = open(&SimDisk::new(1));
    crate::fill(&db, START, 100);
    db.maintain(START + MINUTE_MS).unwrap();
    let m0 = [Matcher::equal("__name__", "m1"), Matcher::equal("g", "1")];
    for (from, to) in [(0, 99), (10, 20), (55, 65), (60, 60), (59, 59), (70, 98)] {
        let found = db.select(&m0, START + from * 1000, START + to * 1000, 9, 999).unwrap();
        let expected: Vec<i64> = (from..=to).map(|second| START + second * 1000).collect();
        assert_eq!(found[0].timestamps.to_vec(), expected);
        assert!(found[0].values.iter().zip(expected).all(|(v, t)| *v == (t / 1000) as f64));
    }
    assert!(db.select(&m0, START + 100_000, i64::MAX, 9, 999).unwrap().is_empty());
    assert!(db.select(&m0, START + 1, START + 999, 9, 999).unwrap().is_empty());
    assert_eq!(db.label_names(&[], i64::MIN, i64::MAX, 1), ["__name__"]);
    assert_eq!(db.label_values("g", &[], i64::MIN, i64::MAX, 9), ["0", "1"]);
    assert_eq!(db.series(&[&m0, &m0, &[]], i64::MIN, i64::MAX, 3).len(), 3);
}
