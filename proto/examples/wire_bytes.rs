//! Bytes per sample of a recording: `cargo run --release -p stoa-proto --example wire_bytes FILE`.
//!
//! The file holds lines of tab-separated fields: `K`, then series as `name{…}`; or `V`, a time in
//! milliseconds, then one value per series of the last `K`. Prints the bytes per sample with one
//! tick per frame (live) and with 60 ticks per key frame (spool), message framing included.

use std::sync::Arc;

use prost::Message as _;
use stoa_model::{Labels, MetricKind};
use stoa_proto::frame::{Decoder, Encoder};
use stoa_proto::message::{Data, Push};
use stoa_proto::tick::{FamilyInfo, Series, Tick};
use stoa_proto::v1;

/// gRPC's message header and HTTP/2's frame header.
const RPC_BYTES: usize = 5 + 9;

#[expect(clippy::print_stdout, reason = "its output")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: wire_bytes FILE")?;
    let mut series: Vec<Arc<Series>> = Vec::new();
    let mut current: Vec<Arc<Series>> = Vec::new();
    let mut ticks = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let mut fields = line.split('\t');
        if fields.next() == Some("K") {
            current.clear();
            for key in fields {
                let known = series.iter().find(|s| s.labels.get("key") == Some(key)).cloned();
                let one = match known {
                    Some(known) => known,
                    None => {
                        let name = key.split('{').next().unwrap_or(key);
                        let id = u32::try_from(series.len())?;
                        let family = Arc::new(FamilyInfo {
                            name: name.to_owned(),
                            help: format!("Help of {name}, about as long as such texts are."),
                            unit: String::new(),
                            kind: MetricKind::Counter,
                        });
                        let labels = Labels::from_pairs([("__name__", name), ("key", key)])?;
                        Arc::new(Series { id, family, labels })
                    }
                };
                if usize::try_from(one.id)? == series.len() {
                    series.push(Arc::clone(&one));
                }
                current.push(one);
            }
        } else {
            let t = fields.next().ok_or("no time")?.parse()?;
            let mut tick = Tick { t, samples: Vec::new() };
            for (one, value) in current.iter().zip(fields) {
                tick.samples.push((Arc::clone(one), value.parse()?));
            }
            tick.samples.sort_by_key(|(one, _)| one.id);
            ticks.push(tick);
        }
    }
    let samples = |ticks: &[Tick]| ticks.iter().map(|tick| tick.samples.len()).sum::<usize>();
    let (mut encoder, mut decoder) = (Encoder::new()?, Decoder::new()?);
    let (mut first, mut live) = (0, 0);
    for (seq, tick) in (1..).zip(&ticks) {
        let bytes = message_bytes(&mut encoder, &mut decoder, seq, &[tick])?;
        if seq == 1 { first = bytes } else { live += bytes }
    }
    let count = samples(ticks.get(1..).unwrap_or_default());
    println!("{} series, {} ticks, dictionary frame {first} B", series.len(), ticks.len());
    println!("live: {:.3} B/sample, {} B/tick", ratio(live, count), live / ticks.len().max(1));
    let mut spool = 0;
    for block in ticks.chunks(60) {
        let refs: Vec<&Tick> = block.iter().collect();
        spool += message_bytes(&mut Encoder::new()?, &mut Decoder::new()?, 1, &refs)?;
    }
    println!("60 ticks per key frame: {:.3} B/sample", ratio(spool, samples(&ticks)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "printed")]
fn ratio(bytes: usize, samples: usize) -> f64 {
    bytes as f64 / samples.max(1) as f64
}

fn message_bytes(
    encoder: &mut Encoder,
    decoder: &mut Decoder,
    seq: u64,
    ticks: &[&Tick],
) -> Result<usize, Box<dyn std::error::Error>> {
    let payload = encoder.encode(ticks)?;
    let decoded = decoder.decode(&payload)?;
    for (tick, got) in ticks.iter().zip(&decoded) {
        let same = tick.t == got.t
            && tick
                .samples
                .iter()
                .zip(&got.rows)
                .all(|((_, a), (_, b))| a.to_bits() == b.to_bits());
        if !same {
            return Err("what came out is not what went in".into());
        }
    }
    let data = Data {
        seq,
        ticks: u32::try_from(ticks.len())?,
        samples: u32::try_from(ticks.iter().map(|tick| tick.samples.len()).sum::<usize>())?,
        key: seq == 1,
        payload,
    };
    Ok(v1::Frame::from(Push::Data(data)).encoded_len() + RPC_BYTES)
}
