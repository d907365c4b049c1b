//! What sampling this host costs: CPU time per tick, the costliest sources, series, memory.
//!
//! `cargo run --release -p stoa-agent --example sampling_cost [TICKS]`

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use stoa_agent::sampler::{INTERVAL, Sampler};
use stoa_agent::sources::settings::Settings;
use stoa_agent::sources::{Now, Roots, registry};

#[expect(clippy::print_stdout, reason = "its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ticks: u32 = std::env::args().nth(1).map_or(Ok(600), |text| text.parse())?;
    let sources = registry::sources(&Settings::default())?;
    let mut sampler = Sampler::new(sources, Roots::default(), INTERVAL);
    let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
    let mut series = 0;
    let begin = cpu_micros();
    for tick in 1..=ticks {
        let t_ms = 1_770_000_000_000 + i64::from(tick) * 1000;
        sampler.tick(Now { unix_micros: t_ms * 1000 });
        let told = sampler.told();
        series = told.iter().map(|family| family.metrics.len()).sum();
        let durations = told.iter().filter(|f| f.name.ends_with("duration_seconds"));
        for metric in durations.flat_map(|family| &family.metrics) {
            let name = metric.labels.get("collector").unwrap_or_default();
            *seconds.entry(name.to_owned()).or_default() += metric.value;
        }
    }
    let micros = (cpu_micros() - begin) / f64::from(ticks);
    println!("{series} series, {micros:.0} µs CPU per tick over {ticks} ticks");
    let mut costs: Vec<(f64, String)> =
        seconds.into_iter().map(|(name, sum)| (sum * 1e6 / f64::from(ticks), name)).collect();
    costs.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (micros, name) in costs {
        println!("{micros:8.1} µs  {name} (wall, the last reading when told again)");
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
    {
        println!("{line}");
    }
    Ok(())
}

/// CPU time of this process so far, all threads.
fn cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
