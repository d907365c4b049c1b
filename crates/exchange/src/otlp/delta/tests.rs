#![expect(clippy::cast_possible_truncation, reason = "a test")]

use proptest::prelude::*;

use super::*;
use stoa_model::MetricKind;
use stoa_model::histogram::Histogram;

use crate::otlp::{
    Accumulate, Form, Options, Refused, SampleExemplar, SampleLabels, Sink, Translator,
};
use crate::otlp::{BUCKETS_MAX, Buckets, Explicit, Exponential, Measure};
use crate::wire::{put_bytes, put_number};

const LIMITS: DeltaLimits = DeltaLimits { streams_max: 2, stale_ms: 300_000 };

/// A point that counts from one second to another.
fn point(start_s: u64, time_s: u64, measure: Measure<'_>) -> Point<'_> {
    let (start_ns, time_ns) = (start_s * 1_000_000_000, time_s * 1_000_000_000);
    Point {
        attributes: Ok(&[]),
        start_ns,
        time_ns,
        ended: false,
        measure,
        exemplars: &[],
        exemplars_left_out: 0,
    }
}

fn add(deltas: &mut Deltas, name: &str, start_s: u64, time_s: u64, value: i64) -> String {
    // The clock is that of the senders, but for one.
    let now_ms = i64::try_from(if time_s > 1_000_000 { 1130 } else { time_s }).unwrap() * 1000;
    let point = point(start_s, time_s, Measure::Integer(value));
    match deltas.add(name.as_bytes(), &point, true, now_ms, 1_000_000_000) {
        Ok(Some(Total::Integer(total))) => total.to_string(),
        Ok(total) => format!("{total:?}"),
        Err(fault) => format!("{fault:?}"),
    }
}

#[test]
fn numbers_add_up_by_the_rules_of_the_collectors_processor() {
    let mut deltas = Deltas::new(LIMITS);
    for (name, start_s, time_s, value, expected) in [
        ("a", 1000, 1010, 3, "3"),
        ("a", 1010, 1020, 4, "7"),
        // Sent again, as nothing was answered.
        ("a", 1010, 1020, 4, "7"),
        // Of another scope, which the stream's name does not tell.
        ("a", 1010, 1020, 5, "OutOfOrder"),
        ("a", 1005, 1020, 4, "OutOfOrder"),
        ("a", 1000, 1010, 3, "OutOfOrder"),
        // The sender began anew, a while later.
        ("a", 1100, 1110, 5, "12"),
        ("a", 900, 1120, 1, "OlderStart"),
        // They are of a monotonic sum.
        ("a", 1110, 1120, -1, "Negative"),
        ("b", 1110, 1120, -1, "Negative"),
        // Without saying from when on it counts.
        ("a", 0, 1130, 1, "13"),
        ("b", 1000, 1010, 1, "1"),
        ("c", 1000, 1010, 1, "TooMany"),
        ("a", 1130, 2_000_000, 1, "Ahead"),
        // After more than five minutes.
        ("a", 1130, 1431, 2, "2"),
        ("c", 1400, 1500, 9, "9"),
    ] {
        assert_eq!(add(&mut deltas, name, start_s, time_s, value), expected, "{name} {time_s}");
    }
    let expected = DeltaCounts {
        streams: 2,
        bytes: 2 * (STREAM_BYTES as u64 + 1),
        ended: 2,
        added: 7,
        repeated: 1,
        out_of_order: 3,
        older_start: 1,
        unfit: 2,
        ahead: 1,
        over_limit: 1,
        gaps: 1,
    };
    assert_eq!(deltas.counts(), expected);
    let summary = Measure::Summary(crate::otlp::Summary { count: 1, sum: 1.0, quantiles: &[] });
    for measure in [Measure::Absent, summary] {
        assert_eq!(deltas.add(b"d", &point(0, 1, measure), false, 0, 10_000), Ok(None));
    }
}

#[test]
fn a_sender_has_a_quarter_of_the_room() {
    let mut deltas = Deltas::new(DeltaLimits { streams_max: 8, stale_ms: 1000 });
    let mut add = |name: &[u8], now_ms| {
        let point = point(1, 2, Measure::Integer(1));
        deltas.add(name, &point, true, now_ms, 10_000).is_ok()
    };
    for (name, expected) in [
        (&b"ann\xff1"[..], true),
        (b"ann\xff2", true),
        (b"ann\xff3", false),
        (b"ann\xff2", true),
        (b"bob\xff1", true),
    ] {
        assert_eq!(add(name, 0), expected, "{name:?}");
    }
    // What ended leaves its room.
    assert!(add(b"ann\xff3", 100_000));
    assert_eq!((deltas.counts().streams, deltas.shares.len()), (1, 1));
    let kept = deltas.write();
    let mut read = Deltas::new(deltas.limits);
    assert_eq!((read.read(&kept), &read.shares), (Ok(0), &deltas.shares));
}

#[test]
fn another_kind_of_the_same_times_is_no_repetition() {
    let mut deltas = Deltas::new(LIMITS);
    let mut add = |measure| deltas.add(b"a", &point(1, 2, measure), false, 0, 10_000);
    assert_eq!(add(Measure::Integer(1)), Ok(Some(Total::Integer(1))));
    assert_eq!(add(Measure::Double(1.0)), Err(DeltaFault::OutOfOrder));
    let histogram = Explicit { count: 1, sum: Some(1.0), bounds: &[], counts: &[1] };
    assert_eq!(add(Measure::Histogram(histogram)), Err(DeltaFault::OutOfOrder));
    assert_eq!(add(Measure::Integer(1)), Ok(Some(Total::Integer(1))));
    // Nor after a restart.
    let mut read = Deltas::new(LIMITS);
    assert_eq!(read.read(&deltas.write()), Ok(0));
    let other = point(1, 2, Measure::Integer(2));
    assert_eq!(read.add(b"a", &other, false, 0, 10_000), Err(DeltaFault::OutOfOrder));
}

#[test]
fn streams_of_a_version_without_hashes_are_read() {
    let mut deltas = Deltas::new(LIMITS);
    // Stream "a" from 1 s, its last point from 1 s to 2 s, seen at 0 ms, 7 in all.
    let nanos = |out: &mut Vec<u8>, field, s: u64| put_number(out, field, s * 1_000_000_000);
    let mut stream = Vec::new();
    put_bytes(&mut stream, 1, b"a");
    nanos(&mut stream, 2, 1);
    nanos(&mut stream, 3, 1);
    nanos(&mut stream, 4, 2);
    put_number(&mut stream, 6, 14);
    let mut file = Vec::new();
    put_bytes(&mut file, 1, &stream);
    assert_eq!(deltas.read(&file), Ok(0));
    let mut add = |time_s, value| {
        let point = point(time_s - 1, time_s, Measure::Integer(value));
        deltas.add(b"a", &point, false, 0, 10_000)
    };
    assert_eq!(add(2, 3), Ok(Some(Total::Integer(7))));
    assert_eq!(add(3, 3), Ok(Some(Total::Integer(10))));
    assert_eq!(add(3, 4), Err(DeltaFault::OutOfOrder));
}

#[test]
fn what_is_wrong_by_itself_is_refused_and_spoils_nothing_after_it() {
    let good = |scale, offset| Exponential {
        scale,
        count: 4,
        sum: Some(2.0),
        zero_count: 1,
        zero_threshold: 0.0,
        positive: Buckets { offset, counts: &[1, 2] },
        negative: Buckets::default(),
    };
    let bad = [
        Exponential { count: 5, ..good(0, 0) },
        Exponential { count: 1, ..good(0, 0) },
        Exponential { zero_count: u64::MAX, ..good(0, 0) },
        Exponential { zero_threshold: f64::NAN, ..good(0, 0) },
        Exponential { zero_threshold: f64::INFINITY, ..good(0, 0) },
        Exponential { zero_threshold: -1.0, ..good(0, 0) },
        // Of no doubles; together with others only the coarsest of scales would do.
        good(20, i32::MAX - 2),
        good(0, -2000),
        good(0, 1024),
    ];
    let mut deltas = Deltas::new(LIMITS);
    let mut add = |time_s, measure| {
        deltas
            .add(b"a", &point(time_s - 1, time_s, measure), false, 0, 1_000_000)
            .map(Option::unwrap)
    };
    for (n, histogram) in bad.into_iter().enumerate() {
        let n = n as u64;
        let refused = add(10 + 2 * n, Measure::Exponential(histogram));
        assert_eq!(refused, Err(DeltaFault::Inconsistent), "{n}");
        let total = add(11 + 2 * n, Measure::Exponential(good(0, 0))).unwrap();
        let Measure::Exponential(total) = total.measure() else { panic!("{total:?}") };
        assert_eq!((total.count, total.native().unwrap().validate()), (4 * (n + 1), Ok(())));
    }
    let coarse = add(40, Measure::Exponential(good(-5, 0)));
    assert_eq!(coarse, Err(DeltaFault::TooCoarse));
    for sum in [f64::NAN, f64::INFINITY] {
        let histogram = Exponential { sum: Some(sum), ..good(0, 0) };
        assert_eq!(add(41, Measure::Exponential(histogram)), Err(DeltaFault::NotFinite));
        assert_eq!(add(41, Measure::Double(sum)), Err(DeltaFault::NotFinite));
    }
    let like = Explicit { count: 3, sum: None, bounds: &[1.0, 2.0], counts: &[1, 2, 0] };
    for histogram in [
        Explicit { count: 4, ..like },
        Explicit { counts: &[1, 2], ..like },
        Explicit { counts: &[], ..like },
        Explicit { bounds: &[2.0, 1.0], ..like },
        Explicit { bounds: &[1.0, f64::NAN], ..like },
    ] {
        let refused = add(42, Measure::Histogram(histogram));
        assert_eq!(refused, Err(DeltaFault::Inconsistent), "{histogram:?}");
    }
    assert!(add(42, Measure::Histogram(like)).is_ok());
    let unfit = 9 + 1 + 4 + 5;
    assert_eq!((deltas.counts().unfit, deltas.counts().added), (unfit, 10));
}

#[test]
fn what_is_more_than_can_be_counted_begins_anew() {
    let exponential = |zero_count, sum| Exponential {
        scale: 0,
        count: zero_count,
        sum: Some(sum),
        zero_count,
        zero_threshold: 0.0,
        positive: Buckets::default(),
        negative: Buckets::default(),
    };
    let total = |measure| Total::of(&measure).unwrap();
    let of = |count, sum| total(Measure::Exponential(exponential(count, sum)));
    for (first, second) in [
        (of(u64::MAX, 1.0), of(2, 1.0)),
        (of(1, f64::MAX), of(2, f64::MAX)),
        (total(Measure::Double(f64::MAX)), total(Measure::Double(f64::MAX / 2.0))),
    ] {
        let mut sum = first;
        sum.add(second.clone());
        assert_eq!(sum, second);
    }
}

#[test]
fn numbers_that_are_not_alike_become_doubles() {
    let mut total = Total::Integer(i64::MAX);
    total.add(Total::Integer(1));
    assert_eq!(total, Total::Double(9_223_372_036_854_775_808.0));
    total = Total::Integer(1);
    total.add(Total::Double(0.5));
    total.add(Total::Integer(1));
    assert_eq!(total, Total::Double(2.5));
}

#[test]
fn histograms_add_up_bucket_by_bucket_and_begin_anew_with_other_bounds() {
    let explicit = |count, sum, bounds: &[f64], counts: &[u64]| {
        let histogram = Explicit { count, sum, bounds, counts };
        Total::of(&Measure::Histogram(histogram)).unwrap()
    };
    let mut total = explicit(3, Some(1.5), &[1.0, 2.0], &[1, 2, 0]);
    total.add(explicit(4, Some(2.0), &[1.0, 2.0], &[0, 1, 3]));
    assert_eq!(total, explicit(7, Some(3.5), &[1.0, 2.0], &[1, 3, 3]));
    total.add(explicit(1, None, &[1.0, 2.0], &[1, 0, 0]));
    assert_eq!(total, explicit(8, None, &[1.0, 2.0], &[2, 3, 3]));
    let other = explicit(1, Some(9.0), &[5.0], &[0, 1]);
    total.add(other.clone());
    assert_eq!(total, other);
    let mut deltas = Deltas::new(LIMITS);
    let counts = vec![1; STREAM_NUMBERS_MAX + 1];
    let wide = Measure::Histogram(Explicit { count: 1, sum: None, bounds: &[], counts: &counts });
    let refused = deltas.add(b"w", &point(1, 2, wide), false, 0, 10_000);
    assert_eq!((refused, deltas.counts().over_limit), (Err(DeltaFault::TooWide), 1));
}

/// A histogram of these observations.
fn exponential(scale: i32, observed: &[f64]) -> Total {
    let fine = f64::from(scale).exp2();
    let (mut positive, mut zero_count) = (Vec::new(), 0);
    let index = |value: f64| ((value.log2() * fine).ceil() - 1.0) as i32;
    let first = observed.iter().filter(|v| **v > 0.0).map(|v| index(*v)).min().unwrap_or(0);
    for value in observed {
        if *value == 0.0 {
            zero_count += 1;
            continue;
        }
        let at = usize::try_from(index(*value) - first).unwrap();
        positive.resize(positive.len().max(at + 1), 0);
        positive[at] += 1;
    }
    let histogram = Exponential {
        scale,
        count: observed.len() as u64,
        sum: Some(observed.iter().sum()),
        zero_count,
        zero_threshold: 0.0,
        positive: Buckets { offset: first, counts: &positive },
        negative: Buckets::default(),
    };
    Total::of(&Measure::Exponential(histogram)).unwrap()
}

#[test]
fn exponential_histograms_take_the_coarser_scale() {
    let mut total = exponential(2, &[1.1, 5.0, 0.0]);
    total.add(exponential(0, &[3.0, 100.0]));
    let mut expected = exponential(0, &[1.1, 5.0, 0.0, 3.0, 100.0]);
    if let (Total::Exponential(expected), Total::Exponential(total)) = (&mut expected, &total) {
        expected.sum = total.sum;
        assert_eq!(total.sum, Some(109.1));
    }
    assert_eq!(total, expected);
}

#[test]
fn exponential_histograms_become_coarser_rather_than_long() {
    let mut total = exponential(8, &[1e-300]);
    total.add(exponential(8, &[1e300]));
    let Total::Exponential(total) = &total else { panic!("{total:?}") };
    let width = i64::try_from(total.positive.counts.len()).unwrap();
    assert!(width <= BUCKETS_MAX && width > BUCKETS_MAX / 2, "{width}");
    assert_eq!((total.scale, total.positive.counts.iter().sum::<u64>()), (-4, 2));
}

#[test]
fn the_wider_zero_bucket_takes_in_what_is_within_it() {
    let with_zero = |threshold: f64, counts: &[u64]| {
        let positive = Buckets { offset: -2, counts };
        let zero_count = 1;
        let count = counts.iter().sum::<u64>() + zero_count;
        let (sum, negative) = (None, positive);
        let histogram = Exponential {
            scale: 0,
            count,
            sum,
            zero_count,
            zero_threshold: threshold,
            positive,
            negative,
        };
        Total::of(&Measure::Exponential(histogram)).unwrap()
    };
    // Buckets end at 0.5, 1, 2; 0.75 lies within the second.
    let mut total = with_zero(0.0, &[1, 2, 4]);
    total.add(with_zero(0.75, &[0, 0, 0, 8]));
    let Total::Exponential(total) = &total else { panic!("{total:?}") };
    assert_eq!((total.zero_threshold, total.zero_count), (1.0, 2 + 2 * 3));
    assert_eq!((total.positive.offset, &*total.positive.counts), (0, &[4, 8][..]));
    assert_eq!(total.positive, total.negative);
    // And the other way round, where what the first has within the wider one is taken in as well.
    let mut total = with_zero(0.75, &[0, 1, 0, 8]);
    total.add(with_zero(0.0, &[1, 2, 4]));
    let Total::Exponential(total) = &total else { panic!("{total:?}") };
    assert_eq!((total.zero_threshold, total.zero_count), (1.0, 2 + 2 * 4));
    assert_eq!((total.positive.offset, &*total.positive.counts), (0, &[4, 8][..]));
}

/// Adds up in a stream, and keeps the sums of what becomes of it.
struct Sums(Vec<f64>);

impl Sink for Sums {
    fn sample(&mut self, labels: SampleLabels<'_>, _t_ms: i64, value: f64) {
        panic!("{labels:?} {value}");
    }

    fn histogram(&mut self, _: SampleLabels<'_>, _t_ms: i64, histogram: Histogram) {
        histogram.validate().unwrap();
        self.0.push(histogram.sum);
    }

    fn metadata(&mut self, _: &str, _: MetricKind, _: &str, _: &str) {}
    fn exemplars(&mut self, _: SampleLabels<'_>, _: &[SampleExemplar<'_>]) {}
    fn exemplars_left_out(&mut self, _count: u64) {}

    fn refused(&mut self, why: &Refused) {
        panic!("{why}");
    }
}

struct Adding(Deltas);

impl Accumulate for Adding {
    fn add(
        &mut self,
        series: &[u8],
        point: &Point<'_>,
        grows: bool,
    ) -> Result<Option<Total>, DeltaFault> {
        self.0.add(series, point, grows, 0, i64::MAX)
    }
}

#[test]
fn a_sum_that_is_no_longer_known_is_not_stored_as_nought() {
    let point = |time: u8, sum: &str| {
        format!(
            r#"{{"startTimeUnixNano":"1","timeUnixNano":"{time}","count":"2","zeroCount":"2"{sum}}}"#
        )
    };
    let points = [point(2, r#","sum":1.5"#), point(3, ""), point(4, r#","sum":1.5"#)].join(",");
    let exponential = format!(
        r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{points}]}}}}"#
    );
    let points = points.replace("zeroCount\":\"2\"", "bucketCounts\":[\"2\"]");
    let explicit = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[{points}]}}}}"#
    );
    let message = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{exponential},{explicit}]}}]}}]}}"#
    );
    let options = Options { convert_histograms_to_nhcb: true, ..Options::default() };
    let (mut sums, mut adding) = (Sums(Vec::new()), Adding(Deltas::new(LIMITS)));
    let mut translator = Translator::new(&options, &mut sums).adding(Some(&mut adding));
    crate::otlp::read(Form::Json, message.as_bytes(), &mut translator).unwrap();
    translator.finish();
    assert_eq!(format!("{:?}", sums.0), "[1.5, NaN, NaN, 1.5, NaN, NaN]");
}

proptest! {
    #[test]
    fn any_histograms_add_up_within_bounds_and_are_read_as_written(
        histograms in prop::collection::vec(
            (-5_i32..20, prop_oneof![any::<i32>(), -2000_i32..2000], prop::collection::vec(prop_oneof![9 => 0_u64..1000, 1 => any::<u64>()], 0..100), any::<f64>()), 1..6
        ),
        numbers in prop::collection::vec((any::<i64>(), any::<f64>(), any::<bool>()), 0..4),
    ) {
        let mut deltas = Deltas::new(DeltaLimits { streams_max: 3, stale_ms: 0 });
        for (n, (scale, offset, counts, zero_threshold)) in histograms.iter().enumerate() {
            let buckets = Buckets { offset: *offset, counts };
            let (scale, zero_threshold) = (*scale, *zero_threshold);
            let histogram = Exponential {
                scale,
                count: counts.iter().fold(3, |sum, count| sum.saturating_add(*count).saturating_add(*count)),
                sum: Some(zero_threshold),
                zero_count: 3,
                zero_threshold,
                positive: buckets,
                negative: Buckets { offset: offset.wrapping_neg(), counts },
            };
            let point = point(n as u64, n as u64 + 1, Measure::Exponential(histogram));
            // Most of these are wrong by themselves.
            let Ok(Some(total)) = deltas.add(b"e", &point, false, 0, i64::MAX) else { continue };
            let native = total.measure();
            let Measure::Exponential(native) = native else { panic!("{native:?}") };
            prop_assert_eq!(native.native().unwrap().validate(), Ok(()));
            let Total::Exponential(total) = &total else { panic!("{total:?}") };
            for side in [&total.positive, &total.negative] {
                prop_assert!(i64::try_from(side.counts.len()).unwrap() <= BUCKETS_MAX);
            }
        }
        for (n, (integer, double, is_integer)) in numbers.iter().enumerate() {
            let measure = if *is_integer { Measure::Integer(*integer) } else { Measure::Double(*double) };
            deltas.add(b"n", &point(n as u64, n as u64 + 1, measure), false, 0, i64::MAX).unwrap();
        }
        let bounds = [1.0, 2.5];
        let explicit = Explicit { count: 6, sum: None, bounds: &bounds, counts: &[1, 2, 3] };
        deltas.add(b"h", &point(1, 2, Measure::Histogram(explicit)), false, -5, i64::MAX).unwrap();
        let mut read = Deltas::new(deltas.limits);
        prop_assert_eq!(read.read(&deltas.write()), Ok(0));
        prop_assert_eq!(read.bytes, deltas.bytes);
        prop_assert_eq!(&read.shares, &deltas.shares);
        let texts = |deltas: &Deltas| {
            let mut texts: Vec<String> = deltas.streams.iter().map(|s| format!("{s:?}")).collect();
            texts.sort();
            texts
        };
        prop_assert_eq!(texts(&read), texts(&deltas));
        let mut small = Deltas::new(DeltaLimits { streams_max: 1, stale_ms: 0 });
        prop_assert_eq!(small.read(&deltas.write()), Ok(deltas.streams.len() as u64 - 1));
    }
}
