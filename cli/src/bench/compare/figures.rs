//! `stoa bench figures`: every figure that has a goal, in one table.
//!
//! Runs the other benches one after another, with sizes for a machine of two cores. A part that
//! fails leaves its figures out and says why; the rest goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use stoa_daemon::error_chain;
use tokio::time::{Instant, timeout};

use super::super::agents::{self, AgentsArgs};
use super::super::asker::queries;
use super::super::ingest::{self, IngestArgs};
use super::super::load::{Readings, ticks_in};
use super::super::report::{self, Report};
use super::super::{Run, say};
use super::goals::{self, Goal};
use super::import::{ImportArgs, Way};
use super::write::WriteArgs;
use super::{CompareArgs, Found, day, find_peers, import, live, table, versions, write};

/// In the order of the table's columns.
const STORES: [&str; 3] = ["Stoa", "Prometheus", "VictoriaMetrics"];

/// A part may take so many times as long as it does on two cores.
const SLOWER_AT_MOST: u64 = 6;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct FiguresArgs {
    /// A recording made with `stoa record`, for disk, import, live and dashboard; fleets are made up
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Grafana dashboard to take the queries from [default: Node Exporter Full in the test data
    /// at `$STOA_CONFORMANCE_DATA`]
    #[arg(long, value_name = "FILE")]
    dashboard: Option<PathBuf>,
    /// Only this part (may be given several times)
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<Part>,
    /// So little of everything that it takes seconds, and the figures say nothing
    #[arg(long)]
    small: bool,
    /// What made-up values follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// What figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// A million series in the store alone
    Million,
    /// The same readings at 1 s and at 10 s in each store
    Disk,
    /// 180,000 series over the agents' stream
    Agents,
    /// 180,000 series by remote write
    Write,
    /// History brought in
    Import,
    /// A few hosts, streamed to Stoa and scraped by the others
    Live,
    /// A day, and a dashboard, one series and `rate` over all of it asked of it
    Dashboard,
}

impl Part {
    /// In the order in which they run, with about how long each takes on two cores, seconds. The
    /// store alone comes first: it is in this process, whose memory nothing else has used by then.
    const ALL: [(Self, u64); 7] = [
        (Self::Million, 90),
        (Self::Disk, 110),
        (Self::Agents, 110),
        (Self::Write, 130),
        (Self::Import, 40),
        (Self::Live, 100),
        (Self::Dashboard, 60),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Agents => "agents",
            Self::Write => "write",
            Self::Million => "million",
            Self::Import => "import",
            Self::Live => "live",
            Self::Dashboard => "dashboard",
        }
    }
}

/// How much of everything.
struct Sizes {
    /// Of [`Part::Disk`], at 1 s and at 10 s.
    disk_minutes: [u32; 2],
    /// Of [`Part::Agents`] and [`Part::Write`].
    hosts: u16,
    /// Of every host that is made up.
    series: u16,
    agents_s: u32,
    write_minutes: u32,
    million: (u16, u32),
    import: (u16, u32),
    live: (u16, u32),
    day_hours: u32,
}

const WHOLE: Sizes = Sizes {
    disk_minutes: [240, 1440],
    hosts: 330,
    series: 550,
    agents_s: 40,
    write_minutes: 10,
    million: (1820, 40),
    import: (10, 120),
    live: (20, 1),
    day_hours: 24,
};

const SMALL: Sizes = Sizes {
    disk_minutes: [2, 20],
    hosts: 4,
    series: 40,
    agents_s: 4,
    write_minutes: 2,
    million: (3, 5),
    import: (2, 10),
    live: (1, 0),
    day_hours: 1,
};

/// Runs it, with everything below `dir`.
///
/// # Errors
/// None in practice: what goes wrong in a part is said with the figures.
pub(in super::super) async fn measure(args: FiguresArgs, dir: &Path) -> anyhow::Result<Outcome> {
    let found = find_peers();
    let sizes = if args.small { SMALL } else { WHOLE };
    let is_asked = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let parts: Vec<(Part, u64)> =
        Part::ALL.into_iter().filter(|(part, _)| is_asked(*part)).collect();
    let mut outcome = Outcome { versions: versions(&found), ..Outcome::default() };
    let began = Instant::now();
    for (number, (part, takes_s)) in parts.iter().enumerate() {
        let left_s: u64 = parts.iter().skip(number).map(|(_, takes_s)| takes_s).sum();
        let about = match args.small {
            true => String::new(),
            false => format!(", about {takes_s} s, {} min to the end", left_s.div_ceil(60)),
        };
        say(&format!("PART {} of {}: {}{about}", number + 1, parts.len(), part.name()));
        let part_began = Instant::now();
        let bench = Bench { args: &args, sizes: &sizes, found: &found, dir: dir.join(part.name()) };
        let known = outcome.figures.len();
        // One that hangs must not take the others' figures with it.
        let most = Duration::from_secs(takes_s * SLOWER_AT_MOST);
        let failed = match timeout(most, bench.run(*part, &mut outcome.figures)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_chain(error.as_ref())),
            Err(_elapsed) => Some(format!("not done after {} s", most.as_secs())),
        };
        // Here too, should this process not come to its end.
        for figure in outcome.figures.iter().skip(known) {
            say(&format!("{}: {}", figure.name, figure.row()));
        }
        if let Some(failed) = &failed {
            say(&format!("{} failed: {failed}", part.name()));
        }
        let took_s = part_began.elapsed().as_secs_f64();
        outcome.parts.push(Done { part: *part, took_s, failed });
        // The next one needs the room, on disk and in memory.
        drop(std::fs::remove_dir_all(&bench.dir));
    }
    outcome.took_s = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// One part under way.
struct Bench<'a> {
    args: &'a FiguresArgs,
    sizes: &'a Sizes,
    found: &'a [Found],
    dir: PathBuf,
}

impl Bench<'_> {
    /// Runs a part and adds its figures: also of one that fails, those it has come to.
    async fn run(&self, part: Part, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        match part {
            Part::Million => self.million(figures).await,
            Part::Disk => self.disk(figures).await,
            Part::Agents => self.agents(figures).await,
            Part::Write => self.write(figures).await,
            Part::Import => self.import(figures).await,
            Part::Live => self.live(figures).await,
            Part::Dashboard => self.dashboard(figures).await,
        }
    }

    async fn disk(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let rows = [
            (1, "disk at 1 s, B/sample", goals::DISK_1_S_B),
            (10, "disk at 10 s, B/sample", goals::DISK_10_S_B),
        ];
        for ((interval_s, name, goal), minutes) in rows.into_iter().zip(self.sizes.disk_minutes) {
            let interval = Duration::from_secs(interval_s);
            let asked = self.recorded().asked(1, interval, ticks_in(minutes, interval)?);
            let dir = self.dir.join(format!("every-{interval_s}"));
            let day = day::measure(asked, None, self.found, &dir).await?;
            std::fs::remove_dir_all(&dir)?;
            figures.push(Figure::new(name, Some(goal), 3, |store| {
                let mut stores = day.stores.iter();
                Some(stores.find(|one| one.name == store)?.disk_bytes_per_sample)
            }));
        }
        Ok(())
    }

    async fn agents(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let run =
            Run { seconds: self.sizes.agents_s, interval: Duration::from_secs(1), json: false };
        let args = AgentsArgs { count: self.sizes.hosts, readings: self.made_up(), run };
        let outcome = agents::measure(args, &self.dir).await?;
        let holds = outcome.holds;
        figures.extend([
            Figure::of_stoa(
                "memory, agents' stream, B/series",
                Some(goals::MEMORY_B),
                0,
                outcome.collector_rss_bytes_per_series,
            )
            .of_a_run_that(holds),
            Figure::of_stoa(
                "CPU, agents' stream, µs/sample",
                Some(goals::STREAM_CPU_US),
                2,
                outcome.collector_cpu_us_per_sample,
            )
            .of_a_run_that(holds),
            Figure::of_stoa(
                "wire, agents' stream, B/sample",
                Some(goals::WIRE_B),
                2,
                outcome.wire_payload_bytes_per_sample,
            )
            .of_a_run_that(holds),
        ]);
        Ok(())
    }

    async fn write(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let args = WriteArgs {
            hosts: self.sizes.hosts,
            interval: Duration::from_secs(10),
            minutes: self.sizes.write_minutes,
            readings: self.made_up(),
            json: false,
        };
        let outcome = write::measure(&args, self.found, &self.dir).await?;
        let stores = &outcome.stores;
        let of = |version: u8, figure: fn(&write::Store) -> f64| {
            move |name: &str| {
                let mut stores = stores.iter();
                let is_it = |one: &&write::Store| {
                    one.version == version && one.name.split(',').next() == Some(name)
                };
                stores.find(is_it).map(figure)
            }
        };
        let cpu = |store: &write::Store| store.cpu_us_per_sample;
        let memory = |store: &write::Store| store.rss_grown_bytes_per_series;
        let start = |store: &write::Store| store.start_again_s;
        let (memory_goal, cpu_goal) = (Some(goals::MEMORY_B), Some(goals::WRITE_CPU_US));
        figures.extend([
            Figure::new("memory, remote write in, B/series", memory_goal, 0, of(1, memory)),
            Figure::new("CPU, remote write in, µs/sample", cpu_goal, 2, of(1, cpu)),
            Figure::new("CPU, remote write 2 in, µs/sample", cpu_goal, 2, of(2, cpu)),
            Figure::new("start again after that, s", None, 2, of(1, start)),
        ]);
        all_well(&outcome.failed)
    }

    async fn million(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let (hosts, minutes) = self.sizes.million;
        let readings = self.made_up();
        let interval = Duration::from_secs(10);
        let args = IngestArgs { hosts, interval, minutes, readings, json: false };
        let outcome = ingest::measure(args, &self.dir).await?;
        let (memory, cpu) = (Some(goals::MEMORY_B), Some(goals::STREAM_CPU_US));
        let of = Figure::of_stoa;
        figures.extend([
            of("memory, 1 M series, store, B/series", memory, 0, outcome.rss_bytes_per_series),
            of("CPU, 1 M series, store, µs/sample", cpu, 3, outcome.cpu_us_per_sample()),
            of("log, B/sample", Some(goals::LOG_B), 2, outcome.wal_bytes_per_sample),
            of("start again, 1 M series, s", Some(goals::START_S), 2, outcome.collector.start_s),
        ]);
        Ok(())
    }

    async fn import(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let (hosts, minutes) = self.sizes.import;
        let args = ImportArgs {
            hosts: if self.args.corpus.is_some() { 1 } else { hosts },
            interval: Duration::from_secs(15),
            minutes,
            readings: self.recorded(),
            json: false,
        };
        let outcome = import::measure(&args, self.found, &self.dir).await?;
        let rows = [
            ("import of text, M samples/s/core", Way::TextToDirectory),
            ("the same over HTTP", Way::TextToServer),
            ("import of blocks, M samples/s/core", Way::BlocksToDirectory),
        ];
        let figure = |(name, way)| {
            let rate = |store: &str| Some(outcome.rate(store, way)? / 1e6);
            Figure::new(name, Some(goals::IMPORT_M), 2, rate)
        };
        figures.extend(rows.into_iter().map(figure));
        all_well(&outcome.failed)
    }

    async fn live(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        if self.sizes.live.1 == 0 {
            return Ok(());
        }
        let live = live::measure(&self.compare(), self.found, &self.dir).await?;
        figures.push(Figure::new("CPU, own stream or scrape, µs/sample", None, 2, |store| {
            Some(live.stores.iter().find(|one| one.name == store)?.cpu_us_per_sample)
        }));
        Ok(())
    }

    async fn dashboard(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let Some(queries) = queries(self.args.dashboard.as_deref(), 0)? else {
            anyhow::bail!("no dashboard: name one with --dashboard, or set STOA_CONFORMANCE_DATA");
        };
        let asked = self.compare().asked_of_day()?;
        let day = day::measure(asked, Some(&queries), self.found, &self.dir).await?;
        let find = |store: &str| day.stores.iter().find(|one| one.name == store);
        let sum = |store: &str, at: usize| {
            let panels = find(store)?.panels.get(at)?;
            // Who refuses some answers the rest the sooner.
            (panels.answered > 0 && panels.refused == 0).then_some(panels.sum_ms)
        };
        figures.extend([
            Figure::new("dashboard, 1 h, ms", None, 0, |store| sum(store, 0))
                .beating_victoria_metrics(goals::DASHBOARD_1_H_AIM_MS),
            Figure::new("dashboard, 24 h, ms", None, 0, |store| sum(store, 1))
                .beating_victoria_metrics(goals::DASHBOARD_24_H_AIM_MS),
            Figure::new("one series now, p99 ms", Some(goals::SINGLE_MS), 2, |store| {
                Some(find(store)?.single.p99_ms)
            }),
            Figure::new("rate, M samples/s/core", Some(goals::RATE_M), 0, |store| {
                Some(find(store)?.scan.samples_per_s_and_core / 1e6)
            }),
        ]);
        Ok(())
    }

    /// Hosts that are made up.
    fn made_up(&self) -> Readings {
        Readings { corpus: None, series: self.sizes.series, seed: self.args.seed }
    }

    /// The same, unless there is a recording.
    fn recorded(&self) -> Readings {
        Readings { corpus: self.args.corpus.clone(), ..self.made_up() }
    }

    /// What `stoa bench compare` would do.
    fn compare(&self) -> CompareArgs {
        CompareArgs {
            corpus: self.args.corpus.clone(),
            hosts: self.sizes.live.0,
            interval: Duration::from_secs(1),
            minutes: self.sizes.live.1,
            hours: self.sizes.day_hours,
            day_hosts: 1,
            day_interval: Duration::from_secs(15),
            dashboard: self.args.dashboard.clone(),
            seed: self.args.seed,
            json: false,
        }
    }
}

/// An error of those that failed, if any.
fn all_well(failed: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(failed.is_empty(), failed.join("; "));
    Ok(())
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Figure {
    name: &'static str,
    goal: Option<f64>,
    aim: Option<f64>,
    stoa: Option<f64>,
    prometheus: Option<f64>,
    victoria_metrics: Option<f64>,
    /// Whether Stoa's figure is within the goal.
    is_met: Option<bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'static str,
    #[serde(skip)]
    goal_said: String,
    #[serde(skip)]
    digits: usize,
}

impl Figure {
    /// A figure of each store by its name.
    fn new(
        name: &'static str,
        goal: Option<Goal>,
        digits: usize,
        figure: impl Fn(&str) -> Option<f64>,
    ) -> Self {
        let [stoa, prometheus, victoria_metrics] = STORES.map(figure);
        Self {
            name,
            goal: goal.map(|goal| goal.bound),
            aim: goal.and_then(|goal| goal.aim),
            stoa,
            prometheus,
            victoria_metrics,
            is_met: goal.zip(stoa).map(|(goal, stoa)| goal.is_met(stoa)),
            note: "",
            goal_said: goal.map(|goal| goal.bound_said()).unwrap_or_default(),
            digits,
        }
    }

    fn of_stoa(name: &'static str, goal: Option<Goal>, digits: usize, figure: f64) -> Self {
        Self::new(name, goal, digits, |store| (store == "Stoa").then_some(figure))
    }

    /// The goal is VictoriaMetrics's figure, where there is one.
    fn beating_victoria_metrics(self, aim: f64) -> Self {
        let goal = self.victoria_metrics;
        let is_met = self.stoa.zip(goal).map(|(stoa, goal)| stoa <= goal);
        Self { goal, aim: Some(aim), is_met, goal_said: "≤ VM".to_owned(), ..self }
    }

    /// No goal is met by a run that did not hold.
    fn of_a_run_that(self, holds: bool) -> Self {
        if holds {
            return self;
        }
        Self { note: "it did not hold", is_met: self.is_met.map(|_| false), ..self }
    }

    /// Everything behind its name.
    fn row(&self) -> String {
        let said = |figure: Option<f64>| figure.map(|figure| format!("{figure:.*}", self.digits));
        let aim = self.aim.map(|aim| aim.to_string()).unwrap_or_default();
        let verdict = match self.is_met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let stores = [self.stoa, self.prometheus, self.victoria_metrics];
        let figures = table::line(&stores, |figure| said(*figure));
        let row = format!("{:>7} {aim:>6} {figures}  {verdict:6} {}", self.goal_said, self.note);
        row.trim_end().to_owned()
    }
}

/// How a part went.
#[derive(Clone, Debug, Serialize)]
struct Done {
    part: Part,
    took_s: f64,
    /// Why it has no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// The figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    versions: Vec<String>,
    took_s: f64,
    figures: Vec<Figure>,
    parts: Vec<Done>,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let stores = table::line(&STORES, |store| Some((*store).to_owned()));
        let mut rows = vec![("FIGURE", format!("{:>7} {:>6} {stores}", "goal", "aim"))];
        rows.extend(self.figures.iter().map(|figure| (figure.name, figure.row())));
        rows.push(("", String::new()));
        for done in &self.parts {
            if let Some(failed) = &done.failed {
                rows.push((done.part.name(), format!("failed: {failed}")));
            }
        }
        let part = |done: &Done| format!("{} {:.0} s", done.part.name(), done.took_s);
        let parts: Vec<String> = self.parts.iter().map(part).collect();
        rows.push(("took", format!("{:.0} s: {}", self.took_s, parts.join(", "))));
        rows.push(("versions", self.versions.join(", ")));
        rows.push(("how", "docs/performance.md says what is measured and how".to_owned()));
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
    fn a_row_says_goal_figures_and_verdict() {
        let figures = |store: &str| match store {
            "Stoa" => Some(1.25),
            "Prometheus" => Some(2.5),
            _ => None,
        };
        let figure = Figure::new("x", Some(goals::WRITE_CPU_US), 2, figures);
        assert_eq!(
            figure.row(),
            "  ≤ 1.2    0.7              1.25             2.50                –  MISSED"
        );
        let figure = Figure::new("x", None, 0, |store| (store == "Stoa").then_some(7.0));
        assert_eq!(figure.row(), format!("{:15}{:>17}{:>17}{:>17}", "", "7", "–", "–"));
    }

    #[test]
    fn who_is_to_be_beaten_gives_the_goal() {
        let figure = |stoa: f64, other: Option<f64>| {
            let figures = move |store: &str| match store {
                "Stoa" => Some(stoa),
                "VictoriaMetrics" => other,
                _ => None,
            };
            Figure::new("x", None, 0, figures).beating_victoria_metrics(1.0).is_met
        };
        assert_eq!(figure(5.0, Some(5.0)), Some(true));
        assert_eq!(figure(6.0, Some(5.0)), Some(false));
        assert_eq!(figure(6.0, None), None);
    }

    #[test]
    fn a_part_that_failed_is_said_and_the_rest_stands() {
        let outcome = Outcome {
            versions: vec!["Stoa 1".to_owned()],
            took_s: 3.0,
            figures: vec![Figure::of_stoa("log, B/sample", Some(goals::LOG_B), 2, 2.0)],
            parts: vec![
                Done { part: Part::Million, took_s: 2.0, failed: None },
                Done { part: Part::Write, took_s: 1.0, failed: Some("no room".to_owned()) },
            ],
        };
        let text = report::table(&outcome.rows());
        assert!(text.contains("\nlog, B/sample    ≤ 2.5"), "{text}");
        assert!(text.contains("met\n"), "{text}");
        assert!(text.contains("\nwrite          failed: no room\n"), "{text}");
        assert!(text.contains("3 s: million 2 s, write 1 s"), "{text}");
    }

    #[test]
    fn all_parts_together_stay_below_twelve_minutes() {
        assert!(Part::ALL.iter().map(|(_, takes_s)| takes_s).sum::<u64>() < 12 * 60);
    }
}
