//! Both text formats, read and written as a stream.

#![expect(clippy::unwrap_used, reason = "a test; what fails to be read is its failure")]

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use stoa_exchange::exposition::{
    Exemplar, Format, LINE_BYTES_MAX, Line, MetricType, Printer, ReadError, Reader,
};
use stoa_model::Labels;

/// A line, owned, so that two texts can be compared.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Help(String, String),
    Type(String, MetricType),
    Unit(String, String),
    Sample(Labels, u64, Option<i64>, Option<Exemplar>),
}

fn read(text: &[u8], format: Format) -> Result<Vec<Said>, ReadError> {
    // A source that hands out a few bytes at a time meets every edge of the buffer.
    struct Slow<'a>(&'a [u8]);
    impl std::io::Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            (&mut self.0).take(7).read(out)
        }
    }
    let mut said = Vec::new();
    let mut reader = Reader::new(Slow(text), format);
    while let Some(line) = reader.next_line()? {
        said.push(match line {
            Line::Help { name, text } => Said::Help(name.into_owned(), text.into_owned()),
            Line::Type { name, kind } => Said::Type(name.into_owned(), kind),
            Line::Unit { name, unit } => Said::Unit(name.into_owned(), unit.to_owned()),
            Line::Sample(sample) => Said::Sample(
                sample.series.labels()?,
                sample.value.to_bits(),
                sample.t_ms,
                sample.exemplar,
            ),
            Line::Comment(_) | Line::End => continue,
        });
    }
    Ok(said)
}

fn print(lines: &[Said], format: Format) -> Vec<u8> {
    let mut printer = Printer::new(Vec::new(), format);
    for line in lines {
        match line {
            Said::Help(name, text) => printer.help(name, text).unwrap(),
            Said::Type(name, kind) => printer.kind(name, *kind).unwrap(),
            Said::Unit(name, unit) => printer.unit(name, unit).unwrap(),
            Said::Sample(labels, bits, t_ms, exemplar) => printer
                .sample(
                    labels.metric_name().unwrap(),
                    labels,
                    f64::from_bits(*bits),
                    *t_ms,
                    exemplar.as_ref(),
                )
                .unwrap(),
        }
    }
    printer.finish().unwrap()
}

#[test]
fn an_openmetrics_text_is_read() {
    let text = "# HELP foo A \\\"quoted\\\" help\n# TYPE foo histogram\n# UNIT foo_seconds seconds\n\
        foo_bucket{le=\"1\"} 3 1520879607.789 # {trace_id=\"a}\\\"b\"} 0.5 1520879607\n\
        foo_count 17.0 1520879607\n{\"foo.bar\",\"a b\"=\"c\"} NaN\n# EOF\n";
    let said = read(text.as_bytes(), Format::OpenMetrics).unwrap();
    let exemplar = Exemplar {
        labels: Labels::from_pairs([("trace_id", "a}\"b")]).unwrap(),
        value: 0.5,
        t_ms: Some(1_520_879_607_000),
    };
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
    let bits = f64::to_bits;
    assert_eq!(
        said,
        [
            Said::Help("foo".into(), "A \"quoted\" help".into()),
            Said::Type("foo".into(), MetricType::Histogram),
            Said::Unit("foo_seconds".into(), "seconds".into()),
            Said::Sample(
                labels(&[("__name__", "foo_bucket"), ("le", "1")]),
                bits(3.0),
                Some(1_520_879_607_789),
                Some(exemplar)
            ),
            Said::Sample(
                labels(&[("__name__", "foo_count")]),
                bits(17.0),
                Some(1_520_879_607_000),
                None
            ),
            Said::Sample(
                labels(&[("__name__", "foo.bar"), ("a b", "c")]),
                bits(f64::NAN),
                None,
                None
            ),
        ]
    );
}

#[test]
fn a_dump_of_promtool_is_read() {
    let said = read(b"{__name__=\"up\", job=\"node\"} 1 1700000000000\n", Format::Text).unwrap();
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]).unwrap();
    assert_eq!(said, [Said::Sample(labels, 1f64.to_bits(), Some(1_700_000_000_000), None)]);
}

#[test]
fn a_stale_marker_survives_between_stoas() {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "a b")]).unwrap();
    let mut printer = Printer::new(Vec::new(), Format::Text);
    let front = Printer::<Vec<u8>>::series_text(&labels);
    printer.sample_of(&front, stoa_model::stale_nan(), 5).unwrap();
    let text = printer.finish().unwrap();
    assert_eq!(text, b"up{job=\"a b\"} StaleNaN 5\n");
    let stale = stoa_model::STALE_NAN_BITS;
    assert_eq!(read(&text, Format::Text).unwrap(), [Said::Sample(labels, stale, Some(5), None)]);
}

#[test]
fn what_is_no_openmetrics_is_refused_with_its_place() {
    for (text, expected) in [
        ("x 1\n", "line 2: expected # EOF as the last line; the text was cut off"),
        ("# EOF\nx 1\n", "line 2, column 1: expected nothing after # EOF"),
        ("\n# EOF\n", "line 1, column 1: expected a line that is not empty"),
        ("# a remark\n# EOF\n", "line 1, column 3: expected HELP, TYPE, UNIT or EOF"),
        ("# TYPE x untyped\n# EOF\n", "line 1, column 10: expected a type of metric"),
        ("x 1 1 # {a=\"1\" 1\n# EOF\n", "line 1, column 17: expected } after the labels"),
        ("x 1 1 # {9=\"1\"} 1\n# EOF\n", "line 1, column 10: expected a label's name"),
        ("x 1 nan\n# EOF\n", "line 1, column 5: expected a timestamp in seconds"),
        ("x 1 # a\n# EOF\n", "line 1, column 7: expected { before the exemplar's labels"),
    ] {
        let error = read(text.as_bytes(), Format::OpenMetrics).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text:?}");
    }
    let error = read(b"x{a=\"\xff\"} 1\n", Format::Text).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 1: expected UTF-8");
}

#[test]
fn reading_goes_on_after_a_wrong_line() {
    let mut reader = Reader::new("x 1\ny\nz 3".as_bytes(), Format::Text);
    assert!(reader.next_line().unwrap().is_some());
    assert!(matches!(reader.next_line(), Err(ReadError::Syntax(_))));
    assert!(reader.next_line().unwrap().is_some());
    assert!(reader.next_line().unwrap().is_none());
}

#[test]
fn a_line_without_end_is_refused_in_bounded_memory() {
    let mut reader = Reader::new(std::io::repeat(b'x'), Format::Text);
    assert!(matches!(reader.next_line(), Err(ReadError::LineTooLong { line: 1 })));
    let long = format!("x{{a=\"{}\"}} 1\n", "y".repeat(LINE_BYTES_MAX - 20));
    assert_eq!(read(long.as_bytes(), Format::Text).unwrap().len(), 1);
}

/// Files of real exporters: read, written, read again, the same.
#[test]
fn what_real_exporters_serve_survives_a_round_trip() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA").map(PathBuf::from) else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    for (path, format, samples) in [
        ("exporters/node_exporter/e2e-output.txt", Format::Text, 2000),
        ("exporters/nvidia/linux-x86_64__nvidia-l40s__595.80__load.metrics", Format::Text, 50),
        (
            "exporters/nvidia/linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01__idle.metrics",
            Format::Text,
            50,
        ),
        ("textparse/alltypes.5mfs.om.txt", Format::OpenMetrics, 30),
        ("textparse/1histogram.om.txt", Format::OpenMetrics, 5),
    ] {
        let text = fs::read(data.join(path)).unwrap();
        assert_eq!(Format::of_tail(&text), format, "{path}");
        let said = read(&text, format).unwrap_or_else(|error| panic!("{path}: {error}"));
        let count = said.iter().filter(|line| matches!(line, Said::Sample(..))).count();
        assert!(count >= samples, "{path}: {count} samples");
        assert_eq!(read(&print(&said, format), format).unwrap(), said, "{path}");
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_:][a-z0-9_:]{0,8}", "[a-z. \"\\\\\n{}=,ä#]{1,8}"]
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    (labels(), -1e6..1e6, proptest::option::of(time())).prop_map(|(labels, value, t_ms)| Exemplar {
        labels: labels.without("__name__"),
        value,
        t_ms,
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    let pairs = proptest::collection::vec((name(), any::<String>()), 0..4);
    (name(), pairs).prop_map(|(name, pairs)| {
        let pairs = pairs.into_iter().filter(|(_, v)| !v.contains('\r'));
        Labels::from_pairs_last_wins(pairs).with("__name__", &name)
    })
}

fn time() -> impl Strategy<Value = i64> {
    -1_000_000_000_000i64..10_000_000_000_000
}

fn line() -> impl Strategy<Value = Said> {
    let number = any::<u64>().prop_map(|bits| {
        let value = f64::from_bits(bits);
        if value.is_nan() { f64::NAN.to_bits() } else { bits }
    });
    let kinds =
        [MetricType::Counter, MetricType::Gauge, MetricType::Histogram, MetricType::Summary];
    prop_oneof![
        (name(), "[a-z\\\\\n\"][a-z \\\\\n\"]{0,8}[a-z\\\\\n\"]")
            .prop_map(|(n, t)| Said::Help(n, t)),
        (name(), proptest::sample::select(kinds.to_vec())).prop_map(|(n, k)| Said::Type(n, k)),
        (labels(), number, proptest::option::of(time()), proptest::option::of(exemplar()))
            .prop_map(|(l, v, t, e)| Said::Sample(l, v, t, e)),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_equal(lines in proptest::collection::vec(line(), 0..8)) {
        let text = print(&lines, Format::OpenMetrics);
        prop_assert_eq!(&read(&text, Format::OpenMetrics).unwrap(), &lines);
        let plain: Vec<Said> = lines.into_iter().map(|line| match line {
            Said::Sample(labels, value, t_ms, _) => Said::Sample(labels, value, t_ms, None),
            line => line,
        }).collect();
        let text = print(&plain, Format::Text);
        prop_assert_eq!(read(&text, Format::Text).unwrap(), plain);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200),
                                     text in "[a-z{}=\", #\\\\\n1.EOF]{0,80}") {
        for format in [Format::Text, Format::OpenMetrics] {
            let _either = read(&bytes, format).is_ok();
            let _either = read(text.as_bytes(), format).is_ok();
        }
    }
}
