//! Prometheus's blocks, written and read back; the real `promtool` reads them in
//! `tests/exchange/run`.

#![expect(clippy::unwrap_used, reason = "a test; what fails to be read is its failure")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Cursor, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use stoa_exchange::prometheus_block::{
    BlockError, BlockFiles, BlockReader, BlockWriter, Meta, ulid,
};
use stoa_model::Labels;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint};

type Series = (Labels, Vec<(i64, f64)>);

/// A file in memory that outlives its writer.
#[derive(Clone, Debug, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }
}

struct Files {
    meta: Vec<u8>,
    index: Vec<u8>,
    segments: Vec<Vec<u8>>,
    tombstones: Option<Vec<u8>>,
}

/// A series of both kinds.
type Both = (Labels, Vec<(i64, f64)>, Vec<(i64, Histogram)>);

fn write(series: &[Series]) -> Result<(Meta, Files), BlockError> {
    let both = |(labels, samples): &Series| (labels.clone(), samples.clone(), Vec::new());
    write_both(&series.iter().map(both).collect::<Vec<_>>())
}

fn write_both(series: &[Both]) -> Result<(Meta, Files), BlockError> {
    let labels = series.iter().flat_map(|(labels, ..)| labels.iter());
    let symbols: BTreeSet<Arc<str>> =
        labels.flat_map(|label| [Arc::clone(&label.name), Arc::clone(&label.value)]).collect();
    let (index, segments) = (Shared::default(), RefCell::new(Vec::new()));
    let next = |number: u32| {
        let segment = Shared::default();
        segments.borrow_mut().push(segment.clone());
        assert_eq!(number as usize, segments.borrow().len());
        Ok(segment)
    };
    let mut writer = BlockWriter::new(ulid(0, 1), symbols, index.clone(), next)?;
    for (labels, samples, histograms) in series {
        writer.series_with(labels, samples, histograms)?;
    }
    let meta = writer.finish()?;
    let files = Files {
        meta: meta.to_json()?,
        index: index.bytes(),
        segments: segments.borrow().iter().map(Shared::bytes).collect(),
        tombstones: None,
    };
    Ok((meta, files))
}

fn open(files: Files) -> Result<BlockReader<Cursor<Vec<u8>>>, BlockError> {
    BlockReader::open(BlockFiles {
        meta: files.meta,
        index: Cursor::new(files.index),
        segments: files.segments.into_iter().map(Cursor::new).collect(),
        tombstones: files.tombstones,
    })
}

fn read(reader: &mut BlockReader<Cursor<Vec<u8>>>) -> Result<Vec<Series>, BlockError> {
    let (mut series, mut samples) = (Vec::new(), Vec::new());
    while let Some(labels) = reader.next_series(&mut samples)? {
        series.push((labels, samples.clone()));
    }
    Ok(series)
}

fn a_block() -> Vec<Series> {
    ["a", "b", "c"]
        .into_iter()
        .map(|job| {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]).unwrap();
            (labels, (0..1000).map(|i| (i * 15_000, (i % 7) as f64 / 3.0)).collect())
        })
        .collect()
}

#[test]
fn a_block_is_read_as_it_was_written() {
    let series = a_block();
    let (meta, files) = write(&series).unwrap();
    assert_eq!(
        String::from_utf8(files.meta.clone()).unwrap(),
        "{
  \"ulid\": \"00000000000000000000000001\",
  \"minTime\": 0,
  \"maxTime\": 14985001,
  \"stats\": {
    \"numSamples\": 3000,
    \"numSeries\": 3,
    \"numChunks\": 27
  },
  \"compaction\": {
    \"level\": 1,
    \"sources\": [
      \"00000000000000000000000001\"
    ]
  },
  \"version\": 1
}
"
    );
    let mut reader = open(files).unwrap();
    assert_eq!(reader.meta(), &meta);
    assert_eq!(read(&mut reader).unwrap(), series);
    assert_eq!(reader.left_out(), Default::default());
}

#[test]
fn deleted_samples_are_left_out() {
    let (_, mut files) = write(&a_block()).unwrap();
    // The first series stands at the first multiple of sixteen after header and symbols.
    let symbols = u32::from_be_bytes(files.index[5..9].try_into().unwrap());
    let reference = (5 + 4 + u64::from(symbols) + 4).div_ceil(16);
    let mut stones = vec![u8::try_from(reference).unwrap(), 0];
    stones.extend_from_slice(&[0xb0, 0xea, 0x01]); // 15 000, zigzag
    let mut file = vec![0x01, 0x30, 0xba, 0x30, 1];
    file.extend_from_slice(&stones);
    file.extend_from_slice(&crc32c::crc32c(&stones).to_be_bytes());
    files.tombstones = Some(file);
    let mut reader = open(files).unwrap();
    let lengths: Vec<usize> = read(&mut reader).unwrap().iter().map(|(_, s)| s.len()).collect();
    assert_eq!(lengths, [998, 1000, 1000]);
    assert_eq!(reader.left_out().deleted_samples, 2);
}

#[test]
fn a_damaged_chunk_costs_itself() {
    let (_, mut files) = write(&a_block()).unwrap();
    files.segments[0][40] ^= 1;
    let mut reader = open(files).unwrap();
    let lengths: Vec<usize> = read(&mut reader).unwrap().iter().map(|(_, s)| s.len()).collect();
    assert_eq!(lengths, [880, 1000, 1000]);
    assert_eq!(reader.left_out().damaged_chunks, 1);
}

#[test]
fn native_histograms_are_counted() {
    let (_, mut files) = write(&a_block()).unwrap();
    let segment = &mut files.segments[0];
    let len = usize::from(segment[8] & 0x7f) | usize::from(segment[9]) << 7;
    segment[10] = 2;
    let crc = crc32c::crc32c(&segment[10..11 + len]);
    segment[11 + len..15 + len].copy_from_slice(&crc.to_be_bytes());
    let mut reader = open(files).unwrap();
    assert_eq!(read(&mut reader).unwrap()[0].1.len(), 880);
    assert_eq!(reader.left_out().histogram_chunks, 1);
}

/// A block that prometheus 2.42 wrote of what `tests/remote/histograms.py` served and of a rule's sums,
/// against what it answered itself: time, count, sum, and what is not empty of the buckets, ascending.
#[test]
fn prometheus_s_own_histograms_are_read() {
    let file = |name: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native_histograms");
        std::fs::read(dir.join(name)).unwrap()
    };
    let files = BlockFiles {
        meta: file("meta.json"),
        index: Cursor::new(file("index")),
        segments: vec![Cursor::new(file("chunks"))],
        tombstones: Some(file("tombstones")),
    };
    let mut reader = BlockReader::open(files).unwrap();
    let (mut samples, mut histograms) = (Vec::new(), Vec::new());
    let (mut found, mut integers, mut resets) = (String::new(), 0, 0);
    while let Some(labels) = reader.next_series_with(&mut samples, &mut histograms).unwrap() {
        if labels.get("__name__").is_some_and(|name| !name.starts_with("made")) {
            continue;
        }
        let label = |name| labels.get(name).unwrap();
        writeln!(found, "{} {}", label("__name__"), label("kind")).unwrap();
        for (t, histogram) in &histograms {
            histogram.validate().unwrap();
            resets += usize::from(histogram.reset == ResetHint::Reset);
            let counts = match &histogram.counts {
                Counts::Float(counts) => counts.clone(),
                Counts::Integer(counts) => {
                    integers += 1;
                    let floats = |counts: &[u64]| counts.iter().map(|n| *n as f64).collect();
                    BucketCounts {
                        count: counts.count as f64,
                        zero_count: counts.zero_count as f64,
                        positive: floats(&counts.positive),
                        negative: floats(&counts.negative),
                    }
                }
            };
            let below = counts.negative.iter().rev();
            let buckets = below.chain([&counts.zero_count]).chain(&counts.positive);
            write!(found, "  {t} {} {}", counts.count, histogram.sum).unwrap();
            buckets.filter(|n| **n != 0.0).for_each(|n| write!(found, " {n}").unwrap());
            found.push('\n');
        }
    }
    assert_eq!(found, String::from_utf8(file("expected")).unwrap());
    assert_eq!((integers, resets), (54, 2));
    assert_eq!(reader.left_out(), Default::default());
}

#[test]
fn histograms_are_written_as_they_were_read() {
    let file = |name: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native_histograms");
        std::fs::read(dir.join(name)).unwrap()
    };
    let all = |files: BlockFiles<Cursor<Vec<u8>>>| {
        let mut reader = BlockReader::open(files).unwrap();
        let (mut samples, mut histograms, mut all) = (Vec::new(), Vec::new(), Vec::<Both>::new());
        while let Some(labels) = reader.next_series_with(&mut samples, &mut histograms).unwrap() {
            // Where a chunk begins nothing is said, where it goes on that there was no reset.
            for (_, histogram) in &mut histograms {
                if histogram.reset == ResetHint::NotReset {
                    histogram.reset = ResetHint::Unknown;
                }
            }
            all.push((labels, samples.clone(), histograms.clone()));
        }
        assert_eq!(reader.left_out(), Default::default());
        all
    };
    let mut given = all(BlockFiles {
        meta: file("meta.json"),
        index: Cursor::new(file("index")),
        segments: vec![Cursor::new(file("chunks"))],
        tombstones: None,
    });
    for (at, (_, samples, histograms)) in given.iter_mut().enumerate() {
        samples.retain(|(t, _)| histograms.iter().all(|(at, _)| at != t));
        let Some((last_t, last)) = histograms.last().cloned() else { continue };
        // Floats between, what ends a series, a gauge, a run longer than a chunk.
        samples.push((last_t + 1, 1.0));
        histograms.push((last_t + 2, Histogram::stale()));
        histograms.push((last_t + 3, Histogram { reset: ResetHint::Gauge, ..last.clone() }));
        histograms.push((last_t + 4, Histogram { zero_threshold: 0.3, ..last.clone() }));
        let run = (0..if at % 2 == 0 { 300 } else { 0 }).map(|n| (last_t + 5 + n, last.clone()));
        histograms.extend(run);
        samples.sort_by_key(|(t, _)| *t);
    }
    let (meta, files) = write_both(&given).unwrap();
    let count = given.iter().map(|(_, floats, histograms)| floats.len() + histograms.len());
    assert_eq!(meta.stats.num_samples, count.sum::<usize>() as u64);
    let read = all(BlockFiles {
        meta: files.meta,
        index: Cursor::new(files.index),
        segments: files.segments.into_iter().map(Cursor::new).collect(),
        tombstones: None,
    });
    assert_eq!(read.len(), given.len());
    for ((labels, floats, histograms), given) in read.iter().zip(&given) {
        assert_eq!((labels, floats, histograms.len()), (&given.0, &given.1, given.2.len()));
        let mut before = f64::NAN;
        for ((t, mut read), given) in histograms.iter().cloned().zip(&given.2) {
            // Prometheus does not always say what can be seen.
            if given.1.reset == ResetHint::Unknown && read.sum < before {
                read.reset = ResetHint::Unknown;
            }
            before = read.sum;
            assert_eq!((t, &read), (given.0, &given.1), "{labels}");
        }
    }
    given[0].1 = vec![(5, 1.0)];
    given[0].2 = vec![(5, Histogram::stale())];
    assert!(matches!(write_both(&given), Err(BlockError::Misuse(_))));
}

#[test]
fn what_is_out_of_order_is_not_written() {
    let mut series = a_block();
    series.swap(0, 1);
    assert!(matches!(write(&series), Err(BlockError::Misuse(_))));
    let mut series = a_block();
    series[0].1.swap(3, 4);
    assert!(matches!(write(&series), Err(BlockError::Misuse(_))));
    assert!(matches!(write(&[]), Err(BlockError::Misuse(_))));
}

fn any_series() -> impl Strategy<Value = Vec<Series>> {
    let samples = proptest::collection::btree_map(-1_000_000i64..1_000_000, any::<f64>(), 1..300);
    proptest::collection::btree_map("[a-zä]{1,4}", samples, 1..6).prop_map(|all| {
        let labels = |name: &str| Labels::from_pairs([("__name__", "x"), ("l", name)]).unwrap();
        all.into_iter().map(|(name, s)| (labels(&name), s.into_iter().collect())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_series_survive(series in any_series()) {
        let (_, files) = write(&series).unwrap();
        let read = read(&mut open(files).unwrap()).unwrap();
        let bits = |series: &[Series]| -> Vec<(Labels, Vec<(i64, u64)>)> {
            series.iter().map(|(l, s)| (l.clone(), s.iter().map(|(t, v)| (*t, v.to_bits())).collect())).collect()
        };
        prop_assert_eq!(bits(&read), bits(&series));
    }

    #[test]
    fn a_flipped_byte_is_noticed(at: proptest::sample::Index, bit in 0u8..8) {
        let series = a_block();
        let (_, mut files) = write(&series).unwrap();
        let at = at.index(files.index.len());
        files.index[at] ^= 1 << bit;
        // Padding and postings are not looked at; nothing else may change unnoticed.
        if let Ok(mut reader) = open(files) && let Ok(read) = read(&mut reader) {
            prop_assert_eq!(read, series);
        }
    }
}
