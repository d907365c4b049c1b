use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use stoa_model::histogram::{BucketCounts, Counts, Histogram, Span};
use stoa_model::stale_nan;
use stoa_wal::disk::SimDisk;

use super::*;

fn metadata() -> Metadata {
    let metadata = Metadata::open(Arc::new(SimDisk::new(1)), Path::new("/data"));
    for (name, kind, unit) in [
        ("io_bytes_total", MetricKind::Counter, "bytes"),
        ("temp", MetricKind::Gauge, "celsius"),
        ("req_seconds", MetricKind::Histogram, "seconds"),
        ("rpc", MetricKind::Summary, ""),
    ] {
        metadata.describe(name, kind, &format!("What {name} is."), unit);
    }
    metadata
}

/// A series of `name|label=value|…` with these values, a second apart.
fn series(text: &str, values: &[f64]) -> FollowedSeries {
    let (name, labels) = text.split_once('|').unwrap_or((text, ""));
    let pairs = labels.split('|').filter_map(|pair| pair.split_once('='));
    let labels = Labels::from_pairs([(METRIC_NAME, name)].into_iter().chain(pairs)).unwrap();
    let samples = (1..).zip(values).map(|(t, value)| (t * 1000, *value)).collect();
    FollowedSeries { labels, samples, histograms: Vec::new() }
}

/// What a message says, a line each point.
#[derive(Default)]
struct Lines {
    text: String,
    resource: String,
    metric: String,
}

impl Visitor for Lines {
    fn resource(&mut self, resource: &Resource<'_>) {
        self.resource = attributes(resource.attributes.unwrap());
    }
    fn scope(&mut self, scope: &Scope<'_>) {
        assert_eq!(scope.name, "stoa");
    }
    fn metric(&mut self, metric: &Metric<'_>) {
        let Metric { name, unit, kind, monotonic, .. } = metric;
        let grows = if *monotonic { "+" } else { "" };
        self.metric = format!("{name} {kind:?}{grows} {unit}");
    }
    fn point(&mut self, point: &Point<'_>) {
        let Self { text, resource, metric } = self;
        let measure = match point.measure {
            Measure::Double(value) => value.to_string(),
            Measure::Absent => "-".to_owned(),
            Measure::Histogram(Explicit { count, sum, bounds, counts }) => {
                format!("{count} {sum:?} {bounds:?} {counts:?}")
            }
            Measure::Summary(Summary { count, sum, quantiles }) => {
                format!("{count} {sum} {quantiles:?}")
            }
            other => format!("{other:?}"),
        };
        let ended = if point.ended { " ended" } else { "" };
        let labels = attributes(point.attributes.unwrap());
        let t_s = point.time_ns / 1_000_000_000;
        writeln!(text, "{resource}: {metric} {{{labels}}} {measure}@{t_s}{ended}").unwrap();
    }
}

fn attributes(attributes: &[Attribute<'_>]) -> String {
    let pairs = attributes.iter().map(|Attribute { key, value }| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

fn lines(message: &Message) -> String {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*message.body).read_to_end(&mut text).unwrap();
    let mut lines = Lines::default();
    otlp::read(Form::Protobuf, &text, &mut lines).unwrap();
    assert_eq!(lines.text.lines().count() as u64, message.points);
    lines.text
}

/// What is read while much more is in the log.
fn at_once(series: &[FollowedSeries], samples_max: usize) -> Written {
    let read = Read { series, end: Cursor::default(), newest_t: Some(TimestampMs::MAX) };
    written(&mut Waiting::default(), &read, samples_max, &metadata(), Instant::now())
}

/// The lines of one message.
#[track_caller]
fn check(list: &[FollowedSeries], expected: &str) {
    let Written { messages, left_out, .. } = at_once(list, 1000);
    let samples: usize = list.iter().map(|one| one.samples.len() + one.histograms.len()).sum();
    assert_eq!(messages[0].samples + left_out, samples as u64);
    let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(lines(&messages[0]), expected);
}

#[test]
fn numbers_are_sums_and_gauges_of_their_resource() {
    check(
        &[
            series("temp|job=node|instance=pve1|chip=a", &[36.5, stale_nan()]),
            series("io_bytes_total|job=node|instance=pve1", &[7.0]),
            series("seen_total", &[1.0]),
            series("up|job=node|instance=pve1", &[1.0]),
        ],
        ": seen_total Sum+  {} 1@1
         service.name=node,service.instance.id=pve1: io_bytes_total Sum+ bytes {} 7@1
         service.name=node,service.instance.id=pve1: temp Gauge  {chip=a} 36.5@1
         service.name=node,service.instance.id=pve1: temp Gauge  {chip=a} -@2 ended
         service.name=node,service.instance.id=pve1: up Gauge  {} 1@1",
    );
}

#[test]
fn parts_of_a_histogram_or_summary_are_one_point() {
    let stale = stale_nan();
    check(
        &[
            series("req_seconds_bucket|le=+Inf|path=/", &[6.0, stale]),
            series("req_seconds_bucket|le=1.0|path=/", &[1.0, stale]),
            series("req_seconds_bucket|le=2.5|path=/", &[4.0, stale]),
            series("req_seconds_count|path=/", &[6.0, stale]),
            series("req_seconds_sum|path=/", &[7.5, stale]),
            // Nothing is known of it but its buckets.
            series("lat_bucket|le=+Inf", &[3.0]),
            series("lat_bucket|le=1", &[3.0]),
            series("lat_sum", &[1.5]),
            series("rpc|quantile=0.5", &[0.25]),
            series("rpc_sum", &[1.0]),
            series("rpc_count", &[4.0]),
        ],
        ": lat Histogram  {} 3 Some(1.5) [1.0] [3, 0]@1
         : req_seconds Histogram seconds {path=/} 6 Some(7.5) [1.0, 2.5] [1, 3, 2]@1
         : req_seconds Histogram seconds {path=/} 0 None [1.0, 2.5] [0, 0, 0]@2 ended
         : rpc Summary  {} 4 1 [(0.5, 0.25)]@1",
    );
}

#[test]
fn what_is_no_point_goes_as_it_is() {
    check(
        &[
            // Without its last bucket, not whole, not growing.
            series("req_seconds_bucket|le=1|path=/a", &[1.0]),
            series("req_seconds_bucket|le=+Inf|path=/b", &[1.5]),
            series("req_seconds_bucket|le=+Inf|path=/c", &[1.0]),
            series("req_seconds_bucket|le=1|path=/c", &[2.0]),
            series("rpc_count", &[4.0]),
        ],
        ": req_seconds_bucket Gauge  {le=+Inf,path=/b} 1.5@1
         : req_seconds_bucket Gauge  {le=+Inf,path=/c} 1@1
         : req_seconds_bucket Gauge  {le=1,path=/a} 1@1
         : req_seconds_bucket Gauge  {le=1,path=/c} 2@1
         : rpc_count Gauge  {} 4@1",
    );
}

#[test]
fn native_histograms_are_exponential_or_have_bounds() {
    let counts = BucketCounts { count: 3, zero_count: 0, positive: vec![1, 2], negative: vec![] };
    let spans = vec![Span { offset: 0, length: 2 }];
    let with = |counts, sum| Histogram { counts, sum, ..Histogram::stale() };
    let mut exponential = with(Counts::Integer(counts), 1.5);
    exponential.positive_spans = spans;
    let custom = Histogram {
        schema: stoa_model::histogram::CUSTOM_BUCKETS_SCHEMA,
        custom_values: vec![0.5],
        ..exponential.clone()
    };
    let floats = with(Counts::Float(BucketCounts::default()), 0.0);
    let mut one = series("h", &[]);
    let list = [exponential, custom, floats, Histogram::stale()];
    one.histograms = (1..).zip(list).map(|(t, found)| (t * 1000, Arc::new(found))).collect();
    check(
        &[one],
        ": h Histogram  {} 3 Some(1.5) [0.5] [1, 2]@2
         : h ExponentialHistogram  {} Exponential(Exponential { scale: 0, count: 3, sum: Some(1.5), zero_count: 0, zero_threshold: 0.0, positive: Buckets { offset: -1, counts: [1, 2] }, negative: Buckets { offset: 0, counts: [] } })@1
         : h ExponentialHistogram  {} Exponential(Exponential { scale: 0, count: 0, sum: None, zero_count: 0, zero_threshold: 0.0, positive: Buckets { offset: 0, counts: [] }, negative: Buckets { offset: 0, counts: [] } })@4 ended",
    );
}

#[test]
fn messages_hold_so_many_samples_and_can_be_halved() {
    let list: Vec<FollowedSeries> =
        ["a", "b", "c"].map(|name| series(name, &[1.0, 2.0, 3.0])).into();
    let Written { messages, left_out, .. } = at_once(&list, 4);
    assert_eq!(left_out, 0);
    assert_eq!(messages.iter().map(|m| m.samples).collect::<Vec<_>>(), [4, 4, 1]);
    let all: String = messages.iter().map(lines).collect();
    let halved: Vec<Message> = messages.iter().filter_map(halves).flatten().collect();
    assert_eq!(halved.iter().map(|m| m.samples).collect::<Vec<_>>(), [2, 2, 2, 2]);
    let last = lines(&messages[2]);
    assert_eq!(halved.iter().map(lines).collect::<String>() + &last, all);
    assert!(halves(&messages[2]).is_none(), "one point");
    // A histogram is not cut.
    let buckets: Vec<FollowedSeries> =
        (0..9).map(|le| series(&format!("x_bucket|le={le}"), &[1.0])).collect();
    let inf = series("x_bucket|le=+Inf", &[1.0]);
    let messages = at_once(&[buckets, vec![inf]].concat(), 4).messages;
    assert_eq!(messages.iter().map(|m| (m.samples, m.points)).collect::<Vec<_>>(), [(10, 1)]);
}

/// A cursor at a place of its own.
fn end(number: u32) -> Cursor {
    let mut cursor = Cursor::default();
    cursor.position.offset = number.into();
    cursor
}

#[test]
fn parts_that_came_apart_wait_for_each_other() {
    let (mut waiting, metadata, begun) = (Waiting::default(), metadata(), Instant::now());
    // Of the n-th second.
    let part = |text: &str, t: usize, value: f64| {
        let mut one = series(text, &vec![value; t]);
        one.samples.drain(..t - 1);
        one
    };
    let first = |t| vec![part("req_seconds_bucket|le=1", t, 1.0), part("req_seconds_sum", t, 7.5)];
    let rest =
        |t| vec![part("req_seconds_bucket|le=+Inf", t, 6.0), part("req_seconds_count", t, 6.0)];
    let whole =
        |t: u64| format!(": req_seconds Histogram seconds {{}} 6 Some(7.5) [1.0] [1, 5]@{t}\n");
    let mut number = 0;
    let mut read = |series: Vec<FollowedSeries>, after_s: u64, newest_t: Option<i64>| {
        number += 1;
        let read = Read { series: &series, end: end(number), newest_t };
        let now = begun + std::time::Duration::from_secs(after_s);
        let written = written(&mut waiting, &read, 1000, &metadata, now);
        let text: String = written.messages.iter().map(lines).collect();
        (text, written.apart, written.cursor)
    };
    let nothing = |cursor| (String::new(), 0, cursor);
    // Of a stream that is new it is not known when it is whole.
    assert_eq!(read(first(1), 0, None), nothing(None));
    assert_eq!(read(rest(1), 1, None), nothing(None));
    assert_eq!(read(vec![], 4, None), nothing(None));
    assert_eq!(read(vec![], 5, None), (whole(1), 0, Some(end(4))));
    // Then it is; what is delivered is what was before.
    assert_eq!(read(first(2), 6, None), nothing(Some(end(4))));
    let other = read(vec![part("temp", 2, 36.5)], 7, None);
    assert_eq!(other, (": temp Gauge  {} 36.5@2\n".to_owned(), 0, Some(end(4))));
    assert_eq!(read(rest(2), 8, None), (whole(2), 0, Some(end(7))));
    // Points stay in order.
    assert_eq!(read(first(3), 10, None), nothing(Some(end(7))));
    assert_eq!(read([first(4), rest(4)].concat(), 11, None), nothing(Some(end(7))));
    assert_eq!(read(rest(3), 12, None), (whole(3) + &whole(4), 0, Some(end(10))));
    // What does not come in time is missing, and counted.
    assert_eq!(read(first(5), 20, None), nothing(Some(end(10))));
    let (text, apart, cursor) = read(vec![], 25, None);
    assert_eq!(text, ": req_seconds_bucket Gauge  {le=1} 1@5\n: req_seconds_sum Gauge  {} 7.5@5\n");
    assert_eq!((apart, cursor), (2, Some(end(12))));
    // While there is more in the log its time counts.
    assert_eq!(read([first(6), rest(6)].concat(), 25, Some(10_999)), nothing(Some(end(12))));
    assert_eq!(read(vec![], 25, Some(11_000)), (whole(6), 0, Some(end(14))));
}
