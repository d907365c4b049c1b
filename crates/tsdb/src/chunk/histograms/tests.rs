use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};

use super::{
    HISTOGRAM_CELLS_MAX, HISTOGRAMS_MAX, HistogramsError, decode_histograms, encode_histograms,
    holds_histograms,
};
use crate::chunk::{Effort, decode_values};

fn check(histograms: &[Histogram], effort: Effort) -> Vec<u8> {
    let mut out = vec![0xaa];
    encode_histograms(histograms, effort, &mut out).unwrap();
    let bytes = out.split_off(1);
    assert_eq!(out, [0xaa]);
    let mut back = vec![Histogram::stale()];
    decode_histograms(&bytes, histograms.len(), &mut back).unwrap();
    let expected: Vec<Histogram> = histograms
        .iter()
        .map(|h| if h.is_stale() { Histogram::stale() } else { h.clone() })
        .collect();
    assert_eq!(&back[1..], expected);
    assert!(holds_histograms(&bytes));
    assert!(decode_values(&bytes, histograms.len(), &mut Vec::new()).is_err());
    bytes
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => (0i32..100).prop_map(f64::from),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => proptest::sample::select(vec![-0.0, f64::INFINITY, f64::NAN, stoa_model::stale_nan()]),
    ]
}

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0u64..1000, 1 => any::<u64>()]
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (any::<i32>(), 0u32..4).prop_map(|(offset, length)| Span { offset, length });
    proptest::collection::vec(span, 0..4)
}

fn fill<C: Clone>(spans: &[Span], of: &[C]) -> Vec<C> {
    let buckets = spans.iter().map(|span| span.length as usize).sum();
    of.iter().cycle().take(buckets).cloned().collect()
}

fn histogram() -> impl Strategy<Value = Histogram> {
    (
        (prop_oneof![Just(-53i32), -4i32..=8, any::<i32>()], double(), double()),
        (spans(), spans(), proptest::collection::vec(double(), 0..4)),
        (any::<bool>(), 0usize..4),
        proptest::collection::vec(integer(), 3..9),
        proptest::collection::vec(double(), 3..9),
    )
        .prop_map(|(scalars, layout, (is_float, hint), integers, doubles)| {
            let (schema, zero_threshold, sum) = scalars;
            let (positive_spans, negative_spans, custom_values) = layout;
            let counts = if is_float {
                Counts::Float(BucketCounts {
                    count: doubles[0],
                    zero_count: doubles[1],
                    positive: fill(&positive_spans, &doubles),
                    negative: fill(&negative_spans, &doubles[1..]),
                })
            } else {
                Counts::Integer(BucketCounts {
                    count: integers[0],
                    zero_count: integers[1],
                    positive: fill(&positive_spans, &integers),
                    negative: fill(&negative_spans, &integers[1..]),
                })
            };
            let hints =
                [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
            Histogram {
                schema,
                zero_threshold,
                sum,
                positive_spans,
                negative_spans,
                custom_values,
                counts,
                reset: hints[hint],
            }
        })
}

/// Runs of one layout whose numbers move, as a client's do, with stale markers and restarts.
fn column() -> impl Strategy<Value = Vec<Histogram>> {
    let step = (0u64..20, prop_oneof![9 => Just(0u8), 1 => Just(1u8), 1 => Just(2u8)]);
    proptest::collection::vec((histogram(), proptest::collection::vec(step, 1..40)), 0..4).prop_map(
        |runs| {
            let mut all = Vec::new();
            for (mut now, steps) in runs {
                for (add, event) in steps {
                    match &mut now.counts {
                        Counts::Integer(counts) => {
                            counts.count = counts.count.wrapping_add(add);
                            if let Some(bucket) = counts.positive.last_mut() {
                                *bucket = bucket.wrapping_add(add);
                            }
                        }
                        Counts::Float(counts) => counts.count += 1.0,
                    }
                    now.reset = if event == 2 { ResetHint::Reset } else { ResetHint::NotReset };
                    all.push(if event == 1 { Histogram::stale() } else { now.clone() });
                }
            }
            all
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_column_of_histograms_round_trips(
        column in column(), mixed in proptest::collection::vec(histogram(), 0..12),
    ) {
        for histograms in [column, mixed] {
            check(&histograms, Effort::Fresh);
            check(&histograms, Effort::Compacted);
        }
    }

    #[test]
    fn damaged_chunks_never_panic(
        column in column(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0u32..8), 1..6),
        n in 0usize..300,
    ) {
        for effort in [Effort::Fresh, Effort::Compacted] {
            let mut bytes = check(&column, effort);
            for end in 0..bytes.len() {
                let cut = decode_histograms(&bytes[..end], column.len(), &mut Vec::new());
                assert!(cut.is_err(), "cut at {end} of {}", bytes.len());
            }
            for (at, bit) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                for n in [n, column.len()] {
                    let mut back = Vec::new();
                    let whole = decode_histograms(&bytes, n, &mut back).is_ok();
                    assert!(back.len() <= n && (!whole || back.len() == n));
                }
            }
        }
    }

    #[test]
    fn any_bytes_decode_without_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..160), n in 0usize..400,
    ) {
        if let Some(tag) = bytes.first_mut() {
            *tag = 6 | *tag & 0x80;
        }
        let mut back = Vec::new();
        let whole = decode_histograms(&bytes, n, &mut back).is_ok();
        assert!(back.len() <= n && (!whole || back.len() == n));
    }
}

/// What a client library with schema 3 exposes: a few dozen buckets that fill slowly.
fn latencies(n: u64) -> Vec<Histogram> {
    (0..n)
        .map(|tick| {
            let positive: Vec<u64> = (0..24u64).map(|b| tick * (b % 5) + tick * b / 7).collect();
            let count = positive.iter().sum();
            Histogram {
                schema: 3,
                zero_threshold: 2.938_735_877_055_719e-39,
                sum: f64::from(u32::try_from(tick).unwrap()) * 1.625,
                positive_spans: vec![
                    Span { offset: -12, length: 20 },
                    Span { offset: 3, length: 4 },
                ],
                negative_spans: vec![],
                custom_values: vec![],
                counts: Counts::Integer(BucketCounts {
                    count,
                    zero_count: 0,
                    positive,
                    negative: vec![],
                }),
                reset: if tick == 0 { ResetHint::Unknown } else { ResetHint::NotReset },
            }
        })
        .collect()
}

#[test]
fn a_steady_series_takes_little_more_than_its_buckets() {
    let fresh = check(&latencies(240), Effort::Fresh).len();
    let compacted = check(&latencies(240), Effort::Compacted).len();
    assert!(fresh < 240 * 10, "{fresh}");
    assert!(compacted <= fresh, "{compacted} {fresh}");
}

#[test]
fn the_bytes_of_a_chunk_stay_as_written_down() {
    let mut custom = latencies(1).remove(0);
    custom.schema = -53;
    custom.zero_threshold = 0.0;
    custom.positive_spans = vec![Span { offset: 1, length: 2 }];
    custom.custom_values = vec![0.5, 1.0, 2.0];
    custom.sum = 4.5;
    custom.counts = Counts::Float(BucketCounts {
        count: 3.0,
        zero_count: 0.0,
        positive: vec![1.0, 2.0],
        negative: vec![],
    });
    custom.reset = ResetHint::Gauge;
    let mut integer = custom.clone();
    integer.schema = 3;
    integer.zero_threshold = 0.001;
    integer.custom_values.clear();
    integer.reset = ResetHint::Reset;
    integer.counts = Counts::Integer(BucketCounts {
        count: 7,
        zero_count: 3,
        positive: vec![1, 2],
        negative: vec![],
    });
    let bytes = check(&[integer, Histogram::stale(), custom], Effort::Fresh);
    #[rustfmt::skip]
    assert_eq!(bytes, [
        0x86, 0x02,                   // histograms, the second is stale
        0x01, 0x02, 0x04,             // hints: a line from 1, step 2
        0x01, 0x00, 0x06, 0x13,       // a run of one, integers, schema 3, threshold 1 / 10^3
        0x01, 0x02, 0x02, 0x00, 0x00, // spans: one of offset 1, length 2; none; no bounds
        0x01, 0x06, 0x00,             // zero count 3
        0x01, 0x02, 0x00,             // buckets 1
        0x01, 0x04, 0x00,             // and 2
        0x01, 0x02, 0x00,             // one more in the count than in buckets
        0x00, 0xd1, 0x05,             // sum 45 / 10
        0x01, 0x01, 0x69, 0x00,       // a run of one, floats, schema -53, threshold 0
        0x01, 0x02, 0x02, 0x00, 0x03, // spans the same, three bounds
        0x02, 0x01, 0x00, 0x05, 0x45, 0x51, // packed, scale 1: 5, 10, 20 in 5 bits each
        0x00, 0x00, 0x00, 0x10, 0x00, 0x20, 0x00, 0x30, // zero count, buckets, count
        0x00, 0xd1, 0x05,             // sum 45 / 10
    ]);
}

#[test]
fn what_a_chunk_does_not_hold_is_refused() {
    let mut out = Vec::new();
    let many = vec![Histogram::stale(); HISTOGRAMS_MAX + 1];
    let refused = encode_histograms(&many, Effort::Fresh, &mut out);
    assert_eq!(refused, Err(HistogramsError::TooLarge));
    let mut lopsided = latencies(2);
    lopsided[1].positive_spans.pop();
    let refused = encode_histograms(&lopsided, Effort::Fresh, &mut out);
    assert_eq!(refused, Err(HistogramsError::SpansMismatch));
    let mut wide = Histogram::stale();
    wide.sum = 0.0;
    wide.custom_values = vec![0.0; HISTOGRAM_CELLS_MAX];
    let refused = encode_histograms(&[wide], Effort::Fresh, &mut out);
    assert_eq!(refused, Err(HistogramsError::TooLarge));
    assert!(out.is_empty());
    // A run that claims a bucket for each of four billion, in a chunk that is short.
    let claim = [6, 1, 0, 0, 1, 0, 6, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
    assert!(decode_histograms(&claim, 1, &mut Vec::new()).is_err());
    // Bounds on a line take no bytes of their own: what they may take is bounded all the same.
    let bounds = [6, 1, 0, 0, 1, 0, 6, 0, 0, 0, 0x80, 0x80, 0x80, 0x01, 0, 0, 1, 0, 0, 1, 0, 0, 0];
    assert!(decode_histograms(&bounds, 1, &mut Vec::new()).is_err());
}
