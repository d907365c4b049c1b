use stoa_model::histogram::{BucketCounts, Counts, ResetHint, Span};

use super::*;
use crate::prometheus_block::{decode_floats, decode_histograms};
use crate::remote_write::{self, Metadata, Version, Visitor};

fn histogram(count: u64) -> Histogram {
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        sum: 3.0,
        positive_spans: vec![Span { offset: -2, length: 2 }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        counts: Counts::Integer(BucketCounts {
            count,
            zero_count: 0,
            positive: vec![1, count - 1],
            negative: Vec::new(),
        }),
        reset: ResetHint::Unknown,
    }
}

/// A request as Prometheus writes it, with hints.
fn request(forms: &[u64]) -> Vec<u8> {
    let mut query = Vec::new();
    put_number(&mut query, 1, (-1000_i64).cast_unsigned());
    put_number(&mut query, 2, 5000);
    for (op, name, value) in [(0, "__name__", "up"), (3, "job", "a|b")] {
        let mut matcher = Vec::new();
        put_number(&mut matcher, 1, op);
        put_bytes(&mut matcher, 2, name.as_bytes());
        put_bytes(&mut matcher, 3, value.as_bytes());
        put_bytes(&mut query, 3, &matcher);
    }
    let mut hints = Vec::new();
    put_number(&mut hints, 1, 15_000);
    put_bytes(&mut hints, 2, b"rate");
    put_bytes(&mut query, 4, &hints);
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &query);
    let mut packed = Vec::new();
    forms.iter().for_each(|form| put_varint(&mut packed, *form));
    if !packed.is_empty() {
        put_bytes(&mut message, 2, &packed);
    }
    message
}

#[test]
fn a_request_says_what_is_wanted_and_how() {
    let read = Request::read(&request(&[])).unwrap();
    let matcher = |op, name: &str, value: &str| RawMatcher {
        op,
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let matchers =
        vec![matcher(MatchOp::Equal, "__name__", "up"), matcher(MatchOp::NotRegex, "job", "a|b")];
    assert_eq!(read.queries, [Query { start_ms: -1000, end_ms: 5000, matchers }]);
    for (forms, expected) in [
        (&[][..], Some(Form::Samples)),
        (&[0], Some(Form::Samples)),
        (&[1, 0], Some(Form::Chunks)),
        (&[7, 1], Some(Form::Chunks)),
        (&[7], None),
    ] {
        assert_eq!(Request::read(&request(forms)).unwrap().form(), expected, "{forms:?}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    assert!(Request::read(b"\x0a\x05abc").is_err());
    let mut many = Vec::new();
    (0..=QUERIES_MAX).for_each(|_| put_bytes(&mut many, 1, b""));
    assert_eq!(Request::read(&many), Err(ReadError::TooManyQueries));
    let mut query = Vec::new();
    (0..=MATCHERS_MAX).for_each(|_| put_bytes(&mut query, 3, b""));
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &query);
    assert_eq!(Request::read(&message), Err(ReadError::TooManyMatchers));
    let wrong = |matcher: &[u8]| {
        let (mut query, mut message) = (Vec::new(), Vec::new());
        put_bytes(&mut query, 3, matcher);
        put_bytes(&mut message, 1, &query);
        Request::read(&message)
    };
    assert_eq!(wrong(b"\x08\x09"), Err(ReadError::Matcher(9)));
    assert_eq!(wrong(b"\x12\x01\xff"), Err(ReadError::Text));
}

/// A `QueryResult` has its series where a `WriteRequest` has them.
#[test]
fn samples_are_written_as_in_remote_write() {
    #[derive(Default)]
    struct Seen(Vec<String>);
    impl Visitor for Seen {
        fn series(&mut self, series: &remote_write::Series<'_>) {
            let labels: Vec<String> = (series.labels.unwrap().iter())
                .map(|(n, v)| {
                    format!("{}={}", str::from_utf8(n).unwrap(), str::from_utf8(v).unwrap())
                })
                .collect();
            let histograms: Vec<_> = series.histograms.iter().map(|(t, h)| (*t, h.sum)).collect();
            self.0.push(format!("{labels:?} {:?} {histograms:?}", series.samples));
        }
        fn metadata(&mut self, _metadata: &Metadata<'_>) {}
    }
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
    let (floats, histograms) = ([(1000, 1.5), (2000, 2.5)], [(3000, histogram(3))]);
    let mut result = Vec::new();
    put_samples(&mut result, &Series { labels: &labels, floats: &floats, histograms: &histograms });
    let message = [result_head(0), result_head(result.len() as u64), result].concat();
    let mut results = Vec::new();
    let mut fields = Fields(&message);
    while let Some((field, value)) = fields.next().unwrap() {
        assert_eq!(field, 1);
        let mut seen = Seen::default();
        remote_write::read(Version::One, value.bytes(field).unwrap(), &mut seen).unwrap();
        results.push(seen.0);
    }
    let expected = r#"["__name__=up", "job=a"] [(1000, 1.5), (2000, 2.5)] [(3000, 3.0)]"#;
    assert_eq!(results, [vec![], vec![expected.to_owned()]]);
}

type Frame = (u64, Vec<(i64, f64)>, Vec<(i64, Histogram)>);

/// Reads frames: for each its query's number and the samples of its chunks.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut rest = Fields(bytes);
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        let len = usize::try_from(rest.number().unwrap()).unwrap();
        let (crc, after) = rest.0.split_at(4);
        let (message, after) = after.split_at(len);
        assert_eq!(crc, crc32c::crc32c(message).to_be_bytes());
        rest.0 = after;
        let (mut number, mut floats, mut histograms) = (0, Vec::new(), Vec::new());
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next().unwrap() {
            if field == 2 {
                number = value.number(field).unwrap();
                continue;
            }
            let mut series = Fields(value.bytes(field).unwrap());
            while let Some((field, value)) = series.next().unwrap() {
                if field != 2 {
                    continue;
                }
                let (mut kind, mut data, mut range) = (0, &[][..], (0, 0));
                let mut chunk = Fields(value.bytes(field).unwrap());
                while let Some((field, value)) = chunk.next().unwrap() {
                    match field {
                        1 => range.0 = value.number(field).unwrap().cast_signed(),
                        2 => range.1 = value.number(field).unwrap().cast_signed(),
                        3 => kind = value.number(field).unwrap(),
                        _ => data = value.bytes(field).unwrap(),
                    }
                }
                let times: Vec<i64> = if kind == 1 {
                    let before = floats.len();
                    decode_floats(data, &mut floats).unwrap();
                    floats[before..].iter().map(|(t, _)| *t).collect()
                } else {
                    let (kind, before) = (u8::try_from(kind).unwrap(), histograms.len());
                    decode_histograms(kind, data, &mut histograms).unwrap();
                    histograms[before..].iter().map(|(t, _)| *t).collect()
                };
                assert_eq!((times.first(), times.last()), (Some(&range.0), Some(&range.1)));
            }
        }
        found.push((number, floats, histograms));
    }
    found
}

#[test]
fn chunks_hold_what_was_put_into_them() {
    let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
    let floats: Vec<(i64, f64)> =
        (0..500_i32).map(|i| (i64::from(i) * 1000, f64::from(i % 7))).collect();
    let histograms = [(200_500, histogram(3)), (201_500, histogram(4)), (900_000, histogram(2))];
    let mut bytes = Vec::new();
    let series = Series { labels: &labels, floats: &floats, histograms: &histograms };
    chunk_frames(4, &series, |frame| bytes.extend(frame));
    let [(4, read, read_histograms)] = &frames(&bytes)[..] else { panic!("one frame of query 4") };
    assert_eq!(read, &floats);
    let sums = |list: &[(i64, Histogram)]| -> Vec<_> {
        list.iter().map(|(t, h)| (*t, h.sum, format!("{:?}", h.counts))).collect()
    };
    assert_eq!(sums(read_histograms), sums(&histograms));
}

#[test]
fn a_long_series_takes_several_frames() {
    let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
    // Values that do not compress.
    let floats: Vec<(i64, f64)> = (0..400_000_i64)
        .map(|i| (i, f64::from_bits(i.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2)))
        .collect();
    let mut bytes = Vec::new();
    let mut largest = 0;
    chunk_frames(0, &Series { labels: &labels, floats: &floats, histograms: &[] }, |frame| {
        largest = largest.max(frame.len());
        bytes.extend(frame);
    });
    let read = frames(&bytes);
    assert!(read.len() > 1 && largest < FRAME_BYTES_MAX + 8192, "{} frames, {largest}", read.len());
    let all: Vec<_> = read.into_iter().flat_map(|(_, floats, _)| floats).collect();
    assert_eq!(all.len(), floats.len());
    assert!(all.iter().zip(&floats).all(|(a, b)| a.0 == b.0 && a.1.to_bits() == b.1.to_bits()));
}
