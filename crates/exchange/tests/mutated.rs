//! What others send, changed at random: exposition text, remote write, OTLP, blocks of Prometheus. Read
//! or refused, never a panic; what is handed over is bounded by what came in. `STOA_MESSAGES` says how
//! many; a failure names its seed, and `STOA_SEED` repeats one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test: what goes wrong is to fail it, and how long it takes is part of it"
)]

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use stoa_exchange::exposition::{Format, Line, Reader};
use stoa_exchange::otlp::{
    self, Accumulate, DeltaFault, DeltaLimits, Deltas, Form, Measure, Options, Point, Refused,
    SampleExemplar, SampleLabels, Sink, Total, Translator,
};
use stoa_exchange::prometheus_block::{BlockFiles, BlockReader};
use stoa_exchange::remote_write::{Metadata, Series, Version, Visitor, Writer, read};
use stoa_model::MetricKind;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};

const LONGEST: Duration = Duration::from_secs(20);
const MOST_KIB: u64 = 1 << 20;

const TEXT: &str = r#"# HELP http_requests_total The "number" of\nrequests.
# TYPE http_requests_total counter
# UNIT http_requests_total requests
http_requests_total{method="post",code="200",path="/a\"b\\c\n"} 1027 1395066363000
http_requests_total{method="get"} 3.5e+10 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.789
# TYPE rpc summary
rpc{quantile="0.5"} NaN
rpc_sum +Inf
rpc_count 0x1p-3
{"quoted.name","lábel.x"="y"} -0
# TYPE h histogram
h_bucket{le="+Inf"} 3 1520879607.789
h_created 1520430000.123
# EOF
"#;

fn dice(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n << 32 | n);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Changes a few places.
fn change(seed: u64, bytes: &mut Vec<u8>) {
    let mut n = 10;
    let mut below = |end: usize| {
        n += 1;
        usize::try_from(dice(seed, n) % end.max(1) as u64).unwrap()
    };
    for _ in 0..=below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = below(bytes.len());
        let most = (bytes.len() - at).min(1 + below(16));
        match below(8) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = [0, 1, b'"', b'\\', b'\n', 0x7f, 0x80, 0xff][below(8)],
            2 => bytes[at..at + most].fill(0xff),
            3 => {
                let from = below(bytes.len() - most + 1);
                bytes.copy_within(from..from + most, at);
            }
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..at + most)),
            6 => {
                let word = dice(seed, 1000 + at as u64);
                bytes.splice(at..at, word.to_le_bytes());
            }
            _ => {
                let part = bytes[at..at + most].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[derive(Default)]
struct Count {
    samples: usize,
    labels: usize,
}

impl Visitor for Count {
    fn series(&mut self, series: &Series<'_>) {
        self.samples += series.samples.len() + series.histograms.len();
        self.labels += series.labels.map_or(0, <[_]>::len);
        for (_, histogram) in series.histograms {
            // Whatever it says, looking at it is safe.
            let _is_valid = histogram.validate();
        }
    }

    fn metadata(&mut self, _said: &Metadata<'_>) {}
}

fn message(version: Version) -> Vec<u8> {
    let mut writer = Writer::new(version);
    writer.metadata("up", MetricKind::Gauge, "whether it is", "");
    writer.series(&[("__name__", "up"), ("job", "node")], &[(1000, 1.0), (2000, f64::NAN)]);
    let histogram = Histogram {
        schema: 3,
        zero_threshold: 0.001,
        sum: 4.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        negative_spans: vec![],
        custom_values: vec![],
        counts: Counts::Integer(BucketCounts {
            count: 9,
            zero_count: 1,
            positive: vec![1, 4, 3],
            negative: vec![],
        }),
        reset: ResetHint::Unknown,
    };
    writer.histograms(&[("__name__", "h"), ("job", "node")], &[(1000, &histogram)]);
    writer.finish()
}

/// A message with one point of each kind.
const OTLP: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[
{"key":"service.name","value":{"stringValue":"shop"}},
{"key":"args","value":{"arrayValue":{"values":[{"intValue":"1"},{"kvlistValue":{"values":[
{"key":"k","value":{"bytesValue":"AQI="}}]}}]}}}]},"scopeMetrics":[{"scope":{"name":"lib","version":"1"},
"schemaUrl":"s","metrics":[
{"name":"g","unit":"By","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asDouble":0.5}]}},
{"name":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
{"timeUnixNano":"1700000000000000000","asInt":"-7","attributes":[{"key":"a","value":{"boolValue":true}}]}]}},
{"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"6","sum":2.5,
"bucketCounts":["1","2","3"],"explicitBounds":[0.5,1]}]}},
{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"count":"10","scale":9,
"zeroCount":"1","zeroThreshold":0.1,"positive":{"offset":-2,"bucketCounts":["1","0","0","0","0","3"]},
"negative":{"offset":4,"bucketCounts":["5"]}}]}},
{"name":"q","summary":{"dataPoints":[{"count":"2","sum":3,"quantileValues":[{"quantile":0.5,"value":1}]}]}}
]}]}]}"#;

/// Puts other values in a few places, so that it stays JSON more often than not.
fn change_values(seed: u64, text: &mut String) {
    const VALUES: [&str; 12] = [
        "null",
        "{}",
        "[]",
        "[{}]",
        "true",
        "\"\"",
        "\"x\"",
        "-1",
        "1e300",
        "1.5",
        "4294967296",
        "\"18446744073709551615\"",
    ];
    for n in 20..=20 + dice(seed, 20) % 2 {
        let places: Vec<usize> =
            text.match_indices([':', '[', ',']).map(|(at, _)| at + 1).collect();
        let at = places[usize::try_from(dice(seed, n) % places.len() as u64).unwrap()];
        let rest = text.get(at..).unwrap();
        let len = rest.find([',', ']', '}', '\n']).unwrap_or(0);
        let value = VALUES[usize::try_from(dice(seed, 100 + n)).unwrap() % VALUES.len()];
        text.replace_range(at..at + len, value);
    }
}

/// What OTLP hands over, and what is kept of it.
#[derive(Default)]
struct Pieces(usize);

impl Pieces {
    fn attributes(&mut self, attributes: otlp::Attributes<'_>) {
        self.0 += attributes.map_or(0, <[_]>::len);
    }
}

impl otlp::Visitor for Pieces {
    fn resource(&mut self, resource: &otlp::Resource<'_>) {
        self.attributes(resource.attributes);
    }

    fn scope(&mut self, scope: &otlp::Scope<'_>) {
        self.attributes(scope.attributes);
    }

    fn metric(&mut self, _metric: &otlp::Metric<'_>) {
        self.0 += 1;
    }

    fn point(&mut self, point: &Point<'_>) {
        self.0 += 1;
        self.attributes(point.attributes);
        let histogram = match point.measure {
            Measure::Histogram(histogram) => histogram.custom(),
            Measure::Exponential(histogram) => match histogram.native() {
                Ok(histogram) => histogram,
                Err(_) => return,
            },
            Measure::Summary(summary) => {
                self.0 += summary.quantiles.len();
                return;
            }
            Measure::Absent | Measure::Integer(_) | Measure::Double(_) => return,
        };
        let _is_valid = histogram.validate();
        if let Counts::Integer(counts) = histogram.counts {
            self.0 += counts.positive.len() + counts.negative.len();
        }
    }
}

/// Deltas of all messages, which add up to what the last of them has.
struct Adding<'a>(&'a mut Deltas);

impl Accumulate for Adding<'_> {
    fn add(
        &mut self,
        series: &[u8],
        point: &Point<'_>,
        grows: bool,
    ) -> Result<Option<Total>, DeltaFault> {
        self.0.add(series, point, grows, 0, i64::MAX)
    }
}

/// Samples that points become.
#[derive(Default)]
struct Samples(usize);

impl Sink for Samples {
    fn sample(&mut self, labels: SampleLabels<'_>, _t_ms: i64, _value: f64) {
        assert!(labels.is_sorted_by(|(a, _), (b, _)| a < b), "{labels:?}");
        self.0 += 1;
    }

    fn histogram(&mut self, labels: SampleLabels<'_>, t_ms: i64, histogram: Histogram) {
        let _is_valid = histogram.validate();
        self.sample(labels, t_ms, 0.0);
    }

    fn metadata(&mut self, _: &str, _: MetricKind, _: &str, _: &str) {}
    fn exemplars(&mut self, _: SampleLabels<'_>, _: &[SampleExemplar<'_>]) {}
    fn exemplars_left_out(&mut self, _count: u64) {}
    fn refused(&mut self, _why: &Refused) {}
}

/// The files of a block that Prometheus wrote.
fn block() -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native_histograms");
    let found = |name: &str| -> Option<PathBuf> {
        let mut dirs = vec![dir.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).ok()?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.ends_with(name) {
                    return Some(path);
                }
            }
        }
        None
    };
    let read = |name: &str| std::fs::read(found(name)?).ok();
    Some((read("meta.json")?, read("index")?, read("chunks")?))
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("messages: STOA_SEED={}", self.0);
        }
    }
}

#[test]
fn any_message_is_read_or_refused_in_time_and_within_its_size() {
    let only = std::env::var("STOA_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("STOA_MESSAGES").map_or(3000, |n| n.parse().unwrap());
    let (one, two, files) = (message(Version::One), message(Version::Two), block());
    let request: ExportMetricsServiceRequest = serde_json::from_str(OTLP).unwrap();
    let pushed = [request.encode_to_vec(), OTLP.as_bytes().to_vec()];
    let mut understood = [0u64; 6];
    let mut longest = Duration::ZERO;
    let from = only.unwrap_or(0);
    for seed in from..only.map_or(count, |seed| seed + 1) {
        let _told = Told(seed);
        let (began, before) = (Instant::now(), peak_kib());
        let kind = usize::try_from(dice(seed, 1) % 6).unwrap();
        match kind {
            0 => {
                let mut text = TEXT.as_bytes().to_vec();
                change(seed, &mut text);
                let format = [Format::Text, Format::OpenMetrics][usize::from(seed & 4 != 0)];
                let (mut reader, mut samples) = (Reader::new(text.as_slice(), format), 0);
                while let Ok(Some(line)) = reader.next_line() {
                    if let Line::Sample(sample) = line {
                        samples += usize::from(sample.series.labels().is_ok());
                    }
                }
                assert!(samples <= text.len());
                understood[kind] += u64::from(samples > 0);
            }
            1 | 2 => {
                let version = [Version::One, Version::Two][kind - 1];
                let mut bytes = [&one, &two][kind - 1].clone();
                change(seed, &mut bytes);
                let mut seen = Count::default();
                let whole = read(version, &bytes, &mut seen).is_ok();
                assert!(seen.samples + seen.labels <= bytes.len(), "{}", seen.samples);
                understood[kind] += u64::from(whole);
            }
            3 | 4 => {
                let form = [Form::Protobuf, Form::Json][kind - 3];
                let mut bytes = pushed[kind - 3].clone();
                if kind == 4 && seed & 8 != 0 {
                    let mut text = OTLP.to_owned();
                    change_values(seed, &mut text);
                    bytes = text.into_bytes();
                } else {
                    change(seed, &mut bytes);
                }
                let mut pieces = Pieces::default();
                let whole = otlp::read(form, &bytes, &mut pieces).is_ok();
                assert!(pieces.0 <= bytes.len(), "{}", pieces.0);
                understood[kind] += u64::from(whole);
                let (options, mut samples) = (Options::default(), Samples::default());
                let mut translator = Translator::new(&options, &mut samples);
                assert_eq!(otlp::read(form, &bytes, &mut translator).is_ok(), whole);
                translator.finish();
                // Beside points there is what is known of the resource, over any time.
                assert!(samples.0 <= bytes.len() + (1 << 16), "{}", samples.0);
                // Added to what the message held before it was changed.
                let mut deltas = Deltas::new(DeltaLimits { streams_max: 100, stale_ms: 0 });
                for (form, bytes) in [(Form::Json, OTLP.as_bytes()), (form, &bytes)] {
                    let (mut adding, mut samples) = (Adding(&mut deltas), Samples::default());
                    let translator = Translator::new(&options, &mut samples);
                    let mut translator = translator.adding(Some(&mut adding));
                    let _is_whole = otlp::read(form, bytes, &mut translator);
                    translator.finish();
                }
                assert!(deltas.counts().streams >= 2, "{:?}", deltas.counts());
                let mut writer = otlp::Writer::default();
                assert_eq!(otlp::read(form, &bytes, &mut writer).is_ok(), whole);
                let points = writer.points();
                let mut again = otlp::Writer::default();
                otlp::read(Form::Protobuf, &writer.finish(), &mut again).unwrap();
                assert_eq!(again.points(), points);
            }
            _ => {
                let Some((meta, index, segment)) = &files else { continue };
                let (mut meta, mut index, mut segment) =
                    (meta.clone(), index.clone(), segment.clone());
                match dice(seed, 2) % 5 {
                    0 => change(seed, &mut meta),
                    1 | 2 => change(seed, &mut index),
                    _ => change(seed, &mut segment),
                }
                let segments = vec![Cursor::new(segment)];
                let index = Cursor::new(index);
                let files = BlockFiles { meta, index, segments, tombstones: None };
                let Ok(mut block) = BlockReader::open(files) else { continue };
                let mut samples = Vec::new();
                let mut series = 0u64;
                while let Ok(Some(_)) = block.next_series(&mut samples) {
                    series += 1;
                    assert!(series < 1 << 20);
                }
                understood[kind] += u64::from(series > 0);
            }
        }
        let grown = peak_kib().saturating_sub(before);
        assert!(grown < MOST_KIB, "{grown} KiB more at once");
        longest = longest.max(began.elapsed());
        assert!(longest < LONGEST, "{longest:?}");
    }
    assert!(only.is_some() || understood[..5].iter().all(|n| *n > count / 200), "{understood:?}");
    println!(
        "messages: understood {understood:?} of {count}: text, write 1 and 2, OTLP, its JSON, blocks"
    );
}
