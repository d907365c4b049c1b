use std::path::Path;

use super::*;

fn p(path: &str) -> &Path {
    Path::new(path)
}

/// A disk with a durable directory `/d`.
fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(p("/d")).unwrap();
    disk.sync_dir(p("/")).unwrap();
    disk
}

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let mut file = disk.append(p(path)).unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Over many seeds, the set of outcomes of `run` is exactly `expected`.
fn check_outcomes<T: Ord + std::fmt::Debug>(run: impl Fn(SimDisk) -> T, expected: &[T]) {
    let outcomes: std::collections::BTreeSet<T> = (0..200).map(|seed| run(disk(seed))).collect();
    assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
}

#[test]
fn synced_bytes_and_names_survive_every_crash() {
    check_outcomes(
        |disk| {
            write(&disk, "/d/a", &[7; 3000]).sync_data().unwrap();
            disk.sync_dir(p("/d")).unwrap();
            disk.crash();
            disk.crash();
            disk.read(p("/d/a")).unwrap() == [7; 3000]
        },
        &[true],
    );
}

#[test]
fn an_unsynced_name_is_kept_or_lost() {
    check_outcomes(
        |disk| {
            write(&disk, "/d/a", b"x").sync_data().unwrap();
            disk.crash();
            disk.exists(p("/d/a")).unwrap()
        },
        &[false, true],
    );
}

#[test]
fn a_replacement_is_the_old_file_or_the_new_one() {
    check_outcomes(
        |disk| {
            disk.replace(p("/d/a"), b"old").unwrap();
            write(&disk, "/d/b", b"new").sync_data().unwrap();
            disk.rename(p("/d/b"), p("/d/a")).unwrap();
            disk.crash();
            disk.read(p("/d/a")).unwrap()
        },
        &[b"new".to_vec(), b"old".to_vec()],
    );
    check_outcomes(
        |disk| {
            disk.replace(p("/d/a"), b"old").unwrap();
            disk.replace(p("/d/a"), b"new").unwrap();
            disk.crash();
            disk.read(p("/d/a")).unwrap()
        },
        &[b"new".to_vec()],
    );
}

#[test]
fn a_crash_tears_at_sectors_and_leaves_holes_of_zeros() {
    let (mut torn, mut holes) = (0, 0);
    for seed in 0..200 {
        let disk = disk(seed);
        write(&disk, "/d/a", b"").sync_data().unwrap();
        disk.sync_dir(p("/d")).unwrap();
        drop(write(&disk, "/d/a", &[7; 5 * SECTOR_BYTES]));
        disk.crash();
        let bytes = disk.read(p("/d/a")).unwrap();
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|b| *b == sector[0] && [0, 7].contains(b)), "seed {seed}");
        }
        torn += usize::from(bytes.len() < 5 * SECTOR_BYTES);
        let hole = bytes.iter().position(|b| *b == 0);
        holes += usize::from(hole.is_some_and(|at| bytes[at..].contains(&7)));
    }
    assert!(torn > 20 && holes > 20, "{torn} torn, {holes} with holes");
}

#[test]
fn a_removed_directory_may_come_back_in_part() {
    check_outcomes(
        |disk| {
            disk.create_dir_all(p("/d/e")).unwrap();
            disk.sync_dir(p("/d")).unwrap();
            write(&disk, "/d/e/a", b"x").sync_data().unwrap();
            write(&disk, "/d/e/b", b"x").sync_data().unwrap();
            disk.sync_dir(p("/d/e")).unwrap();
            disk.remove_dir_all(p("/d/e")).unwrap();
            disk.crash();
            disk.list(p("/d/e")).ok().map(|names| names.join(""))
        },
        &[None, Some(String::new()), Some("a".into()), Some("ab".into()), Some("b".into())],
    );
}

#[test]
fn a_failed_sync_is_not_repaired_by_a_second_one() {
    let lost = (0..200)
        .filter(|seed| {
            let disk = disk(*seed);
            let mut file = write(&disk, "/d/a", &[7; 2 * SECTOR_BYTES]);
            disk.sync_dir(p("/d")).unwrap();
            disk.fail_at(0, Fault::Eio);
            assert!(file.sync_data().is_err());
            file.sync_data().unwrap();
            disk.crash();
            disk.read(p("/d/a")).unwrap() != [7; 2 * SECTOR_BYTES]
        })
        .count();
    assert!(lost > 50, "only {lost} of 200 lost bytes");
}

#[test]
fn faults_hit_the_nth_mutating_operation() {
    for (n, fault, kind) in [
        (0, Fault::Eio, io::ErrorKind::Other),
        (1, Fault::Enospc, io::ErrorKind::StorageFull),
        (2, Fault::ShortWrite, io::ErrorKind::WriteZero),
    ] {
        let disk = disk(1);
        let mut file = disk.append(p("/d/a")).unwrap();
        disk.fail_at(n, fault);
        for _ in 0..n {
            file.write_all(&[1; 100]).unwrap();
        }
        assert_eq!(file.write_all(&[2; 100]).unwrap_err().kind(), kind);
        let len = DiskFile::size(&*file).unwrap();
        assert!((n * 100..n * 100 + 100).contains(&len), "{fault:?}: {len}");
        file.write_all(&[3; 100]).unwrap();
    }
}

#[test]
fn a_halted_disk_does_nothing_until_it_restarts() {
    let disk = disk(1);
    let mut file = write(&disk, "/d/a", b"x");
    disk.fail_at(0, Fault::Halt);
    assert!(file.sync_data().is_err() && disk.halted());
    assert!(disk.read(p("/d/a")).is_err() && disk.list(p("/d")).is_err());
    disk.crash();
    assert!(disk.list(p("/d")).is_ok());
    assert!(file.sync_data().is_err(), "a handle from before the crash");
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    let disk = disk(1);
    disk.set_capacity(Some(150));
    let mut file = write(&disk, "/d/a", &[1; 100]);
    assert_eq!(disk.free_bytes(p("/d")).unwrap(), 50);
    let error = file.write_all(&[2; 100]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.remove_file(p("/d/a")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
    drop(write(&disk, "/d/b", &[3; 150]));
}

#[test]
fn a_restored_snapshot_is_the_disk_of_then() {
    let disk = disk(1);
    disk.replace(p("/d/a"), b"then").unwrap();
    let snapshot = disk.snapshot();
    let mut file = write(&disk, "/d/a", b"now");
    disk.restore(&snapshot);
    assert_eq!(disk.read(p("/d/a")).unwrap(), b"then");
    assert!(file.write_all(b"x").is_err(), "a handle from before the restore");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = disk(seed);
        for name in ["/d/a", "/d/b", "/d/c"] {
            drop(write(&disk, name, &[5; 4000]));
        }
        disk.crash();
        let names = disk.list(p("/d")).unwrap();
        let read = |name: &String| disk.read(&p("/d").join(name)).unwrap();
        names.iter().map(|name| (name.clone(), read(name))).collect::<Vec<_>>()
    };
    assert_eq!(run(42), run(42));
    assert!((0..20).any(|seed| run(seed) != run(42)));
}

#[test]
fn new_directories_are_durable_only_by_their_parents() {
    check_outcomes(
        |disk| {
            disk.create_dir_all(p("/d/e/f")).unwrap();
            disk.crash();
            disk.exists(p("/d/e/f")).unwrap()
        },
        &[false, true],
    );
    check_outcomes(
        |disk| {
            super::super::create_dir_durable(&disk, p("/d/e/f")).unwrap();
            disk.crash();
            disk.exists(p("/d/e/f")).unwrap()
        },
        &[true],
    );
}
