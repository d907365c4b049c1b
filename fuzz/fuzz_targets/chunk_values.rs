//! Any column of doubles. Property: every codec that takes it, and both efforts, give back the bits
//! that the raw form gives back, which are the bits that went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_tsdb::chunk::{
    CHUNK_SAMPLES_MAX, Codec, Effort, decode_values, encode_values_as, encode_values_with,
};

fuzz_target!(|input: (u8, i16, Vec<u64>)| {
    let (shape, factor, words) = input;
    let values: Vec<f64> = match shape % 5 {
        0 => words.iter().map(|word| f64::from_bits(*word)).collect(),
        // What hosts report: short decimals, counters that step, few distinct values.
        1 => words.iter().map(|word| (word & 0xffff) as f64 * f64::from(factor)).collect(),
        2 => words.iter().map(|word| (word & 0xff_ffff) as f64 / 1000.0).collect(),
        3 => {
            let step = |sum: &mut u64, word: &u64| {
                *sum = sum.wrapping_add(word & 0xff);
                Some(*sum as f64)
            };
            words.iter().scan(u64::from(shape) << 40, step).collect()
        }
        _ => words.iter().map(|word| f64::from_bits(0x7ff0_0000_0000_0000 | word & 3)).collect(),
    };
    let values = &values[..values.len().min(CHUNK_SAMPLES_MAX)];
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let decoded = |chunk: &[u8]| {
        let mut back = Vec::new();
        decode_values(chunk, values.len(), &mut back).unwrap();
        bits(&back)
    };
    let mut raw = Vec::new();
    assert!(encode_values_as(Codec::Raw, values, &mut raw));
    let raw = decoded(&raw);
    assert_eq!(raw, bits(values));
    for effort in [Effort::Fresh, Effort::Compacted] {
        let mut chunk = Vec::new();
        encode_values_with(effort, values, &mut chunk);
        assert_eq!(decoded(&chunk), raw, "{effort:?}");
    }
    for codec in Codec::ALL {
        let mut chunk = Vec::new();
        if encode_values_as(codec, values, &mut chunk) {
            assert_eq!(decoded(&chunk), raw, "{codec:?}");
        }
    }
});
