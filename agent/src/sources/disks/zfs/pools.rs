//! The source `zpool`: what pools have, how they are, how far a scrub is, which device errs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::pool_status::PoolStatus;
use super::scan;
use super::{pool_list, pool_status, pool_status_json};
use crate::sources::registry::{Configured, Shared};
use crate::sources::sheet::Sheet;
use crate::sources::{Now, Problem, Reading, Roots, Source};

const INTERVAL: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(50);
/// How long a program is asked for text that printed no JSON; it may be a newer one by then.
const JSON_AGAIN: Duration = Duration::from_secs(3600);

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
    /// When the program last printed no status as JSON.
    no_json_at: Option<Now>,
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
    #[cfg(test)]
    pub(super) fn use_program(&mut self, program: &str) {
        program.clone_into(&mut self.program);
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self {
            program: settings.program,
            no_json_at: None,
            completed: BTreeMap::new(),
            sheet: Sheet::new(),
        }
    }

    fn status(&mut self, now: Now) -> Result<Vec<PoolStatus>, Problem> {
        if self.no_json_at.is_none_or(|at| now.is_past(at, JSON_AGAIN)) {
            let args = ["status", "-j", "-p", "-s", "--json-int"];
            let output = super::run(&self.program, &args)?;
            match pool_status_json::parse(&output.stdout, now) {
                Some(pools) => {
                    self.no_json_at = None;
                    return Ok(pools);
                }
                // It does not know the option (OpenZFS before 2.3), or broke off.
                None => self.no_json_at = Some(now),
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
