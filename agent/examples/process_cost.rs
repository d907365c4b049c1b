//! What reading the processes of this host costs: CPU time and allocations per reading.
//!
//! `cargo run --release -p stoa-agent --example process_cost [READINGS [PROCESSES]]`
//!
//! Starts so many sleeping processes beside those there are, and ends them. The first reading looks
//! at every process closely; the later ones are what the agent does every ten seconds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use stoa_agent::sources::settings::Settings;
use stoa_agent::sources::{Now, Reading, Roots, registry};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its interface; this one only counts")]
// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(clippy::print_stdout, reason = "its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<u32>());
    let (readings, processes) = (number(60)?, number(1000)?);
    let mut sleeping = Vec::new();
    for _ in 0..processes {
        sleeping.push(Command::new("sleep").arg("600").spawn()?);
    }
    let measured = measure(readings);
    sleeping.iter_mut().try_for_each(end)?;
    println!("{}", measured?);
    Ok(())
}

fn end(child: &mut Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

fn measure(readings: u32) -> Result<String, Box<dyn std::error::Error>> {
    let planned = registry::sources(&Settings::default())?;
    let mut sources = planned.into_iter().map(|planned| planned.source);
    let mut source = sources.find(|source| source.name() == "process").ok_or("no such source")?;
    let roots = Roots::default();
    let mut reading = Reading::default();
    let mut costs = Vec::new();
    for at in 0..readings.max(40) {
        let unix_micros = 1_770_000_000_000_000 + i64::from(at) * 10_000_000;
        let (micros, allocations) = (cpu_micros(), ALLOCATIONS.load(Ordering::Relaxed));
        reading.begin();
        source.read(&roots, Now { unix_micros }, &mut reading);
        let allocated = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
        costs.push((cpu_micros() - micros, allocated));
    }
    let told: usize = reading.families().map(|family| family.metrics.len()).sum();
    let listed = std::fs::read_dir("/proc")?
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let processes = listed.count();
    let first = costs.first().map_or(0.0, |(micros, _)| *micros);
    // Those are what comes after the second look at each process.
    let steady = costs.get(4..).unwrap_or_default();
    let mean = steady.iter().map(|(micros, _)| micros).sum::<f64>() / steady.len() as f64;
    let mut allocations: Vec<u64> = steady.iter().map(|(_, allocated)| *allocated).collect();
    allocations.sort_unstable();
    let median = allocations.get(allocations.len() / 2).copied().unwrap_or(0);
    Ok(format!(
        "{processes} processes, {told} series\n\
         first reading {first:.0} µs\n\
         then {mean:.0} µs a reading, {:.2} µs a process, {:.4} % of a core at one reading in 10 s\n\
         allocations a reading: median {median}, least {}, most {}",
        mean / processes as f64,
        mean / 10e6 * 100.0,
        allocations.first().unwrap_or(&0),
        allocations.last().unwrap_or(&0),
    ))
}

/// CPU time of this process so far, all threads.
fn cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
