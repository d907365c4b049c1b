//! A database, what happens to it, and what it must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use stoa_model::histogram::ResetHint;
use stoa_model::{Labels, Matcher, stale_nan};
use stoa_tsdb::{
    AppendError, Batch, Db, DbError, GroupId, HistogramData, HistogramSample, Mark, Row,
    SelectError, SeriesData, SeriesRef,
};
use stoa_wal::disk::{Fault, SimDisk};

use crate::copies::Copy;
use crate::data::{Dice, Instant, Model, Samples, Value};
use crate::import::Import;
use crate::{FAULTY_FROM, Figures, Kind, MINUTE_MS};

pub(crate) const LAST_BATCH: &[u8] = b"last batch";
/// As long as blocks may be, those of imports.
const BLOCK_MS_MAX: i64 = 24 * MINUTE_MS;

/// What is to be repeated until it is done.
#[derive(Clone)]
pub(crate) enum Pending {
    Delete { n: String, start: i64, end: i64 },
    Import(Import),
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) dice: Dice,
    pub(crate) disk: SimDisk,
    db: Option<Db>,
    refs: BTreeMap<(u64, Labels), SeriesRef>,
    pub(crate) now: i64,
    /// What the database was told last that the time is.
    told: i64,
    /// The state after each batch from the last one known to be durable.
    pub(crate) states: Vec<Model>,
    /// The newest instant there ever was.
    pub(crate) newest: i64,
    /// What is older may be gone because of its age; what is older than the other must be.
    pub(crate) expired_before: i64,
    gone_before: i64,
    /// Found gone.
    gone: BTreeSet<(Labels, i64)>,
    /// Windows nobody knows any more, as series and end of an hour.
    pub(crate) unsettled: BTreeSet<(Labels, i64)>,
    /// It failed: a part of it may have been done.
    pub(crate) pending: Option<Pending>,
    pub(crate) copy: Option<Copy>,
    pub(crate) figures: Figures,
}

pub(crate) fn series_labels(group: u64, n: u64) -> Labels {
    let (group, n) = (group.to_string(), n.to_string());
    Labels::from_pairs([("__name__", "m"), ("group", &group), ("n", &n)]).unwrap()
}

pub(crate) fn floats(db: &Db) -> Vec<SeriesData> {
    let all = db.select(&[], i64::MIN, i64::MAX, 100, 1_000_000).unwrap();
    let newest = all.iter().filter_map(|series| series.timestamps.last()).max();
    for end in newest.into_iter().flat_map(|newest| [0, 7_000, 100_000].map(|ms| newest - ms)) {
        check_newest(db, end - 90_000, end);
    }
    all
}

/// Reading the newest only, or at once, gives what reading all does.
fn check_newest(db: &Db, start: i64, end: i64) {
    let columns = |series: &SeriesData| {
        let values: Vec<u64> = series.values.iter().map(|v| v.to_bits()).collect();
        (series.labels.clone(), series.timestamps.to_vec(), values)
    };
    let last = |series: &SeriesData| {
        let (labels, times, values) = columns(series);
        (labels, times.last().copied(), values.last().copied())
    };
    let all = db.select(&[], start, end, 100, 1_000_000).unwrap();
    let newest = db.select_newest_until(&[], start, end, 100, 1_000_000, &|| false).unwrap();
    let each = |found: &[SeriesData]| found.iter().map(last).collect::<Vec<_>>();
    assert_eq!(each(&newest), each(&all), "from {start} to {end}");
    let all_histograms = db.select_histograms(&[], start, end, 100, 100_000_000).unwrap();
    let newest =
        db.select_newest_histograms_until(&[], start, end, 100, 100_000_000, &|| false).unwrap();
    let last = |series: &HistogramData| {
        let last = series.samples.last().cloned();
        (series.labels.clone(), last.map(|(t, found)| (t, found.sum.to_bits(), found.counts)))
    };
    let of = |found: &[HistogramData]| found.iter().map(last).collect::<Vec<_>>();
    assert_eq!(of(&newest), of(&all_histograms), "histograms from {start} to {end}");
    let named = [Matcher::equal("__name__", "m")];
    if let Some(at_once) = db.select_at_once(&named, start, end, 100, 1_000_000, false) {
        let each = |found: &[SeriesData]| found.iter().map(columns).collect::<Vec<_>>();
        assert_eq!(each(&at_once), each(&all), "at once from {start} to {end}");
    }
    if let Some(at_once) = db.select_at_once(&named, start, end, 100, 1_000_000, true) {
        assert_eq!(each(&at_once), each(&all), "the newest at once from {start} to {end}");
    }
}

/// All samples, each there once.
pub(crate) fn contents(db: &Db, seed: u64) -> Samples {
    let mut found = Samples::new();
    let mut insert = |labels: &Labels, t: i64, value| {
        let twice = found.insert((labels.clone(), t), value);
        assert_eq!(twice, None, "seed {seed}: {labels} at {t} twice");
    };
    for series in floats(db) {
        for (t, v) in series.timestamps.iter().zip(&series.values) {
            insert(&series.labels, *t, Value::Float(v.to_bits()));
        }
    }
    for series in db.select_histograms(&[], i64::MIN, i64::MAX, 100, 100_000_000).unwrap() {
        for (t, histogram) in series.samples {
            insert(&series.labels, t, Value::Histogram(Arc::new(histogram)));
        }
    }
    assert_eq!(one_by_one(db), found, "seed {seed}: read one by one");
    found
}

/// All samples, read series by series.
fn one_by_one(db: &Db) -> Samples {
    let never = || false;
    let listing = db.list_until(&[], i64::MIN, i64::MAX, 100, usize::MAX, &never).unwrap();
    assert!(listing.labels().is_sorted_by(|a, b| a < b), "each once, in order");
    let mut reader = db.reader(&listing);
    let mut found = Samples::new();
    for (at, labels) in listing.labels().enumerate() {
        let whole = reader.read(at, 100_000_000).unwrap();
        for (t, v) in whole.floats {
            found.insert((labels.clone(), t), Value::Float(v.to_bits()));
        }
        for (t, histogram) in whole.histograms {
            found.insert((labels.clone(), t), Value::Histogram(Arc::new(histogram)));
        }
        if whole.weight > 0 {
            let refused = reader.read(at, whole.weight - 1).unwrap_err();
            assert_eq!(refused, SelectError::TooManySamples { max: whole.weight - 1 });
        }
    }
    found
}

impl Model {
    /// Whether this is what was found, but for what may be gone because of its age. Says how many hints were
    /// forgotten.
    pub(crate) fn check(&self, found: &mut Samples, expired_before: i64, case: &str) -> u64 {
        let mut forgotten = 0;
        for ((labels, t), value) in &mut *found {
            let sent = self.samples.get(&(labels.clone(), *t));
            let is_after = self.deleted_from.get(labels).is_some_and(|first| first < t);
            if let (Value::Histogram(found), Some(Value::Histogram(sent)), true) =
                (value, sent, is_after)
                && found.reset == ResetHint::Unknown
                && [ResetHint::Reset, ResetHint::NotReset].contains(&sent.reset)
            {
                Arc::make_mut(found).reset = sent.reset;
                forgotten += 1;
            }
        }
        // A later one of the same instant is seen when the one that counted is gone because of its age.
        let is_kept = |t: i64| t >= expired_before;
        let missing = self
            .samples
            .iter()
            .filter(|(key, value)| is_kept(key.1) && found.get(*key) != Some(value));
        let missing: Vec<_> = missing.take(5).collect();
        let extra = found.iter().filter(|(key, value)| {
            let sent = self.samples.get(*key);
            sent != Some(value) && (is_kept(key.1) || sent.is_none())
        });
        let extra: Vec<_> = extra.take(5).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{case}: missing {missing:?}, extra {extra:?}"
        );
        forgotten
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            kind: Kind::of(seed),
            dice: Dice(seed),
            disk: SimDisk::new(seed),
            db: None,
            refs: BTreeMap::new(),
            now: 1_700_000_000_000,
            told: 0,
            states: vec![Model::default()],
            newest: i64::MIN,
            expired_before: i64::MIN,
            gone_before: i64::MIN,
            gone: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            pending: None,
            copy: None,
            figures: Figures::from([("images", 0)]),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        let (db, recovery) = Db::open(disk, Path::new("/db"), self.kind.options(), self.now)
            .unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed));
        assert_eq!(recovery.damaged, 0, "seed {}: {:?}", self.seed, recovery.damage);
        assert_eq!(recovery.samples_orphaned, 0, "seed {}", self.seed);
        self.db = Some(db);
        self.told = self.now;
        self.refs.clear();
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn is_faulty(&self) -> bool {
        self.seed >= FAULTY_FROM
    }

    pub(crate) fn count(&mut self, name: &'static str, count: u64) {
        *self.figures.entry(name).or_default() += count;
    }

    /// The database holds exactly what one of the possible states says.
    fn check(&mut self) {
        self.finish();
        let marked = self
            .db()
            .mark(LAST_BATCH)
            .map_or(0, |value| u64::from_le_bytes(value.try_into().unwrap()));
        let state = self.states.iter().find(|state| state.batches == marked).cloned();
        let state = state.unwrap_or_else(|| {
            let known: Vec<u64> = self.states.iter().map(|state| state.batches).collect();
            panic!("seed {}: the mark says {marked}, possible are {known:?}", self.seed)
        });
        let case = format!("seed {}, batch {marked}", self.seed);
        let mut found = contents(self.db(), self.seed);
        let forgotten = state.check(&mut found, self.expired_before, &case);
        self.count("hints forgotten", forgotten);
        let histograms = found.values().filter(|value| value.is_histogram()).count();
        self.count("histograms", histograms as u64);
        let back: Vec<_> = found.keys().filter(|key| self.gone.contains(key)).take(5).collect();
        assert!(back.is_empty(), "{case}: are back: {back:?}");
        let old: Vec<_> = found.keys().filter(|(_, t)| *t < self.gone_before).take(5).collect();
        assert!(old.is_empty(), "{case}: too old: {old:?}");
        let gone: Vec<_> =
            state.samples.keys().filter(|key| !found.contains_key(key)).cloned().collect();
        self.count("samples aged", gone.len() as u64);
        if !self.is_faulty() {
            self.gone.extend(gone);
        }
        if self.kind.has_tiers {
            let (windows, of_gone) = self.check_windows(self.db(), &state, &case);
            self.count("windows", windows);
            self.count("windows of what is gone", of_gone);
        }
        self.states = vec![state];
    }

    pub(crate) fn crash(&mut self) {
        self.db = None;
        self.disk.crash();
        self.count("images", 1);
        while self.dice.below(4) == 0 {
            // Another crash while coming back.
            self.disk.fail_at(self.dice.below(12), Fault::Halt);
            let disk = Arc::new(self.disk.clone());
            drop(Db::open(disk, Path::new("/db"), self.kind.options(), self.now));
            self.disk.crash();
            self.count("images", 1);
            self.count("images again", 1);
        }
        self.open();
        self.check();
        self.check_copy_again();
    }

    /// A failure after which only a restart helps.
    pub(crate) fn restart_if_stopped(&mut self, stopped: bool) {
        if stopped {
            self.crash();
        }
    }

    /// The last state is durable.
    pub(crate) fn is_durable(&mut self) {
        self.states = self.states.split_off(self.states.len() - 1);
    }

    fn rows(&mut self, group: u64) -> Vec<Instant> {
        let late = match self.dice.below(8) {
            0 => self.dice.ms(400_000),
            1 => self.dice.ms(30_000),
            _ => 0,
        };
        // Half of the late ones repeat instants that are there.
        let late = if self.dice.below(2) == 0 { late - late % 1000 } else { late };
        let start = self.now - late;
        let count = self.dice.ms(6);
        let mut rows = Vec::new();
        for row in 0..count {
            let mut samples = Vec::new();
            for n in 0..4u64 {
                // The first series is mostly of histograms, the others hardly ever.
                let of_histograms = self.dice.below(if n == 0 { 2 } else { 20 }) == 0;
                if self.dice.below(12) == 0 {
                    continue;
                }
                let value = if of_histograms {
                    Value::Histogram(Arc::new(self.dice.histogram()))
                } else {
                    Value::Float(self.float().to_bits())
                };
                samples.push((series_labels(group, n), value));
            }
            rows.push((start + row * 1000, samples));
        }
        if rows.len() > 1 && self.dice.below(5) == 0 {
            rows.reverse();
        }
        rows
    }

    pub(crate) fn float(&mut self) -> f64 {
        match self.dice.below(11) {
            0 => stale_nan(),
            // Sums of any numbers depend on the order in which they are added up.
            1 if self.kind.has_tiers => {
                [f64::NAN, f64::INFINITY, 1e-9][self.dice.below(3) as usize]
            }
            1 => f64::from_bits(self.dice.below(u64::MAX)),
            2 | 3 => self.dice.below(1000) as f64 / 10.0,
            _ => 7.0,
        }
    }

    fn append(&mut self) {
        // What is stored after a deletion is kept: it has to be done first.
        self.finish();
        let group = self.dice.below(2);
        let rows = self.rows(group);
        self.now += 1000 * (1 + self.dice.ms(8));
        let mut next = self.states.last().unwrap().clone();
        next.apply(&rows, self.told);
        for _attempt in 0..2 {
            let (batch, histograms) = self.batch(group, &rows, next.batches);
            match self.db().append_with(&batch, &histograms) {
                Ok(appended) => {
                    let given: usize = rows.iter().map(|(_, samples)| samples.len()).sum();
                    assert_eq!(appended.total(), given as u64, "seed {}", self.seed);
                    self.newest = self.newest.max(next.max_t.unwrap_or(i64::MIN));
                    self.states.push(next);
                    return;
                }
                Err(AppendError::UnknownSeries { .. }) => self.refs.clear(),
                Err(AppendError::DiskFull(_)) => return,
                Err(AppendError::Stopped(_)) => return self.restart_if_stopped(true),
                Err(error) => panic!("seed {}: {error:?}", self.seed),
            }
        }
        panic!("seed {}: series unknown after being resolved", self.seed);
    }

    fn batch(
        &mut self,
        group: u64,
        rows: &[Instant],
        number: u64,
    ) -> (Batch, Vec<HistogramSample>) {
        let mut histograms = Vec::new();
        let mut batch = Batch { group: GroupId(group), rows: vec![], marks: vec![] };
        for (t_ms, samples) in rows {
            let mut row = Row { t_ms: *t_ms, samples: vec![] };
            for (labels, v) in samples {
                let known = self.refs.get(&(group, labels.clone())).copied();
                let series = known.unwrap_or_else(|| {
                    let series = self.db().resolve(GroupId(group), labels).unwrap();
                    self.refs.insert((group, labels.clone()), series);
                    series
                });
                match v {
                    Value::Float(bits) => row.samples.push((series, f64::from_bits(*bits))),
                    Value::Histogram(histogram) => {
                        let histogram = Arc::clone(histogram);
                        histograms.push(HistogramSample { t_ms: *t_ms, series, histogram });
                    }
                }
            }
            batch.rows.push(row);
        }
        let value = number.to_le_bytes().to_vec();
        batch.marks.push(Mark { key: LAST_BATCH.to_vec(), value });
        (batch, histograms)
    }

    fn sync(&mut self) {
        match self.db().sync() {
            Ok(()) => self.is_durable(),
            Err(DbError::DiskFull(_)) => {}
            Err(DbError::Stopped(_)) => self.restart_if_stopped(true),
            Err(error) => panic!("seed {}: {error:?}", self.seed),
        }
    }

    fn maintain(&mut self) {
        // Anything else is tried again next time and has changed nothing.
        self.told = self.now;
        let kept_ms = self.kind.options().retention_ms;
        self.expired_before =
            self.expired_before.max(self.now.min(self.newest).saturating_sub(kept_ms));
        let done = self.db().maintain(self.now);
        let stopped = matches!(done, Err(DbError::Stopped(_)));
        if let Ok(done) = done {
            self.count("blocks", done.blocks_written);
            self.count("checkpoints", u64::from(done.checkpointed));
            self.count("series removed", done.series_removed);
            let newest = self.states.last().and_then(|state| state.max_t).unwrap_or(i64::MIN);
            // With tiers samples wait to be rolled up.
            if !self.kind.has_tiers && !self.is_faulty() {
                let gone_before = self.now.min(newest).saturating_sub(kept_ms + BLOCK_MS_MAX);
                self.gone_before = self.gone_before.max(gone_before);
            }
        }
        self.restart_if_stopped(stopped);
    }

    pub(crate) fn step(&mut self, faults: bool) {
        if self.kind.has_tiers {
            // What is deleted in part is not to be rolled up so.
            self.finish();
        }
        match self.dice.below(45) {
            0 => self.crash(),
            1 if faults => {
                let fault = [Fault::Enospc, Fault::Eio, Fault::ShortWrite, Fault::Halt]
                    [self.dice.below(4) as usize];
                self.disk.fail_at(self.dice.below(30), fault);
            }
            2 if faults => {
                let room = self.dice.below(3000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + room));
            }
            3..=5 => self.disk.set_capacity(None),
            6 | 7 => {
                self.finish();
                let all = self.states.clone();
                self.check();
                // Looking makes nothing durable.
                self.states = all;
            }
            8..=11 => self.maintain(),
            12..=16 => self.sync(),
            17 => self.compact(),
            18 => self.delete(),
            // A long pause.
            19 => self.now += 90_000,
            20 => self.import(),
            21 => self.copy(faults),
            22 | 23 if self.kind.ages => {
                // Tiers cut time into hours.
                let minutes = if self.kind.has_tiers { 90 } else { 12 };
                self.now += self.dice.ms(minutes * 60_000);
            }
            24 | 25 if self.kind.has_tiers => self.compact(),
            _ => self.append(),
        }
        if self.disk.halted() {
            self.crash();
        }
    }

    /// Deletes a stretch of one or all series. What is deleted is deleted in every state that may
    /// come back.
    fn delete(&mut self) {
        let n = ["0", "1", "2", "3", ".*"][self.dice.below(5) as usize].to_owned();
        let start = self.now - self.dice.ms(900_000);
        let end = start + self.dice.ms(300_000);
        self.finish();
        // Nothing may be deleted that could come back because it was not durable.
        self.sync();
        if self.disk.halted() || self.states.len() != 1 {
            return;
        }
        self.pending = Some(Pending::Delete { n, start, end });
        self.try_pending();
    }

    fn try_deletion(&mut self, n: &str, start: i64, end: i64) -> bool {
        self.unsettle_windows(n, start, end);
        let matcher = Matcher::new("n", stoa_model::MatchOp::Regex, n).unwrap();
        let Ok(done) = self.db().delete_series(&[matcher], start, end, self.now) else {
            return false;
        };
        self.count("series deleted", done.series);
        self.states.iter_mut().for_each(|state| state.delete(n, start, end));
        true
    }

    pub(crate) fn try_pending(&mut self) -> bool {
        let is_done = match self.pending.clone() {
            None => true,
            Some(Pending::Delete { n, start, end }) => self.try_deletion(&n, start, end),
            Some(Pending::Import(import)) => self.try_import(&import),
        };
        if is_done {
            self.pending = None;
        }
        is_done
    }

    /// Ends what failed.
    pub(crate) fn finish(&mut self) {
        if self.pending.is_some() && !self.disk.halted() {
            self.disk.set_capacity(None);
            self.disk.clear_faults();
            while !self.try_pending() {
                assert!(!self.disk.halted(), "seed {}: it failed for nothing", self.seed);
                self.db = None;
                self.disk.crash();
                self.count("images", 1);
                self.open();
            }
        }
    }

    fn compact(&mut self) {
        let done = self.db().compact(self.now);
        if let Ok(done) = done {
            self.count("merges", done.merges);
            self.count("samples dropped", done.samples_dropped);
            self.count("tier blocks", done.tier_blocks);
            assert_eq!(done.chunks_damaged, 0, "seed {}", self.seed);
        }
        if self.dice.below(6) == 0 {
            drop(self.db().clean_tombstones(self.now));
        }
    }
}
