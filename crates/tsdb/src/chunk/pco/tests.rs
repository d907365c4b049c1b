use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::{get_doubles, get_integers, put_doubles, put_integers};
use crate::bytes::Cursor;

/// The column's bytes, if there is one; it ends where it says, whatever follows.
fn check(values: &[i64]) -> Option<Vec<u8>> {
    let mut out = vec![0xaa];
    if !put_integers(&mut out, values) {
        assert_eq!(out, [0xaa]);
        return None;
    }
    let column = out.split_off(1);
    let mut followed = column.clone();
    followed.extend([0x5a; 40]);
    let mut cursor = Cursor::new(&followed);
    let mut back = Vec::new();
    get_integers(&mut cursor, values.len(), &mut back).unwrap();
    assert_eq!(back, values);
    assert_eq!(cursor.len(), 40);
    Some(column)
}

fn check_doubles(values: &[f64]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if !put_doubles(&mut out, values) {
        return None;
    }
    let column = out.clone();
    out.extend([0x5a; 40]);
    let mut cursor = Cursor::new(&out);
    let mut back = Vec::new();
    get_doubles(&mut cursor, values.len(), &mut back).unwrap();
    assert!(back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())));
    assert_eq!(cursor.len(), 40);
    Some(column)
}

fn column() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        proptest::collection::vec(any::<i64>(), 0..300),
        proptest::collection::vec(prop_oneof![Just(i64::MIN), Just(i64::MAX), -2i64..2], 0..300),
        (any::<i64>(), 1i64..5000, proptest::collection::vec(0i64..9, 0..600)).prop_map(
            |(first, factor, steps)| steps
                .iter()
                .scan(first, |v, step| {
                    *v = v.wrapping_add(step * factor);
                    Some(*v)
                })
                .collect()
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_column_of_integers_round_trips(values in column()) {
        let written = check(&values).is_some();
        assert_eq!(written, values.len() >= 16, "{} values", values.len());
    }

    #[test]
    fn every_column_of_doubles_round_trips(
        bits in proptest::collection::vec(any::<u64>(), 16..300), near in 0u32..64,
    ) {
        for mask in [u64::MAX, (1u64 << near) - 1, u64::MAX << near] {
            let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(b & mask)).collect();
            assert!(check_doubles(&values).is_some());
        }
        let tenths: Vec<f64> = bits.iter().map(|b| f64::from((b >> 48) as u16) * 0.1).collect();
        assert!(check_doubles(&tenths).is_some());
    }

    #[test]
    fn any_bytes_decode_without_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        head in 0u8..16,
        mode in 0u8..64,
        n in 0usize..700,
    ) {
        let mut doubles = Vec::new();
        if let Some(first) = bytes.first_mut() {
            *first = mode;
        }
        if get_doubles(&mut Cursor::new(&bytes), n, &mut doubles).is_ok() {
            assert_eq!(doubles.len(), n);
        }
        // Seeds, base and divisor of one byte each, so that pco's own bytes are reached.
        for order in [0u8, 1, 2] {
            let mut column = vec![head & 3 | order << 2];
            column.extend(std::iter::repeat_n(2, usize::from(order) + 2));
            column.push(0);
            column.extend(&bytes);
            let mut integers = Vec::new();
            if get_integers(&mut Cursor::new(&column), n, &mut integers).is_ok() {
                assert_eq!(integers.len(), n);
            }
        }
    }
}

#[test]
fn every_bit_of_a_column_may_flip() {
    let integers: Vec<i64> = (0..400).map(|i| i * 70_000 + (i * i * 31) % 997).collect();
    let column = check(&integers).unwrap();
    for bit in 0..column.len() * 8 {
        let mut damaged = column.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        for n in [1, 255, 400, 65_535] {
            let mut back = Vec::new();
            let whole = get_integers(&mut Cursor::new(&damaged), n, &mut back).is_ok();
            assert!(!whole || back.len() == n);
        }
    }
    let doubles: Vec<f64> = integers.iter().map(|v| (*v as f64).sqrt()).collect();
    let column = check_doubles(&doubles).unwrap();
    for bit in 0..column.len() * 8 {
        let mut damaged = column.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut back = Vec::new();
        let whole = get_doubles(&mut Cursor::new(&damaged), 400, &mut back).is_ok();
        assert!(!whole || back.len() == 400);
    }
}

#[test]
fn what_pco_need_not_do_is_refused() {
    let columns: [(&str, &[u8]); 4] = [
        ("a dictionary of 2^25 - 1 entries", &[0xf4, 0xff, 0xff, 0x1f, 0, 0, 0, 0]),
        ("a mode of the future", &[0x05, 0, 0, 0, 0, 0]),
        ("a lookback window of 2^24", &[0x20, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("convolution", &[0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (name, bytes) in columns {
        let read = get_doubles(&mut Cursor::new(bytes), 100, &mut Vec::new());
        assert!(read.is_err(), "{name}");
        let mut column = vec![0x03, 0x00, 0x01];
        column.extend_from_slice(bytes);
        let read = get_integers(&mut Cursor::new(&column), 100, &mut Vec::new());
        assert!(read.is_err(), "{name}");
    }
    // Order 1 inside pco, which integers leave to us.
    let column = [0x00, 0x00, 0x01, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00];
    assert!(get_integers(&mut Cursor::new(&column), 100, &mut Vec::new()).is_err());
}

/// Bytes a past version wrote. They must decode for good, whatever pco's encoder writes today.
#[test]
fn the_bytes_of_past_columns_decode() {
    let integers: Vec<i64> = (0..20).map(|i| 5000 + i * 40 + (i % 3) * 1000).collect();
    check(&integers).unwrap();
    let mut back = Vec::new();
    get_integers(&mut Cursor::new(&PAST_INTEGERS), integers.len(), &mut back).unwrap();
    assert_eq!(back, integers);
    let doubles: Vec<f64> = (0..20).map(|i| f64::from(i * i % 7).sqrt()).collect();
    let column = check_doubles(&doubles).unwrap();
    let mut back = Vec::new();
    let read = get_doubles(&mut Cursor::new(&PAST_DOUBLES), doubles.len(), &mut back);
    assert!(read.is_ok() && back == doubles, "{column:?}");
}

const PAST_INTEGERS: [u8; 15] = [
    0x04, // residues of 8 bits, differences once
    0x90, 0x4e, // the first value, 5000
    0xcf, 0x1e, // base -1960
    0xb8, 0x17, // divisor 3000
    0x00, 0x10, 0x00, 0x00, 0x08, 0xdb, 0xb6, 0x05, // pco: metadata, page
];
#[rustfmt::skip]
const PAST_DOUBLES: [u8; 48] = [
    0x00, 0x44, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40,
    0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0xff, 0x02, 0xa8, 0x79,
    0xe7, 0xcf, 0xcc, 0x13, 0xd4, 0xfe, 0x17, 0x40, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0xc0, 0x00, 0x20, 0x63, 0x99, 0x48, 0x7c, 0xa1, 0x00,
];
