use std::fs;
use std::path::Path;

use super::*;

fn line(pid: u32, comm: &str, state: char, ticks: u64, start: u64) -> String {
    format!("{pid} ({comm}) {state} 1 1 1 0 -1 0 1 0 2 0 {ticks} 5 0 0 20 0 3 0 {start} 4096 7 0\n")
}

fn put(dir: &Path, pid: u32, text: &str) {
    fs::create_dir_all(dir.join(pid.to_string())).unwrap();
    fs::write(dir.join(format!("{pid}/stat")), text).unwrap();
}

fn roots(dir: &Path) -> Roots {
    Roots { procfs: dir.into(), ..Roots::default() }
}

fn at(seconds: i64) -> Now {
    Now { unix_micros: seconds * 1_000_000 }
}

fn pids(scan: &Scan) -> Vec<u32> {
    let mut pids: Vec<u32> = scan.processes().map(|(_, process)| process.pid).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn processes_come_stay_in_their_slots_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let roots = roots(dir.path());
    let shared = SharedScan::default();
    put(dir.path(), 1, &line(1, "init", 'S', 10, 1));
    put(dir.path(), 20, &line(20, "a", 'R', 10, 50));
    fs::create_dir(dir.path().join("30")).unwrap();
    fs::create_dir(dir.path().join("3x")).unwrap();
    fs::write(dir.path().join("stat"), "cpu 1\n").unwrap();

    let scan = shared.scan(&roots, at(10)).unwrap();
    assert_eq!(pids(&scan), [1, 20]);
    assert!(scan.processes().all(|(_, process)| !process.is_newborn), "there before we looked");
    let (slot, serial) = scan.by_pid(20).map(|(slot, process)| (slot, process.serial)).unwrap();
    assert_eq!(scan.by_pid(20).unwrap().1.stat.state, b'R');
    assert_eq!(scan.left_out(), LeftOut::default());
    drop(scan);

    fs::remove_dir_all(dir.path().join("1")).unwrap();
    put(dir.path(), 40, &line(40, "b", 'S', 3, 60));
    put(dir.path(), 41, &line(41, "older, but was hidden", 'S', 3, 49));
    let scan = shared.scan(&roots, at(20)).unwrap();
    assert_eq!(pids(&scan), [20, 40, 41]);
    assert!(scan.by_pid(40).unwrap().1.is_newborn);
    assert!(!scan.by_pid(41).unwrap().1.is_newborn);
    assert_eq!(scan.by_pid(20).unwrap().0, slot);
    assert_eq!(scan.by_pid(20).unwrap().1.serial, serial);
    drop(scan);

    // The same pid, another process.
    put(dir.path(), 20, &line(20, "a", 'R', 1, 70));
    let scan = shared.scan(&roots, at(30)).unwrap();
    let (same_slot, process) = scan.by_pid(20).unwrap();
    assert_eq!(same_slot, slot);
    assert!(process.is_newborn && process.serial != serial);
}

#[test]
fn one_scan_serves_all_who_ask_for_the_same_moment() {
    let dir = tempfile::tempdir().unwrap();
    let roots = roots(dir.path());
    let shared = SharedScan::default();
    put(dir.path(), 1, &line(1, "init", 'S', 10, 1));
    let found = |now| pids(&shared.scan(&roots, now).unwrap());
    assert_eq!(found(at(10)), [1]);
    put(dir.path(), 2, &line(2, "x", 'S', 10, 1));
    assert_eq!(found(at(10)), [1]);
    assert_eq!(found(at(11)), [1, 2]);
}

#[test]
fn a_table_in_use_stays_as_it_is_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let roots = roots(dir.path());
    let shared = SharedScan::default();
    put(dir.path(), 1, &line(1, "init", 'S', 10, 1));
    let in_use = shared.scan(&roots, at(10)).unwrap();
    put(dir.path(), 2, &line(2, "x", 'S', 10, 1));
    let next = shared.scan(&roots, at(20)).unwrap();
    assert_eq!((pids(&in_use), pids(&next)), (vec![1], vec![1, 2]));
    let place = Arc::as_ptr(&next);
    drop((in_use, next));
    let again = shared.scan(&roots, at(30)).unwrap();
    assert_eq!(Arc::as_ptr(&again), place, "not copied when nobody has it");
    assert_eq!(again.by_pid(2).unwrap().0, 1);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let roots = roots(dir.path());
    (1..=5).for_each(|pid| put(dir.path(), pid, &line(pid, "x", 'S', 10, 1)));
    let shared = SharedScan::of_at_most(3);
    for seconds in [10, 20] {
        let scan = shared.scan(&roots, at(seconds)).unwrap();
        assert_eq!((pids(&scan).len(), scan.left_out().crowded), (3, 2));
    }
}

#[test]
fn the_idle_are_read_less_often_but_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let roots = roots(dir.path());
    let shared = SharedScan::default();
    put(dir.path(), 7, &line(7, "idle", 'S', 10, 1));
    for second in 1..10 {
        drop(shared.scan(&roots, at(second)).unwrap());
    }
    put(dir.path(), 7, &line(7, "idle", 'S', 11, 1));
    let mut seen_after = 0;
    loop {
        seen_after += 1;
        let scan = shared.scan(&roots, at(10 + seen_after)).unwrap();
        if scan.by_pid(7).unwrap().1.stat.user_ticks == 11 {
            break;
        }
    }
    assert!(seen_after <= 3, "{seen_after}");
    put(dir.path(), 7, &line(7, "idle", 'S', 12, 1));
    let scan = shared.scan(&roots, at(20)).unwrap();
    assert_eq!(scan.by_pid(7).unwrap().1.stat.user_ticks, 12, "it works again: read each time");
}

#[test]
fn what_is_no_line_is_no_process_and_an_absent_root_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let shared = SharedScan::default();
    for (pid, text) in [(1, ""), (2, "2 (x"), (3, "3 (x) S 1 1\n"), (4, "\0\0\0")] {
        put(dir.path(), pid, text);
    }
    put(dir.path(), 5, &"9".repeat(100_000));
    put(dir.path(), 6, &line(6, "good", 'Z', 1, 1));
    assert_eq!(pids(&shared.scan(&roots(dir.path()), at(1)).unwrap()), [6]);
    let gone = roots(&dir.path().join("gone"));
    assert!(SharedScan::default().scan(&gone, at(1)).unwrap_err().is_absence());
}

#[test]
fn a_path_is_written_whole_or_not_at_all() {
    assert_eq!(PathOf::new(u32::MAX, "limits").as_str(), "4294967295/limits");
    assert_eq!(PathOf::new(7, "").as_str(), "7");
    assert_eq!(PathOf::new(7, &"x".repeat(100)).as_str(), "");
}
