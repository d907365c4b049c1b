//! One agent process over a simulated disk.

use std::path::Path;
use std::sync::Arc;

use stoa_agent::spool::{Spool, SpoolOptions};
use stoa_agent::uplink::event::{Action, Event, Moment};
use stoa_agent::uplink::session::{Uplink, UplinkConfig};
use stoa_proto::delivery::Epoch;
use stoa_wal::disk::SimDisk;

use super::plan::Plan;

pub(crate) const DIR: &str = "/agent";

pub(crate) struct Agent {
    pub(crate) machine: Uplink,
    pub(crate) spool: Spool,
    /// The connection it speaks on.
    pub(crate) connection: Option<u64>,
}

impl Agent {
    /// Starts a process; `None` when the disk refuses, and what it dropped while opening.
    pub(crate) fn start(
        disk: &SimDisk,
        plan: &Plan,
        random: [u8; 12],
        at: Moment,
    ) -> Option<(Self, u64)> {
        let epoch = Epoch::from_random(random);
        let options = SpoolOptions {
            bytes_max: plan.spool_bytes_max,
            age_max_ms: plan.spool_age_max_ms,
            free_bytes_min: 0,
            ..SpoolOptions::default()
        };
        let disk = Arc::new(disk.clone());
        let (spool, opened) = Spool::open(disk, Path::new(DIR), options, epoch, at.wall_ms).ok()?;
        let config = UplinkConfig {
            epoch,
            boot_id: vec![1; 16],
            agent_version: "0".into(),
            seed: at.wall_ms.cast_unsigned(),
            recovered: opened.recovered,
        };
        let dropped = opened.dropped.iter().map(|record| record.samples).sum();
        Some((
            Self { machine: Uplink::new(config, at.steady_ms), spool, connection: None },
            dropped,
        ))
    }

    /// Hands in an event; does the spool's work as the driver does, and gives the rest.
    pub(crate) fn handle(&mut self, event: Event, at: Moment) -> Vec<Action> {
        let mut todo = std::collections::VecDeque::from(self.machine.handle(event, at));
        let mut rest = Vec::new();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Spool(job) => {
                    if let Some(done) = self.spool.run(job, at.wall_ms) {
                        todo.extend(self.machine.handle(Event::Spool(done), at));
                    }
                }
                other => rest.push(other),
            }
        }
        let figures = self.machine.figures();
        assert_eq!(figures.imbalance(), 0, "the books do not balance: {figures:?}");
        assert_eq!(figures.in_spool, self.spool.waiting_samples(), "the spool disagrees");
        rest
    }
}
