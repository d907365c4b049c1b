//! What goes in comes out, to the bit, whatever it is; and whatever bytes come, nothing breaks.

use std::sync::Arc;

use proptest::prelude::*;
use stoa_model::{Labels, MetricKind, STALE_NAN_BITS};

use super::{Decoder, Encoder, SeriesText};
use crate::tick::{FamilyInfo, Series, Tick};

fn series(id: u32) -> Arc<Series> {
    let name = format!("m{}", id / 3);
    Arc::new(Series {
        id,
        family: Arc::new(FamilyInfo {
            name: name.clone(),
            help: format!("Help of {name}."),
            unit: String::new(),
            kind: MetricKind::Gauge,
        }),
        labels: Labels::from_pairs([("__name__", name), ("n", id.to_string())]).unwrap(),
    })
}

/// Rebuilds ticks from what the decoder says, as a receiver does.
#[derive(Default)]
struct Receiver {
    slots: Vec<SeriesText>,
}

impl Receiver {
    fn ticks(&mut self, decoder: &mut Decoder, payload: &[u8]) -> Vec<(i64, Vec<(String, u64)>)> {
        let mut ticks = Vec::new();
        for tick in decoder.decode(payload).expect("what was encoded decodes") {
            if tick.additions.reset {
                self.slots.clear();
            }
            self.slots.extend(tick.additions.series);
            let mut rows: Vec<(String, u64)> = tick
                .rows
                .iter()
                .map(|&(slot, value)| {
                    let series = &self.slots[slot as usize];
                    (format!("{:?}", series.labels), value.to_bits())
                })
                .collect();
            rows.sort_unstable();
            ticks.push((tick.t, rows));
        }
        ticks
    }
}

fn expected(tick: &Tick) -> (i64, Vec<(String, u64)>) {
    let mut rows: Vec<(String, u64)> = tick
        .samples
        .iter()
        .map(|(series, value)| {
            let labels: Vec<(String, String)> = series
                .labels
                .iter()
                .map(|label| (label.name.to_string(), label.value.to_string()))
                .collect();
            (format!("{labels:?}"), value.to_bits())
        })
        .collect();
    rows.sort_unstable();
    (tick.t, rows)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0_i64..1000).prop_map(|i| i as f64),
        2 => (any::<i32>(), 0_i32..6).prop_map(|(i, e)| f64::from(i) / 10_f64.powi(e)),
        1 => any::<i64>().prop_map(|i| i as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
        1 => Just(-0.0),
        1 => (0_i64..1 << 62).prop_map(|i| i as f64 / 1e9),
    ]
}

fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    let tick = (any::<i64>(), prop::collection::btree_map(0_u32..40, value(), 0..40));
    prop::collection::vec(tick, 1..12).prop_map(|ticks| {
        ticks
            .into_iter()
            .map(|(t, rows)| Tick {
                t,
                samples: rows.into_iter().map(|(id, value)| (series(id), value)).collect(),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn ticks_round_trip_to_the_bit(ticks in ticks(), at_once in 1_usize..4) {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
        let mut receiver = Receiver::default();
        for chunk in ticks.chunks(at_once) {
            let payload = encoder.encode(&chunk.iter().collect::<Vec<_>>()).unwrap();
            let got = receiver.ticks(&mut decoder, &payload);
            prop_assert_eq!(got, chunk.iter().map(expected).collect::<Vec<_>>());
        }
    }

    #[test]
    fn damaged_payloads_are_errors_or_ticks(ticks in ticks(), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let mut encoder = Encoder::new().unwrap();
        let mut payload = encoder.encode(&ticks.iter().collect::<Vec<_>>()).unwrap().to_vec();
        let at = at.index(payload.len());
        if cut {
            payload.truncate(at);
        } else {
            payload[at] ^= 1_u8 << bit;
        }
        let _either = Decoder::new().unwrap().decode(&payload);
    }

    #[test]
    fn arbitrary_unpacked_bytes_are_errors_or_ticks(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _either = Decoder::new().unwrap().decode(&bytes);
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        let _either = Decoder::new().unwrap().decode(&packed);
        // Without the end of the zstd frame, so that the ticks inside are reached.
        let mut encoder = Encoder::new().unwrap();
        let payload = encoder.compress_raw(bytes).unwrap();
        let _either = Decoder::new().unwrap().decode(&payload);
    }
}

#[test]
fn a_truncated_payload_is_an_error() {
    let tick = Tick { t: 5, samples: (0..50).map(|id| (series(id), f64::from(id))).collect() };
    let payload = Encoder::new().unwrap().encode(&[&tick]).unwrap();
    for len in 0..payload.len() {
        assert!(Decoder::new().unwrap().decode(&payload[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_unfolds() {
    let packed = zstd::bulk::compress(&vec![0_u8; 200 << 20], 3).unwrap();
    assert!(packed.len() < super::PAYLOAD_BYTES_MAX);
    let refused = Decoder::new().unwrap().decode(&packed).unwrap_err();
    assert!(matches!(refused, super::FrameError::Limit { .. } | super::FrameError::Decompress(_)));
    let mut encoder = Encoder::new().unwrap();
    let payload = encoder.compress_raw(vec![0; super::RAW_BYTES_MAX + 1]).unwrap();
    let refused = Decoder::new().unwrap().decode(&payload).unwrap_err();
    assert!(matches!(refused, super::FrameError::Limit { what: "bytes unpacked", .. }));
}

#[test]
fn ended_series_leave_the_dictionary_in_the_end() {
    let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
    let mut receiver = Receiver::default();
    for t in 0..400_u32 {
        let ended = (t * 10).saturating_sub(10)..t * 10;
        let ended = ended.map(|id| (series(id), stoa_model::stale_nan()));
        let alive = (t * 10..t * 10 + 20).map(|id| (series(id), f64::from(id)));
        let tick = Tick { t: i64::from(t) * 1000, samples: ended.chain(alive).collect() };
        let payload = encoder.encode(&[&tick]).unwrap();
        assert_eq!(receiver.ticks(&mut decoder, &payload), [expected(&tick)]);
        assert!(receiver.slots.len() < 1200, "{}", receiver.slots.len());
    }
}

#[test]
fn a_tick_of_a_few_series_leaves_the_others_in_the_dictionary() {
    let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
    let mut receiver = Receiver::default();
    // Thirty targets of 200 series, one after the other; then one fails and comes back over and over.
    let mut tick = |t: u32, of: u32, fails: bool| {
        let value = |id| if fails { stoa_model::stale_nan() } else { f64::from(id + t) };
        let samples = (of * 200..of * 200 + 200).map(|id| (series(id), value(id))).collect();
        let tick = Tick { t: i64::from(t) * 1000, samples };
        let payload = encoder.encode(&[&tick]).unwrap();
        assert_eq!(receiver.ticks(&mut decoder, &payload), [expected(&tick)], "{t}");
        payload.len()
    };
    let first: usize = (0..30).map(|of| tick(of, of, false)).sum();
    let again: usize = (30..60).map(|t| tick(t, t - 30, false)).sum();
    assert!(again * 4 < first, "{again} {first}");
    for t in 60..100 {
        tick(t, 7, t % 2 == 0);
    }
    assert_eq!(receiver.slots.len(), 6000);
}
