//! Blocks of tiers that cannot be read today.

use stoa_tsdb::{Db, Options, Tier};
use stoa_wal::Disk as _;

use crate::sealed::{SEED, check_both, late, late_series, model, short};
use crate::sectors::BadDisk;
use crate::tiers::{HOUR_MS, blocks, check_all, expected, fill, hour, tiered, work};
use crate::{MINUTE_MS, append, series};

#[test]
fn what_comes_while_a_tier_cannot_be_read_makes_it_stale() {
    let disk = BadDisk::new();
    let options = Options { out_of_order_ms: 48 * HOUR_MS, ..tiered() };
    let (db, _) = disk.open_db(tiered());
    fill(&db, SEED, hour(0), hour(3));
    work(&db, hour(4));
    db.close().unwrap();
    let image = disk.disk.snapshot();
    for (closed, restarts) in [("/tiers/", true), ("/tiers/1h", true), ("/tiers/", false)] {
        let case = format!("{closed} {restarts}");
        disk.disk.restore(&image);
        disk.close(closed);
        let (mut db, recovery) = disk.open_db(options.clone());
        assert_eq!(recovery.damaged, 0, "{case}: {:?}", recovery.damage);
        assert_eq!(db.stats().blocks_unread, recovery.unread.len() as u64, "{case}");
        assert!(!recovery.unread.is_empty() && !db.missing(hour(0), hour(1)).is_empty(), "{case}");
        late(&db);
        assert!(db.maintain(hour(4) + MINUTE_MS).unwrap().blocks_written > 0, "{case}");
        disk.heal();
        if restarts {
            drop(db);
            disk.disk.crash();
            db = disk.open_db(options.clone()).0;
        } else {
            db.maintain(hour(4) + 2 * MINUTE_MS).unwrap();
        }
        assert_eq!((db.stats().blocks_unread, db.missing(hour(0), hour(1))), (0, vec![]), "{case}");
        let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
        assert!(blocks(&db)[1].1 > 0, "{case}: {:?}", blocks(&db));
        check_all(&db, &minutes, &hours, &case);
        work(&db, hour(54));
        assert!(blocks(&db).iter().all(|(_, stale)| *stale == 0), "{case}: {:?}", blocks(&db));
        check_all(&db, &minutes, &hours, &case);
    }
}

#[test]
fn what_goes_while_a_tier_cannot_be_read_seals_it() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(Options { retention_ms: 5 * HOUR_MS, ..tiered() });
    fill(&db, SEED, hour(0), hour(3));
    work(&db, hour(4));
    db.close().unwrap();
    let image = disk.disk.snapshot();
    // All files, what was said of them among these; only one.
    for closed in ["", "chunks", "meta"] {
        disk.disk.restore(&image);
        match disk.names("tiers/1m").iter().filter(|path| path.ends_with(closed)) {
            _ if closed.is_empty() => disk.close("/tiers/1m/"),
            paths => paths.for_each(|path| disk.close(&path.display().to_string())),
        }
        let (db, recovery) = disk.open_db(short());
        assert!(recovery.damaged == 0 && !recovery.unread.is_empty(), "{closed}");
        // They wait a day for what cannot be made, and go.
        for now in [12, 12, 13, 40] {
            append(&db, 7, hour(now), &[(series(&db, 7, "__name__=now"), 1.0)]);
            work(&db, hour(now));
            db.maintain(hour(now)).unwrap();
        }
        assert!(db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty(), "{closed}");
        disk.heal();
        drop(db);
        disk.disk.crash();
        let (db, _) = disk.open_db(short());
        check_both(&db, &model(|_| {}), closed);
        // What comes now is made part of it, and does not take its place.
        // Where it did not say of when it is, hours are sealed, too: nothing between what they have then.
        let late = if closed == "chunks" { late } else { late_series };
        late(&db);
        let all = model(late);
        db.maintain(hour(40) + MINUTE_MS).unwrap();
        check_both(&db, &all, closed);
        work(&db, hour(90));
        assert!(blocks(&db).iter().all(|(_, stale)| *stale == 0), "{closed}: {:?}", blocks(&db));
        check_both(&db, &all, closed);
    }
}

#[test]
fn a_merged_block_and_what_it_was_made_of_count_once_whichever_is_found_first() {
    let disk = BadDisk::new();
    let apart = Options { compaction_ms: vec![30 * MINUTE_MS], ..tiered() };
    let (db, _) = disk.open_db(apart);
    for t in (hour(0) + 30_000..hour(30)).step_by(90_000) {
        append(&db, 1, t, &[(series(&db, 1, "__name__=a"), (t % 7_000_000) as f64)]);
    }
    let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
    work(&db, hour(32));
    db.close().unwrap();
    let (before, parents) = (disk.names("tiers/1m"), disk.disk.snapshot());
    let (db, _) = disk.open_db(tiered());
    work(&db, hour(32));
    let merged_blocks = blocks(&db)[0].0;
    db.close().unwrap();
    let after = disk.names("tiers/1m");
    let merged: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
    let gone: Vec<_> = before.iter().filter(|path| !after.contains(path)).collect();
    assert!(merged.len() >= 8 && gone.len() > 100, "{merged:?}");
    let bytes: Vec<_> = merged.iter().map(|path| disk.disk.read(path).unwrap()).collect();
    disk.disk.restore(&parents);
    for (path, bytes) in merged.iter().zip(&bytes) {
        disk.disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.disk.replace(path, bytes).unwrap();
    }
    disk.disk.sync_dir(merged[0].parent().unwrap().parent().unwrap()).unwrap();
    let both = disk.disk.snapshot();
    let dir = |path: &std::path::Path| path.parent().unwrap().display().to_string();
    let index = |path: &std::path::Path| format!("{}/index", dir(path));
    let cases: [(&str, Vec<String>); 4] = [
        ("merged", vec![dir(merged[0])]),
        ("parents", vec![dir(gone[0]), dir(gone[gone.len() / 2])]),
        ("all", vec!["/tiers/1m".to_owned()]),
        ("none", vec![]),
    ];
    for (case, closed) in cases {
        disk.disk.restore(&both);
        closed.iter().for_each(|part| disk.close(part));
        let (db, recovery) = disk.open_db(tiered());
        assert_eq!(recovery.damaged, 0, "{case}: {:?}", recovery.damage);
        let are_all = case != "all";
        if are_all {
            check_all(&db, &minutes, &hours, case);
        }
        disk.heal();
        db.maintain(hour(32)).unwrap();
        assert_eq!(blocks(&db)[0], (merged_blocks, 0), "{case}");
        check_all(&db, &minutes, &hours, case);
        assert_eq!(disk.names("tiers/1m").len(), after.len(), "{case}: the others are gone");
        drop(db);
        disk.disk.crash();
        let (db, recovery) = disk.open_db(tiered());
        assert_eq!((recovery.damaged, blocks(&db)[0]), (0, (merged_blocks, 0)), "{case}");
        check_all(&db, &minutes, &hours, case);
    }
    // One that does not hold what it promises stands for none; one that is half gone is no damage.
    disk.disk.restore(&both);
    for file in [index(merged[0]), index(merged[0]).replace("index", "spare")] {
        disk.disk.corrupt(file.as_ref(), |bytes| bytes.fill(7)).unwrap();
    }
    let (db, recovery) = disk.open_db(tiered());
    assert_eq!((recovery.damaged, recovery.blocks_quarantined), (1, 1), "{:?}", recovery.damage);
    check_all(&db, &minutes, &hours, "a damaged one");
    assert!(blocks(&db)[0].0 > merged_blocks);
    work(&db, hour(33));
    check_all(&db, &minutes, &hours, "merged again");
    disk.disk.restore(&both);
    for path in gone.iter().filter(|path| path.ends_with("chunks")) {
        disk.disk.remove_file(path).unwrap();
    }
    let (db, recovery) = disk.open_db(tiered());
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    check_all(&db, &minutes, &hours, "half gone");
}

#[test]
fn a_block_found_damaged_once_it_can_be_read_is_missing_from_then_on() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(tiered());
    fill(&db, SEED, hour(0), hour(3));
    work(&db, hour(4));
    db.close().unwrap();
    disk.close("/tiers/1h/");
    let (db, _) = disk.open_db(tiered());
    let told = |db: &Db| -> Vec<_> {
        db.missing(hour(-900), hour(-800)).into_iter().map(|missing| missing.what).collect()
    };
    let is_unread = |what: &String| what == "the block cannot be read now";
    assert!(!told(&db).is_empty() && told(&db).iter().all(is_unread), "{:?}", told(&db));
    let hours: Vec<_> =
        disk.names("tiers/1h").into_iter().filter(|path| !path.ends_with("chunks")).collect();
    for path in &hours {
        disk.disk.corrupt(path, |bytes| bytes.fill(7)).unwrap();
    }
    disk.heal();
    db.maintain(hour(4) + MINUTE_MS).unwrap();
    assert_eq!((db.stats().blocks_unread, disk.names("quarantine").is_empty()), (0, false));
    let what = told(&db);
    assert!(!what.is_empty() && !what.iter().any(is_unread), "{what:?}");
    // Of what there are samples of they are made again.
    let since = db.whole_since();
    assert_eq!(db.missing(since + 1, i64::MAX), []);
    check_all(&db, &expected(&db, Tier::Minute), &expected(&db, Tier::Hour), "then");
}
