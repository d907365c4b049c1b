//! Samples of the log as messages of remote write.

use std::sync::Arc;

use bytes::Bytes;
use stoa_exchange::remote_write::{self, Version, Visitor, Writer};
use stoa_model::{Labels, METRIC_NAME};
use stoa_tsdb::FollowedSeries;

use crate::store::{Description, Metadata};

/// Metrics described by one message of version 1.
const DESCRIBED_MAX: usize = 2000;

/// The ends of the names of series that stand under their family's name.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// One request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Compressed.
    pub(super) body: Bytes,
    pub(super) samples: u64,
    /// Of OTLP, how many points.
    pub(super) points: u64,
}

/// The samples in their order, at most `samples_max` in a message.
pub(super) fn messages(
    version: Version,
    series: &[FollowedSeries],
    samples_max: usize,
    metadata: &Metadata,
) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut writer = Writer::new(version);
    let mut held = 0;
    let room = |held: usize, left: usize| left.min(samples_max.max(1) - held);
    for FollowedSeries { labels, samples, histograms } in series {
        let pairs: Vec<(&str, &str)> =
            labels.iter().map(|label| (&*label.name, &*label.value)).collect();
        let said = (version == Version::Two).then(|| described(metadata, labels)).flatten();
        let said = said.as_ref().map(|d| (d.kind, &*d.help, &*d.unit));
        let mut rest = samples.as_slice();
        let mut rest_of_histograms = histograms.as_slice();
        while !rest.is_empty() || !rest_of_histograms.is_empty() {
            let (now, later) = rest.split_at(room(held, rest.len()));
            if !now.is_empty() {
                writer.described(&pairs, now, said);
            }
            held += now.len();
            rest = later;
            let (now, later) = rest_of_histograms.split_at(room(held, rest_of_histograms.len()));
            if !now.is_empty() {
                let now: Vec<_> = now.iter().map(|(t, histogram)| (*t, &**histogram)).collect();
                writer.histograms(&pairs, &now);
            }
            held += now.len();
            rest_of_histograms = later;
            if held >= samples_max {
                messages.push(finish(std::mem::replace(&mut writer, Writer::new(version)), held));
                held = 0;
            }
        }
    }
    if held > 0 {
        messages.push(finish(writer, held));
    }
    messages
}

/// What is known about metrics, as messages of version 1.
pub(super) fn descriptions(metadata: &Metadata) -> Vec<Message> {
    let all = metadata.all();
    let part = |part: &[(Arc<str>, Description)]| {
        let mut writer = Writer::new(Version::One);
        for (name, Description { kind, help, unit }) in part {
            writer.metadata(name, *kind, help, unit);
        }
        finish(writer, 0)
    };
    all.chunks(DESCRIBED_MAX).map(part).collect()
}

/// A message as two, each of half its samples; `None` when there are not two samples in it.
pub(super) fn halves(
    version: Version,
    message: &Message,
    metadata: &Metadata,
) -> Option<Vec<Message>> {
    let half = usize::try_from(message.samples).ok()?.div_ceil(2);
    let text = snap::raw::Decoder::new().decompress_vec(&message.body).ok()?;
    let mut held = Held::default();
    remote_write::read(version, &text, &mut held).ok()?;
    (message.samples > 1).then(|| messages(version, &held.0, half, metadata))
}

/// What a message of ours holds.
#[derive(Default)]
struct Held(Vec<FollowedSeries>);

impl Visitor for Held {
    fn series(&mut self, series: &remote_write::Series<'_>) {
        let pairs = series.labels.iter().flat_map(|labels| labels.iter());
        let pairs = pairs.map(|(name, value)| {
            (
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            )
        });
        // Both hold: the message was made of labels.
        let Ok(labels) = Labels::from_pairs(pairs) else { return };
        let histograms = series.histograms.iter().map(|(t, found)| (*t, Arc::new(found.clone())));
        let samples = series.samples.to_vec();
        self.0.push(FollowedSeries { labels, samples, histograms: histograms.collect() });
    }

    /// Said anew with the halves.
    fn metadata(&mut self, _metadata: &remote_write::Metadata<'_>) {}
}

fn described(metadata: &Metadata, labels: &Labels) -> Option<Description> {
    let name = labels.get(METRIC_NAME)?;
    metadata.get(name).or_else(|| {
        let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        metadata.get(family)
    })
}

fn finish(writer: Writer, samples: usize) -> Message {
    let message = writer.finish();
    // Fails only beyond 4 GiB, which no message comes near.
    let body = snap::raw::Encoder::new().compress_vec(&message).unwrap_or_default();
    Message { body: body.into(), samples: samples as u64, points: 0 }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stoa_exchange::remote_write::Series;
    use stoa_model::MetricKind;
    use stoa_model::histogram::Histogram;
    use stoa_wal::disk::SimDisk;

    use super::*;

    #[derive(Default)]
    struct Seen(Vec<(String, Vec<(i64, f64)>)>, Vec<(String, MetricKind)>, Vec<i64>);

    impl Visitor for Seen {
        fn series(&mut self, series: &Series<'_>) {
            let (_, name) = series.labels.unwrap()[0];
            self.0.push((String::from_utf8(name.to_vec()).unwrap(), series.samples.to_vec()));
            self.2.extend(series.histograms.iter().map(|(t, _)| *t));
        }
        fn metadata(&mut self, metadata: &remote_write::Metadata<'_>) {
            self.1.push((String::from_utf8(metadata.name.to_vec()).unwrap(), metadata.kind));
        }
    }

    fn seen(version: Version, message: &Message) -> Seen {
        let text = snap::raw::Decoder::new().decompress_vec(&message.body).unwrap();
        let mut seen = Seen::default();
        remote_write::read(version, &text, &mut seen).unwrap();
        seen
    }

    #[test]
    fn messages_hold_so_many_samples_in_their_order_and_say_what_is_known() {
        let metadata = Metadata::open(Arc::new(SimDisk::new(1)), Path::new("/data"));
        metadata.describe("b", MetricKind::Histogram, "help", "");
        let series = |name: &str, from: i64, n: i64| FollowedSeries {
            labels: Labels::from_pairs([(METRIC_NAME, name)]).unwrap(),
            samples: (from..from + n).map(|t| (t, t as f64)).collect(),
            histograms: Vec::new(),
        };
        let list = [series("a", 0, 3), series("b_sum", 10, 6), series("c", 20, 1)];
        for version in [Version::One, Version::Two] {
            let found = messages(version, &list, 4, &metadata);
            assert_eq!(found.iter().map(|m| m.samples).collect::<Vec<_>>(), [4, 4, 2]);
            let seen: Vec<Seen> = found.iter().map(|message| seen(version, message)).collect();
            let names = |seen: &Seen| seen.0.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
            assert_eq!(names(&seen[0]), ["a", "b_sum"]);
            assert_eq!(names(&seen[1]), ["b_sum"]);
            assert_eq!(names(&seen[2]), ["b_sum", "c"]);
            let of_b = seen.iter().flat_map(|s| &s.0).filter(|(name, _)| name == "b_sum");
            let of_b: Vec<(i64, f64)> = of_b.flat_map(|(_, samples)| samples.clone()).collect();
            assert_eq!(of_b, list[1].samples);
            let said = usize::from(version == Version::Two);
            assert_eq!(seen[0].1.len(), said, "{:?}", seen[0].1);
        }
        assert_eq!(messages(Version::One, &[], 4, &metadata), []);
        let mut both = series("d", 0, 3);
        let at = |t| (t, Arc::new(Histogram::stale()));
        both.histograms = (10..16).map(at).collect();
        for version in [Version::One, Version::Two] {
            let found = messages(version, std::slice::from_ref(&both), 4, &metadata);
            assert_eq!(found.iter().map(|m| m.samples).collect::<Vec<_>>(), [4, 4, 1]);
            let times = found.iter().flat_map(|message| seen(version, message).2);
            assert_eq!(times.collect::<Vec<_>>(), (10..16).collect::<Vec<_>>());
            let whole = messages(version, std::slice::from_ref(&both), 100, &metadata);
            let split = halves(version, &whole[0], &metadata).unwrap();
            assert_eq!(split.iter().map(|m| m.samples).collect::<Vec<_>>(), [5, 4]);
            let of_both: Vec<Seen> = split.iter().map(|half| seen(version, half)).collect();
            assert_eq!(of_both[0].0[0], ("d".to_owned(), both.samples.clone()));
            let times = of_both.iter().flat_map(|half| half.2.clone());
            assert_eq!(times.collect::<Vec<_>>(), (10..16).collect::<Vec<_>>());
            let one = messages(version, &[series("e", 0, 1)], 4, &metadata);
            assert_eq!(halves(version, &one[0], &metadata), None);
        }
        let said = descriptions(&metadata);
        assert_eq!(seen(Version::One, &said[0]).1, [("b".to_owned(), MetricKind::Histogram)]);
    }
}
