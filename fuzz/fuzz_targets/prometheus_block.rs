//! Any bytes as the files of a Prometheus block. Property: reading ends, without panic and without
//! more memory than the input could fill.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use stoa_exchange::prometheus_block::{BlockFiles, BlockReader};

const META: &[u8] =
    br#"{"ulid":"0","minTime":0,"maxTime":1,"compaction":{"level":1},"version":1}"#;

fuzz_target!(|files: (Vec<u8>, Vec<u8>, Option<Vec<u8>>)| {
    let (index, segment, tombstones) = files;
    let files = BlockFiles {
        meta: META.to_vec(),
        index: Cursor::new(index),
        segments: vec![Cursor::new(segment)],
        tombstones,
    };
    let Ok(mut block) = BlockReader::open(files) else { return };
    let mut samples = Vec::new();
    while let Ok(Some(_)) = block.next_series(&mut samples) {}
});
