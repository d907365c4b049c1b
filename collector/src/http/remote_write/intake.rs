//! A message becomes batches for the store, and a tally of what cannot become one.

use std::sync::Arc;

use stoa_exchange::remote_write::{self, Metadata, RawLabel, Series, Version, Visitor};
use stoa_model::histogram::Histogram;
use stoa_model::{Labels, METRIC_NAME, MetricKind, TimestampMs};
use stoa_proto::convert::LABEL_BYTES_MAX;
use stoa_tsdb::{AppendError, Batch, GroupId, HISTOGRAM_NUMBERS_MAX, HistogramSample, SeriesRef};

use super::answer::Refusal;
use super::rows::{self, Flat};
use super::senders::{Cache, Place, Sender, Unplaced};
use crate::ingest::FUTURE_MAX_MS;
use crate::store::{Store, Stored};

/// Labels that tell scrapes apart: what agrees in these shares its timestamps. Beside target and
/// rule those by which pairs of senders tell their halves.
const GROUP_LABELS: [&str; 6] =
    ["job", "instance", "prometheus", "prometheus_replica", "replica", "__replica__"];

/// The longest first complaint repeated to a sender, in bytes.
const COMPLAINT_BYTES_MAX: usize = 200;

/// What became of what a request held.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// What the store did.
    pub(super) done: Stored,
    /// Samples too far in the future.
    pub(super) ahead: u64,
    /// Samples of series whose labels break the rules.
    pub(super) labels: u64,
    /// Samples of series over a limit.
    pub(super) limit: u64,
    /// Native histograms that are none, or too large.
    pub(super) histograms: u64,
    /// Of what the store did, native histograms that are in it now.
    pub(super) histograms_written: u64,
    /// Exemplars; none is kept, which is nobody's fault.
    pub(super) exemplars: u64,
    /// What the first series refused was refused for.
    first: Option<String>,
}

impl Tally {
    pub(super) fn stored(&mut self, done: Stored) {
        self.done.stored += done.stored;
        self.done.duplicate += done.duplicate;
        self.done.conflicting += done.conflicting;
        self.done.too_old += done.too_old;
    }

    /// A batch the store refuses as a whole.
    pub(super) fn unstorable(&mut self, samples: u64, error: &AppendError) {
        self.limit += samples;
        self.say(|| error.to_string());
    }

    /// What the store did with a batch of native histograms.
    pub(super) fn stored_histograms(&mut self, done: Stored) {
        self.histograms_written += done.stored + done.duplicate;
        self.stored(done);
    }

    /// Samples and histograms that are in the store now, those that were there before included.
    pub(super) fn written(&self) -> u64 {
        self.done.stored + self.done.duplicate
    }

    /// What the sender is told when something was refused.
    pub(super) fn complaint(&self) -> Option<String> {
        let Stored { conflicting, too_old, .. } = self.done;
        let parts = [
            (conflicting, "samples for times that have another value"),
            (too_old, "samples too old"),
            (self.ahead, "samples too far in the future"),
            (self.labels, "samples with bad labels"),
            (self.limit, "samples of series over a limit"),
            (self.histograms, "native histograms that are not valid or too large"),
        ];
        let refused: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if refused.is_empty() {
            return None;
        }
        let first = self.first.as_ref().map(|first| format!(" (first: {first})"));
        let first = first.unwrap_or_default();
        Some(format!("stored {}, refused {}{first}", self.written(), refused.join(", ")))
    }

    fn say(&mut self, why: impl FnOnce() -> String) {
        self.first.get_or_insert_with(|| {
            let mut text = why();
            text.truncate(text.floor_char_boundary(COMPLAINT_BYTES_MAX));
            text
        });
    }
}

/// What a message gives.
pub(super) struct Taken {
    pub(super) batches: Vec<Batch>,
    pub(super) histograms: Vec<(GroupId, Vec<HistogramSample>)>,
    pub(super) tally: Tally,
}

/// Walks a message; blocks on the store's locks for series that are new.
pub(super) fn take(
    store: &Store,
    sender: &Arc<Sender>,
    version: Version,
    message: &[u8],
    now_ms: TimestampMs,
) -> Result<Taken, Refusal> {
    let mut cache = sender.cache();
    cache.begin(now_ms);
    let mut intake = Intake {
        store,
        sender: &sender.name,
        cache: &mut cache,
        horizon_ms: now_ms.saturating_add(FUTURE_MAX_MS),
        version,
        is_new: false,
        samples: Vec::new(),
        histograms: Vec::new(),
        tally: Tally::default(),
    };
    remote_write::read(version, message, &mut intake)
        .map_err(|error| Refusal::Bad(error.to_string()))?;
    let Intake { samples, histograms, mut tally, .. } = intake;
    drop(cache);
    let (batches, same) = rows::batches(samples);
    tally.stored(same);
    let histograms = rows::histogram_batches(histograms);
    Ok(Taken { batches, histograms, tally })
}

struct Intake<'s> {
    store: &'s Store,
    sender: &'s str,
    cache: &'s mut Cache,
    /// The latest time taken.
    horizon_ms: TimestampMs,
    version: Version,
    /// Whether the last series came for the first time.
    is_new: bool,
    samples: Vec<Flat>,
    histograms: Vec<(GroupId, HistogramSample)>,
    tally: Tally,
}

impl Visitor for Intake<'_> {
    fn series(&mut self, series: &Series<'_>) {
        self.tally.exemplars += series.exemplars;
        self.is_new = false;
        let count = (series.samples.len() + series.histograms.len()) as u64;
        let labels = match series.labels {
            Ok(labels) => labels,
            Err(fault) => {
                self.tally.labels += count;
                self.tally.say(|| fault.to_string());
                return;
            }
        };
        if count == 0 {
            return;
        }
        let (store, sender) = (self.store, self.sender);
        let mut is_new = false;
        let place = self.cache.place(labels, || {
            is_new = true;
            let labels = checked(labels).map_err(Unplaced::Labels)?;
            let group = group_of(sender, &labels);
            let series = store
                .resolve(group, &labels)
                .map_err(|error| Unplaced::Limit(stoa_daemon::error_chain(&error)))?;
            Ok(Place { group, series })
        });
        self.is_new = is_new;
        match place {
            Ok(Place { group, series: reference }) => {
                for (t_ms, value) in series.samples {
                    if *t_ms > self.horizon_ms {
                        self.tally.ahead += 1;
                        continue;
                    }
                    self.samples.push(Flat {
                        group,
                        t_ms: *t_ms,
                        series: reference,
                        value: *value,
                    });
                }
                for (t_ms, histogram) in series.histograms {
                    self.histogram(group, reference, *t_ms, histogram);
                }
            }
            Err(Unplaced::Labels(why)) => {
                self.tally.labels += count;
                self.tally.say(|| why);
            }
            Err(Unplaced::Limit(why)) => {
                self.tally.limit += count;
                self.tally.say(|| why);
            }
        }
    }

    fn metadata(&mut self, said: &Metadata<'_>) {
        // Version 1 says it now and then; version 2 with every series, of which the first will do.
        if self.version == Version::Two && !self.is_new {
            return;
        }
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let name = family(text(said.name), said.kind);
        if !name.is_empty() {
            self.store.metadata().describe(name, said.kind, text(said.help), text(said.unit));
        }
    }
}

impl Intake<'_> {
    fn histogram(
        &mut self,
        group: GroupId,
        series: SeriesRef,
        t_ms: TimestampMs,
        histogram: &Histogram,
    ) {
        if t_ms > self.horizon_ms {
            self.tally.ahead += 1;
            return;
        }
        let sample = HistogramSample { t_ms, series, histogram: Arc::new(histogram.clone()) };
        if sample.is_storable() {
            self.histograms.push((group, sample));
        } else {
            self.tally.histograms += 1;
            self.tally.say(|| match sample.histogram.validate() {
                Err(error) => error.to_string(),
                Ok(()) => format!("{} buckets, over {HISTOGRAM_NUMBERS_MAX}", sample.numbers()),
            });
        }
    }
}

/// The family's name by the name of one of its series.
fn family(name: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram => &["_bucket", "_count", "_sum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// The labels as a set, if they keep the rules.
fn checked(raw: &[RawLabel<'_>]) -> Result<Labels, String> {
    let mut pairs = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return Err(format!("label {:?} is not UTF-8", String::from_utf8_lossy(name)));
        };
        if name.is_empty() {
            return Err("a label has no name".to_owned());
        }
        let bytes = name.len().max(value.len());
        if bytes > LABEL_BYTES_MAX {
            let name = name.get(..name.floor_char_boundary(64)).unwrap_or_default();
            return Err(format!("label {name:?} has {bytes} bytes, over {LABEL_BYTES_MAX}"));
        }
        pairs.push((name, value));
    }
    let labels = Labels::from_pairs(pairs).map_err(|error| error.to_string())?;
    if labels.get(METRIC_NAME).is_none() {
        return Err(format!("{labels} has no metric name"));
    }
    Ok(labels)
}

/// Which group a series belongs to: FNV-1a of the sender and what tells its scrapes apart, so that
/// it is the same after any restart. Begins unlike [`crate::ingest::group_of`]'s, which are hosts.
fn group_of(sender: &str, labels: &Labels) -> GroupId {
    let texts = GROUP_LABELS.iter().map(|name| labels.get(name).unwrap_or_default());
    let texts = ["remote write", sender].into_iter().chain(texts);
    let bytes = texts.flat_map(|text| text.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    GroupId(hash)
}
