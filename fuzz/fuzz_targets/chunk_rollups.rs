//! Any samples, window by window, and any timestamps. Property: the rollups of the windows, and the
//! timestamps in order, come back as they went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_model::{Rollup, RollupFold};
use stoa_tsdb::chunk::{
    CHUNK_SAMPLES_MAX, decode_rollups, decode_times, encode_rollups, encode_times,
};

fuzz_target!(|input: (Vec<Vec<(u16, u64)>>, Vec<i64>)| {
    let (windows, mut times) = input;
    let windows = windows.iter().filter_map(|samples| {
        let mut fold = RollupFold::default();
        let mut t = -(1 << 40);
        for (step, bits) in samples {
            t += i64::from(*step) + 1;
            fold.push(&Rollup::of(t, f64::from_bits(*bits)));
        }
        fold.finish()
    });
    let rollups: Vec<Rollup> = windows.take(CHUNK_SAMPLES_MAX).collect();
    let mut chunk = Vec::new();
    encode_rollups(&rollups, &mut chunk);
    let mut back = Vec::new();
    decode_rollups(&chunk, rollups.len(), &mut back).unwrap();
    assert_eq!(back, rollups);

    times.sort_unstable();
    times.dedup();
    times.truncate(CHUNK_SAMPLES_MAX);
    chunk.clear();
    encode_times(&times, &mut chunk);
    let mut back = Vec::new();
    decode_times(&chunk, times.len(), &mut back).unwrap();
    assert_eq!(back, times);
});
