//! Native histograms as stored, as queries compute with them.

use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};
use stoa_promql::histogram as promql;

/// A series' histograms with the hints that follow from their neighbours, as Prometheus reads them
/// back; but what the sender said of a reset stays, which it forgets.
pub(super) fn series(
    samples: Vec<(TimestampMs, Histogram)>,
) -> Vec<(TimestampMs, Arc<promql::Histogram>)> {
    let mut before: Option<Arc<promql::Histogram>> = None;
    let each = samples.into_iter().map(|(t, histogram)| {
        let mut histogram = float(&histogram);
        if histogram.reset_hint != promql::ResetHint::Reset {
            histogram.reset_hint = histogram.hint_after(before.as_deref());
        }
        let histogram = Arc::new(histogram);
        before = Some(Arc::clone(&histogram));
        (t, histogram)
    });
    each.collect()
}

fn float(histogram: &Histogram) -> promql::Histogram {
    let BucketCounts { count, zero_count, positive, negative } = match &histogram.counts {
        Counts::Float(counts) => counts.clone(),
        Counts::Integer(counts) => BucketCounts {
            count: number(counts.count),
            zero_count: number(counts.zero_count),
            positive: counts.positive.iter().copied().map(number).collect(),
            negative: counts.negative.iter().copied().map(number).collect(),
        },
    };
    promql::Histogram {
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count,
        count,
        sum: histogram.sum,
        positive: buckets(&histogram.positive_spans, &positive),
        negative: buckets(&histogram.negative_spans, &negative),
        custom_bounds: histogram.custom_values.clone(),
        reset_hint: match histogram.reset {
            ResetHint::Unknown => promql::ResetHint::Unknown,
            ResetHint::Reset => promql::ResetHint::Reset,
            ResetHint::NotReset => promql::ResetHint::NotReset,
            ResetHint::Gauge => promql::ResetHint::Gauge,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "queries count in floats, as Prometheus's do")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Each bucket with its index.
fn buckets(spans: &[Span], counts: &[f64]) -> Vec<(i32, f64)> {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(|span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add_unsigned(span.length);
        first..next
    });
    indexes.zip(counts.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64], reset: ResetHint) -> Histogram {
        Histogram {
            schema: 1,
            zero_threshold: 0.001,
            sum: 3.0,
            positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: 2 }],
            negative_spans: vec![],
            custom_values: vec![],
            counts: Counts::Integer(BucketCounts {
                count: counts.iter().sum(),
                zero_count: 0,
                positive: counts.to_vec(),
                negative: vec![],
            }),
            reset,
        }
    }

    #[test]
    fn buckets_have_the_indexes_their_spans_say() {
        let found = float(&histogram(&[4, 5, 6], ResetHint::Unknown));
        assert_eq!(found.positive, [(-2, 4.0), (2, 5.0), (3, 6.0)]);
        assert_eq!((found.count, found.sum, found.zero_threshold), (15.0, 3.0, 0.001));
    }

    #[test]
    fn hints_follow_from_the_sample_before() {
        use promql::ResetHint as Hint;
        let check = |given: &[(&[u64], ResetHint)], expected: &[Hint]| {
            let given =
                given.iter().zip(0..).map(|((counts, reset), t)| (t, histogram(counts, *reset)));
            let found: Vec<Hint> =
                series(given.collect()).iter().map(|(_, found)| found.reset_hint).collect();
            assert_eq!(found, expected);
        };
        let unknown = ResetHint::Unknown;
        check(
            &[(&[1, 1, 1], unknown), (&[1, 2, 1], unknown), (&[2, 1, 9], unknown)],
            &[Hint::Unknown, Hint::NotReset, Hint::Unknown],
        );
        check(
            &[(&[1, 1, 1], ResetHint::NotReset), (&[1, 1, 1], ResetHint::Reset)],
            &[Hint::Unknown, Hint::Reset],
        );
        check(
            &[(&[1, 1, 1], ResetHint::Gauge), (&[0, 1, 1], unknown)],
            &[Hint::Gauge, Hint::Unknown],
        );
    }
}
