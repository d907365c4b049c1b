//! One call's dictionary on the receiving side: slots of the wire to series of the store.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use stoa_model::{HostId, Labels, TimestampMs};
use stoa_proto::convert::labels_of;
use stoa_proto::frame::{Additions, FamilyText, SeriesText};
use stoa_tsdb::{GroupId, SeriesRef};

/// The `job` label of everything an agent reads on its host.
pub const JOB: &str = "node";

/// A series that no open call speaks of is forgotten by the budget after this long, milliseconds.
const SERIES_IDLE_MS: i64 = 3_600_000;

/// Purging looks at every series, so it is done at most this often, milliseconds.
const PURGE_PACE_MS: i64 = 60_000;

/// What ingest needs of the store while it reads a frame.
pub trait Catalog {
    /// The store's reference of a series, new or not; `None` when the store takes no more.
    fn resolve(&self, group: GroupId, labels: &Labels) -> Option<SeriesRef>;
    /// What an agent says about a metric.
    fn describe(&self, family: &FamilyText);
}

/// How many series one agent may have, over all its calls and the last hour.
#[derive(Debug)]
pub(super) struct Budget {
    series_max: usize,
    /// Hash of the labels, and when the series was last defined.
    known: HashMap<u64, TimestampMs>,
    hasher: RandomState,
    purged_at: TimestampMs,
}

impl Budget {
    pub(super) fn new(series_max: usize) -> Self {
        Self {
            series_max,
            known: HashMap::new(),
            hasher: RandomState::new(),
            purged_at: TimestampMs::MIN,
        }
    }

    /// Forgets series not defined lately; `open` are those that calls still speak of.
    pub(super) fn purge<'a>(
        &mut self,
        open: impl Iterator<Item = &'a Dictionary>,
        now: TimestampMs,
    ) {
        if self.known.len() < self.series_max || now.saturating_sub(self.purged_at) < PURGE_PACE_MS
        {
            return;
        }
        self.purged_at = now;
        let open: HashSet<u64> = open
            .flat_map(|dictionary| &dictionary.slots)
            .filter_map(|slot| slot.map(|(_, hash)| hash))
            .collect();
        self.known.retain(|hash, defined| {
            now.saturating_sub(*defined) < SERIES_IDLE_MS || open.contains(hash)
        });
    }

    /// Takes a series in, if there is room; gives its hash.
    fn admit(&mut self, labels: &Labels, now: TimestampMs) -> Option<u64> {
        let hash = self.hasher.hash_one(labels);
        let room = self.known.len() < self.series_max || self.known.contains_key(&hash);
        room.then(|| {
            self.known.insert(hash, now);
            hash
        })
    }
}

/// Slots of the wire to series of the store.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    /// By slot; `None` for a series that is not stored.
    slots: Vec<Option<(SeriesRef, u64)>>,
    /// Whether two slots may be the same series.
    twins: bool,
    /// Why a series is not stored: the first reason met.
    pub(super) refusal: Option<String>,
}

/// The part of a [`Dictionary`] that does not change with it.
pub(super) struct Context<'a> {
    pub(super) host: &'a HostId,
    pub(super) group: GroupId,
    pub(super) catalog: &'a dyn Catalog,
    pub(super) now: TimestampMs,
    /// Whether families are described; the backlog says nothing new.
    pub(super) describe: bool,
}

impl Dictionary {
    pub(super) fn add(
        &mut self,
        additions: &Additions,
        budget: &mut Budget,
        context: &Context<'_>,
    ) {
        if additions.reset {
            self.slots.clear();
            self.twins = false;
        }
        if context.describe {
            for family in &additions.families {
                context.catalog.describe(family);
            }
        }
        self.slots.reserve_exact(additions.series.len());
        for series in &additions.series {
            let slot = self.resolve(series, budget, context);
            self.slots.push(slot);
        }
        if !additions.series.is_empty() {
            let mut seen = HashSet::with_capacity(self.slots.len());
            self.twins = !self.slots.iter().flatten().all(|(series, _)| seen.insert(*series));
        }
    }

    fn resolve(
        &mut self,
        series: &SeriesText,
        budget: &mut Budget,
        context: &Context<'_>,
    ) -> Option<(SeriesRef, u64)> {
        let refusal = match labels_of(series, context.host, JOB) {
            Ok(labels) => match budget.admit(&labels, context.now) {
                Some(hash) => match context.catalog.resolve(context.group, &labels) {
                    Some(reference) => return Some((reference, hash)),
                    None => "the store takes no more series".to_owned(),
                },
                None => format!("over {} series of one agent", budget.series_max),
            },
            Err(error) => error.to_string(),
        };
        self.refusal.get_or_insert(refusal);
        None
    }

    /// A tick's rows as the store takes them, and how many are left out: of a series not stored,
    /// or a second value of one series.
    pub(super) fn samples(&self, rows: &[(u32, f64)]) -> (Vec<(SeriesRef, f64)>, u64) {
        let mut samples = Vec::with_capacity(rows.len());
        for &(slot, value) in rows {
            let slot = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot));
            if let Some(Some((series, _))) = slot {
                samples.push((*series, value));
            }
        }
        if self.twins {
            let mut seen = HashSet::with_capacity(samples.len());
            samples.retain(|(series, _)| seen.insert(*series));
        }
        let left_out = (rows.len() - samples.len()) as u64;
        (samples, left_out)
    }
}
