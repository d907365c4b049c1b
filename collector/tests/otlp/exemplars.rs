//! Exemplars of points, asked for by the queries that read their series.

use super::*;

impl Receiver {
    /// `series labels value@time` of each exemplar that a query finds.
    async fn exemplars(&self, query: &str) -> Vec<String> {
        let uri = format!("/api/v1/query_exemplars?query={query}&start=0");
        let answer = self.ask(Request::builder().uri(uri), Vec::new()).await.json();
        let mut lines = Vec::new();
        for series in answer["data"].as_array().unwrap() {
            for exemplar in series["exemplars"].as_array().unwrap() {
                let text = |key: &str| exemplar[key].to_string().replace('"', "");
                let (series, labels) = (&series["seriesLabels"], &exemplar["labels"]);
                let (value, at) = (text("value"), text("timestamp"));
                lines.push(format!("{series} {labels} {value}@{at}"));
            }
        }
        lines
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// An exemplar of so many seconds ago, in a trace or in none.
fn exemplar(value: f64, ago_s: u64, trace: &str) -> Value {
    let time = (NOW_NS - ago_s * 1_000_000_000).to_string();
    let attributes = json!([{"key": "user.id", "value": {"intValue": "7"}}]);
    json!({"asDouble": value, "timeUnixNano": time, "traceId": trace, "filteredAttributes": attributes})
}

fn sent(kind: &str, temporality: u8, exemplars: &[Value], more: &Value) -> Vec<u8> {
    let mut point = json!({"timeUnixNano": NOW_NS.to_string(), "exemplars": exemplars});
    point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let data =
        json!({"aggregationTemporality": temporality, "isMonotonic": true, "dataPoints": [point]});
    let metrics = json!([{"name": "x", kind: data}]);
    let message = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    serde_json::to_vec(&message).unwrap()
}

#[tokio::test]
async fn exemplars_are_found_by_the_query_that_reads_their_series() {
    let number = json!({"asInt": "7"});
    let histogram =
        json!({"count": "3", "bucketCounts": ["1", "1", "1"], "explicitBounds": [1, 5]});
    let exponential = json!({"count": "1", "zeroCount": "1"});
    let at = |series: &str, value: &str, ago_s: u64| {
        let at = 1_800_000_000 - ago_s;
        format!(r#"{{{series}}} {{"trace_id":"{TRACE}","user.id":"7"}} {value}@{at}"#)
    };
    for temporality in [1, 2] {
        for (kind, more, query, series, in_bucket) in [
            ("sum", &number, "rate(x_total[5m])", r#""__name__":"x_total""#, ""),
            (
                "histogram",
                &histogram,
                "rate(x_bucket[5m])",
                r#""__name__":"x_bucket","le":"1""#,
                r#""__name__":"x_bucket","le":"+Inf""#,
            ),
            ("exponentialHistogram", &exponential, "rate(x[5m])", r#""__name__":"x""#, ""),
        ] {
            let receiver = Receiver::new();
            let long = "y".repeat(128);
            let mut without = exemplar(0.75, 1, TRACE);
            without["filteredAttributes"][0]["value"] = json!({"stringValue": long});
            let exemplars = [exemplar(0.5, 5, TRACE), exemplar(0.25, 9, TRACE), without];
            let message = sent(kind, temporality, &exemplars, more);
            // Sent again it is known.
            for _ in 0..2 {
                let answer = receiver.post("/v1/metrics", JSON, "", message.clone()).await;
                assert_eq!((answer.status, answer.json()), (200, json!({})), "{kind}");
            }
            let expected = [
                at(series, "0.25", 9),
                at(series, "0.5", 5),
                format!(r#"{{{series}}} {{"trace_id":"{TRACE}"}} 0.75@1799999999"#),
            ];
            assert_eq!(receiver.exemplars(query).await, expected, "{kind}");
            let figures = receiver.otlp.figures();
            // The last of them again is the same; the others are older than it.
            assert_eq!((figures.exemplars_written, figures.exemplars_ignored), (4, 2), "{kind}");
            if !in_bucket.is_empty() {
                let message = sent(kind, temporality, &[exemplar(9.0, 5, TRACE)], more);
                receiver.post("/v1/metrics", JSON, "", message).await;
                let found = receiver.exemplars(query).await;
                assert!(found.contains(&at(in_bucket, "9", 5)), "{found:?}");
            }
        }
    }
}

#[tokio::test]
async fn exemplars_that_are_not_kept_are_counted_and_cost_nothing_else() {
    let receiver = Receiver::new();
    let ahead = exemplar(1.0, 0, TRACE);
    let ahead =
        Value::from_iter(ahead.as_object().unwrap().clone().into_iter().map(|(key, value)| {
            let later = (NOW_NS + 3_600_000_000_000).to_string();
            if key == "timeUnixNano" { (key, json!(later)) } else { (key, value) }
        }));
    let number = json!({"asInt": "7"});
    let long = json!({"asInt": "7", "attributes": [{"key": "a", "value": {"stringValue": "x".repeat(1025)}}]});
    let valueless = json!({"timeUnixNano": NOW_NS.to_string(), "traceId": TRACE});
    for (kind, exemplars, more, ignored) in [
        ("gauge", vec![exemplar(1.0, 0, TRACE)], &number, 1),
        ("sum", vec![ahead, valueless], &number, 2),
        // Its labels are refused, and what does not say what it counts from.
        ("sum", vec![exemplar(1.0, 0, TRACE)], &long, 1),
    ] {
        let before = receiver.otlp.figures();
        let answer = receiver.post("/v1/metrics", JSON, "", sent(kind, 2, &exemplars, more)).await;
        assert_eq!(answer.status, 200);
        let figures = receiver.otlp.figures();
        assert_eq!(figures.exemplars_ignored - before.exemplars_ignored, ignored, "{kind}");
    }
    assert_eq!(receiver.otlp.figures().exemplars_written, 0);
    assert_eq!(receiver.query("x_total").await.len(), 1);
}
