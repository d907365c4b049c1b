use std::io::Write as _;

use stoa_model::{Labels, MetricKind, stale_nan};
use stoa_proto::tick::FamilyInfo;

use super::reader::ReadError;
use super::*;

fn about() -> About {
    About { interval_ms: 1000, recorded_by: "stoa test".into(), began_ms: 5 }
}

fn series(id: u32, family: &Arc<FamilyInfo>, device: &str) -> Arc<Series> {
    let labels = Labels::from_pairs([("__name__", &*family.name), ("device", device)]).unwrap();
    Arc::new(Series { id, family: Arc::clone(family), labels })
}

fn family(name: &str, kind: MetricKind) -> Arc<FamilyInfo> {
    let help = "Of \"it\", in two\nlines.".to_owned();
    Arc::new(FamilyInfo { name: name.into(), help, unit: String::new(), kind })
}

/// Values that are hard to keep, series that come, pause and end.
fn ticks() -> Vec<Tick> {
    let (a, b) = (family("a_total", MetricKind::Counter), family("b", MetricKind::Gauge));
    let all = [series(0, &a, "sda"), series(1, &b, "é\"\\"), series(2, &a, ""), series(3, &b, "x")];
    let nan = f64::from_bits(0x7ff8_0000_dead_beef);
    let rows: Vec<Vec<(usize, f64)>> = vec![
        vec![(0, 7.0), (1, 0.1)],
        vec![(0, 7.0), (1, -0.0)],
        vec![(0, 9_007_199_254_740_992.0), (1, 0.0), (2, nan)],
        vec![(0, 3.0), (2, f64::NEG_INFINITY)],
        vec![(0, -4.0), (1, 0.0), (2, stale_nan())],
        vec![(0, 1e300), (1, 5e-324), (3, f64::NAN)],
        vec![(1, 2.5), (3, stale_nan())],
    ];
    let tick = |(t, row): (i64, Vec<(usize, f64)>)| Tick {
        t: 1000 * t,
        samples: row.into_iter().map(|(at, value)| (Arc::clone(&all[at]), value)).collect(),
    };
    (1..).zip(rows).map(tick).collect()
}

fn written(ticks: &[Tick]) -> Vec<u8> {
    let mut writer = CorpusWriter::new(Vec::new(), &about()).unwrap();
    for tick in ticks {
        writer.push(tick).unwrap();
    }
    writer.finish().unwrap()
}

/// What a file gives, and whether it was cut off.
fn read(bytes: &[u8]) -> Result<(Vec<Tick>, bool), ReadError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let mut reader = CorpusReader::open(file.path())?;
    assert_eq!(reader.about, about());
    let (mut cursor, mut ticks) = (Cursor::default(), Vec::new());
    while let Some(changes) = reader.next_tick()? {
        cursor.step(&changes);
        ticks.push(cursor.tick(reader.series(), changes.t));
    }
    Ok((ticks, reader.torn))
}

#[test]
fn every_bit_comes_back() {
    let ticks = ticks();
    let (got, torn) = read(&written(&ticks)).unwrap();
    assert!(!torn);
    assert_eq!(got.len(), ticks.len());
    for (got, want) in got.iter().zip(&ticks) {
        assert!(got == want, "{got:?}\nnot {want:?}");
    }
}

#[test]
fn what_was_cut_off_is_whole_before_it() {
    let ticks = ticks();
    let mut writer = CorpusWriter::new(Vec::new(), &about()).unwrap();
    for at in 0..200_i64 {
        let tick = &ticks[0];
        writer.push(&Tick { t: at, samples: tick.samples.clone() }).unwrap();
    }
    let whole = writer.finish().unwrap();
    // What was handed on after 180 ticks is there, but for the last of them: it may not be whole.
    for (cut, ticks) in [(1, 200..=200), (12, 179..=199), (100, 59..=199)] {
        let (got, torn) = read(&whole[..whole.len() - cut]).unwrap();
        assert!(torn && ticks.contains(&got.len()), "{cut}: {} ticks", got.len());
        assert!(got.iter().zip(0..).all(|(tick, t)| tick.t == t && tick.samples.len() == 2));
    }
}

#[test]
fn what_is_no_corpus_is_refused_by_its_line() {
    let check = |text: &str, want: &str| {
        let bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    let head = format!("{MAGIC}\n{}\n", serde_json::to_string(&about()).unwrap());
    check("stoa-corpus 2\n", "line 1: it does not begin");
    check(&format!("{MAGIC}\n{{}}\n"), "line 2: it does not say");
    check(&format!("{head}T x\n"), "line 3: a tick without a time");
    check(&format!("{head}T 1\n0=1\n"), "line 4: no such series");
    check(&format!("{head}S 1 0 []\n"), "line 3: series are not in order");
    check(&format!("{head}F 0 [\"a\",\"thing\",\"\",\"\"]\n"), "no such kind");
    let defined = format!("{head}F 0 [\"a\",\"gauge\",\"\",\"\"]\nS 0 0 [[\"__name__\",\"a\"]]\n");
    check(&format!("{defined}T 1\n0+1\n"), "line 6: not a change");
    check(&format!("{defined}T 1\n0=one\n"), "line 6: not a change");
    let mut damaged = written(&ticks());
    let at = damaged.len() - 1;
    damaged[at] ^= 1;
    assert!(matches!(read(&damaged).unwrap_err(), ReadError::Io { .. }));
    assert!(matches!(read(b"no zstd at all").unwrap_err(), ReadError::Io { .. }));
}
