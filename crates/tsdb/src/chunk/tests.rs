use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use stoa_model::stale_nan;

use super::{
    Codec, Effort, decode_times, decode_values, encode_times, encode_values, encode_values_as,
    encode_values_with,
};

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn decoded(chunk: &[u8], n: usize) -> Vec<u64> {
    let mut back = vec![1.5];
    decode_values(chunk, n, &mut back).unwrap();
    bits(&back[1..])
}

/// The fresh chunk, after both efforts and every codec gave back the same bits.
fn check(values: &[f64]) -> Vec<u8> {
    let mut fresh = Vec::new();
    encode_values(values, &mut fresh);
    assert_eq!(decoded(&fresh, values.len()), bits(values));
    let mut compacted = Vec::new();
    encode_values_with(Effort::Compacted, values, &mut compacted);
    assert_eq!(decoded(&compacted, values.len()), bits(values));
    assert!(compacted.len() * 95 <= fresh.len() * 100, "{} {}", compacted.len(), fresh.len());
    for codec in Codec::ALL {
        let mut out = vec![0xaa];
        if encode_values_as(codec, values, &mut out) {
            assert_eq!(out[1] & 0x7f, codec.tag());
            assert_eq!(decoded(&out[1..], values.len()), bits(values), "{codec:?}");
        } else {
            assert_eq!(out, [0xaa], "{codec:?} left bytes behind");
        }
    }
    fresh
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(f64::from),
        2 => (-100_000i32..100_000).prop_map(|m| f64::from(m) / 1000.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => proptest::sample::select(vec![
            -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE / 2.0,
            f64::MAX, stale_nan(), f64::from_bits(0x7ff8_0000_0000_0001),
        ]),
    ]
}

fn column() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        proptest::collection::vec(value(), 0..260),
        proptest::collection::vec((0i32..9).prop_map(f64::from), 0..260),
        proptest::collection::vec(
            prop_oneof![9 => (0i32..9).prop_map(f64::from), 1 => Just(stale_nan())],
            0..260
        ),
        (any::<i32>(), any::<i32>(), 0i32..260).prop_map(|(a, b, n)| (0..n)
            .map(|i| f64::from(a) + f64::from(b) * f64::from(i))
            .collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_column_of_values_round_trips(values in column()) {
        check(&values);
    }

    #[test]
    fn every_ascending_column_of_times_round_trips(
        first in -1_000_000_000_000_000i64..1_000_000_000_000_000,
        steps in proptest::collection::vec(prop_oneof![1i64..3, Just(1000i64), 1i64..100_000_000], 0..300),
    ) {
        let times: Vec<i64> = steps.iter().scan(first, |t, step| { *t += step; Some(*t) }).collect();
        let mut out = Vec::new();
        encode_times(&times, &mut out);
        let mut back = Vec::new();
        decode_times(&out, times.len(), &mut back).unwrap();
        assert_eq!(back, times);
    }

    #[test]
    fn damaged_chunks_never_panic(
        values in column(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0u32..8), 1..6),
        other_n in 0usize..400,
    ) {
        for codec in Codec::ALL {
            let mut bytes = Vec::new();
            if !encode_values_as(codec, &values, &mut bytes) {
                continue;
            }
            for end in 0..bytes.len() {
                let cut = decode_values(&bytes[..end], values.len(), &mut Vec::new());
                assert!(cut.is_err(), "{codec:?} cut at {end} of {}", bytes.len());
            }
            for (at, bit) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                for n in [values.len(), other_n] {
                    let mut back = Vec::new();
                    let whole = decode_values(&bytes, n, &mut back).is_ok();
                    assert!(back.len() <= n && (!whole || back.len() == n));
                }
            }
        }
    }

    #[test]
    fn any_bytes_decode_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120), n in 0usize..400,
    ) {
        let mut values = Vec::new();
        if decode_values(&bytes, n, &mut values).is_ok() {
            assert_eq!(values.len(), n);
        }
        let mut times = Vec::new();
        if decode_times(&bytes, n, &mut times).is_ok() {
            assert_eq!(times.len(), n);
        }
        assert!(values.len() <= n && times.len() <= n + 2);
    }
}

#[test]
fn the_bytes_of_each_codec_stay_as_written_down() {
    let stale = stale_nan();
    for (values, bytes) in [
        (vec![7.0; 100], vec![0x00, 0x70]),
        (vec![], vec![0x00, 0x00]),
        (vec![10.0, 12.0, 14.0], vec![0x01, 0x00, 0x14, 0x04]),
        (vec![0.5, 1.0, 1.5], vec![0x01, 0x01, 0x0a, 0x0a]),
        (vec![5.0, 5.0, 6.0, 5.0], vec![0x02, 0x00, 0x00, 0x03, 0xad, 0x0b]),
        (vec![1.0, stale, 1.0], vec![0x80, 0x02, 0x10]),
        (vec![stale], vec![0x80, 0x01, 0x00]),
        (
            vec![-0.0, 1.0 / 3.0],
            vec![0x07, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0xd5, 0x3f],
        ),
        (vec![-0.0, -0.0, 0.0], vec![0x05, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x60, 0x02]),
    ] {
        assert_eq!(check(&values), bytes, "{values:?}");
    }
    let mut out = Vec::new();
    encode_times(&[1000, 2000, 3000], &mut out);
    assert_eq!(out, [0x01, 0xd0, 0x0f, 0xd0, 0x0f]);
    out.clear();
    encode_times(&[1000, 2000, 3000, 4001, 5000], &mut out);
    assert_eq!(out, [0x02, 0x01, 0xd0, 0x0f, 0x82, 0xce, 0x0f, 0x25]);
}

#[test]
fn malformed_chunks_are_refused() {
    let mut values = Vec::new();
    for (bytes, n) in [
        (&[][..], 1),
        (&[0x03, 0x00], 1),
        (&[0x04, 0x00], 1),
        (&[0x06, 0x00], 1),
        (&[0x01, 0x10, 0x00, 0x00], 1),
        (&[0x00, 0x00, 0x00], 1),
        (&[0x07, 1, 2, 3], 1),
        (&[0x02, 0x00, 0x03], 4),
        (&[0x00, 0x00], 70_000),
    ] {
        assert!(decode_values(bytes, n, &mut values).is_err(), "{bytes:?}");
    }
    let mut times = Vec::new();
    assert!(decode_times(&[0x01, 0x02, 0x00], 3, &mut times).is_err(), "a step of zero");
}
