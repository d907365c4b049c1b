//! `stoa bench sources`: what each of the agent's sources costs on this machine, one reading at a time.
//!
//! Every source is read by itself, in this process, as often as its time allows; the clock it is told
//! goes on by its interval at each reading, so that what it looks up now and then counts as often as it
//! would. CPU is this process's, so programs that a source runs show in the time taken only.

use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use stoa_agent::config::Config;
use stoa_agent::sources::registry::{self, Planned};
use stoa_agent::sources::{Now, Reading, Roots};
use stoa_daemon::unix_ms;
use tokio::time::Instant;

use super::report::{self, Report};
use super::{Stop, say};

/// Readings that are not counted: files are opened, devices looked up.
const WARM_UP: u32 = 2;

/// Readings that count, unless they take too long.
const READINGS_MAX: u32 = 200;

/// How long one source is read for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which sources.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SourcesArgs {
    /// Every source there is, those that are off by default too
    #[arg(long)]
    all: bool,
    /// The agent's configuration [default: its defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Reads each source by itself.
///
/// # Errors
/// When the configuration is no good, or the bench was stopped.
pub(super) fn measure(args: &SourcesArgs, stop: &Stop) -> anyhow::Result<Outcome> {
    let mut config = match &args.config {
        Some(path) => Config::load(Some(path.as_path()))?,
        None => Config::defaults()?,
    };
    if args.all {
        registry::names().into_iter().for_each(|name| config.sources.enable(name, true));
    }
    let mut sources = Vec::new();
    for planned in registry::sources(&config.sources)? {
        stop.check()?;
        say(&format!("reading {}", planned.source.name()));
        sources.push(measure_one(planned, &config.roots, config.interval));
    }
    sources.sort_by(|a, b| b.cpu_percent_of_core.total_cmp(&a.cpu_percent_of_core));
    Ok(Outcome {
        sampling_s: config.interval.as_secs_f64(),
        series: sources.iter().map(|source| source.series).sum(),
        cpu_percent_of_core: sources.iter().map(|source| source.cpu_percent_of_core).sum(),
        sources,
    })
}

fn measure_one(mut planned: Planned, roots: &Roots, sampling: Duration) -> SourceCost {
    let source = &mut planned.source;
    let interval = planned.interval.or(source.interval()).unwrap_or(sampling).max(sampling);
    let step_micros = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
    let mut now = Now { unix_micros: unix_ms().saturating_mul(1000) };
    let mut reading = Reading::default();
    let mut read = || {
        reading.begin();
        source.read(roots, now, &mut reading);
        reading.end();
        now.unix_micros = now.unix_micros.saturating_add(step_micros);
        let series = reading.families().map(|family| family.metrics.len()).sum::<usize>();
        (series, reading.failed)
    };
    let begun = Instant::now();
    for _ in 0..WARM_UP {
        read();
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    let (begun, cpu_before) = (Instant::now(), cpu());
    let (mut readings, mut told) = (0_u32, (0, true));
    while readings < READINGS_MAX && (readings == 0 || begun.elapsed() < PATIENCE) {
        told = read();
        readings += 1;
    }
    let each = |spent: Duration| spent.as_secs_f64() / f64::from(readings);
    let cpu_s = each(cpu().saturating_sub(cpu_before));
    SourceCost {
        name: source.name(),
        interval_s: interval.as_secs_f64(),
        beside: source.deadline().is_some(),
        series: told.0,
        failed: told.1,
        readings,
        cpu_us_per_reading: cpu_s * 1e6,
        taken_us_per_reading: each(begun.elapsed()) * 1e6,
        cpu_percent_of_core: cpu_s / interval.as_secs_f64() * 100.0,
    }
}

/// CPU time of this process so far, all threads.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// What one source costs.
#[derive(Debug, Serialize)]
struct SourceCost {
    name: &'static str,
    interval_s: f64,
    /// Whether it is read beside the ticks, on a thread of its own.
    beside: bool,
    series: usize,
    /// Whether it could not do its work, or this machine has nothing for it.
    failed: bool,
    readings: u32,
    cpu_us_per_reading: f64,
    taken_us_per_reading: f64,
    cpu_percent_of_core: f64,
}

/// The figures of all sources, the costliest first.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    sampling_s: f64,
    series: usize,
    cpu_percent_of_core: f64,
    sources: Vec<SourceCost>,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows =
            vec![("source", "  every   series   CPU µs   taken µs   % of a core".to_owned())];
        for source in &self.sources {
            let SourceCost { series, cpu_us_per_reading: cpu, taken_us_per_reading: taken, .. } =
                source;
            let (every, percent) = (source.interval_s, source.cpu_percent_of_core);
            let note = match (source.failed, source.beside) {
                (true, _) => "  nothing here",
                (false, true) => "  beside the ticks",
                (false, false) => "",
            };
            let row = format!(
                "{every:>5.0} s {series:>8} {cpu:>8.1} {taken:>10.1} {percent:>13.4}{note}"
            );
            rows.push((source.name, row));
        }
        let (series, percent) = (self.series, self.cpu_percent_of_core);
        rows.push(("all", format!("        {series:>8} {:>8} {:>10} {percent:>13.4}", "", "")));
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_and_its_cost_told() {
        let mut settings = stoa_agent::sources::settings::Settings::default();
        registry::names().into_iter().for_each(|name| settings.enable(name, name == "loadavg"));
        let planned = registry::sources(&settings).unwrap().pop().unwrap();
        let cost = measure_one(planned, &Roots::default(), Duration::from_secs(1));
        assert_eq!((cost.name, cost.series, cost.failed), ("loadavg", 3, false));
        assert!(cost.readings > 0 && cost.taken_us_per_reading > 0.0);
        let outcome =
            Outcome { sampling_s: 1.0, series: 3, cpu_percent_of_core: 0.0, sources: vec![cost] };
        assert!(report::table(&outcome.rows()).contains("loadavg"));
    }
}
