//! One collector process over a simulated disk.

use std::path::Path;
use std::sync::Arc;

use stoa_collector::ingest::dictionary::Catalog;
use stoa_collector::ingest::legs;
use stoa_collector::ingest::session::{AgentIngest, Outcome};
use stoa_model::{HostId, Labels, Matcher};
use stoa_proto::convert::SERIES_PER_AGENT_MAX;
use stoa_proto::frame::FamilyText;
use stoa_tsdb::{AppendError, Batch, Db, GroupId, Options, SeriesRef};
use stoa_wal::disk::SimDisk;

const DIR: &str = "/collector";

pub(crate) struct Collector {
    pub(crate) db: Db,
    pub(crate) ingest: AgentIngest,
    /// After a failed sync nothing more is taken.
    failed: bool,
}

pub(crate) struct DbCatalog<'a>(pub &'a Db);

impl Catalog for DbCatalog<'_> {
    fn resolve(&self, group: GroupId, labels: &Labels) -> Option<SeriesRef> {
        self.0.resolve(group, labels).ok()
    }

    fn describe(&self, _family: &FamilyText) {}
}

impl Collector {
    /// Starts a process; `None` when the disk refuses.
    pub(crate) fn start(disk: &SimDisk, now: i64) -> Option<Self> {
        let disk = Arc::new(disk.clone());
        let (db, _recovery) = Db::open(disk, Path::new(DIR), Options::default(), now).ok()?;
        let host = HostId::parse("pve1").unwrap();
        let marks = db.marks_with_prefix(&legs::key_prefix(&host));
        let ingest = AgentIngest::new(host, SERIES_PER_AGENT_MAX, &marks);
        Some(Self { db, ingest, failed: false })
    }

    /// What the store's thread does with a batch. Without `sync`, as when the power goes between.
    pub(crate) fn append(&mut self, batch: &Batch, sync: bool) -> Outcome {
        let failed = |reason: String| Outcome::Failed { reason };
        if self.failed {
            return failed("the store has failed".into());
        }
        let appended = match self.db.append(batch) {
            Ok(appended) => appended,
            Err(error @ (AppendError::DiskFull(_) | AppendError::UnknownSeries { .. })) => {
                return failed(error.to_string());
            }
            Err(error @ AppendError::Stopped(_)) => {
                self.failed = true;
                return failed(error.to_string());
            }
            Err(error) => return Outcome::Impossible { reason: error.to_string() },
        };
        if sync && let Err(error) = self.db.sync() {
            self.failed = true;
            return failed(error.to_string());
        }
        Outcome::Durable {
            stored: appended.stored,
            known: appended.duplicate,
            refused: appended.conflicting + appended.too_old,
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Everything stored: the series' number, the instant, the value.
    pub(crate) fn samples(&self) -> Vec<(u32, i64, f64)> {
        let all = Matcher::equal("__name__", "m");
        let found = self.db.select(&[all], 0, i64::MAX / 2, 1 << 20, 1 << 24).unwrap();
        let mut samples = Vec::new();
        for series in found {
            assert_eq!(series.labels.get("host"), Some("pve1"));
            let number = series.labels.get("n").unwrap().parse().unwrap();
            for (t, value) in series.timestamps.iter().zip(&series.values) {
                samples.push((number, *t, *value));
            }
        }
        samples
    }
}
