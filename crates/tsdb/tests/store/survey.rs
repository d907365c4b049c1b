//! What a selection would read, by indexes alone, is what it reads.

use stoa_model::Matcher;
use stoa_tsdb::{Db, Options, Resolution, SelectError, Survey, Tier, Where};
use stoa_wal::disk::SimDisk;

use crate::histograms::{histogram, put};
use crate::tiers::{HOUR_MS, blocks, fill as fill_tiers, hour, tiered, work};
use crate::{MINUTE_MS, START, fill, open, open_with, series};

fn survey(db: &Db, matchers: &[Matcher], range: (i64, i64)) -> Survey {
    db.survey_until(matchers, range, false, 100, &|| false).unwrap()
}

fn rolled_up(
    db: &Db,
    matchers: &[Matcher],
    range: (i64, i64),
    resolution: Resolution,
) -> Option<Survey> {
    db.survey_rollups_until(matchers, range, resolution, 100, &|| false).unwrap()
}

fn places(survey: &Survey) -> Vec<&'static str> {
    let kind = |place: &stoa_tsdb::Surveyed| match &place.place {
        Where::Tier(tier, _) => tier.name(),
        Where::Block(_) => "block",
        Where::Head => "head",
    };
    survey.places.iter().map(kind).collect()
}

#[test]
fn a_survey_counts_what_a_selection_reads() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    fill(&db, START, 200);
    db.maintain(START + 3 * MINUTE_MS).unwrap();
    fill(&db, START + 200_000, 30);
    for (matchers, range, is_exact) in [
        (vec![], (i64::MIN, i64::MAX), true),
        (vec![Matcher::equal("__name__", "m1")], (i64::MIN, i64::MAX), true),
        (vec![Matcher::equal("g", "0")], (START, START + 2 * MINUTE_MS - 1000), true),
        (vec![Matcher::equal("g", "0")], (START + 30_000, START + 215_000), false),
        (vec![Matcher::equal("g", "2")], (i64::MIN, i64::MAX), true),
        (vec![], (START - 2000, START - 1000), true),
    ] {
        let found = db.select(&matchers, range.0, range.1, 100, 1 << 20).unwrap();
        let samples: usize = found.iter().map(|series| series.values.len()).sum();
        let survey = survey(&db, &matchers, range);
        let weight = survey.weight();
        assert_eq!(survey.series, found.len(), "{matchers:?}");
        // Of a chunk that reaches beyond the range its share, a sample more or less.
        let slack = if is_exact { 0 } else { weight.chunks };
        let samples = samples as u64;
        assert!(weight.samples.abs_diff(samples) <= slack, "{matchers:?}: {samples} {weight:?}");
        assert_eq!(weight.bytes > 0, samples > 0);
        assert!(survey.with_histograms.is_empty());
    }
    let whole = survey(&db, &[], (i64::MIN, i64::MAX));
    assert_eq!(places(&whole), ["block", "block", "block", "head"]);
    // Of the newest nothing that is sealed before the open windows.
    let range = (START + 200_000, START + 230_000);
    let newest = db.survey_until(&[], range, true, 100, &|| false).unwrap();
    assert!(newest.weight().samples < survey(&db, &[], range).weight().samples);
    let refused = db.survey_until(&[], range, false, 7, &|| false).unwrap_err();
    assert!(matches!(refused, SelectError::TooManySeries { max: 7 }), "{refused}");
    let stopped = db.survey_until(&[], range, false, 100, &|| true).unwrap_err();
    assert!(matches!(stopped, SelectError::Stopped), "{stopped}");
}

#[test]
fn a_survey_reads_no_chunk() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    fill(&db, START, 200);
    db.maintain(START + 3 * MINUTE_MS).unwrap();
    let before = survey(&db, &[], (i64::MIN, i64::MAX));
    assert!(before.weight().samples > 1000);
    for path in crate::files(&disk, std::path::Path::new(crate::DIR)) {
        if path.ends_with("chunks") {
            disk.corrupt(&path, |bytes| bytes.fill(0)).unwrap();
        }
    }
    let after = survey(&db, &[], (i64::MIN, i64::MAX));
    assert_eq!((&after.places, after.series), (&before.places, before.series));
    assert_eq!(db.stats().chunks_damaged, 0);
    // They are what a selection decodes.
    let left = db.select(&[], i64::MIN, i64::MAX, 100, 1 << 20).unwrap();
    let left: usize = left.iter().map(|series| series.values.len()).sum();
    assert!((left as u64) < before.weight().samples && db.stats().chunks_damaged > 0);
}

#[test]
fn a_survey_knows_histograms() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let named = series(&db, 1, "__name__=h");
    put(&db, START, &[], &[(named, histogram(1, 3))]).unwrap();
    let found = survey(&db, &[], (START, START));
    let names: Vec<String> = found.with_histograms.iter().map(ToString::to_string).collect();
    assert_eq!((names, found.series), (vec!["h".to_owned()], 1));
}

#[test]
fn a_survey_reads_tiers_where_a_selection_does() {
    let disk = SimDisk::new(3);
    let options = Options { retention_ms: 5 * HOUR_MS, ..tiered() };
    let (db, _) = open_with(&disk, options);
    fill_tiers(&db, 3, hour(0), hour(4));
    work(&db, hour(5));
    assert_eq!(blocks(&db), [(8, 0), (4, 0)]);
    let load = [Matcher::equal("__name__", "constant")];
    let (minute, hours) = (Resolution::Window(Tier::Minute), Resolution::Window(Tier::Hour));
    for (range, resolution) in [
        ((hour(0) + 1, hour(4)), minute),
        ((hour(0) + 1, hour(4)), hours),
        ((hour(1) + 1, hour(3)), minute),
        ((hour(0) + 1, hour(4)), Resolution::Finest),
        ((hour(9), hour(10)), minute),
    ] {
        let read = db.select_rollups(&load, range, resolution, 100, 1 << 20).unwrap();
        let found = rolled_up(&db, &load, range, resolution);
        assert_eq!(found.is_some(), read.is_some(), "{range:?} {resolution:?}");
        let (Some(found), Some(read)) = (found, read) else { continue };
        assert_eq!(found.series, read.series.len());
        let windows: usize = read.series.iter().map(|one| one.rollups.len()).sum();
        let (windows, weight) = (windows as u64, found.weight());
        assert!(weight.samples.abs_diff(windows) <= weight.chunks, "{windows} {weight:?}");
    }
    // Then the samples go, and what was asked as samples is of tiers.
    let now = series(&db, 7, "__name__=now");
    crate::append(&db, 7, hour(11), &[(now, 1.0)]);
    work(&db, hour(11));
    let found = rolled_up(&db, &load, (hour(0) + 1, hour(4)), Resolution::Finest).unwrap();
    assert!(places(&found).contains(&"1m") && !places(&found).contains(&"block"), "{found:?}");
    assert_eq!(found.series, 2);
    assert_eq!(survey(&db, &load, (hour(0) + 1, hour(4))).series, 0);
}
