//! What is known of one target's series: the text that names each on the target's page, and what it is sent as.
//!
//! A page names the same series over and over; each text is understood once and looked up after that.
//! [`Book::take`] turns a page into samples and ends what is no longer on it; [`Book::fail`] ends everything, as
//! a scrape that failed does. A series that ended with a failed scrape keeps its number and goes on
//! with the next good one; one that left its page is forgotten.
//!
//! A page counts whole or not at all. A page's own timestamps are not kept: a sample has its scrape's.
//! Knows no network and no clock. Bounds: [`ENTRIES_MAX`] texts, and [`Room`] for the series of all targets;
//! the page's size is its caller's to bound.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stoa_exchange::exposition::protobuf::{self, FamilyHead, MetricSample, StreamError};
use stoa_exchange::exposition::{Format, Line, MetricType, ReadError, Reader};
use stoa_exchange::relabel::{RelabelRule, relabel};
use stoa_model::{Label, Labels, METRIC_NAME, MetricKind, is_stale, stale_nan};
use stoa_proto::convert::{LABEL_BYTES_MAX, LABELS_MAX, TARGET_INSTANCE, TARGET_JOB};
use stoa_proto::tick::{FamilyInfo, Series};

use super::job::Limits;
use crate::numbers::Numbers;

/// Texts of one target, those that relabelling leaves out among them, at most.
pub const ENTRIES_MAX: usize = 200_000;

/// Labels of a series but the `host` that the collector adds.
const OWN_LABELS_MAX: usize = LABELS_MAX - 1;

/// What conflicting labels of a target are renamed with.
const EXPORTED: &str = "exported_";

/// How many series all targets together may have.
#[derive(Debug)]
pub struct Room {
    numbers: Arc<Numbers>,
    alive: AtomicUsize,
    max: usize,
}

impl Room {
    /// Room for so many.
    #[must_use]
    pub fn new(numbers: Arc<Numbers>, max: usize) -> Self {
        Self { numbers, alive: AtomicUsize::new(0), max }
    }

    /// How many there are.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<u32> {
        let more = |alive: usize| (alive < self.max).then_some(alive + 1);
        self.alive.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let number = self.numbers.next();
        if number.is_none() {
            self.give_back(1);
        }
        number
    }

    fn give_back(&self, count: usize) {
        self.alive.fetch_sub(count, Ordering::Relaxed);
    }
}

/// How what a target exposes becomes what is sent.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The target's labels.
    pub target: Labels,
    /// Whether the exposed ones win over these.
    pub honor_labels: bool,
    /// By which series are chosen and labelled.
    pub metric_relabel: Vec<RelabelRule>,
    /// What is too much.
    pub limits: Limits,
}

/// The formats a page may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFormat {
    /// Text, or OpenMetrics.
    Text(Format),
    /// Delimited protobuf.
    Protobuf,
}

impl PageFormat {
    /// What a `Content-Type` says; text when it says nothing known.
    #[must_use]
    pub fn of_content_type(text: &str) -> Self {
        let media = text.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/vnd.google.protobuf") {
            Self::Protobuf
        } else {
            Self::Text(Format::of_content_type(text))
        }
    }
}

/// Samples of one moment.
pub type Samples = Vec<(Arc<Series>, f64)>;

/// What a page came to.
#[derive(Debug, Default)]
pub struct Taken {
    /// Its samples, and markers of series that ended; in any order, each series once.
    pub samples: Samples,
    /// What was counted on the way.
    pub counts: Counts,
}

/// What is counted of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples on it.
    pub scraped: usize,
    /// Those left after relabelling.
    pub kept: usize,
    /// Series that were not known.
    pub added: usize,
    /// Samples left out because their labels are more or longer than can be sent, or stand twice.
    pub refused: u64,
    /// Exemplars and native histograms, which are not sent.
    pub skipped: u64,
    /// Samples that carried a time of their own.
    pub timed: u64,
}

/// Why a page counts as none.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It is not in its format.
    #[error("read the page: {0}")]
    Read(#[from] ReadError),
    /// It is no protobuf.
    #[error("read the page: {0}")]
    Protobuf(String),
    /// A limit of its job.
    #[error("over the limit of {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// There is no room for more series.
    #[error(
        "over {0} series of all targets; set scrape.series_max, and agents.series_max of the collector"
    )]
    NoRoom(usize),
}

/// What is known of a target's series.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<Box<str>, Entry>,
    by_labels: HashMap<Labels, Arc<Series>>,
    families: HashMap<Box<str>, Family>,
    infos: HashMap<Box<str>, Arc<FamilyInfo>>,
    /// Each text of labels once.
    texts: HashSet<Arc<str>>,
    texts_max: usize,
    own: HashMap<&'static str, Arc<Series>>,
    round: u64,
    key: String,
}

#[derive(Debug)]
struct Entry {
    /// `None`: relabelling leaves it out, or it cannot be sent.
    series: Option<Arc<Series>>,
    /// The round of the page it was last on.
    seen: u64,
    /// Whether it goes on as far as the collector knows.
    told: bool,
    /// Whether it ever did.
    was_told: bool,
}

/// What a page said of a family.
#[derive(Debug, Default, PartialEq)]
struct Family {
    help: String,
    unit: String,
    kind: Option<MetricType>,
}

/// A page being taken.
struct Taking<'a> {
    book: &'a mut Book,
    rules: &'a Rules,
    room: &'a Room,
    taken: Taken,
    /// Whether there are more samples than there may be: the rest is counted and not taken.
    is_over: bool,
}

impl Book {
    /// Takes a page.
    ///
    /// # Errors
    /// [`PageError`], and what was counted until then; then nothing of it counts, and [`Self::fail`] ends what there was.
    pub fn take(
        &mut self,
        page: &[u8],
        format: PageFormat,
        rules: &Rules,
        room: &Room,
    ) -> Result<Taken, (PageError, Counts)> {
        self.round += 1;
        let mut taken = Taken::default();
        taken.samples.reserve(self.entries.len());
        let mut taking = Taking { book: self, rules, room, taken, is_over: false };
        let read = match format {
            PageFormat::Text(format) => taking.text(page, format),
            PageFormat::Protobuf => taking.protobuf(page),
        };
        let is_over = taking.is_over;
        let read = match (read, rules.limits.samples) {
            (Ok(()), Some(limit)) if is_over => Err(PageError::Limit { what: "samples", limit }),
            (read, _) => read,
        };
        let mut taken = taking.taken;
        if let Err(error) = read {
            return Err((error, taken.counts));
        }
        self.end_unseen(&mut taken.samples, room);
        // Of two texts of one series the first counts, and a marker only if there is no text left.
        taken.samples.sort_by_key(|(series, _)| series.id);
        let before = taken.samples.len();
        taken.samples.dedup_by_key(|(series, _)| series.id);
        taken.counts.refused += (before - taken.samples.len()) as u64;
        Ok(taken)
    }

    fn end_unseen(&mut self, samples: &mut Samples, room: &Room) {
        let (round, by_labels) = (self.round, &mut self.by_labels);
        self.entries.retain(|_, entry| {
            if entry.seen == round {
                entry.told = entry.series.is_some();
                entry.was_told |= entry.told;
                return true;
            }
            if let Some(series) = &entry.series {
                if entry.told {
                    samples.push((Arc::clone(series), stale_nan()));
                }
                forget(by_labels, series, room);
            }
            false
        });
        if self.texts.len() > self.texts_max {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts_max = 2 * self.texts.len() + 1024;
        }
    }

    /// A scrape failed: all series end, and go on with the next that does not.
    pub fn fail(&mut self, samples: &mut Samples, room: &Room) {
        let by_labels = &mut self.by_labels;
        let mut ended = Samples::new();
        self.entries.retain(|_, entry| {
            if let Some(series) = &entry.series {
                if std::mem::take(&mut entry.told) {
                    ended.push((Arc::clone(series), stale_nan()));
                }
                // One that no good page had takes no room from others.
                if !entry.was_told {
                    forget(by_labels, series, room);
                }
            }
            entry.was_told
        });
        ended.sort_by_key(|(series, _)| series.id);
        ended.dedup_by_key(|(series, _)| series.id);
        samples.append(&mut ended);
    }

    /// The target is gone: everything ends, what the agent tells of it too.
    pub fn end(&mut self, samples: &mut Samples, room: &Room) {
        self.fail(samples, room);
        samples.extend(self.own.drain().map(|(_, series)| (series, stale_nan())));
        self.clear(room);
    }

    /// Forgets all that has ended.
    pub fn clear(&mut self, room: &Room) {
        let by_labels = &mut self.by_labels;
        for entry in self.entries.drain().map(|(_, entry)| entry) {
            entry.series.iter().for_each(|series| forget(by_labels, series, room));
        }
        self.texts.clear();
    }

    /// A sample of what the agent tells of the target itself; those need no room.
    pub fn own(
        &mut self,
        name: &'static str,
        help: &str,
        value: f64,
        rules: &Rules,
        room: &Room,
    ) -> Option<(Arc<Series>, f64)> {
        if let Some(series) = self.own.get(name) {
            return Some((Arc::clone(series), value));
        }
        let labels = self.sent_as(&rules.target.with(METRIC_NAME, name));
        let (name_owned, help) = (name.to_owned(), help.to_owned());
        let info =
            FamilyInfo { name: name_owned, help, unit: String::new(), kind: MetricKind::Gauge };
        let id = room.numbers.next()?;
        let series = Arc::new(Series { id, family: Arc::new(info), labels });
        self.own.insert(name, Arc::clone(&series));
        Some((series, value))
    }

    /// Labels as they travel: job and instance under the names of a target's, each text once.
    fn sent_as(&mut self, labels: &Labels) -> Labels {
        let mut sent: Vec<Label> = Vec::with_capacity(labels.len());
        for label in labels {
            let name = match &*label.name {
                "job" => TARGET_JOB,
                "instance" => TARGET_INSTANCE,
                name => name,
            };
            sent.push(Label { name: self.text(name), value: self.text(&label.value) });
        }
        sent.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Labels::from_ordered(sent)
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// What is known of the family that a series of this name belongs to.
    fn info(&mut self, name: &str) -> Arc<FamilyInfo> {
        let kind = |name: &str| self.families.get(name).and_then(|family| family.kind);
        let base = ["_bucket", "_sum", "_count", "_total", "_info", "_gsum", "_gcount"]
            .into_iter()
            .find_map(|suffix| {
                let base = name.strip_suffix(suffix)?;
                let is_part = matches!(
                    (kind(base)?, suffix),
                    (MetricType::Histogram, "_bucket" | "_sum" | "_count")
                        | (MetricType::GaugeHistogram, "_bucket" | "_gsum" | "_gcount")
                        | (MetricType::Summary, "_sum" | "_count")
                        | (MetricType::Counter, "_total")
                        | (MetricType::Info, "_info")
                );
                is_part.then_some(base)
            });
        let family = self.families.get(base.unwrap_or(name));
        let kind = family.and_then(|family| family.kind).map_or(MetricKind::Untyped, Into::into);
        // A counter and an info are called as their series are.
        let called = match (base, kind) {
            (Some(base), MetricKind::Histogram | MetricKind::Summary | MetricKind::Untyped) => base,
            _ => name,
        };
        let (help, unit) = family.map_or(("", ""), |family| (&family.help, &family.unit));
        if let Some(info) = self.infos.get(called)
            && (info.kind, info.help.as_str(), info.unit.as_str()) == (kind, help, unit)
        {
            return Arc::clone(info);
        }
        let (help, unit) = (help.to_owned(), unit.to_owned());
        let info = Arc::new(FamilyInfo { name: called.to_owned(), help, unit, kind });
        self.infos.insert(called.into(), Arc::clone(&info));
        info
    }

    /// A family's word about itself; most often the one it said before.
    fn family(&mut self, name: &str) -> Option<&mut Family> {
        if self.families.len() > ENTRIES_MAX / 10 {
            self.families.clear();
            self.infos.clear();
        }
        if !self.families.contains_key(name) {
            self.families.insert(name.into(), Family::default());
        }
        self.families.get_mut(name)
    }
}

fn forget(by_labels: &mut HashMap<Labels, Arc<Series>>, series: &Arc<Series>, room: &Room) {
    if by_labels.get(&series.labels).is_some_and(|known| known.id == series.id) {
        by_labels.remove(&series.labels);
        room.give_back(1);
    }
}

fn keep(text: &mut String, said: &str) {
    if text != said {
        said.clone_into(text);
    }
}

impl Taking<'_> {
    fn text(&mut self, page: &[u8], format: Format) -> Result<(), PageError> {
        let mut reader = Reader::new(page, format);
        while let Some(line) = reader.next_line()? {
            match line {
                Line::Help { name, text } => {
                    self.book.family(&name).into_iter().for_each(|it| keep(&mut it.help, &text));
                }
                Line::Unit { name, unit } => {
                    self.book.family(&name).into_iter().for_each(|it| keep(&mut it.unit, unit));
                }
                Line::Type { name, kind } => {
                    self.book.family(&name).into_iter().for_each(|it| it.kind = Some(kind));
                }
                Line::Sample(sample) => {
                    self.taken.counts.timed += u64::from(sample.t_ms.is_some());
                    self.taken.counts.skipped += u64::from(sample.exemplar.is_some());
                    let series = sample.series;
                    if !self.known(series.as_str(), sample.value)? {
                        let labels = series.labels().map_err(ReadError::from)?;
                        self.fresh(series.as_str(), labels, sample.value)?;
                    }
                }
                Line::Comment(_) | Line::End => {}
            }
        }
        Ok(())
    }

    fn protobuf(&mut self, page: &[u8]) -> Result<(), PageError> {
        match protobuf::read(page, self) {
            Ok(skipped) => {
                self.taken.counts.skipped += skipped.histograms + skipped.exemplars;
                Ok(())
            }
            Err(StreamError::Stopped(error)) => Err(error),
            Err(other) => Err(PageError::Protobuf(match other {
                StreamError::Malformed(error) => error.to_string(),
                StreamError::NotUtf8 => "a text is not UTF-8".to_owned(),
                StreamError::Nameless => "a name is missing".to_owned(),
                _ => format!("a metric of over {} labels", protobuf::LABELS_MAX),
            })),
        }
    }

    /// Takes a sample whose text is known.
    fn known(&mut self, text: &str, value: f64) -> Result<bool, PageError> {
        self.taken.counts.scraped += 1;
        let Some(entry) = self.book.entries.get_mut(text) else { return Ok(false) };
        if entry.seen == self.book.round {
            self.taken.counts.refused += 1;
            return Ok(true);
        }
        entry.seen = self.book.round;
        let series = entry.series.clone();
        self.push(series, value);
        Ok(true)
    }

    fn push(&mut self, series: Option<Arc<Series>>, value: f64) {
        let Some(series) = series else { return };
        if !self.is_one_more_too_many() {
            // The marker is ours to send.
            let value = if is_stale(value) { f64::NAN } else { value };
            self.taken.samples.push((series, value));
        }
    }

    /// Counts a sample that is kept; whether it is over the limit of its job.
    fn is_one_more_too_many(&mut self) -> bool {
        self.taken.counts.kept += 1;
        let kept = self.taken.counts.kept;
        self.is_over |= self.rules.limits.samples.is_some_and(|limit| kept > limit);
        self.is_over
    }

    /// Takes a sample of a text that is not known.
    fn fresh(&mut self, text: &str, exposed: Labels, value: f64) -> Result<(), PageError> {
        if self.book.entries.len() >= ENTRIES_MAX {
            return Err(PageError::Limit { what: "series of one target", limit: ENTRIES_MAX });
        }
        let name = exposed.metric_name().unwrap_or_default().to_owned();
        let labels = relabel(&self.rules.metric_relabel, self.labelled(exposed));
        let limit = self.rules.limits.samples;
        if labels.is_some() && limit.is_some_and(|limit| self.taken.counts.kept >= limit) {
            self.is_one_more_too_many();
            return Ok(());
        }
        let series = match labels {
            Some(labels) => self.series(&name, &labels)?,
            None => None,
        };
        let entry =
            Entry { series: series.clone(), seen: self.book.round, told: false, was_told: false };
        self.book.entries.insert(text.into(), entry);
        self.push(series, value);
        Ok(())
    }

    /// The exposed labels with the target's.
    fn labelled(&self, exposed: Labels) -> Labels {
        let target = &self.rules.target;
        if self.rules.honor_labels {
            return exposed.with_missing(target);
        }
        let mut labels = exposed.clone();
        for label in target {
            let Some(value) = exposed.get(&label.name) else { continue };
            let mut name = format!("{EXPORTED}{}", label.name);
            while labels.get(&name).is_some() || target.get(&name).is_some() {
                name.insert_str(0, EXPORTED);
            }
            labels = labels.without(&label.name).with(&name, value);
        }
        labels.with_missing(target)
    }

    /// The series of labels; `None` when it cannot be sent.
    fn series(&mut self, name: &str, labels: &Labels) -> Result<Option<Arc<Series>>, PageError> {
        let Limits { labels: count, name_bytes, value_bytes, .. } = self.rules.limits;
        let over = |what, limit: Option<usize>, found: usize| match limit {
            Some(limit) if found > limit => Err(PageError::Limit { what, limit }),
            _ => Ok(()),
        };
        over("labels", count, labels.len())?;
        for label in labels {
            over("bytes of a label's name", name_bytes, label.name.len())?;
            over("bytes of a label's value", value_bytes, label.value.len())?;
        }
        let is_long = |label: &Label| label.name.len().max(label.value.len()) > LABEL_BYTES_MAX;
        let is_nameless = labels.metric_name().is_none();
        if labels.len() > OWN_LABELS_MAX || labels.iter().any(is_long) || is_nameless {
            self.taken.counts.refused += 1;
            return Ok(None);
        }
        let labels = self.book.sent_as(labels);
        if let Some(series) = self.book.by_labels.get(&labels) {
            return Ok(Some(Arc::clone(series)));
        }
        let id = self.room.take().ok_or(PageError::NoRoom(self.room.max))?;
        self.taken.counts.added += 1;
        let family = self.book.info(name);
        let series = Arc::new(Series { id, family, labels: labels.clone() });
        self.book.by_labels.insert(labels, Arc::clone(&series));
        Ok(Some(series))
    }
}

impl protobuf::Visitor for Taking<'_> {
    type Stop = PageError;

    fn family(&mut self, head: &FamilyHead<'_>) -> Result<(), PageError> {
        if let Some(family) = self.book.family(head.name) {
            keep(&mut family.help, head.help);
            keep(&mut family.unit, head.unit);
            family.kind = Some(head.kind);
        }
        Ok(())
    }

    fn sample(&mut self, sample: &MetricSample<'_>) -> Result<(), PageError> {
        self.taken.counts.timed += u64::from(sample.t_ms.is_some());
        // Texts with a NUL in them could share a key with others; such are no exporter's.
        let mut key = std::mem::take(&mut self.book.key);
        key.clear();
        key.push_str(sample.name);
        for (name, value) in sample.labels {
            for text in [name, value] {
                key.push('\u{0}');
                key.push_str(text);
            }
        }
        let taken = match self.known(&key, sample.value) {
            Ok(false) => {
                let name = [(METRIC_NAME, sample.name)];
                let pairs = sample.labels.iter().copied().chain(name);
                match Labels::from_pairs(pairs) {
                    Ok(labels) => self.fresh(&key, labels, sample.value),
                    Err(twice) => Err(PageError::Protobuf(twice.to_string())),
                }
            }
            known => known.map(|_| ()),
        };
        self.book.key = key;
        taken
    }
}

#[cfg(test)]
mod tests;
