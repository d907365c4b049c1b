//! A steady tick allocates nothing per reading: a host of many CPUs, disks and network devices costs
//! as many allocations a tick as a small one.
//!
//! Counts with an allocator of its own, so it is a program of its own with one test.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be done fails it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use stoa_agent::batch::{Batcher, SourceReading};
use stoa_agent::sampler::{INTERVAL, Sampler};
use stoa_agent::sources::settings::Settings;
use stoa_agent::sources::{Now, Roots, registry};

/// Allocations so far, those that grow included.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as asked.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as asked.
        unsafe { System.realloc(place, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The sources that are read each second.
const EACH_SECOND: &[&str] = &[
    "cpu",
    "stat",
    "loadavg",
    "meminfo",
    "vmstat",
    "pressure",
    "schedstat",
    "diskstats",
    "netdev",
    "netstat",
    "sockstat",
    "softnet",
    "filefd",
    "entropy",
    "uname",
];

/// A host with so many CPUs, disks and network devices.
fn host(dir: &Path, size: usize) -> Roots {
    let lines = |of: &dyn Fn(usize) -> String| (0..size).map(of).collect::<String>();
    let head = "Inter-| Receive\n face |bytes\n";
    for (path, text) in [
        (
            "stat",
            format!("{}btime 5\nctxt 7\n", lines(&|n| format!("cpu{n} 1 2 3 4 5 6 7 8 9 0\n"))),
        ),
        ("loadavg", "0.1 0.2 0.3 1/2 3\n".to_owned()),
        ("meminfo", "MemTotal: 10 kB\nMemFree: 5 kB\nActive(anon): 7 kB\n".to_owned()),
        ("vmstat", "pgpgin 1\npgpgout 2\noom_kill 0\n".to_owned()),
        ("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=14036781\n".to_owned()),
        ("schedstat", lines(&|n| format!("cpu{n} 0 0 0 0 0 0 11 22 33\n"))),
        (
            "diskstats",
            lines(&|n| format!("8 {n} sd{n}x 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n")),
        ),
        (
            "net/dev",
            format!(
                "{head}{}",
                lines(&|n| format!("eth{n}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"))
            ),
        ),
        ("net/netstat", "TcpExt: SyncookiesSent\nTcpExt: 3\n".to_owned()),
        ("net/snmp", "Tcp: CurrEstab\nTcp: 7\n".to_owned()),
        ("net/snmp6", "Ip6InOctets 460\n".to_owned()),
        (
            "net/sockstat",
            "sockets: used 229\nTCP: inuse 4 orphan 0 tw 4 alloc 17 mem 2\n".to_owned(),
        ),
        ("net/softnet_stat", lines(&|n| format!("0a 1 2 0 0 0 0 0 3 4 5 6 {n:x}\n"))),
        ("sys/fs/file-nr", "1024 0 1631329\n".to_owned()),
        ("sys/kernel/random/entropy_avail", "1337\n".to_owned()),
    ] {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    for n in 0..size {
        let statistics = dir.join(format!("sys-tree/class/net/eth{n}/statistics"));
        std::fs::create_dir_all(&statistics).unwrap();
        std::fs::write(statistics.join("rx_nohandler"), "0\n").unwrap();
    }
    Roots { procfs: dir.into(), sysfs: dir.join("sys-tree"), ..Roots::default() }
}

/// Series, and allocations of a steady tick from the files to the numbered samples. The least of
/// several: now and then something is looked up anew.
fn steady(sources: &[&str], size: usize) -> (usize, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    registry::names().iter().for_each(|name| settings.enable(name, sources.contains(name)));
    let planned = registry::sources(&settings).unwrap();
    let mut sampler = Sampler::new(planned, host(dir.path(), size), INTERVAL);
    let mut batcher = Batcher::new();
    let mut least = (0, u64::MAX);
    for second in 0..12 {
        let before = ALLOCATIONS.load(Relaxed);
        sampler.tick(Now { unix_micros: 1_770_000_000_000_000 + second * 1_000_000 });
        let families = sampler.told();
        let reading = SourceReading { source: "host", families: &families };
        let batched = batcher.tick(second * 1000, &[reading]);
        let spent = ALLOCATIONS.load(Relaxed) - before;
        if second > 2 && spent < least.1 {
            least = (batched.tick.samples.len(), spent);
        }
    }
    least
}

#[test]
fn a_large_host_costs_as_many_allocations_a_tick_as_a_small_one() {
    let mut table = String::new();
    for source in EACH_SECOND {
        let ((few, small), (many, large)) = (steady(&[source], 8), steady(&[source], 128));
        writeln!(table, "{source}: {small} for {few} series, {large} for {many}").unwrap();
    }
    let ((few, small), (many, large)) = (steady(EACH_SECOND, 8), steady(EACH_SECOND, 128));
    println!("{table}all: {small} for {few} series, {large} for {many}");
    assert!(many > 5000 && few < 1000, "{few} and {many} series");
    assert!(large <= small, "{large} allocations for {many} series, {small} for {few}:\n{table}");
    assert!(small < 64, "{small} allocations a tick:\n{table}");
}
