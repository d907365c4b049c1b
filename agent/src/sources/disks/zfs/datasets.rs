//! The source `zfs_datasets`: what file systems and volumes take, and their snapshots.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use stoa_daemon::error_chain;

use super::dataset_list;
use crate::sources::disks::dated::Dated;
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source};

const INTERVAL: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(50);
/// How often snapshots are counted; there may be many thousands.
const SNAPSHOTS: Duration = Duration::from_secs(600);

const READ_AT: Desc = Desc::gauge(
    "stoa_zfs_datasets_read_timestamp_seconds",
    "When the datasets were last listed, in unixtime; the list holds until a pool's space changes.",
);

/// `[sources.zfs_datasets]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The program that lists datasets.
    program: String,
    /// The program that lists pools.
    pool_program: String,
    /// Datasets told at most; the rest is counted.
    datasets_max: usize,
    /// Whether snapshots are counted.
    snapshots: bool,
    dataset_include: Pattern,
    dataset_exclude: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: "zfs".to_owned(),
            pool_program: "zpool".to_owned(),
            datasets_max: 512,
            snapshots: true,
            dataset_include: Pattern::default(),
            dataset_exclude: Pattern::default(),
        }
    }
}

/// The source `zfs_datasets`.
#[derive(Debug)]
pub(crate) struct Datasets {
    settings: Settings,
    filter: Filter,
    /// What pools had allocated and free when the list was made: the list stands while they do.
    pools: String,
    list: Option<Dated<String>>,
    /// By dataset.
    snapshots: Option<BTreeMap<String, u32>>,
    /// Why they were not counted, when that was tried last.
    wrong: Option<String>,
    counted_at: Option<Now>,
    sheet: Sheet,
}

impl Configured for Datasets {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::with(settings)
    }
}

impl Datasets {
    pub(super) fn with(settings: Settings) -> Self {
        let include = settings.dataset_include.clone();
        let filter = Filter::new(include, settings.dataset_exclude.clone());
        Self {
            settings,
            filter,
            pools: String::new(),
            list: None,
            snapshots: None,
            wrong: None,
            counted_at: None,
            sheet: Sheet::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn use_program(&mut self, program: &str) {
        program.clone_into(&mut self.settings.program);
    }

    /// Lists the datasets anew when a pool has changed.
    fn refresh(&mut self, now: Now) -> Result<(), Problem> {
        let args = ["list", "-Hp", "-o", "name,allocated,free,freeing,health"];
        let pools = super::ask("zpool list", &self.settings.pool_program, &args)?;
        if let Some(list) = self.list.as_mut().filter(|_| pools == self.pools) {
            list.hold(now);
            return Ok(());
        }
        let program = self.settings.program.as_str();
        let args = ["list", "-Hp", "-t", "filesystem,volume", "-o", dataset_list::COLUMNS];
        self.list = Some(Dated::new(super::ask("zfs list", program, &args)?, now));
        let is_due = self.counted_at.is_none_or(|at| now.is_past(at, SNAPSHOTS));
        if self.settings.snapshots && is_due {
            // A list that takes too long, or is too long, is no more tried each minute than one that
            // is not; the datasets are told without it.
            self.counted_at = Some(now);
            self.wrong = None;
            let args = ["list", "-Hp", "-t", "snapshot", "-o", "name"];
            self.snapshots = match super::ask("zfs list", program, &args) {
                Ok(names) => Some(dataset_list::count_snapshots(&names)),
                Err(problem) => {
                    self.wrong = Some(error_chain(&problem));
                    None
                }
            };
        }
        self.pools = pools;
        Ok(())
    }
}

impl Source for Datasets {
    fn name(&self) -> &'static str {
        "zfs_datasets"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        if let Err(problem) = super::is_there(roots).and_then(|()| self.refresh(now)) {
            return reading.fail(problem);
        }
        if let Some(wrong) = self.wrong.clone() {
            reading.note(Problem::Answer { asked: "snapshots", wrong });
        }
        let Some(list) = &self.list else { return };
        let (filter, sheet) = (&self.filter, &mut self.sheet);
        let datasets_max = self.settings.datasets_max;
        let keeps = |name: &str| filter.keeps(name);
        list.tell_time(&READ_AT, &[], sheet);
        let list = list.get(now).map_or("", String::as_str);
        dataset_list::tell(list, self.snapshots.as_ref(), datasets_max, keeps, sheet);
        self.sheet.tell(reading);
    }
}
