//! Start times: a zero where a series says that it begins to count, so that its first increment is seen.

use stoa_collector::config::PushConfig;

use super::*;

impl Receiver {
    /// One that keeps start times, or does not.
    fn keeping(start_times: bool) -> Self {
        Self::with(0, Access::open(), PushConfig { start_times })
    }

    /// `value@seconds ago` of each sample of the last hour of a query's series, floats and counts of
    /// histograms.
    async fn samples(&self, selector: &str) -> Vec<String> {
        let uri = format!("/api/v1/query?query={selector}[1h]&time={}", NOW / 1000);
        let answer = self.ask(Request::builder().uri(uri), Vec::new()).await.json();
        let mut lines = Vec::new();
        for series in answer.pointer("/data/result").unwrap().as_array().unwrap() {
            for key in ["values", "histograms"] {
                for sample in series[key].as_array().into_iter().flatten() {
                    let value = sample[1].as_str().or(sample[1]["count"].as_str()).unwrap();
                    let ago = NOW as f64 / 1000.0 - sample[0].as_f64().unwrap();
                    lines.push(format!("{value}@{ago}"));
                }
            }
        }
        lines
    }

    async fn sum(&self, temporality: u8, points: &[(u64, u64, i64)]) {
        for (start_ago_s, ago_s, value) in points {
            let point = at(*start_ago_s, *ago_s, &json!({"asInt": value.to_string()}));
            let sum = json!({"aggregationTemporality": temporality, "isMonotonic": true, "dataPoints": [point]});
            self.send(&json!({"name": "x", "sum": sum})).await;
        }
    }

    async fn send(&self, metric: &Value) {
        let message = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]});
        let message = serde_json::to_vec(&message).unwrap();
        let answer = self.post("/v1/metrics", JSON, "", message).await;
        assert_eq!((answer.status, answer.json()), (200, json!({})), "{metric}");
    }
}

const NEVER: u64 = u64::MAX;

/// A point that counts from so many seconds ago, of so many seconds ago.
fn at(start_ago_s: u64, ago_s: u64, more: &Value) -> Value {
    let ns = |ago_s: u64| (NOW_NS - ago_s * 1_000_000_000).to_string();
    let mut point = json!({"timeUnixNano": ns(ago_s)});
    if start_ago_s != NEVER {
        point["startTimeUnixNano"] = json!(ns(start_ago_s));
    }
    point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    point
}

#[tokio::test]
async fn a_sum_has_a_zero_where_it_begins_to_count() {
    for (temporality, points, expected) in [
        (2, &[(60, 30, 5), (60, 0, 9)][..], &["0@60", "5@30", "9@0"][..]),
        // It began anew.
        (2, &[(60, 30, 5), (20, 10, 3)], &["0@60", "5@30", "0@20", "3@10"]),
        // From before what is there, from when what is there is, from its own time, from later, and unsaid.
        (2, &[(60, 30, 5), (40, 20, 7)], &["0@60", "5@30", "7@20"]),
        (2, &[(60, 30, 5), (30, 20, 7)], &["0@60", "5@30", "7@20"]),
        (2, &[(30, 30, 5)], &["5@30"]),
        (2, &[(20, 30, 5)], &["5@30"]),
        (2, &[(NEVER, 30, 5)], &["5@30"]),
        // Sent again.
        (2, &[(60, 30, 5), (60, 30, 5)], &["0@60", "5@30"]),
        // Too old to be taken, once there is something.
        (2, &[(NEVER, 50, 5), (7200, 30, 6)], &["5@50", "6@30"]),
        // What deltas have come to counts from where the first does.
        (1, &[(60, 30, 5), (30, 0, 4)], &["0@60", "5@30", "9@0"]),
    ] {
        let receiver = Receiver::keeping(true);
        receiver.sum(temporality, points).await;
        assert_eq!(receiver.samples("x_total").await, expected, "{points:?}");
        let zeroes = expected.iter().filter(|sample| sample.starts_with("0@")).count() as u64;
        let figures = receiver.otlp.figures();
        assert_eq!((figures.starts, figures.samples.too_old), (zeroes, 0), "{points:?}");
        let without = Receiver::keeping(false);
        without.sum(temporality, points).await;
        let expected: Vec<&str> =
            expected.iter().copied().filter(|sample| !sample.starts_with("0@")).collect();
        assert_eq!(without.samples("x_total").await, expected, "{points:?}");
    }
    // In one message, where the second counts from when the first was taken.
    let receiver = Receiver::keeping(true);
    let points: Vec<Value> = [(60, 30, 5), (30, 20, 2), (15, 10, 3), (60, 50, 1)]
        .map(|(start, ago, value)| at(start, ago, &json!({"asInt": value})))
        .to_vec();
    let sum = json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points});
    receiver.send(&json!({"name": "x", "sum": sum})).await;
    let expected = ["0@60", "1@50", "5@30", "2@20", "0@15", "3@10"];
    assert_eq!(receiver.samples("x_total").await, expected);
    // What it is for.
    for (start_times, expected) in [(true, 1), (false, 0)] {
        let receiver = Receiver::keeping(start_times);
        receiver.sum(2, &[(60, 30, 5)]).await;
        assert_eq!(receiver.query("increase(x_total[5m])").await.len(), expected);
    }
}

#[tokio::test]
async fn every_series_that_counts_has_one_and_no_other() {
    let receiver = Receiver::keeping(true);
    let histogram = json!({"count": "6", "sum": 7.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [1, 2]});
    let exponential = json!({"count": "6", "sum": 7.5, "scale": 3, "zeroCount": "1",
        "positive": {"offset": -1, "bucketCounts": ["2", "0", "3"]}});
    let summary =
        json!({"count": "4", "sum": 1.0, "quantileValues": [{"quantile": 0.5, "value": 0.25}]});
    let level = json!({"asInt": "-3"});
    for (name, kind, more) in [
        ("h", "histogram", &histogram),
        ("e", "exponentialHistogram", &exponential),
        ("s", "summary", &summary),
        ("level", "sum", &level),
        ("g", "gauge", &level),
        ("ended", "sum", &json!({"flags": 1})),
    ] {
        let points = [at(60, 30, more), at(60, 0, more)];
        let data = json!({"aggregationTemporality": 2, "dataPoints": points});
        receiver.send(&json!({"name": name, kind: data})).await;
    }
    for (selector, expected) in [
        ("h_count", &["0@60", "6@30", "6@0"][..]),
        ("h_sum", &["0@60", "7.5@30", "7.5@0"]),
        ("h_bucket{le=\"1\"}", &["0@60", "1@30", "1@0"]),
        ("h_bucket{le=\"%2BInf\"}", &["0@60", "6@30", "6@0"]),
        ("e", &["0@60", "6@30", "6@0"]),
        ("s_count", &["0@60", "4@30", "4@0"]),
        ("s_sum", &["0@60", "1@30", "1@0"]),
        ("s", &["0.25@30", "0.25@0"]),
        ("level", &["0@60", "-3@30", "-3@0"]),
        ("g", &["-3@30", "-3@0"]),
        ("ended", &[]),
    ] {
        let selector = selector.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        assert_eq!(receiver.samples(&selector).await, expected, "{selector}");
    }
    let counted = receiver.query("histogram_count(increase(e[5m]))").await;
    assert_eq!(counted.len(), 1);
}

/// A field of protobuf of fewer than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn varint(number: u8, mut value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

#[tokio::test]
async fn remote_write_says_it_too_in_version_2() {
    let ms = |ago_s: u64| NOW_NS / 1_000_000 - ago_s * 1000;
    let sample = |ago_s: u64, start: &[u8]| {
        let value = [&[9][..], &5_f64.to_le_bytes()].concat();
        field(2, &[&value, &varint(2, ms(ago_s)), start].concat())
    };
    // A histogram that counts two observations in its zero bucket.
    let histogram = |start: &[u8]| {
        let said = [varint(1, 2), varint(6, 2), varint(15, ms(30)), start.to_vec()].concat();
        field(3, &said)
    };
    let histogram_start = [vec![0x88, 0x01], varint(0, ms(60))[1..].to_vec()].concat();
    let created = varint(6, ms(60));
    for (series, expected) in [
        // Of each sample, as later messages have it, or of the series.
        (
            [sample(30, &varint(3, ms(60))), sample(0, &varint(3, ms(10)))].concat(),
            &["0@60", "5@30", "0@10", "5@0"][..],
        ),
        ([sample(30, b""), sample(0, b""), created.clone()].concat(), &["0@60", "5@30", "5@0"]),
        ([sample(30, b"")].concat(), &["5@30"]),
        (histogram(&histogram_start), &["0@60", "2@30"]),
        ([histogram(b""), created].concat(), &["0@60", "2@30"]),
    ] {
        let receiver = Receiver::keeping(true);
        let symbols: Vec<u8> =
            ["", "__name__", "rw"].iter().flat_map(|text| field(4, text.as_bytes())).collect();
        let message = [symbols, field(5, &[field(1, &[1, 2]), series].concat())].concat();
        let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
        let form = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        let answer = receiver.post("/api/v1/write", form, "snappy", body).await;
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(receiver.samples("rw").await, expected);
        // Which the sender has not written.
        let written = expected.iter().filter(|sample| !sample.starts_with("0@")).count();
        let said = |kind: &str| {
            let name = format!("x-prometheus-remote-write-{kind}-written");
            answer.headers[&name].to_str().unwrap().parse::<usize>().unwrap()
        };
        assert_eq!(said("samples") + said("histograms"), written);
    }
}
