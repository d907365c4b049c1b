//! Chunks of rollups: a column for each number a window is told in.
//!
//! Columns are chunks of values with their lengths. One that has the very bits of an earlier one is
//! named instead of written: of a counter the smallest value is the first and the largest the last, of
//! a window with one sample all are the same. Windows without samples, which only say that the series
//! has ended, have stale markers for numbers.
//!
//! Times are relative to the end of the window, 0 or less: the ends are the series' timestamps.

use stoa_model::{Rollup, stale_nan};

use super::{CHUNK_SAMPLES_MAX, Effort, decode_values, encode_values_with};
use crate::bytes::{Cursor, Malformed, put_bytes};

/// Names a chunk of rollups.
const TAG_ROLLUPS: u8 = 8;
/// Stands where a column is written and not another's.
const OWN: u8 = 0xff;
const COLUMNS: usize = 10;

/// The numbers of a rollup in the order of the columns.
fn numbers(rollup: &Rollup) -> [f64; COLUMNS] {
    let Rollup { first_t, last_t, count, sum, min, max, first, last, lost, is_ended } = *rollup;
    let frame = [count as f64, (-last_t) as f64, (-first_t) as f64, f64::from(u8::from(is_ended))];
    let [count_column, last_t, first_t, ended] = frame;
    let values = if count == 0 { [stale_nan(); 5] } else { [last, first, min, max, sum] };
    let [last, first, min, max, sum] = values;
    let lost = if count == 0 { 0.0 } else { lost };
    [last, first, min, max, sum, count_column, lost, last_t, first_t, ended]
}

/// Appends the rollups as one chunk; their times are relative to the ends of their windows.
pub fn encode_rollups(rollups: &[Rollup], out: &mut Vec<u8>) {
    let mut columns = vec![Vec::new(); COLUMNS];
    for rollup in rollups {
        for (column, number) in columns.iter_mut().zip(numbers(rollup)) {
            column.push(number);
        }
    }
    out.push(TAG_ROLLUPS);
    let mut scratch = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let is_same = |other: &Vec<f64>| {
            other.iter().map(|v| v.to_bits()).eq(column.iter().map(|v| v.to_bits()))
        };
        let same = columns.iter().take(at).position(is_same);
        if let Some(same) = same.and_then(|same| u8::try_from(same).ok()) {
            out.push(same);
            continue;
        }
        out.push(OWN);
        scratch.clear();
        encode_values_with(Effort::Compacted, column, &mut scratch);
        put_bytes(out, &scratch);
    }
}

/// Appends the `n` rollups of a chunk to `out`, their times relative to the ends of their windows.
///
/// # Errors
/// [`Malformed`] when the bytes are no chunk of `n` rollups.
pub fn decode_rollups(chunk: &[u8], n: usize, out: &mut Vec<Rollup>) -> Result<(), Malformed> {
    if n > CHUNK_SAMPLES_MAX {
        return Err(Malformed("chunk of too many rollups"));
    }
    let mut cursor = Cursor::new(chunk);
    if cursor.u8()? != TAG_ROLLUPS {
        return Err(Malformed("no chunk of rollups"));
    }
    let mut written: Vec<Vec<f64>> = Vec::with_capacity(COLUMNS);
    let mut places = [0; COLUMNS];
    for at in 0..COLUMNS {
        let same = usize::from(cursor.u8()?);
        let place = if same == usize::from(OWN) {
            let mut column = Vec::new();
            decode_values(cursor.bytes()?, n, &mut column)?;
            written.push(column);
            written.len() - 1
        } else {
            let earlier = places.get(..at).and_then(|places| places.get(same));
            *earlier.ok_or(Malformed("a column is the same as none before it"))?
        };
        if let Some(slot) = places.get_mut(at) {
            *slot = place;
        }
    }
    cursor.end()?;
    let columns: Option<Vec<&[f64]>> =
        places.iter().map(|place| written.get(*place).map(Vec::as_slice)).collect();
    let columns = columns.unwrap_or_default();
    let [last, first, min, max, sum, count, lost, last_t, first_t, ended] = columns.as_slice()
    else {
        return Err(Malformed("a rollup without all columns"));
    };
    out.reserve(n);
    for at in 0..n {
        let number = |column: &[f64]| column.get(at).copied().unwrap_or_default();
        let count = whole(number(count))?.cast_unsigned();
        out.push(Rollup {
            first_t: -whole(number(first_t))?,
            last_t: -whole(number(last_t))?,
            count,
            sum: number(sum),
            min: number(min),
            max: number(max),
            first: number(first),
            last: number(last),
            lost: number(lost),
            is_ended: number(ended) != 0.0,
        });
    }
    Ok(())
}

/// A number that is a whole one, 0 or more, and no larger than a double counts.
fn whole(v: f64) -> Result<i64, Malformed> {
    const MAX: f64 = 9_007_199_254_740_992.0;
    if !(0.0..=MAX).contains(&v) || v.fract() != 0.0 {
        return Err(Malformed("a count or an offset is no whole number"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
    let whole = v as i64;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
    use proptest::strategy::{Just, Strategy};
    use stoa_model::{Rollup, RollupFold, stale_nan};

    use super::{decode_rollups, encode_rollups};

    fn window(samples: &[f64]) -> Rollup {
        let mut fold = RollupFold::default();
        for (t, v) in (-59_999..).step_by(1000).zip(samples) {
            fold.push(&Rollup::of(t, *v));
        }
        fold.finish().unwrap()
    }

    fn check(rollups: &[Rollup]) -> usize {
        let mut chunk = Vec::new();
        encode_rollups(rollups, &mut chunk);
        let mut read = Vec::new();
        decode_rollups(&chunk, rollups.len(), &mut read).unwrap();
        assert_eq!(read, rollups);
        for cut in 0..chunk.len() {
            assert!(decode_rollups(&chunk[..cut], rollups.len(), &mut Vec::new()).is_err());
        }
        chunk.len()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (0i32..1000).prop_map(f64::from),
            1 => any::<f64>(),
            1 => Just(stale_nan()),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_was_rolled_up_comes_back(
            windows in proptest::collection::vec(
                proptest::collection::vec(value(), 1..20), 1..40),
        ) {
            check(&windows.iter().map(|samples| window(samples)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60), n in 0usize..20,
        ) {
            let mut chunk = vec![super::TAG_ROLLUPS];
            chunk.extend(bytes);
            let mut out = Vec::new();
            assert!(decode_rollups(&chunk, n, &mut out).is_err() || out.len() == n);
        }
    }

    #[test]
    fn columns_that_are_the_same_are_written_once() {
        let counter: Vec<Rollup> = (0..480)
            .map(|minute| {
                let samples: Vec<f64> = (0..60).map(|s| f64::from(minute * 60 + s) * 3.0).collect();
                window(&samples)
            })
            .collect();
        assert!(check(&counter) < 80);
        let constant: Vec<Rollup> = (0..480).map(|_| window(&[7.0])).collect();
        assert!(check(&constant) < 40);
    }

    /// The bytes are those of docs/formats/chunk.md.
    #[test]
    fn a_chunk_is_pinned() {
        let mut chunk = Vec::new();
        encode_rollups(&[window(&[7.0, 9.0]), window(&[stale_nan()])], &mut chunk);
        let hex: String = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let columns = [
            "08",
            "ff0480029001",
            "ff0380027001",
            "00",
            "ff0480028002",
            "ff0401000403",
            "ff020000",
            "ff070100ee9907d00f",
            "ff0400f0cb3a",
            "ff0401000002",
        ];
        assert_eq!(hex, columns.concat());
    }
}
