//! Figures of the chunk codecs over a recording: bytes per sample by chunk length and spacing,
//! values and shared timestamps, and nanoseconds per sample of encoding and decoding.
//!
//! `cargo run --release -p stoa-tsdb --example measure_chunks -- RECORDING [WITHOUT]`. Recordings as in
//! `measure.rs`. WITHOUT is a comma-separated list of prefixes of metric names to leave out. Chunks
//! are cut from each series alone; the last one of a series is as short as the recording ends, so a
//! length over that of the recording measures one chunk per series.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measuring tool"
)]

use std::hint::black_box;
use std::time::Instant;

use stoa_tsdb::chunk::{
    Codec, Effort, decode_values, encode_times, encode_values_as, encode_values_with,
};

const LENGTHS: [usize; 5] = [120, 240, 1024, 4096, 7200];
const ROUNDS: usize = 5;

struct Recording {
    times: Vec<i64>,
    series: Vec<Vec<f64>>,
}

fn read(path: &str, without: &[&str]) -> Recording {
    let (mut names, mut times, mut series) = (Vec::new(), Vec::new(), Vec::<Vec<f64>>::new());
    let mut now = Vec::<f64>::new();
    let text = std::fs::read_to_string(path).unwrap();
    for line in text.lines() {
        let Some((first, rest)) = line.split_once(' ') else { continue };
        match first {
            "T" => {
                if !times.is_empty() {
                    series.resize(now.len(), Vec::new());
                    for (column, value) in series.iter_mut().zip(&now) {
                        column.push(*value);
                    }
                }
                times.push(rest.parse().unwrap());
            }
            "D" => {
                names.push(rest.split_once(' ').unwrap().1.to_owned());
                now.push(0.0);
            }
            number => now[number.parse::<usize>().unwrap()] = rest.parse().unwrap(),
        }
    }
    times.pop();
    let wanted = |name: &String| !without.iter().any(|prefix| name.starts_with(prefix));
    let kept = names
        .iter()
        .zip(series)
        .filter(|(name, column)| wanted(name) && column.len() == times.len());
    let series = kept.map(|(_, column)| column).collect();
    Recording { times, series }
}

impl Recording {
    fn every(&self, step: usize) -> Self {
        Self {
            times: self.times.iter().copied().step_by(step).collect(),
            series: self.series.iter().map(|c| c.iter().copied().step_by(step).collect()).collect(),
        }
    }

    fn chunks(&self, length: usize) -> impl Iterator<Item = &[f64]> {
        self.series.iter().flat_map(move |column| column.chunks(length))
    }
}

/// Bytes per sample of an encoder that falls back to what the head writes.
fn bytes_per_sample(
    recording: &Recording,
    length: usize,
    encode: impl Fn(&[f64], &mut Vec<u8>) -> bool,
) -> f64 {
    let (mut bytes, mut samples) = (0usize, 0usize);
    for chunk in recording.chunks(length) {
        let mut out = Vec::new();
        if !encode(chunk, &mut out) {
            encode_values_with(Effort::Fresh, chunk, &mut out);
        }
        bytes += out.len();
        samples += chunk.len();
    }
    bytes as f64 / samples as f64
}

fn is_simple(chunk: &[f64]) -> bool {
    let mut out = Vec::new();
    encode_values_as(Codec::Const, chunk, &mut out)
        || encode_values_as(Codec::Linear, chunk, &mut out)
}

/// Best of some rounds, in nanoseconds per sample: encoding and decoding the chunks the codec takes.
fn speed(chunks: &[&[f64]], encode: impl Fn(&[f64], &mut Vec<u8>) -> bool) -> (f64, f64) {
    let (mut encoding, mut decoding) = (f64::INFINITY, f64::INFINITY);
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        let mut encoded = Vec::new();
        let mut samples = 0;
        let began = Instant::now();
        for chunk in chunks {
            out.clear();
            if encode(chunk, &mut out) {
                encoded.push((out.clone(), chunk.len()));
                samples += chunk.len();
            }
        }
        encoding = encoding.min(began.elapsed().as_nanos() as f64 / samples as f64);
        let mut values = Vec::new();
        let began = Instant::now();
        for (bytes, n) in &encoded {
            values.clear();
            decode_values(bytes, *n, &mut values).unwrap();
            black_box(&values);
        }
        decoding = decoding.min(began.elapsed().as_nanos() as f64 / samples as f64);
    }
    (encoding, decoding)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let without: Vec<&str> = args.get(2).map_or(vec![], |list| list.split(',').collect());
    let recording = read(&args[1], &without);
    println!("{} series, {} ticks", recording.series.len(), recording.times.len());
    println!("B/sample: values alone by codec, then all in (values and shared timestamps)");
    println!(
        "spacing length |   raw    xor pco f64 packed pco i64 | fresh compacted | all in: fresh compacted"
    );
    for step in [1, 10] {
        let recording = recording.every(step);
        for length in LENGTHS {
            let alone = |codec: Codec| {
                bytes_per_sample(&recording, length, |chunk, out| {
                    let simple = codec == Codec::PcoIntegers && is_simple(chunk);
                    !simple && encode_values_as(codec, chunk, out)
                })
            };
            let best = |effort: Effort| {
                bytes_per_sample(&recording, length, |chunk, out| {
                    encode_values_with(effort, chunk, out);
                    true
                })
            };
            let mut times = Vec::new();
            for chunk in recording.times.chunks(length) {
                encode_times(chunk, &mut times);
            }
            let samples = recording.times.len() * recording.series.len();
            let times = times.len() as f64 / samples as f64;
            let (fresh, compacted) = (best(Effort::Fresh), best(Effort::Compacted));
            println!(
                "{:>5} s {length:>6} | {:>5.3} {:>6.3} {:>7.3} {:>6.3} {:>7.3} | {fresh:>5.3} {compacted:>9.3} | {:>13.3} {:>9.3}",
                step,
                alone(Codec::Raw),
                alone(Codec::Xor),
                alone(Codec::PcoDoubles),
                alone(Codec::Packed),
                alone(Codec::PcoIntegers),
                fresh + times,
                compacted + times,
            );
        }
    }
    println!("ns/sample over chunks neither constant nor on a line: encode decode");
    for length in [120, 240, 1024] {
        let busy: Vec<&[f64]> =
            recording.chunks(length).filter(|chunk| !is_simple(chunk)).collect();
        let as_codec =
            |codec: Codec| speed(&busy, move |chunk, out| encode_values_as(codec, chunk, out));
        let with = |effort: Effort| {
            speed(&busy, move |chunk, out| {
                encode_values_with(effort, chunk, out);
                true
            })
        };
        for (name, (encoding, decoding)) in [
            ("packed", as_codec(Codec::Packed)),
            ("pco i64", as_codec(Codec::PcoIntegers)),
            ("pco f64", as_codec(Codec::PcoDoubles)),
            ("xor", as_codec(Codec::Xor)),
            ("fresh", with(Effort::Fresh)),
            ("compacted", with(Effort::Compacted)),
        ] {
            println!("{length:>6} {name:>10} {encoding:>8.1} {decoding:>8.1}");
        }
    }
}
