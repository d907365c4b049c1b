//! Messages of OTLP against the samples they become.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram as OtlpHistogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics,
};
use prost::Message as _;
use stoa_exchange::otlp::{
    Accumulate, DeltaFault, Form, INFO_SAMPLES_MAX, LABEL_BYTES_MAX, Options, Point, Refused,
    SAMPLES_MAX, SampleExemplar, SampleLabels, Sink, Strategy, Total, Translator, read,
};
use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs, is_stale};

/// What a message becomes, a line each.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn labels(&mut self, labels: SampleLabels<'_>) {
        assert!(labels.is_sorted_by(|(a, _), (b, _)| a < b), "{labels:?}");
        for (name, value) in labels {
            assert!(!value.is_empty());
            write!(self.0, "{name}={value} ").unwrap();
        }
    }
}

impl Sink for Lines {
    fn sample(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, value: f64) {
        self.labels(labels);
        if is_stale(value) {
            writeln!(self.0, "stale@{t_ms}").unwrap();
        } else {
            writeln!(self.0, "{value}@{t_ms}").unwrap();
        }
    }

    fn histogram(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, histogram: Histogram) {
        self.labels(labels);
        histogram.validate().unwrap();
        if histogram.is_stale() {
            writeln!(self.0, "stale histogram@{t_ms}").unwrap();
            return;
        }
        let Histogram { schema, sum, positive_spans, custom_values, .. } = histogram;
        writeln!(self.0, "{schema} {sum} {} {custom_values:?}@{t_ms}", positive_spans.len())
            .unwrap();
    }

    fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        writeln!(self.0, "# {name} {} {unit} {help}", kind.as_str()).unwrap();
    }

    fn place(&mut self, labels: SampleLabels<'_>) -> bool {
        !labels.iter().any(|(_, value)| *value == "nowhere")
    }

    fn exemplars(&mut self, series: SampleLabels<'_>, exemplars: &[SampleExemplar<'_>]) {
        for SampleExemplar { labels, t_ms, value } in exemplars {
            self.labels(series);
            self.0.push_str("# ");
            let labels: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            self.labels(&labels);
            writeln!(self.0, "{value}@{t_ms}").unwrap();
        }
    }

    fn exemplars_left_out(&mut self, count: u64) {
        writeln!(self.0, "{count} exemplars left out").unwrap();
    }

    fn refused(&mut self, why: &Refused) {
        writeln!(self.0, "! {why}").unwrap();
    }
}

fn lines(options: &Options, message: &str) -> String {
    let mut lines = Lines::default();
    let mut translator = Translator::new(options, &mut lines);
    read(Form::Json, message.as_bytes(), &mut translator).unwrap();
    translator.finish();
    lines.0
}

/// `key=value` pairs as attributes.
fn attributes(pairs: &str) -> String {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
    };
    pairs.split_whitespace().map(pair).collect::<Vec<_>>().join(",")
}

/// A message of one resource with metrics of one scope.
fn message(resource: &str, metrics: &str) -> String {
    let (resource, scope) = (attributes(resource), attributes("a.b=1 name=n"));
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{
        "scope":{{"name":"lib","version":"2","attributes":[{scope}]}},"metrics":[{metrics}]}}]}}]}}"#
    )
}

fn gauge(pairs: &str) -> String {
    let attributes = attributes(pairs);
    format!(
        r#"{{"name":"g","gauge":{{"dataPoints":[{{"timeUnixNano":2000999999,"asInt":1,"attributes":[{attributes}]}}]}}}}"#
    )
}

/// The labels of a gauge's sample.
fn gauge_labels(options: &Options, resource: &str, pairs: &str) -> String {
    let lines = lines(options, &message(resource, &gauge(pairs)));
    let line = lines.lines().nth(1).unwrap();
    line.strip_suffix(" 1@2000").unwrap_or(line).to_owned()
}

#[test]
fn all_kinds_become_what_prometheus_makes_of_them() {
    let metrics = r#"
{"name":"load","unit":"1","description":"Load.","gauge":{"dataPoints":[
  {"timeUnixNano":"1000000000","asDouble":0.5},{"timeUnixNano":"2000000000","flags":1},
  {"timeUnixNano":"3000000000"}]}},
{"name":"io","unit":"By","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
  {"timeUnixNano":"1000000000","asInt":"7","exemplars":[{},{}]}]}},
{"name":"queue","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[
  {"timeUnixNano":"1000000000","asInt":-7}]}},
{"name":"delta","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"asInt":"7"},{}]}},
{"name":"unsaid","histogram":{"dataPoints":[{}]}},
{"name":"h","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
  {"timeUnixNano":"1000000000","count":"6","sum":7.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.00001,2500000]},
  {"timeUnixNano":"2000000000","count":"6","bucketCounts":["6","0"],"explicitBounds":["Infinity"]},
  {"timeUnixNano":"3000000000","count":"6","bucketCounts":["6","0"],"explicitBounds":[1],"flags":1}]}},
{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
  {"timeUnixNano":"1000000000","count":"6","sum":7.5,"scale":3,"positive":{"offset":1,"bucketCounts":["6"]}},
  {"timeUnixNano":"2000000000","flags":1},
  {"timeUnixNano":"3000000000","scale":-5}]}},
{"name":"q","summary":{"dataPoints":[
  {"timeUnixNano":"1000000000","count":"2","sum":3,"quantileValues":[{"quantile":0.99,"value":1.5}]}]}},
{"name":"!","gauge":{"dataPoints":[{"asInt":"1"}]}}"#;
    let expected = "# load_ratio gauge  Load.
__name__=load_ratio job=shop 0.5@1000
__name__=load_ratio job=shop stale@2000
! a point of \"load\" has no value
# io_bytes_total counter bytes \n__name__=io_bytes_total job=shop 7@1000
2 exemplars left out
# queue gauge  \n__name__=queue job=shop -7@1000
! the temporality of \"delta\" is not cumulative
! the temporality of \"delta\" is not cumulative
! the temporality of \"unsaid\" is not cumulative
# h_seconds histogram seconds \n__name__=h_seconds_sum job=shop 7.5@1000
__name__=h_seconds_count job=shop 6@1000
__name__=h_seconds_bucket job=shop le=0.00001 1@1000
__name__=h_seconds_bucket job=shop le=2500000 3@1000
__name__=h_seconds_bucket job=shop le=+Inf 6@1000
__name__=h_seconds_count job=shop 6@2000
__name__=h_seconds_bucket job=shop le=+Inf 6@2000
__name__=h_seconds_count job=shop stale@3000
__name__=h_seconds_bucket job=shop le=1 stale@3000
__name__=h_seconds_bucket job=shop le=+Inf stale@3000
# e histogram  \n__name__=e job=shop 3 7.5 1 []@1000
__name__=e job=shop stale histogram@2000
! an exponential histogram of scale -5: the coarsest is -4
# q summary  \n__name__=q_sum job=shop 3@1000
__name__=q_count job=shop 2@1000
__name__=q job=shop quantile=0.99 1.5@1000
! \"!\" is no name of a metric
";
    let message = message("service.name=shop", metrics);
    assert_eq!(lines(&Options::default(), &message), expected);
    let options = Options { convert_histograms_to_nhcb: true, ..Options::default() };
    let custom = lines(&options, &message.replace("\"Infinity\"", "1"));
    let custom: Vec<&str> = custom.lines().filter(|line| line.contains("h_seconds ")).collect();
    assert_eq!(
        custom,
        [
            "# h_seconds histogram seconds ",
            "__name__=h_seconds job=shop -53 7.5 1 [1e-5, 2500000.0]@1000",
            "__name__=h_seconds job=shop -53 0 1 [1.0]@2000",
            "__name__=h_seconds job=shop stale histogram@3000",
        ]
    );
}

#[test]
fn labels_come_from_attributes_resource_and_scope() {
    let default = Options::default();
    let utf8 = Options { translation_strategy: Strategy::NoTranslation, ..Options::default() };
    let names = BTreeSet::from(["b.c".to_owned(), "cluster".to_owned()]);
    let promoting = Options { promote_resource_attributes: names.clone(), ..Options::default() };
    let all = Options {
        promote_all_resource_attributes: true,
        ignore_resource_attributes: names,
        ..Options::default()
    };
    let scoped = Options { promote_scope_metadata: true, ..Options::default() };
    for (options, resource, point, expected) in [
        (&default, "", "", "__name__=g"),
        (&default, "", "b.c=2 a=1 empty=", "__name__=g a=1 b_c=2"),
        // Names that become the same: in order of what they were, whatever came first.
        (&default, "", "b_c=3 b.c=1 b-c=", "__name__=g b_c=1;3"),
        (&default, "", "Z=1 __name__=x", "Z=1 __name__=g"),
        (&default, "", "ü=1", "! \"ü\" is no name of a label"),
        (&utf8, "", "b_c=3 b.c=1 ü=2", "__name__=g b.c=1 b_c=3 ü=2"),
        (
            &default,
            "service.name=shop service.namespace=eu service.instance.id=i",
            "job=x instance=y",
            "__name__=g instance=i job=eu/shop",
        ),
        (&default, "service.namespace=eu", "job=x", "__name__=g job=x"),
        (&default, "b.c=1 cluster=2", "", "__name__=g"),
        (&promoting, "b.c=1 cluster=2 other=3", "", "__name__=g b_c=1 cluster=2"),
        // A point's own attribute stands over one of its resource.
        (&promoting, "b.c=1 cluster=2", "b.c=9 cluster=", "__name__=g b_c=9 cluster=2"),
        (
            &all,
            "b.c=1 cluster=2 other=3 service.name=s",
            "",
            "__name__=g job=s other=3 service_name=s",
        ),
        (&promoting, "ü=1", "", "__name__=g"),
        (&all, "ü=1", "", "! \"ü\" is no name of a label"),
        (
            &scoped,
            "",
            "otel_scope_version=x",
            "__name__=g otel_scope_a_b=1 otel_scope_name=lib otel_scope_version=2",
        ),
    ] {
        assert_eq!(gauge_labels(options, resource, point), expected, "{resource} {point}");
    }
    let plain = Options {
        label_name_underscore_sanitization: false,
        label_name_preserve_multiple_underscores: false,
        ..Options::default()
    };
    assert_eq!(gauge_labels(&default, "", "_a=1 b..c=2"), "__name__=g b__c=2 key_a=1");
    assert_eq!(gauge_labels(&plain, "", "_a=1 b..c=2"), "__name__=g _a=1 b_c=2");
}

#[test]
fn attributes_beyond_their_bounds_cost_the_points_that_have_them() {
    let many: Vec<String> = (0..129).map(|i| format!("a{i}=1")).collect();
    let many = many.join(" ");
    let two = format!("{},{}", gauge("a=1"), gauge(&many));
    let got = lines(&Options::default(), &message("", &two));
    let fault = "! more than 128 attributes\n";
    let one = "# g gauge  \n__name__=g a=1 1@2000\n# g gauge  \n";
    assert_eq!(got, format!("{one}{fault}"));
    let got = lines(&Options::default(), &message(&many, &gauge("a=1")));
    assert_eq!(got, format!("# g gauge  \n{fault}"));
}

#[test]
fn a_huge_attribute_of_a_resource_costs_its_points_only_what_it_tells_them_apart_by() {
    let huge = format!("service.name=s b.c={} d=1", "x".repeat(100_000));
    let message = message(&huge, &gauge("a=1"));
    let got = lines(&Options::default(), &message);
    let point = "# g gauge  \n__name__=g a=1 job=s 1@2000\n";
    assert_eq!(got, format!("{point}__name__=target_info d=1 job=s 1@2000\n"));
    let promote_resource_attributes = BTreeSet::from(["b.c".to_owned()]);
    let got = lines(&Options { promote_resource_attributes, ..Options::default() }, &message);
    assert_eq!(got, "# g gauge  \n! an attribute of more than 65536 bytes\n");
}

#[test]
fn target_info_stands_from_the_first_point_to_the_last() {
    let points = |times: &[i64]| {
        let point = |ms: &i64| format!(r#"{{"timeUnixNano":"{ms}000000","asInt":1}}"#);
        let points: Vec<String> = times.iter().map(point).collect();
        format!(r#"{{"name":"g","gauge":{{"dataPoints":[{}]}}}}"#, points.join(","))
    };
    let info = |options: &Options, resource: &str, times: &[i64]| -> String {
        let all = lines(options, &message(resource, &points(times)));
        let lines = all.lines().filter(|line| line.contains("target_info"));
        lines.map(|line| line.replace("__name__=target_info ", "")).collect::<Vec<_>>().join(", ")
    };
    let default = Options::default();
    let keep = Options { keep_identifying_resource_attributes: true, ..Options::default() };
    let promoting = Options { promote_all_resource_attributes: true, ..Options::default() };
    for (options, resource, times, expected) in [
        (&default, "service.name=s os=x", &[5000][..], "job=s os=x 1@5000"),
        (&default, "service.instance.id=i os.type=x ü=1", &[5000], "instance=i os_type=x 1@5000"),
        (&keep, "service.name=s os=x", &[5000], "job=s os=x service_name=s 1@5000"),
        (&promoting, "service.name=s os=x", &[5000], "job=s os=x 1@5000"),
        // Every 2.5 minutes, and at the last; points in any order.
        (
            &default,
            "service.name=s a=b",
            &[301_000, 1000, 200_000],
            "job=s a=b 1@1000, job=s a=b 1@151000, job=s a=b 1@301000",
        ),
        // Nothing to say, nothing to know it by, no point.
        (&default, "service.name=s", &[5000], ""),
        (&keep, "service.name=s", &[5000], ""),
        (&default, "os=x", &[5000], ""),
        (&default, "service.name=s os=x", &[], ""),
        // A time that was not set does not fill the store.
        (&default, "service.name=s a=b", &[0, 1_700_000_000_000], "job=s a=b 1@1700000000000"),
    ] {
        let expected = match resource {
            "service.name=s a=b" => expected.replace("job=s a=b", "a=b job=s"),
            _ => expected.to_owned(),
        };
        assert_eq!(info(options, resource, times), expected, "{resource} {times:?}");
    }
    // What no label can hold is left out, and what is there stands.
    let long = format!("service.name=s os=x process.command_line={}", "x".repeat(1025));
    assert_eq!(info(&default, &long, &[5000]), "job=s os=x 1@5000");
    let many: String = (10..99).map(|n| format!(" a{n}=b")).collect();
    let many = info(&default, &format!("service.name=s{many}"), &[5000]);
    assert_eq!(many.matches('=').count(), 61);
    let times = [0, INFO_SAMPLES_MAX * 150_000 - 150_000];
    let all = info(&default, "service.name=s os=x", &times);
    assert_eq!(all.matches("job=s").count() as i64, INFO_SAMPLES_MAX);
}

#[test]
fn a_metric_whose_name_would_be_copied_for_each_point_is_refused_shortly() {
    let name = "é".repeat(1000);
    let point = r#"{"timeUnixNano":"1000000","asInt":1}"#;
    for kind in [
        format!(r#""name":"{name}","gauge":{{"dataPoints":[{point}]}}"#),
        format!(r#""name":"g","unit":"{name}","gauge":{{"dataPoints":[{point}]}}"#),
        format!(r#""name":"{name}","sum":{{"dataPoints":[{point}]}}"#),
        format!(r#""name":"{name}","summary":{{"dataPoints":[{{"timeUnixNano":"1"}}]}}"#),
    ] {
        let got = lines(&Options::default(), &message("", &format!("{{{kind}}}")));
        assert!(got.starts_with("! the name or unit of "), "{got}");
        assert!(got.len() < 200, "{got}");
    }
}

#[test]
fn exemplars_are_of_the_series_that_their_value_counts_in() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let fits = "x".repeat(128 - "trace_id".len() - 32 - "span_id".len() - 16 - 1);
    let ids = format!(r#""traceId":"{}","spanId":"b7ad6b7169203331""#, trace.to_uppercase());
    let exemplar = |time: u32, value: &str, more: &str| {
        let time = time * 1_000_000;
        format!(r#"{{"timeUnixNano":"{time}","asDouble":{value}{more}}}"#)
    };
    let attributed = |text: &str| format!(r#",{ids},"filteredAttributes":[{}]"#, attributes(text));
    let point = |exemplars: &[String], more: &str| {
        format!(r#"{{"timeUnixNano":"9000000","exemplars":[{}]{more}}}"#, exemplars.join(","))
    };
    let two = [exemplar(3, "2", ""), exemplar(2, "0.5", &format!(",{ids}"))];
    let buckets = [
        exemplar(3, "1", ""),
        exemplar(2, "0.5", ""),
        exemplar(1, "7", ""),
        exemplar(1, "2.5", ""),
        exemplar(1, "\"NaN\"", ""),
        r#"{"timeUnixNano":"1000000"}"#.to_owned(),
    ];
    let histogram = r#","count":"6","bucketCounts":["1","2","3"],"explicitBounds":[1,2.5]"#;
    let sum = |points: &str| {
        format!(r#"{{"name":"s","sum":{{"aggregationTemporality":2,"dataPoints":[{points}]}}}}"#)
    };
    let of_kind = |kind: &str, point: &str| {
        format!(r#"{{"name":"h","{kind}":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#)
    };
    let number = r#","asInt":1"#;
    let default = Options::default();
    let native = Options { convert_histograms_to_nhcb: true, ..Options::default() };
    for (options, metric, expected) in [
        // In order of time, whatever the order of the point.
        (
            &default,
            sum(&point(&two, number)),
            format!(
                "__name__=s # span_id=b7ad6b7169203331 trace_id={trace} 0.5@2\n__name__=s # 2@3\n"
            ),
        ),
        // What does not say when is of when its point is; zeroes are no trace.
        (
            &default,
            sum(&point(
                &[r#"{"asInt":"4","traceId":"00000000000000000000000000000000","spanId":"1"}"#
                    .to_owned()],
                number,
            )),
            "__name__=s # 4@9\n".to_owned(),
        ),
        // Attributes stand under their own names, as long as all of it fits; a trace stands over one.
        (
            &default,
            sum(&point(&[exemplar(1, "1", &attributed(&format!("ü={fits}")))], number)),
            format!("__name__=s # span_id=b7ad6b7169203331 trace_id={trace} ü={fits} 1@1\n"),
        ),
        (
            &default,
            sum(&point(&[exemplar(1, "1", &attributed(&format!("ü={fits}x")))], number)),
            format!("__name__=s # span_id=b7ad6b7169203331 trace_id={trace} 1@1\n"),
        ),
        (
            &default,
            sum(&point(&[exemplar(1, "1", &attributed("a.b=1 trace_id=x a.b=2 c="))], number)),
            format!("__name__=s # a.b=1 span_id=b7ad6b7169203331 trace_id={trace} 1@1\n"),
        ),
        // Of a histogram each is of the first bucket it counts in, or of the native histogram.
        (
            &default,
            of_kind("histogram", &point(&buckets, histogram)),
            "2 exemplars left out\n\
             __name__=h_bucket le=1 # 0.5@2\n__name__=h_bucket le=1 # 1@3\n\
             __name__=h_bucket le=2.5 # 2.5@1\n__name__=h_bucket le=+Inf # 7@1\n"
                .to_owned(),
        ),
        (
            &native,
            of_kind("histogram", &point(&two, histogram)),
            format!(
                "__name__=h # span_id=b7ad6b7169203331 trace_id={trace} 0.5@2\n__name__=h # 2@3\n"
            ),
        ),
        (
            &default,
            of_kind("exponentialHistogram", &point(&two, r#","count":"1","zeroCount":"1""#)),
            format!(
                "__name__=h # span_id=b7ad6b7169203331 trace_id={trace} 0.5@2\n__name__=h # 2@3\n"
            ),
        ),
        // Gauges have none, and what is refused has no series.
        (
            &default,
            sum(&point(&two, number)).replace("sum", "gauge"),
            "2 exemplars left out\n".to_owned(),
        ),
        (
            &default,
            sum(&point(&two, "")),
            "! a point of \"s\" has no value\n2 exemplars left out\n".to_owned(),
        ),
    ] {
        let all = lines(options, &message("", &metric));
        let is_of_exemplars = |line: &&str| {
            line.contains(" # ") || line.contains("exemplars") || line.starts_with('!')
        };
        let found: Vec<&str> = all.lines().filter(is_of_exemplars).collect();
        assert_eq!(found, expected.lines().collect::<Vec<_>>(), "{metric}");
    }
    let many = vec![exemplar(1, "1", ""); 1025];
    let all = lines(&default, &message("", &sum(&point(&many, number))));
    assert!(all.ends_with("# 1@1\n1 exemplars left out\n"), "{}", all.len());
}

/// Knows what was to be added.
#[derive(Default)]
struct Asked(u32);

impl Accumulate for Asked {
    fn add(
        &mut self,
        _series: &[u8],
        _point: &Point<'_>,
        _grows: bool,
    ) -> Result<Option<Total>, DeltaFault> {
        self.0 += 1;
        Ok(None)
    }
}

#[test]
fn what_has_no_place_is_not_added_up() {
    let points = r#"{"timeUnixNano":"1000000","asInt":1},
        {"timeUnixNano":"1000000","asInt":1,"attributes":[{"key":"a","value":{"stringValue":"nowhere"}}]}"#;
    let kinds = [
        ("sum", points.to_owned(), 1, 1),
        ("histogram", points.replace("asInt", "count"), 1, 2),
        // Coarser than there is a schema for.
        ("exponentialHistogram", points.replace(r#""asInt":1"#, r#""scale":-5"#), 0, 0),
    ];
    for (kind, points, added, samples) in kinds {
        let metric = format!(
            r#"{{"name":"m","{kind}":{{"aggregationTemporality":1,"dataPoints":[{points}]}}}}"#
        );
        let (mut sink, mut asked, options) =
            (Lines::default(), Asked::default(), Options::default());
        let mut translator = Translator::new(&options, &mut sink).adding(Some(&mut asked));
        read(Form::Json, message("", &metric).as_bytes(), &mut translator).unwrap();
        translator.finish();
        assert_eq!(asked.0, added, "{kind}");
        assert_eq!(sink.0.matches("1@1\n").count(), samples, "{kind} {}", sink.0);
        assert!(!sink.0.contains("nowhere"), "{kind} {}", sink.0);
    }
}

/// Samples and bytes of labels, and points that were too large.
#[derive(Default)]
struct Count {
    samples: usize,
    bytes: usize,
    refused: usize,
}

impl Sink for Count {
    fn sample(&mut self, labels: SampleLabels<'_>, _t_ms: TimestampMs, _value: f64) {
        self.samples += 1;
        self.bytes += labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    }
    fn histogram(&mut self, _: SampleLabels<'_>, _: TimestampMs, _: Histogram) {}
    fn metadata(&mut self, _: &str, _: MetricKind, _: &str, _: &str) {}
    fn exemplars(&mut self, _: SampleLabels<'_>, _: &[SampleExemplar<'_>]) {}
    fn exemplars_left_out(&mut self, _: u64) {}
    fn refused(&mut self, why: &Refused) {
        assert_eq!(*why, Refused::TooLarge);
        self.refused += 1;
    }
}

/// What is made of a message with a histogram of so many buckets, whose label has so many bytes.
fn counted(buckets: usize, bytes: usize) -> Count {
    let point = HistogramDataPoint {
        bucket_counts: vec![1; buckets],
        explicit_bounds: vec![1.0; buckets],
        attributes: vec![KeyValue {
            key: "a".to_owned(),
            value: Some(AnyValue { value: Some(StringValue("x".repeat(bytes))) }),
            ..KeyValue::default()
        }],
        ..HistogramDataPoint::default()
    };
    let data =
        Data::Histogram(OtlpHistogram { data_points: vec![point], aggregation_temporality: 2 });
    let metric = Metric { name: "h".to_owned(), data: Some(data), ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let message = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let (mut count, options) = (Count::default(), Options::default());
    let mut translator = Translator::new(&options, &mut count);
    read(Form::Protobuf, &message, &mut translator).unwrap();
    translator.finish();
    count
}

#[test]
fn what_a_small_message_multiplies_to_is_bounded() {
    // The count and the bucket without bound are two samples more.
    let all = counted(10, 60_000);
    assert_eq!((all.samples, all.refused), (12, 0));
    let labels = counted(60_000, 60_000);
    // All of a histogram or nothing: without its last bucket it would be none.
    assert_eq!((labels.samples, labels.bytes, labels.refused), (0, 0, 1));
    let most = counted(LABEL_BYTES_MAX / 60_100 - 3, 60_000);
    assert_eq!(most.refused, 0);
    let bytes = LABEL_BYTES_MAX - 3_000_000..=LABEL_BYTES_MAX;
    assert!(bytes.contains(&most.bytes), "{}", most.bytes);
    let samples = counted(SAMPLES_MAX - 1, 1);
    assert_eq!((samples.samples, samples.refused), (0, 1));
    assert_eq!(counted(SAMPLES_MAX - 3, 1).refused, 0);
}
