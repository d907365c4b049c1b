//! What becomes of each kind of point.

use stoa_model::histogram::Histogram;
use stoa_model::{METRIC_NAME, TimestampMs};

use super::{Refused, SampleExemplar, Sink, milliseconds};
use crate::otlp::labels::Pair;
use crate::otlp::{Exemplar, Explicit, Summary};

/// Bytes of the name of a bucket's or quantile's label, and of the largest bound's value.
const EXTRA_BYTES: usize = "quantile".len() + "+Inf".len();

/// Longest number without an exponent: the smallest has 17 digits after 323 zeroes.
const NUMBER_BYTES_MAX: usize = 350;

type Labels<'a> = [Pair<'a>];

/// The sink, and what it may still be handed.
pub(super) struct Out<'s> {
    pub(super) sink: &'s mut dyn Sink,
    pub(super) samples_left: usize,
    /// Of labels.
    pub(super) bytes_left: usize,
    /// Nothing is handed over now, it is only asked whether all has a place: whether all had so far.
    pub(super) placed: Option<bool>,
    /// From when on what is handed over counts, if that is to be said.
    pub(super) start_ms: Option<TimestampMs>,
}

impl Out<'_> {
    /// Whether all that `make` hands over has a place. Nothing of it counts as handed over.
    pub(super) fn places(
        &mut self,
        make: impl FnOnce(&mut Self) -> Result<(), Refused>,
    ) -> Result<bool, Refused> {
        let left = (self.samples_left, self.bytes_left);
        self.placed = Some(true);
        let made = make(self);
        let placed = self.placed.take().unwrap_or(true);
        (self.samples_left, self.bytes_left) = left;
        made.map(|()| placed)
    }

    pub(super) fn sample(
        &mut self,
        labels: &Labels<'_>,
        name: &str,
        extra: Option<(&str, &str)>,
        t_ms: TimestampMs,
        value: f64,
    ) -> Result<(), Refused> {
        let labels = self.whole(labels, name, extra)?;
        match &mut self.placed {
            Some(all) => *all &= self.sink.place(&labels),
            None => {
                // What a quantile was at first is not known.
                let counts = extra.is_none_or(|(name, _)| name != "quantile");
                if let Some(start_ms) = self.start_ms.filter(|_| counts) {
                    self.sink.starts(start_ms);
                }
                self.sink.sample(&labels, t_ms, value);
            }
        }
        Ok(())
    }

    pub(super) fn histogram(
        &mut self,
        labels: &Labels<'_>,
        name: &str,
        t_ms: TimestampMs,
        histogram: Histogram,
    ) -> Result<(), Refused> {
        let labels = self.whole(labels, name, None)?;
        match &mut self.placed {
            Some(all) => *all &= self.sink.place(&labels),
            None => {
                if let Some(start_ms) = self.start_ms {
                    self.sink.starts(start_ms);
                }
                self.sink.histogram(&labels, t_ms, histogram);
            }
        }
        Ok(())
    }

    /// The exemplars of a series. They may come in any order, and are kept in that of time.
    pub(super) fn exemplars(
        &mut self,
        labels: &Labels<'_>,
        name: &str,
        extra: Option<(&str, &str)>,
        t_ms: TimestampMs,
        exemplars: Vec<&Exemplar<'_>>,
    ) {
        let all = exemplars.len();
        let of = |exemplar: &'_ Exemplar<'_>| {
            let said = exemplar.time_ns > 0;
            let t_ms = if said { milliseconds(exemplar.time_ns) } else { t_ms };
            exemplar.value.map(|value| (t_ms, value))
        };
        let mut taken: Vec<SampleExemplar<'_>> = exemplars
            .into_iter()
            .filter_map(|one| of(one).map(|(t_ms, value)| (one, t_ms, value)))
            .map(|(one, t_ms, value)| SampleExemplar { labels: one.labels(), t_ms, value })
            .collect();
        taken.sort_by(|a, b| a.t_ms.cmp(&b.t_ms).then(a.value.total_cmp(&b.value)));
        let Ok(series) = self.whole(labels, name, extra) else {
            return self.sink.exemplars_left_out(all as u64);
        };
        if !taken.is_empty() {
            self.sink.exemplars(&series, &taken);
        }
        if taken.len() < all {
            self.sink.exemplars_left_out((all - taken.len()) as u64);
        }
    }

    /// The exemplars of a histogram, each of the first bucket that its value counts in.
    pub(super) fn exemplars_of_buckets(
        &mut self,
        labels: &Labels<'_>,
        name: &str,
        t_ms: TimestampMs,
        histogram: Explicit<'_>,
        exemplars: &[Exemplar<'_>],
    ) {
        let Explicit { bounds, counts, .. } = histogram;
        let mut bounds = bounds.get(..bounds.len().min(counts.len())).unwrap_or_default().to_vec();
        bounds.sort_unstable_by(f64::total_cmp);
        let bucket = |exemplar: &Exemplar<'_>| {
            let value = exemplar.value.filter(|value| !value.is_nan())?;
            let at = bounds.partition_point(|bound| *bound < value);
            Some(bounds.get(at).copied().unwrap_or(f64::INFINITY))
        };
        let mut placed: Vec<(f64, &Exemplar<'_>)> =
            exemplars.iter().filter_map(|one| Some((bucket(one)?, one))).collect();
        if placed.len() < exemplars.len() {
            self.sink.exemplars_left_out((exemplars.len() - placed.len()) as u64);
        }
        placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let name = format!("{name}_bucket");
        for own in placed.chunk_by(|(a, _), (b, _)| a.total_cmp(b).is_eq()) {
            let Some((bound, _)) = own.first() else { continue };
            let le = ("le", &*plain(*bound));
            let own = own.iter().map(|(_, exemplar)| *exemplar).collect();
            self.exemplars(labels, &name, Some(le), t_ms, own);
        }
    }

    /// The labels with the metric's name and one more, which stand over others of their names.
    fn whole<'a>(
        &mut self,
        labels: &'a Labels<'_>,
        name: &'a str,
        extra: Option<(&'a str, &'a str)>,
    ) -> Result<Vec<(&'a str, &'a str)>, Refused> {
        let added = [Some((METRIC_NAME, name)), extra].into_iter().flatten();
        let is_added =
            |name: &str| name == METRIC_NAME || extra.is_some_and(|(added, _)| added == name);
        let own = labels.iter().filter(|(name, _)| !is_added(name));
        let mut whole: Vec<_> = own.map(|(name, value)| (&**name, &**value)).chain(added).collect();
        whole.sort_unstable();
        let bytes = whole.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.samples_left = self.samples_left.checked_sub(1).ok_or(Refused::TooLarge)?;
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Refused::TooLarge)?;
        Ok(whole)
    }

    /// Whether all samples of a point fit, which are handed over all or none: a histogram without its
    /// last bucket is none. Each has a name of at most so many bytes; `numbers` are those that become
    /// labels.
    fn check(
        &self,
        labels: &Labels<'_>,
        name_bytes: usize,
        numbers: impl ExactSizeIterator<Item = f64>,
    ) -> Result<(), Refused> {
        let own: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let each = own + METRIC_NAME.len() + name_bytes + EXTRA_BYTES;
        // Sum, count and the last bucket.
        let samples = numbers.len() + 3;
        let mut fits = samples <= self.samples_left;
        if samples.saturating_mul(each + NUMBER_BYTES_MAX) > self.bytes_left {
            let digits: usize = numbers.map(|number| plain(number).len()).sum();
            fits &= samples.saturating_mul(each).saturating_add(digits) <= self.bytes_left;
        }
        if fits { Ok(()) } else { Err(Refused::TooLarge) }
    }

    /// Buckets become cumulative. The last one is the count, whatever the buckets say.
    pub(super) fn explicit(
        &mut self,
        labels: &Labels<'_>,
        name: &str,
        t_ms: TimestampMs,
        histogram: Explicit<'_>,
        value: impl Fn(f64) -> f64,
    ) -> Result<(), Refused> {
        let Explicit { count, sum, bounds, counts } = histogram;
        let buckets = bounds.get(..bounds.len().min(counts.len())).unwrap_or_default();
        self.check(labels, name.len() + "_bucket".len(), buckets.iter().copied())?;
        if let Some(sum) = sum {
            self.sample(labels, &format!("{name}_sum"), None, t_ms, value(sum))?;
        }
        let all = value(count as f64);
        self.sample(labels, &format!("{name}_count"), None, t_ms, all)?;
        let name = format!("{name}_bucket");
        let mut below = 0_u64;
        for (bound, count) in bounds.iter().zip(counts) {
            below = below.saturating_add(*count);
            if *bound != f64::INFINITY {
                let le = ("le", &*plain(*bound));
                self.sample(labels, &name, Some(le), t_ms, value(below as f64))?;
            }
        }
        self.sample(labels, &name, Some(("le", "+Inf")), t_ms, all)
    }

    pub(super) fn summary(
        &mut self,
        labels: &Labels<'_>,
        name: &str,
        t_ms: TimestampMs,
        summary: Summary<'_>,
        value: impl Fn(f64) -> f64,
    ) -> Result<(), Refused> {
        let Summary { count, sum, quantiles } = summary;
        let said = quantiles.iter().map(|(quantile, _)| *quantile);
        self.check(labels, name.len() + "_count".len(), said)?;
        self.sample(labels, &format!("{name}_sum"), None, t_ms, value(sum))?;
        self.sample(labels, &format!("{name}_count"), None, t_ms, value(count as f64))?;
        for (quantile, of) in quantiles {
            let quantile = ("quantile", &*plain(*quantile));
            self.sample(labels, name, Some(quantile), t_ms, value(*of))?;
        }
        Ok(())
    }
}

/// All digits and no exponent, as Prometheus writes bounds that came by OTLP.
fn plain(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}
