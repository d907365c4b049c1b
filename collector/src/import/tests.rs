use std::path::Path;
use std::sync::Arc;

use stoa_model::Matcher;
use stoa_tsdb::{Db, Options};
use stoa_wal::disk::SimDisk;

use super::*;

const NOW: TimestampMs = 1_700_000_000_000;

fn open() -> Db {
    Db::open(Arc::new(SimDisk::new(1)), Path::new("/db"), Options::default(), NOW).unwrap().0
}

/// Imports a text with these extra labels; the summary, and the names of what is then there.
fn imported(text: &str, extra: &[(String, String)]) -> (ImportSummary, Vec<String>) {
    let db = open();
    let mut bulk = db.bulk(NOW, 0);
    let mut summary = ImportSummary::default();
    let mut import = Import::new(&mut bulk, extra, &mut summary);
    import.text(text.as_bytes(), Format::Text, NOW, |_| {}).unwrap();
    summary.add_written(&db.write_bulk(bulk, NOW, |_, _| {}).unwrap());
    let matchers = [Matcher::equal("job", "old")];
    let found = db.select(&matchers, i64::MIN, i64::MAX, 100, 1000).unwrap();
    let names = found.iter().filter_map(|series| series.labels.metric_name());
    (summary, names.map(str::to_owned).collect())
}

/// A series of `count` labels, its name and job among them, one of whose values has `bytes`.
fn line(name: &str, count: usize, bytes: usize) -> String {
    let more: String = (3..count).map(|n| format!(",l{n}=\"v\"")).collect();
    format!("{name}{{job=\"old\",long=\"{}\"{more}}} 1\n", "x".repeat(bytes))
}

#[test]
fn a_series_over_the_limits_of_labels_is_left_out_and_counted() {
    let fits = line("fits", LABELS_MAX, LABEL_BYTES_MAX);
    let text = [
        fits.clone(),
        line("many", LABELS_MAX + 1, 1),
        line("many", LABELS_MAX + 1, 1),
        line("long", 3, LABEL_BYTES_MAX + 1),
        line(&"n".repeat(LABEL_BYTES_MAX + 1), 3, 1),
    ]
    .concat();
    let (summary, names) = imported(&text, &[]);
    assert_eq!(names, ["fits"]);
    assert_eq!((summary.series, summary.samples, summary.over_limits), (1, 1, 4));
    // A label that is put in counts too.
    let extra = [("site".to_owned(), "home".to_owned())];
    let (summary, names) = imported(&fits, &extra);
    assert_eq!((names.len(), summary.series, summary.over_limits), (0, 0, 1));
}

#[test]
fn what_a_text_says_about_metrics_is_known_unless_something_newer_is() {
    let disk = Arc::new(SimDisk::new(1));
    let metadata = Metadata::open(disk, Path::new("/db"));
    metadata.describe("known", MetricKind::Gauge, "Said today.", "");
    let text = "# HELP x_seconds How \\\\ long.\n# TYPE x_seconds counter\n# UNIT x_seconds seconds\n\
                x_seconds_total 1 1\n# TYPE known counter\nknown_total 2 1\n# EOF\n";
    let db = open();
    let mut bulk = db.bulk(NOW, 0);
    let (mut summary, mut descriptions) = (ImportSummary::default(), Descriptions::default());
    let mut import = Import::new(&mut bulk, &[], &mut summary).describing(&mut descriptions);
    import.text(text.as_bytes(), Format::OpenMetrics, NOW, |_| {}).unwrap();
    descriptions.add_to(&metadata);
    let found = metadata.get("x_seconds").unwrap();
    let told = (found.kind, &*found.help, &*found.unit);
    assert_eq!(told, (MetricKind::Counter, "How \\ long.", "seconds"));
    assert_eq!(metadata.get("known").unwrap().kind, MetricKind::Gauge);
    // Names without end fill nothing.
    for number in 0..=METRICS_MAX {
        descriptions.help(&format!("m{number}"), "");
    }
    descriptions.help(&"n".repeat(TEXT_MAX + 1), "");
    assert_eq!(descriptions.0.len(), METRICS_MAX);
}

#[test]
fn names_are_remembered_within_their_bytes() {
    let mut bulk = open().bulk(NOW, 0);
    let series = bulk.series(&Labels::from_pairs_last_wins([("__name__", "m")])).unwrap();
    let mut known = Known::new(10 * (TEXT_BYTES + 100));
    for n in 0..1000 {
        let text = format!("{n:0100}");
        known.insert(&text, series);
        assert_eq!(known.get(&text), Some(series));
        assert!(known.bytes <= known.bytes_max && known.by_text.len() <= 10);
    }
    assert_eq!(known.get(&format!("{:0100}", 1)), None);
}
