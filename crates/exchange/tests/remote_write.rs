//! Messages as bytes against what they say, and any bytes at all.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;

use proptest::prelude::*;
use stoa_exchange::remote_write::{
    HISTOGRAM_NUMBERS_MAX, Metadata, ReadError, SAMPLES_MAX, SYMBOLS_MAX, Series, Version, Visitor,
    Writer, WrittenExemplar, read,
};
use stoa_model::MetricKind;
use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span,
};

/// What a message says, a line each.
#[derive(Default)]
struct Lines(String, Vec<(i64, Histogram)>);

impl Visitor for Lines {
    fn series(&mut self, series: &Series<'_>) {
        match series.labels {
            Err(fault) => write!(self.0, "! {fault}").unwrap(),
            Ok(labels) => {
                for (name, value) in labels {
                    let text = String::from_utf8_lossy;
                    write!(self.0, "{}={} ", text(name), text(value)).unwrap();
                }
            }
        }
        for (t, v) in series.samples {
            write!(self.0, "{t}:{v} ").unwrap();
        }
        for (t, histogram) in series.histograms {
            self.1.push((*t, histogram.clone()));
        }
        let (histograms, exemplars) = (series.histograms.len(), series.exemplars.len());
        if histograms + exemplars > 0 {
            write!(self.0, "histograms {histograms} exemplars {exemplars}").unwrap();
        }
        self.0.push('\n');
    }

    fn metadata(&mut self, said: &Metadata<'_>) {
        let text = String::from_utf8_lossy;
        let (name, help, unit) = (text(said.name), text(said.help), text(said.unit));
        writeln!(self.0, "# {name} {} {help} {unit}", said.kind.as_str()).unwrap();
    }
}

fn lines(version: Version, message: &[u8]) -> Result<String, ReadError> {
    let mut lines = Lines::default();
    read(version, message, &mut lines).map(|()| lines.0)
}

/// `hex` with spaces.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn messages_say_what_they_say() {
    let check = |version, hex: &str, expected: &str| {
        let got = match lines(version, &bytes(hex)) {
            Ok(lines) => lines,
            Err(error) => format!("error: {error}\n"),
        };
        assert_eq!(got.trim_end_matches('\n'), expected, "{hex}");
    };
    let one = Version::One;
    // up{} 1 at 1000, with an unknown field 9 before it
    let label = "0a 0e 0a08 5f5f6e616d655f5f 1202 7570";
    check(
        one,
        &format!("48 01 0a 1e {label} 12 0c 09 000000000000f03f 10e807"),
        "__name__=up 1000:1 ",
    );
    // samples before labels; absent value and time are 0; a negative time
    check(
        one,
        &format!("0a 1f 1200 120b 10 ffffffffffffffffff01 {label}"),
        "__name__=up 0:0 -1:0 ",
    );
    check(one, "0a 06 1a00 2200 2200", "histograms 2 exemplars 1");
    check(one, "1a 08 0801 1202 7570 2200", "# up counter  ");
    check(one, "0a 05 0a", "error: not a message of the protocol: it ends within a field");
    check(one, "08 01", "error: not a message of the protocol: field 1 has the wrong wire type");
    check(one, "0b", "error: not a message of the protocol: field 1 of wire type 3 cannot be");
    check(one, "02 00", "error: not a message of the protocol: field 0 of wire type 2 cannot be");
    check(
        one,
        "08 ffffffffffffffffffff01",
        "error: not a message of the protocol: a number is too long",
    );
    let two = Version::Two;
    let symbols = "2200 2208 5f5f6e616d655f5f 2202 7570 2201 68";
    check(
        two,
        &format!("{symbols} 2a 0e 0a02 0102 1200 2a06 0802 1803 2003"),
        "__name__=up 0:0 \n# up gauge h h",
    );
    // series before symbols, references not packed
    check(two, &format!("2a 06 0801 0802 1200 {symbols}"), "__name__=up 0:0 ");
    check(
        two,
        &format!("{symbols} 2a 06 0a02 0109 1200"),
        "! label reference 9 points beyond the 4 symbols0:0 ",
    );
    check(two, &format!("{symbols} 2a 05 0a01 01 1200"), "! an odd number of label references0:0 ");
    check(two, &format!("{symbols} 2a 04 1a00 2200"), "histograms 1 exemplars 1");
    check(two, "", "");
}

#[test]
fn histograms_are_read_as_they_were_written() {
    let integers = Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        sum: -2.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 7, length: 1 }],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        custom_values: vec![],
        counts: Counts::Integer(BucketCounts {
            count: 16,
            zero_count: 2,
            positive: vec![5, 1, 4],
            negative: vec![4],
        }),
        reset: ResetHint::NotReset,
    };
    let floats = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        sum: f64::INFINITY,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        negative_spans: vec![],
        custom_values: vec![0.5, 1.0],
        counts: Counts::Float(BucketCounts {
            count: 4.5,
            zero_count: 0.0,
            positive: vec![1.0, 0.25, 3.25],
            negative: vec![],
        }),
        reset: ResetHint::Gauge,
    };
    for histogram in [&integers, &floats] {
        histogram.validate().unwrap();
    }
    for version in [Version::One, Version::Two] {
        let mut writer = Writer::new(version);
        let given = [(-5, &integers), (1000, &floats), (2000, &Histogram::stale())];
        writer.histograms(&[("__name__", "h")], &given);
        writer.series(&[("__name__", "up")], &[(1000, 1.0)]);
        let mut lines = Lines::default();
        read(version, &writer.finish(), &mut lines).unwrap();
        assert_eq!(lines.0, "__name__=h histograms 3 exemplars 0\n__name__=up 1000:1 \n");
        let given: Vec<_> =
            given.into_iter().map(|(t, histogram)| (t, histogram.clone())).collect();
        assert_eq!(lines.1, given);
    }
    // Deltas and spans one by one; a count below zero; a schema that is none.
    let mut lines = Lines::default();
    let odd = "0a 16 22 14 08 03 5a 02 1004 60 02 60 03 60 04 60 02 20 80808080 40";
    read(Version::One, &bytes(odd), &mut lines).unwrap();
    let (_, read) = &lines.1[0];
    let Counts::Integer(counts) = &read.counts else { panic!("{read:?}") };
    assert_eq!(counts.positive, [1, u64::MAX, 1, 2]);
    assert!(read.schema > 8 && read.validate().is_err());
}

#[test]
fn bombs_are_bounded() {
    let series = |samples: usize| {
        let mut message = vec![0x0a];
        let mut len = samples * 2;
        while len >= 0x80 {
            message.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        message.push(u8::try_from(len).unwrap());
        message.extend([0x12, 0].repeat(samples));
        message
    };
    struct Count(usize);
    impl Visitor for Count {
        fn series(&mut self, series: &Series<'_>) {
            self.0 += series.samples.len();
        }
        fn metadata(&mut self, _said: &Metadata<'_>) {}
    }
    let mut count = Count(0);
    assert_eq!(read(Version::One, &series(SAMPLES_MAX), &mut count), Ok(()));
    assert_eq!(count.0, SAMPLES_MAX);
    let too_many = Err(ReadError::TooManySamples);
    assert_eq!(read(Version::One, &series(SAMPLES_MAX + 1), &mut count), too_many);
    let twice = [series(SAMPLES_MAX), series(1)].concat();
    assert_eq!(read(Version::One, &twice, &mut count), too_many);
    let mut large = Histogram::stale();
    let many = vec![0; HISTOGRAM_NUMBERS_MAX / 4];
    large.counts = Counts::Integer(BucketCounts { positive: many, ..BucketCounts::default() });
    for (histograms, is_read) in [(3, true), (4, false)] {
        let mut writer = Writer::new(Version::One);
        writer.histograms(&[], &vec![(0, &large); histograms]);
        let expected = if is_read { Ok(()) } else { Err(ReadError::TooManyBuckets) };
        assert_eq!(read(Version::One, &writer.finish(), &mut count), expected);
    }
    let symbols = [0x22, 0].repeat(SYMBOLS_MAX + 1);
    assert_eq!(read(Version::Two, &symbols, &mut count), Err(ReadError::TooManySymbols));
    for (version, labels) in
        [(Version::One, 64), (Version::Two, 64), (Version::One, 65), (Version::Two, 65)]
    {
        let mut writer = Writer::new(version);
        writer.series(&vec![("a", "b"); labels], &[(1, 1.0)]);
        let lines = lines(version, &writer.finish()).unwrap();
        assert_eq!(lines.starts_with("! more than 64 labels"), labels > 64, "{lines}");
    }
}

#[test]
fn what_is_written_is_read() {
    let told = [("__name__", "x_total"), ("job", "ä\n"), ("zone", "")];
    for version in [Version::One, Version::Two] {
        let mut writer = Writer::new(version);
        let said = Some((MetricKind::Summary, "What it \"is\".", "seconds"));
        writer.described(&told, &[(-5, -0.5), (i64::MAX, f64::INFINITY)], said);
        writer.series(&[("__name__", "y")], &[]);
        writer.metadata("x_total", MetricKind::Summary, "What it \"is\".", "seconds");
        let read = lines(version, &writer.finish()).unwrap();
        let series = format!("__name__=x_total job=ä\n zone= -5:-0.5 {}:inf \n", i64::MAX);
        let said = "# x_total summary What it \"is\". seconds\n";
        let other = "__name__=y \n";
        let expected = match version {
            Version::One => format!("{series}{other}{said}"),
            Version::Two => format!("{series}{said}{other}"),
        };
        assert_eq!(read, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        for version in [Version::One, Version::Two] {
            drop(lines(version, &message));
        }
    }

    /// Bytes near a message get further into it than any bytes do.
    #[test]
    fn damaged_messages_are_read_or_refused(
        at in 0_usize..400,
        byte in any::<u8>(),
        cut in 0_usize..400,
    ) {
        for version in [Version::One, Version::Two] {
            let mut writer = Writer::new(version);
            let said = Some((MetricKind::Gauge, "help", "unit"));
            for series in 0..4 {
                let value = series.to_string();
                let labels = [("__name__", "node_load1"), ("job", "node"), ("n", &*value)];
                writer.described(&labels, &[(1_700_000_000_000, 1.5), (1_700_000_001_000, 2.5)], said);
            }
            let mut message = writer.finish();
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            message.truncate(cut.max(1));
            drop(lines(version, &message));
        }
    }
}

#[test]
fn exemplars_are_read_with_their_labels() {
    struct Seen(Vec<String>);
    impl Visitor for Seen {
        fn series(&mut self, series: &Series<'_>) {
            let name = String::from_utf8_lossy(series.labels.unwrap()[0].1).into_owned();
            for exemplar in series.exemplars {
                let labels = exemplar.labels.as_ref().map(|labels| {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    labels.iter().map(|(n, v)| text(n) + "=" + &text(v)).collect::<Vec<_>>()
                });
                self.0.push(format!("{name} {labels:?} {} {}", exemplar.value, exemplar.t_ms));
            }
        }
        fn metadata(&mut self, _metadata: &Metadata<'_>) {}
    }
    for version in [Version::One, Version::Two] {
        let mut writer = Writer::new(version);
        let labels: [(&str, &str); 2] = [("trace_id", "abc"), ("span_id", "d")];
        let exemplars: [WrittenExemplar<'_>; 2] = [(&labels, 0.5, 1000), (&[], -1.0, -7)];
        writer.exemplars(&[("__name__", "x_bucket"), ("le", "1")], &exemplars);
        let mut seen = Seen(Vec::new());
        read(version, &writer.finish(), &mut seen).unwrap();
        let expected =
            [r#"x_bucket Ok(["trace_id=abc", "span_id=d"]) 0.5 1000"#, "x_bucket Ok([]) -1 -7"];
        assert_eq!(seen.0, expected, "{version:?}");
    }
}
