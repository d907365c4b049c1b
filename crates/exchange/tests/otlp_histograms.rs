//! Histograms of OTLP against the native ones they become.

#![expect(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use stoa_exchange::otlp::{Buckets, Explicit, Exponential, Measure, ScaleError, Total};
use stoa_model::histogram::{BucketCounts, Counts, Histogram, Span};

fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Exponential<'_> {
    Exponential {
        scale,
        count: counts.iter().sum(),
        sum: Some(1.5),
        zero_count: 0,
        zero_threshold: 0.0,
        positive: Buckets { offset, counts },
        negative: Buckets::default(),
    }
}

fn integers(histogram: &Histogram) -> &BucketCounts<u64> {
    let Counts::Integer(counts) = &histogram.counts else { panic!("{histogram:?}") };
    counts
}

/// The buckets above zero that are not empty, by index.
fn buckets(histogram: &Histogram) -> Vec<(i64, u64)> {
    let (mut counts, mut at) = (integers(histogram).positive.iter(), 0);
    let mut buckets = Vec::new();
    for Span { offset, length } in &histogram.positive_spans {
        at += i64::from(*offset);
        for count in counts.by_ref().take(usize::try_from(*length).unwrap()) {
            if *count > 0 {
                buckets.push((at, *count));
            }
            at += 1;
        }
    }
    buckets
}

#[test]
fn exponential_histograms_become_native_ones() {
    let span = |offset, length| Span { offset, length };
    for (scale, offset, given, schema, spans, counts) in [
        // Bucket 0 there, above 1, is bucket 1 here.
        (0, 0, vec![4, 5], 0, vec![span(1, 2)], vec![4, 5]),
        (8, -3, vec![4], 8, vec![span(-2, 1)], vec![4]),
        (-4, 7, vec![1], -4, vec![span(8, 1)], vec![1]),
        // What is empty at the ends is left out, a gap of two is not, one of three is.
        (3, 10, vec![0, 0, 1, 0, 0, 2, 0], 3, vec![span(13, 4)], vec![1, 0, 0, 2]),
        (3, 10, vec![1, 0, 0, 0, 2], 3, vec![span(11, 1), span(3, 1)], vec![1, 2]),
        (3, 10, vec![0, 0], 3, vec![], vec![]),
        (3, 10, vec![], 3, vec![], vec![]),
        // Two become one: -3 | -2 -1 | 0 1 | 2
        (9, -3, vec![1, 2, 4, 8, 16, 32], 8, vec![span(-1, 4)], vec![1, 6, 24, 32]),
        // All above and all below 1.
        (20, -3, vec![1, 2, 4, 8, 16, 32], 8, vec![span(0, 2)], vec![7, 56]),
        (i32::MAX, -3, vec![1, 2, 4, 8, 16, 32], 8, vec![span(0, 2)], vec![7, 56]),
        (8, i32::MIN, vec![1], 8, vec![span(i32::MIN + 1, 1)], vec![1]),
    ] {
        let histogram = exponential(scale, offset, &given).native().unwrap();
        histogram.validate().unwrap();
        assert_eq!(histogram.schema, schema, "{given:?}");
        assert_eq!(histogram.positive_spans, spans, "{given:?}");
        assert_eq!(integers(&histogram).positive, counts, "{given:?}");
    }
    let beyond = exponential(8, i32::MAX, &[1]).native();
    assert_eq!(beyond.unwrap_err(), ScaleError::Index(1 << 31));
    let coarse = exponential(-5, 0, &[1]).native();
    assert_eq!(coarse.unwrap_err(), ScaleError::TooCoarse(-5));
}

#[test]
fn the_rest_of_an_exponential_histogram_is_kept() {
    let given = Exponential {
        sum: None,
        zero_count: 3,
        zero_threshold: 0.5,
        count: 10,
        negative: Buckets { offset: 2, counts: &[5] },
        ..exponential(1, 0, &[2])
    };
    let histogram = given.native().unwrap();
    histogram.validate().unwrap();
    assert_eq!((histogram.sum, histogram.zero_threshold), (0.0, 0.5));
    assert_eq!(histogram.negative_spans, [Span { offset: 3, length: 1 }]);
    let BucketCounts { count, zero_count, positive, negative } = integers(&histogram);
    assert_eq!((*count, *zero_count), (10, 3));
    assert_eq!((&**positive, &**negative), ([2].as_slice(), [5].as_slice()));
    for unsaid in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let histogram = Exponential { zero_threshold: unsaid, ..given }.native().unwrap();
        assert_eq!(histogram.zero_threshold, 1e-128);
    }
    // Counts that disagree are found out, those that overflow where neighbours become one too.
    let wrong = Exponential { count: 11, ..given }.native().unwrap();
    wrong.validate().unwrap_err();
    let counts = [u64::MAX, u64::MAX];
    let wrong = Exponential { count: 5, ..exponential(9, 0, &[]) };
    let wrong = Exponential { positive: Buckets { offset: 0, counts: &counts }, ..wrong };
    wrong.native().unwrap().validate().unwrap_err();
}

#[test]
fn explicit_histograms_become_ones_of_custom_buckets() {
    let bounds = [0.5, 1.0];
    let given = Explicit { count: 6, sum: Some(7.5), bounds: &bounds, counts: &[1, 0, 5] };
    let histogram = given.custom();
    histogram.validate().unwrap();
    assert_eq!((histogram.custom_values.as_slice(), histogram.sum), (bounds.as_slice(), 7.5));
    assert_eq!(buckets(&histogram), [(0, 1), (2, 5)]);
    // Without buckets a count is left, in the one that has no bound.
    let histogram = Explicit { counts: &[], ..given }.custom();
    histogram.validate().unwrap();
    assert_eq!((histogram.custom_values.len(), buckets(&histogram)), (0, vec![(0, 6)]));
    Explicit { counts: &[1, 1, 1, 3], ..given }.custom().validate().unwrap_err();
    Explicit { counts: &[1, 0, 6], ..given }.custom().validate().unwrap_err();
    Explicit { bounds: &[1.0, 0.5], ..given }.custom().validate().unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Every observation is kept, in the bucket that has the whole of the one it was in.
    #[test]
    fn scaling_keeps_observations_where_they_were(
        scale in -4..24_i32,
        offset in -5000..5000_i32,
        counts in proptest::collection::vec(
            prop_oneof![Just(0_u64), Just(0), 1..1000_u64], 0..200),
    ) {
        let histogram = exponential(scale, offset, &counts).native().unwrap();
        prop_assert_eq!(histogram.validate(), Ok(()));
        let coarser = scale - histogram.schema;
        let mut expected = std::collections::BTreeMap::new();
        for (i, count) in (i64::from(offset)..).zip(&counts).filter(|(_, count)| **count > 0) {
            // From base^i to base^(i+1), as exponents of 2 in units of 2^-scale.
            let holds = |bucket: i64| {
                (bucket - 1) << coarser <= i && i < bucket << coarser
            };
            let near = i >> coarser;
            let bucket = (near - 1..near + 3).find(|bucket| holds(*bucket)).unwrap();
            *expected.entry(bucket).or_insert(0) += count;
        }
        prop_assert_eq!(buckets(&histogram), expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn native_histograms_are_sent_as_they_came() {
    let given = Exponential {
        zero_count: 3,
        zero_threshold: 0.5,
        count: 10,
        negative: Buckets { offset: 2, counts: &[5] },
        ..exponential(1, -7, &[1, 0, 0, 0, 1])
    };
    let total = Total::of_native(&given.native().unwrap()).unwrap();
    assert_eq!(total.measure(), Measure::Exponential(given));
    let given = Explicit { count: 6, sum: Some(7.5), bounds: &[0.5, 1.0], counts: &[1, 2, 3] };
    let total = Total::of_native(&given.custom()).unwrap();
    assert_eq!(total.measure(), Measure::Histogram(given));
    // One that would be long is made coarser.
    let mut wide = exponential(8, 0, &[1]).native().unwrap();
    wide.positive_spans =
        vec![Span { offset: -200_000, length: 1 }, Span { offset: 400_000, length: 1 }];
    if let Counts::Integer(counts) = &mut wide.counts {
        counts.positive = vec![1, 2];
    }
    let total = Total::of_native(&wide).unwrap();
    let Measure::Exponential(sent) = total.measure() else { panic!() };
    assert!(sent.positive.counts.len() <= 4096 && sent.scale == 1, "{sent:?}");
    assert_eq!(sent.positive.counts.iter().sum::<u64>(), 3);
    let counts = BucketCounts { count: 0.5, ..BucketCounts::default() };
    let floats = Histogram { counts: Counts::Float(counts), ..Histogram::stale() };
    assert_eq!(Total::of_native(&floats), None);
}
