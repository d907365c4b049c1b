//! Any bytes as a chunk of any number of entries. Property: an error or exactly as many entries, and
//! no more memory than the bounds of the format allow (run it with `-malloc_limit_mb=64`).

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_tsdb::chunk::{decode_histograms, decode_rollups, decode_times, decode_values};

fuzz_target!(|input: (u16, &[u8])| {
    let (n, bytes) = (usize::from(input.0), input.1);
    let mut values = Vec::new();
    let whole = decode_values(bytes, n, &mut values).is_ok();
    assert!(values.len() <= n && (!whole || values.len() == n));
    let mut times = Vec::new();
    if decode_times(bytes, n, &mut times).is_ok() {
        assert_eq!(times.len(), n);
    }
    let mut histograms = Vec::new();
    let whole = decode_histograms(bytes, n, &mut histograms).is_ok();
    assert!(histograms.len() <= n && (!whole || histograms.len() == n));
    let mut rollups = Vec::new();
    let whole = decode_rollups(bytes, n, &mut rollups).is_ok();
    assert!(rollups.len() <= n && (!whole || rollups.len() == n));
});
