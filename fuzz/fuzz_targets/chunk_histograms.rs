//! Any histograms. Property: both efforts give back what went in, stale markers as markers alone, or
//! nothing was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_model::{BucketCounts, Counts, Histogram, ResetHint, Span};
use stoa_tsdb::chunk::{Effort, decode_histograms, encode_histograms};

/// Layout (schema, threshold, spans, bounds), kind and hint, numbers; repeated with growing counts.
type Input = Vec<((i32, u64, Vec<(i32, u8)>, Vec<u64>), (bool, u8), Vec<u64>, u8)>;

fuzz_target!(|input: Input| {
    let mut histograms = Vec::new();
    for ((schema, threshold, spans, bounds), (is_float, hint), numbers, repeats) in input {
        let spans: Vec<Span> = spans
            .into_iter()
            .map(|(offset, length)| Span { offset, length: u32::from(length % 8) })
            .collect();
        let (positive_spans, negative_spans) = spans.split_at(spans.len() / 2);
        for tick in 0..u64::from(repeats % 40) + 1 {
            let number = |at: usize| {
                let number = numbers.get(at % numbers.len().max(1)).copied().unwrap_or(0);
                number.wrapping_add(tick * (at as u64 % 5))
            };
            let buckets = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum();
            let (positive, negative): (usize, usize) =
                (buckets(positive_spans), buckets(negative_spans));
            let double = |at: usize| f64::from_bits(number(at));
            let counts = if is_float {
                Counts::Float(BucketCounts {
                    count: double(0),
                    zero_count: double(1),
                    positive: (0..positive).map(double).collect(),
                    negative: (0..negative).map(double).collect(),
                })
            } else {
                Counts::Integer(BucketCounts {
                    count: number(0),
                    zero_count: number(1),
                    positive: (0..positive).map(number).collect(),
                    negative: (0..negative).map(number).collect(),
                })
            };
            let histogram = Histogram {
                schema,
                zero_threshold: f64::from_bits(threshold),
                sum: double(2),
                positive_spans: positive_spans.to_vec(),
                negative_spans: negative_spans.to_vec(),
                custom_values: bounds.iter().map(|bound| f64::from_bits(*bound)).collect(),
                counts,
                reset: match hint % 4 {
                    0 => ResetHint::Unknown,
                    1 => ResetHint::Reset,
                    2 => ResetHint::NotReset,
                    _ => ResetHint::Gauge,
                },
            };
            // Validating must not panic either; a chunk keeps what is not valid too.
            let _unused = histogram.validate();
            histograms.push(histogram);
        }
    }
    let expected: Vec<Histogram> = histograms
        .iter()
        .map(|h| if h.is_stale() { Histogram::stale() } else { h.clone() })
        .collect();
    for effort in [Effort::Fresh, Effort::Compacted] {
        let mut chunk = Vec::new();
        if encode_histograms(&histograms, effort, &mut chunk).is_err() {
            assert!(chunk.is_empty());
            continue;
        }
        let mut back = Vec::new();
        decode_histograms(&chunk, histograms.len(), &mut back).unwrap();
        assert_eq!(back, expected, "{effort:?}");
    }
});
