//! The source `zpool`: what pools have, how they are, how far a scrub is, which device errs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::pool_status::PoolStatus;
use super::scan;
use super::{pool_list, pool_status, pool_status_json};
use crate::sources::disks::sheet::Sheet;
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Now, Problem, Reading, Roots, Source};

const INTERVAL: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(50);

/// `[sources.zpool]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The program to run.
    program: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { program: "zpool".to_owned() }
    }
}

/// The source `zpool`.
#[derive(Debug)]
pub(crate) struct Pools {
    program: String,
    /// Whether the program is too old to print its status as JSON.
    is_text_only: bool,
    /// When a pool's scrub or resilver was last seen to be complete.
    completed: BTreeMap<String, f64>,
    sheet: Sheet,
}

impl Configured for Pools {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::with(settings)
    }
}

impl Pools {
    pub(super) fn with(settings: Settings) -> Self {
        Self {
            program: settings.program,
            is_text_only: false,
            completed: BTreeMap::new(),
            sheet: Sheet::new(),
        }
    }

    fn status(&mut self, now: Now) -> Result<Vec<PoolStatus>, Problem> {
        if !self.is_text_only {
            let args = ["status", "-j", "-p", "-s", "--json-int"];
            let output = super::run(&self.program, &args)?;
            match pool_status_json::parse(&output.stdout, now) {
                Some(pools) => return Ok(pools),
                // It does not know the option: OpenZFS before 2.3.
                None => self.is_text_only = true,
            }
        }
        // Dates are written in local time: this makes it UTC.
        let args = ["TZ=UTC0", self.program.as_str(), "status", "-p", "-s"];
        Ok(pool_status::parse(&super::ask("zpool status", "env", &args)?))
    }

    fn tell_status(&mut self, pools: &[PoolStatus]) {
        self.completed.retain(|name, _| pools.iter().any(|pool| pool.name == *name));
        for pool in pools {
            if let Some(completed) = pool.scan.completed {
                self.completed.insert(pool.name.clone(), completed);
            } else if pool.scan.state == scan::State::None {
                self.completed.remove(&pool.name);
            }
            let completed = self.completed.get(&pool.name).copied();
            pool_status::tell(pool, completed, &mut self.sheet);
        }
    }
}

impl Source for Pools {
    fn name(&self) -> &'static str {
        "zpool"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let args = ["list", "-Hp", "-o", pool_list::COLUMNS];
        let list =
            super::is_there(roots).and_then(|()| super::ask("zpool list", &self.program, &args));
        let list = match list {
            Ok(list) => list,
            Err(problem) => return reading.fail(problem),
        };
        for pool in pool_list::parse(&list) {
            pool_list::tell(&pool, &mut self.sheet);
        }
        match self.status(now) {
            Ok(pools) => self.tell_status(&pools),
            Err(problem) => reading.note(problem),
        }
        self.sheet.tell(reading);
    }
}
