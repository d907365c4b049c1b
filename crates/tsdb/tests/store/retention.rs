use std::path::Path;

use stoa_tsdb::{Db, Options, Tier};
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

use crate::histograms::{self, histogram};
use crate::tiers::{HOUR_MS, check, hour, old_image, rolled_up, tiered, work};
use crate::{DIR, MINUTE_MS, append, open_with, series};

#[test]
fn what_goes_for_size_waits_for_one_pass_unless_room_is_short() {
    // What came last is in a block of its own: that one stays.
    let now = hour(101);
    let left = |db: &Db| !db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty();
    // Of samples, minutes and hours there is room for the last.
    let options =
        Options { retention_bytes: Some(20_000), retention_ms: 400 * HOUR_MS, ..tiered() };
    for is_short in [false, true] {
        let disk = SimDisk::new(2);
        let hours = old_image(&disk);
        let free_bytes_min = if is_short { 1 << 40 } else { 0 };
        disk.set_capacity(Some(disk.used_bytes() + (1 << 30)));
        let (db, _) = open_with(&disk, Options { free_bytes_min, ..options.clone() });
        for minute in 0..3 {
            db.maintain(now + minute * MINUTE_MS).unwrap();
        }
        assert_eq!(left(&db), !is_short, "nothing was rolled up");
        // The first may have begun before they were to go.
        db.compact(now).unwrap();
        db.maintain(now).unwrap();
        let gone = db.stats().blocks_not_rolled_up;
        assert_eq!((left(&db), gone > 0), (false, is_short));
        if !is_short {
            let mut read = rolled_up(&db, Tier::Hour);
            read.retain(|(key, _), _| !key.contains("now"));
            check(&read, &hours, "rolled up before it went");
        }
    }
    // Where they cannot be made one pass is all there is.
    let disk = SimDisk::new(2);
    old_image(&disk);
    disk.set_capacity(Some(disk.used_bytes() + (1 << 40) + 4000));
    let (db, _) = open_with(&disk, Options { free_bytes_min: 1 << 40, ..options });
    // Cuts the newest.
    db.maintain(now).unwrap();
    for pass in 0..3 {
        db.maintain(now + pass * MINUTE_MS).unwrap();
        assert_eq!(left(&db), pass < 2, "{pass}");
        assert!(pass == 2 || db.compact(now + pass * MINUTE_MS).unwrap().put_off > 0);
    }
    assert!(db.stats().blocks_not_rolled_up > 0);
}

#[test]
fn aggregates_of_samples_that_stay_do_not_go_only_to_be_made_again() {
    let disk = SimDisk::new(2);
    old_image(&disk);
    let retention_ms = 400 * HOUR_MS;
    let (db, _) = open_with(&disk, Options { retention_bytes: Some(1), retention_ms, ..tiered() });
    // All samples are in one block: the newest, which stays.
    work(&db, hour(100));
    let made = db.stats().tiers;
    assert!(made.iter().all(|tier| tier.blocks > 0), "{made:?}");
    assert_eq!(db.maintain(hour(100)).unwrap().blocks_deleted, 0);
    assert_eq!(db.compact(hour(100)).unwrap().tier_blocks, 0);
    assert_eq!(db.stats().tiers, made);
}

#[test]
fn a_span_with_nothing_to_roll_up_beside_a_damaged_block_is_done_once() {
    let disk = SimDisk::new(5);
    {
        let (db, _) = open_with(&disk, tiered());
        let of = |name: &str| series(&db, 1, &format!("__name__={name}"));
        histograms::put(&db, hour(0) + 1000, &[], &[(of("only"), histogram(1, 3))]).unwrap();
        append(&db, 1, hour(0) + 11 * MINUTE_MS, &[(of("lost"), 1.0)]);
        append(&db, 1, hour(2), &[(of("now"), 1.0)]);
        db.maintain(hour(0) + 30 * MINUTE_MS).unwrap();
        db.close().unwrap();
    }
    let blocks = disk.list(&Path::new(DIR).join("blocks")).unwrap();
    assert_eq!(blocks.len(), 2);
    for file in ["index", "spare"] {
        let path = Path::new(DIR).join("blocks").join(&blocks[1]).join(file);
        disk.corrupt(&path, |bytes| bytes.fill(0)).unwrap();
    }
    let (db, _) = open_with(&disk, tiered());
    // Met by a query, and not yet set aside.
    assert!(db.select(&[], hour(0), hour(1), 9, 99).unwrap().is_empty());
    let (over, is_over) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| over.send(db.compact(hour(1)).unwrap().tier_blocks).unwrap());
        let done = is_over.recv_timeout(std::time::Duration::from_secs(60));
        db.interrupt_compaction();
        assert_eq!(done, Ok(0));
    });
}
