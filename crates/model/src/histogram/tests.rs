use super::{BucketCounts, Counts, Histogram, HistogramError, ResetHint, Side, Span};
use crate::sample::stale_nan;

fn exponential() -> Histogram {
    Histogram {
        schema: 3,
        zero_threshold: 0.001,
        sum: 18.4,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 1, length: 1 }],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        custom_values: vec![],
        counts: Counts::Integer(BucketCounts {
            count: 11,
            zero_count: 2,
            positive: vec![1, 3, 4],
            negative: vec![1],
        }),
        reset: ResetHint::NotReset,
    }
}

fn custom() -> Histogram {
    Histogram {
        schema: -53,
        zero_threshold: 0.0,
        sum: 5.0,
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
        negative_spans: vec![],
        custom_values: vec![0.5, 1.0, 2.5],
        counts: Counts::Float(BucketCounts {
            count: 3.5,
            zero_count: 0.0,
            positive: vec![1.0, 2.0, 0.5],
            negative: vec![],
        }),
        reset: ResetHint::Gauge,
    }
}

fn integers(histogram: &mut Histogram) -> &mut BucketCounts<u64> {
    match &mut histogram.counts {
        Counts::Integer(counts) => counts,
        Counts::Float(_) => panic!("integer counts wanted"),
    }
}

fn floats(histogram: &mut Histogram) -> &mut BucketCounts<f64> {
    match &mut histogram.counts {
        Counts::Float(counts) => counts,
        Counts::Integer(_) => panic!("float counts wanted"),
    }
}

#[test]
fn histograms_are_validated_as_prometheus_does() {
    type Case = (fn() -> Histogram, fn(&mut Histogram), Option<HistogramError>);
    let mismatch = |side, spans, buckets| HistogramError::SpansMismatch { side, spans, buckets };
    let back = |side, span, offset| HistogramError::SpanOffset { side, span, offset };
    let cases: Vec<Case> = vec![
        (exponential, |_| (), None),
        (custom, |_| (), None),
        (exponential, |h| h.schema = -4, None),
        (exponential, |h| h.schema = 9, Some(HistogramError::Schema(9))),
        (exponential, |h| h.schema = -5, Some(HistogramError::Schema(-5))),
        (exponential, |h| h.positive_spans[1].length = 2, Some(mismatch(Side::Positive, 4, 3))),
        (exponential, |h| h.negative_spans.clear(), Some(mismatch(Side::Negative, 0, 1))),
        (exponential, |h| h.positive_spans[1].offset = -1, Some(back(Side::Positive, 1, -1))),
        (exponential, |h| h.negative_spans[0].offset = i32::MIN, None),
        (
            exponential,
            |h| integers(h).count = 12,
            Some(HistogramError::Count { buckets: 11, count: 12 }),
        ),
        (
            exponential,
            |h| {
                h.sum = f64::NAN;
                integers(h).count = 12;
            },
            None,
        ),
        (
            exponential,
            |h| {
                h.sum = f64::NAN;
                integers(h).count = 10;
            },
            Some(HistogramError::Count { buckets: 11, count: 10 }),
        ),
        (
            exponential,
            |h| integers(h).zero_count = u64::MAX,
            Some(HistogramError::Count { buckets: u128::from(u64::MAX) + 9, count: 11 }),
        ),
        (exponential, |h| h.custom_values.push(1.0), Some(HistogramError::ExponentialWithBounds)),
        (
            exponential,
            |h| {
                h.sum = stale_nan();
                h.positive_spans.clear();
            },
            None,
        ),
        (custom, |h| floats(h).count = -1.0, Some(HistogramError::NegativeCount(-1.0))),
        (custom, |h| floats(h).positive[1] = -0.5, Some(HistogramError::NegativeCount(-0.5))),
        (custom, |h| floats(h).count = 100.0, None),
        (custom, |h| floats(h).zero_count = 1.0, Some(HistogramError::CustomWithZeroOrNegative)),
        (custom, |h| h.zero_threshold = 0.1, Some(HistogramError::CustomWithZeroOrNegative)),
        (
            custom,
            |h| h.negative_spans = vec![Span::default()],
            Some(HistogramError::CustomWithZeroOrNegative),
        ),
        (custom, |h| h.custom_values[1] = 0.5, Some(HistogramError::CustomBounds(0.5))),
        (
            custom,
            |h| h.custom_values[2] = f64::INFINITY,
            Some(HistogramError::CustomBounds(f64::INFINITY)),
        ),
        (
            custom,
            |h| h.custom_values.truncate(2),
            Some(HistogramError::CustomBoundsTooFew { bounds: 2, buckets: 4 }),
        ),
        (custom, |h| h.positive_spans[0].offset = -1, Some(back(Side::Positive, 0, -1))),
    ];
    for (number, (make, change, expected)) in cases.into_iter().enumerate() {
        let mut histogram = make();
        change(&mut histogram);
        assert_eq!(histogram.validate().err(), expected, "case {number}: {histogram:?}");
    }
    let mut nan_bound = custom();
    nan_bound.custom_values[0] = f64::NAN;
    assert!(matches!(nan_bound.validate(), Err(HistogramError::CustomBounds(v)) if v.is_nan()));
}

#[test]
fn equality_is_of_bits_and_layouts_are_told_apart() {
    let mut nan = exponential();
    nan.sum = f64::NAN;
    assert_eq!(nan, nan.clone());
    assert_ne!(nan, exponential());
    let mut minus_zero = custom();
    minus_zero.zero_threshold = -0.0;
    assert_ne!(minus_zero, custom());
    assert!(nan.same_layout(&exponential()));
    assert!(!minus_zero.same_layout(&custom()));
    assert!(!exponential().same_layout(&custom()));
    assert!(Histogram::stale().is_stale() && Histogram::stale() == Histogram::stale());
    assert!(Histogram::stale().validate().is_ok());
}
