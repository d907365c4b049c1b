use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::sources::processes::SharedScan;

/// A `/proc` made of files, and a ledger that looks at it every ten seconds.
struct World {
    dir: tempfile::TempDir,
    roots: Roots,
    scan: SharedScan,
    ledger: Ledger,
    now: i64,
}

/// What a process's files say.
#[derive(Clone, Debug)]
struct Proc {
    comm: String,
    parent: u32,
    start: u64,
    ticks: u64,
    pages: u64,
    io: Option<u64>,
    unit: String,
    arguments: String,
}

impl Default for Proc {
    fn default() -> Self {
        Self {
            comm: "a".into(),
            parent: 1,
            start: 1,
            ticks: 0,
            pages: 10,
            io: Some(0),
            unit: "/system.slice/a.service".into(),
            arguments: "/bin/a\0-x\0".into(),
        }
    }
}

impl World {
    fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (procfs, sysfs) = (dir.path().join("proc"), dir.path().join("sys"));
        fs::create_dir(&procfs).unwrap();
        let roots = Roots { procfs, sysfs, rootfs: dir.path().into(), ..Roots::default() };
        let ledger = Ledger::new(toml::from_str(settings).unwrap());
        Self { dir, roots, scan: SharedScan::default(), ledger, now: 0 }
    }

    fn at(&self, pid: u32) -> PathBuf {
        self.dir.path().join("proc").join(pid.to_string())
    }

    fn put(&self, pid: u32, p: &Proc) {
        let at = self.at(pid);
        fs::create_dir_all(at.join("fd")).unwrap();
        let Proc { comm, parent, start, ticks, pages, .. } = p;
        let stat = format!(
            "{pid} ({comm}) S {parent} 1 1 0 -1 0 1 0 2 0 {ticks} 0 0 0 20 0 3 0 {start} 4096 {pages} 0\n"
        );
        write(&at.join("stat"), &stat);
        write(&at.join("cgroup"), &format!("0::{}\n", p.unit));
        write(&at.join("cmdline"), &p.arguments);
        write(
            &at.join("status"),
            &format!("Name:\tx\nVmSwap: 4 kB\nvoluntary_ctxt_switches: {ticks}\n"),
        );
        match p.io {
            Some(bytes) => write(&at.join("io"), &format!("read_bytes: {bytes}\nwrite_bytes: 1\n")),
            None => drop(fs::remove_file(at.join("io"))),
        }
    }

    fn end(&self, pid: u32) {
        fs::remove_dir_all(self.at(pid)).unwrap();
    }

    fn read(&mut self) {
        self.now += 10;
        let now = Now { unix_micros: self.now * 1_000_000 };
        let scan = self.scan.scan(&self.roots, now).unwrap();
        self.ledger.account(&scan, &self.roots, now);
    }

    /// Ticks and processes by unit.
    fn units(&self) -> Vec<(String, u64, u64)> {
        let groups = self.ledger.units.groups();
        let mut units: Vec<_> = groups
            .map(|g| {
                let unit = g.extra.labels.get("unit").unwrap().to_owned();
                (unit, g.total.ticks(), g.living.processes)
            })
            .collect();
        units.sort();
        units
    }

    /// Ticks and processes by group.
    fn named(&self) -> Vec<(String, u64, u64)> {
        let groups = self.ledger.named.groups();
        let mut named: Vec<_> = groups
            .map(|g| {
                let name = g.extra.labels.get("groupname").unwrap().to_owned();
                (name, g.total.ticks(), g.living.processes)
            })
            .collect();
        named.sort();
        named
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn row(name: &str, ticks: u64, processes: u64) -> (String, u64, u64) {
    (name.to_owned(), ticks, processes)
}

#[test]
fn what_was_used_before_the_first_reading_is_not_counted_what_began_later_counts_whole() {
    let mut world = World::new("");
    world.put(5, &Proc { ticks: 1000, start: 10, ..Proc::default() });
    world.read();
    assert_eq!(world.units(), [row("a.service", 0, 1)]);
    world.put(5, &Proc { ticks: 1007, start: 10, ..Proc::default() });
    world.put(6, &Proc { ticks: 30, start: 20, io: Some(4096), ..Proc::default() });
    // Was hidden until now.
    world.put(7, &Proc { ticks: 500, start: 9, io: Some(1 << 30), ..Proc::default() });
    world.read();
    assert_eq!(world.units(), [row("a.service", 37, 3)]);
    let unit = world.ledger.units.groups().next().unwrap();
    assert_eq!((unit.total.read_bytes, unit.has_io), (4096, true));
    assert_eq!(unit.living.resident_pages, 30);
}

#[test]
fn totals_stay_when_processes_end_and_pids_are_used_again() {
    let mut world = World::new("");
    world.put(5, &Proc { start: 10, ..Proc::default() });
    world.read();
    world.put(5, &Proc { start: 10, ticks: 50, ..Proc::default() });
    world.read();
    world.end(5);
    world.read();
    assert_eq!(world.units(), [row("a.service", 50, 0)]);
    world.put(5, &Proc { start: 30, ticks: 4, ..Proc::default() });
    world.read();
    assert_eq!(world.units(), [row("a.service", 54, 1)]);
    world.put(
        5,
        &Proc { start: 40, ticks: 3, unit: "/system.slice/b.service".into(), ..Proc::default() },
    );
    world.read();
    assert_eq!(world.units(), [row("a.service", 54, 0), row("b.service", 3, 1)]);
    // The counters of one process go back: nothing is taken away, nothing counted twice.
    world.put(
        5,
        &Proc { start: 40, ticks: 1, unit: "/system.slice/b.service".into(), ..Proc::default() },
    );
    world.read();
    world.put(
        5,
        &Proc { start: 40, ticks: 5, unit: "/system.slice/b.service".into(), ..Proc::default() },
    );
    world.read();
    assert_eq!(world.units()[1], row("b.service", 5, 1));
    world.now += 700;
    world.read();
    assert_eq!(
        world.units(),
        [row("b.service", 5, 1)],
        "forgotten some time after its last process"
    );
}

#[test]
fn a_process_that_becomes_another_counts_there_from_then_on() {
    let mut world = World::new("");
    world.put(5, &Proc { start: 10, ..Proc::default() });
    world.read();
    world.put(5, &Proc { start: 10, ticks: 5, comm: "b".into(), ..Proc::default() });
    world.read();
    let by_comm = |world: &World, comm: &str| {
        let groups = world.ledger.programs.groups();
        let mut groups = groups.filter(|g| g.extra.labels.get("comm") == Some(comm));
        groups.next().map(|g| (g.total.ticks(), g.living.processes))
    };
    assert_eq!(by_comm(&world, "a"), Some((0, 0)));
    assert_eq!(by_comm(&world, "b"), Some((5, 1)));
}

#[test]
fn io_that_may_not_be_read_is_absent() {
    let mut world = World::new("");
    world.put(5, &Proc { io: None, ..Proc::default() });
    world.read();
    assert!(!world.ledger.units.groups().next().unwrap().has_io);
    let mut world = World::new("io = false");
    world.put(5, &Proc::default());
    world.read();
    assert!(!world.ledger.units.groups().next().unwrap().has_io);
}

#[test]
fn named_groups_take_in_children_and_stay_when_all_have_ended() {
    let settings = "
        [[group]]
        name = 'web'
        comm = ['nginx']
        [[group]]
        name = 'db'
        exe = ['postgres']
        [[group]]
        name = 'never'
        comm = ['never']
    ";
    let mut world = World::new(settings);
    let plain = |comm: &str, parent| Proc {
        comm: comm.into(),
        parent,
        arguments: format!("/bin/{comm}\0"),
        ..Proc::default()
    };
    world.put(1, &plain("init", 0));
    world.put(50, &plain("nginx", 1));
    // The child of a child, with a lower pid than both.
    world.put(10, &plain("perl", 40));
    world.put(40, &plain("sh", 50));
    world.put(41, &plain("postgres", 50));
    world.read();
    assert_eq!(world.named(), [row("db", 0, 1), row("never", 0, 0), row("web", 0, 3)]);
    let web = world.ledger.named.groups().find(|g| g.living.processes == 3).unwrap();
    assert_eq!(web.extra.swapped_bytes, Some(3 * 4096));
    assert_eq!(web.extra.states, [0, 3, 0, 0, 0]);
    world.end(50);
    world.put(10, &Proc { ticks: 5, ..plain("perl", 40) });
    world.read();
    assert_eq!(world.named()[2], row("web", 5, 2), "children stay when the parent is gone");
    for pid in [10, 40, 41] {
        world.end(pid);
    }
    world.now += 10_000;
    world.read();
    assert_eq!(world.named(), [row("db", 0, 0), row("never", 0, 0), row("web", 5, 0)]);
}

#[test]
fn without_children_only_those_that_match_belong() {
    let mut world = World::new("children = false\n[[group]]\nname = 'web'\ncomm = ['nginx']");
    world.put(50, &Proc { comm: "nginx".into(), ..Proc::default() });
    world.put(51, &Proc { comm: "sh".into(), parent: 50, ..Proc::default() });
    world.read();
    assert_eq!(world.named(), [row("web", 0, 1)]);
}

#[test]
fn hostile_names_give_distinct_plain_series() {
    let mut world = World::new("");
    for (pid, comm) in (1..).zip(["a\nb", "a?b", "a\u{7}b", "\"} 1", ") R 1", "", "a\\"]) {
        world.put(pid, &Proc { comm: comm.into(), ..Proc::default() });
    }
    world.read();
    let sets: BTreeSet<String> =
        world.ledger.programs.groups().map(|g| g.extra.labels.to_string()).collect();
    assert_eq!(sets.len(), world.ledger.programs.len());
    assert_eq!(sets.len(), 5, "three are shown alike, and are one");
    assert!(world.ledger.programs.groups().any(|g| g.living.processes == 3));
}

#[test]
fn rosters_are_bounded_and_what_finds_no_room_is_counted() {
    let mut world =
        World::new("units_max = 3\nusers_max = 0\n[[group]]\nname='{{.Comm}}'\ncmdline=['']");
    for pid in 1..60 {
        let unit = format!("/system.slice/u{pid}.service");
        world.put(pid, &Proc { comm: format!("c{pid}"), unit, ..Proc::default() });
    }
    world.read();
    assert_eq!(world.ledger.units.len(), 3);
    assert_eq!(world.ledger.users.len(), 0);
    assert!(world.ledger.users.refused >= 59 && world.ledger.units.refused >= 56);
    assert_eq!(world.ledger.named.len(), 59);
}

/// Processes come, work, change their names, go, and their pids are used again; a reference adds up
/// what they used. Totals never go back, and what the ledger says is what was used while it looked.
#[test]
fn a_simulation_adds_up() {
    for seed in 0..6 {
        simulate(seed);
    }
}

fn simulate(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new("units_max = 20");
    let mut alive: BTreeMap<u32, Proc> = BTreeMap::new();
    let mut used: BTreeMap<String, u64> = BTreeMap::new();
    let mut before: BTreeMap<String, u64> = BTreeMap::new();
    let mut start = 1;
    for round in 0..30 {
        let mut begun = BTreeSet::new();
        for _ in 0..random.random_range(0..6) {
            start += 1;
            let pid = random.random_range(2..40);
            if !begun.insert(pid) {
                continue;
            }
            if alive.remove(&pid).is_some() {
                world.end(pid);
            }
            let unit = format!("u{}.service", random.random_range(0..4));
            let ticks = random.random_range(0..50);
            // What there was at the first reading counts from then on.
            if round > 0 {
                *used.entry(unit.clone()).or_default() += ticks;
            }
            let unit = format!("/system.slice/{unit}");
            alive.insert(pid, Proc { start, ticks, unit, ..Proc::default() });
        }
        for process in alive.values_mut() {
            if round > 0 && random.random_bool(0.3) {
                let more = random.random_range(1..100);
                process.ticks += more;
                let unit = process.unit.rsplit('/').next().unwrap();
                *used.entry(unit.to_owned()).or_default() += more;
            }
            if random.random_bool(0.1) {
                process.comm = format!("c{}", random.random_range(0..100));
            }
        }
        for (pid, process) in &alive {
            world.put(*pid, process);
        }
        // Read often enough that those who rest are seen before they can end.
        for _ in 0..if round == 0 { 1 } else { 3 } {
            world.read();
            for (unit, ticks, _) in world.units() {
                let earlier = before.insert(unit.clone(), ticks);
                assert!(earlier.is_none_or(|earlier| earlier <= ticks), "seed {seed}: {unit}");
            }
        }
        for (unit, ticks, processes) in world.units() {
            let expected = used.get(&unit).copied().unwrap_or(0);
            assert_eq!(ticks, expected, "seed {seed}, round {round}: {unit}");
            let living = alive.values().filter(|p| p.unit.ends_with(&format!("/{unit}"))).count();
            assert_eq!(processes, living as u64, "seed {seed}, round {round}: {unit}");
        }
        assert!(world.ledger.members.len() <= 40, "slots are used again");
        if round % 2 == 0 && alive.len() > 5 {
            for _ in 0..3 {
                let (pid, _) = alive.pop_first().unwrap();
                world.end(pid);
            }
        }
    }
    assert!(world.ledger.programs.len() <= PROGRAMS_MAX);
}
