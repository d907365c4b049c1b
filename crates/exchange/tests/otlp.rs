//! Messages as the protocol's own types write them, as Proxmox VE writes them, and any bytes at all.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;
use stoa_exchange::otlp::{
    self, ATTRIBUTES_MAX, Attributes, Form, Measure, NUMBERS_MAX, POINTS_MAX, Point, ReadError,
    TEXT_BYTES_MAX, Writer, partial_success, read, response, status,
};

/// What a message says, a line each.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn attributes(&mut self, attributes: Attributes<'_>) {
        match attributes {
            Err(fault) => write!(self.0, " ! {fault}").unwrap(),
            Ok(attributes) => {
                for attribute in attributes {
                    write!(self.0, " {}={}", attribute.key, attribute.value).unwrap();
                }
            }
        }
        self.0.push('\n');
    }
}

impl otlp::Visitor for Lines {
    fn resource(&mut self, resource: &otlp::Resource<'_>) {
        self.0.push_str("resource");
        let fault = resource.left_out.first().map(|(_, fault)| Err(*fault));
        self.attributes(fault.unwrap_or(resource.attributes));
    }

    fn scope(&mut self, scope: &otlp::Scope<'_>) {
        write!(self.0, " scope {:?} {:?} {:?}", scope.name, scope.version, scope.schema_url)
            .unwrap();
        self.attributes(scope.attributes);
    }

    fn metric(&mut self, metric: &otlp::Metric<'_>) {
        let otlp::Metric { name, description, unit, kind, temporality, monotonic } = metric;
        write!(self.0, "  {name:?} {description:?} {unit:?} {kind:?} {temporality:?}").unwrap();
        self.0.push_str(if *monotonic { " monotonic\n" } else { "\n" });
    }

    fn point(&mut self, point: &Point<'_>) {
        let Point { start_ns, time_ns, ended, measure, exemplars, .. } = point;
        write!(self.0, "   {start_ns} {time_ns} ").unwrap();
        if *ended {
            self.0.push_str("ended ");
        }
        match measure {
            Measure::Absent => self.0.push_str("absent"),
            Measure::Integer(value) => write!(self.0, "int {value}").unwrap(),
            Measure::Double(value) => write!(self.0, "double {value}").unwrap(),
            other => write!(self.0, "{other:?}").unwrap(),
        }
        if !exemplars.is_empty() {
            write!(self.0, " {} exemplars", exemplars.len()).unwrap();
        }
        self.attributes(point.attributes);
    }
}

fn lines(form: Form, message: &[u8]) -> Result<String, ReadError> {
    let mut lines = Lines::default();
    read(form, message, &mut lines).map(|()| lines.0)
}

fn value(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, of: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value(of)), ..KeyValue::default() }
}

fn text(key: &str, of: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(of.to_owned()))
}

fn request(resource: Vec<KeyValue>, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "lib".to_owned(),
                    version: "1.2".to_owned(),
                    attributes: vec![text("of", "scope")],
                    dropped_attributes_count: 0,
                }),
                metrics,
                schema_url: "https://schema".to_owned(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: format!("What {name} is."),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn number(of: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![text("cpu", "0")],
        start_time_unix_nano: 5,
        time_unix_nano: 1_700_000_000_000_000_000,
        exemplars: vec![Exemplar::default(); 2],
        flags: 0,
        value: Some(of),
    }
}

/// One metric of each kind.
fn all_kinds() -> Vec<Metric> {
    use number_data_point::Value::{AsDouble, AsInt};
    let attributes = vec![text("route", "/a\"b")];
    let ended = NumberDataPoint { flags: 1, value: None, ..number(AsInt(0)) };
    vec![
        metric("g", "By", Data::Gauge(Gauge { data_points: vec![number(AsDouble(-0.5)), ended] })),
        metric(
            "s",
            "1",
            Data::Sum(Sum {
                data_points: vec![number(AsInt(i64::MIN))],
                aggregation_temporality: 1,
                is_monotonic: true,
            }),
        ),
        metric(
            "h",
            "s",
            Data::Histogram(Histogram {
                data_points: vec![HistogramDataPoint {
                    attributes: attributes.clone(),
                    count: 6,
                    sum: Some(7.5),
                    bucket_counts: vec![1, 2, 3],
                    explicit_bounds: vec![0.5, 1.0],
                    time_unix_nano: 9,
                    min: Some(0.1),
                    ..HistogramDataPoint::default()
                }],
                aggregation_temporality: 2,
            }),
        ),
        metric(
            "e",
            "",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![ExponentialHistogramDataPoint {
                    attributes,
                    count: u64::MAX,
                    sum: None,
                    scale: -2,
                    zero_count: 4,
                    zero_threshold: 0.25,
                    positive: Some(Buckets { offset: -3, bucket_counts: vec![1, 300] }),
                    negative: Some(Buckets { offset: i32::MAX, bucket_counts: vec![] }),
                    flags: 1,
                    ..ExponentialHistogramDataPoint::default()
                }],
                aggregation_temporality: 2,
            }),
        ),
        metric(
            "q",
            "",
            Data::Summary(Summary {
                data_points: vec![SummaryDataPoint {
                    count: 3,
                    sum: 1.5,
                    quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 0.25 }],
                    ..SummaryDataPoint::default()
                }],
            }),
        ),
        Metric { data: None, ..metric("none", "", Data::Gauge(Gauge::default())) },
        metric("empty", "", Data::Gauge(Gauge::default())),
    ]
}

const ALL_KINDS: &str = r#"resource service.name=shop
 scope "lib" "1.2" "https://schema" of=scope
  "g" "What g is." "By" Gauge Unspecified
   5 1700000000000000000 double -0.5 2 exemplars cpu=0
   5 1700000000000000000 ended absent 2 exemplars cpu=0
  "s" "What s is." "1" Sum Delta monotonic
   5 1700000000000000000 int -9223372036854775808 2 exemplars cpu=0
  "h" "What h is." "s" Histogram Cumulative
   0 9 Histogram(Explicit { count: 6, sum: Some(7.5), bounds: [0.5, 1.0], counts: [1, 2, 3] }) route=/a"b
  "e" "What e is." "" ExponentialHistogram Cumulative
   0 0 ended Exponential(Exponential { scale: -2, count: 18446744073709551615, sum: None, zero_count: 4, zero_threshold: 0.25, positive: Buckets { offset: -3, counts: [1, 300] }, negative: Buckets { offset: 2147483647, counts: [] } }) route=/a"b
  "q" "What q is." "" Summary Unspecified
   0 0 Summary(Summary { count: 3, sum: 1.5, quantiles: [(0.5, 0.25)] })
  "empty" "What empty is." "" Gauge Unspecified
"#;

/// The request in both forms.
fn forms(request: &ExportMetricsServiceRequest) -> [(Form, Vec<u8>); 2] {
    let json = serde_json::to_vec(request).unwrap();
    [(Form::Protobuf, request.encode_to_vec()), (Form::Json, json)]
}

#[test]
fn what_the_protocols_own_types_write_is_read() {
    let request = request(vec![text("service.name", "shop")], all_kinds());
    for (form, message) in forms(&request) {
        assert_eq!(lines(form, &message).unwrap(), ALL_KINDS, "{form:?}");
    }
}

#[test]
fn values_are_read_as_text() {
    use any_value::Value::{
        ArrayValue as Array, BoolValue, BytesValue, DoubleValue, IntValue, KvlistValue, StringValue,
    };
    let array = |values| Array(ArrayValue { values });
    let string = |text: &str| value(StringValue(text.to_owned()));
    let map = KvlistValue(KeyValueList {
        values: vec![text("b", "\n"), attribute("a", IntValue(1)), text("ü", "")],
    });
    let cases = [
        (BoolValue(true), "true"),
        (IntValue(i64::MIN), "-9223372036854775808"),
        (DoubleValue(1.5), "1.5"),
        (DoubleValue(1e21), "1e+21"),
        (BytesValue(vec![0xfb, 0xff, 1, 2]), "+/8BAg=="),
        (array(vec![]), "[]"),
        (
            array(vec![string("a\"\u{1}"), value(BoolValue(false)), AnyValue { value: None }]),
            r#"["a\"\u0001",false,null]"#,
        ),
        (map.clone(), r#"{"a":1,"b":"\n","ü":""}"#),
        (
            array(vec![value(map), value(BytesValue(vec![1]))]),
            r#"[{"a":1,"b":"\n","ü":""},"AQ=="]"#,
        ),
    ];
    for (given, expected) in cases {
        let request = request(vec![attribute("k", given)], vec![]);
        for (form, message) in forms(&request) {
            let got = lines(form, &message).unwrap();
            assert_eq!(got.lines().next(), Some(&*format!("resource k={expected}")), "{form:?}");
        }
    }
}

#[test]
fn attributes_beyond_their_bounds_cost_what_they_stand_on() {
    use any_value::Value::{ArrayValue as Array, BytesValue, IntValue, StringValue};
    let many = |n: usize| (0..n).map(|i| attribute(&i.to_string(), IntValue(1))).collect();
    let deep = |levels: usize| {
        let nest = |inner, _| Array(ArrayValue { values: vec![value(inner)] });
        vec![attribute("k", (0..levels).fold(IntValue(1), nest))]
    };
    let long = |n: usize| vec![text("k", &"x".repeat(n))];
    let numbers =
        |n: usize| vec![attribute("k", Array(ArrayValue { values: vec![value(IntValue(-1)); n] }))];
    let named = |n: usize| vec![text(&"x".repeat(n), "v")];
    let bytes = |n: usize| vec![attribute("k", BytesValue(vec![0; n]))];
    let map = |n: usize| {
        let values = (0..n).map(|_| attribute("", StringValue(String::new()))).collect();
        vec![attribute("k", any_value::Value::KvlistValue(KeyValueList { values }))]
    };
    let too_long = "an attribute of more than 65536 bytes";
    for (given, fault) in [
        (many(ATTRIBUTES_MAX), None),
        (many(ATTRIBUTES_MAX + 1), Some("more than 128 attributes")),
        (deep(8), None),
        (deep(9), Some("an attribute of more than 8 levels")),
        (long(TEXT_BYTES_MAX), None),
        (long(TEXT_BYTES_MAX + 1), Some(too_long)),
        (named(TEXT_BYTES_MAX), None),
        (named(TEXT_BYTES_MAX + 1), Some(too_long)),
        (numbers(TEXT_BYTES_MAX / 4), None),
        (numbers(TEXT_BYTES_MAX / 2), Some(too_long)),
        (bytes(TEXT_BYTES_MAX / 4 * 3), None),
        (bytes(TEXT_BYTES_MAX), Some(too_long)),
        (bytes(TEXT_BYTES_MAX * 9), Some(too_long)),
        (map(TEXT_BYTES_MAX / 9), None),
        (map(TEXT_BYTES_MAX), Some(too_long)),
    ] {
        let request = request(given, vec![metric("g", "", Data::Gauge(Gauge::default()))]);
        for (form, message) in forms(&request) {
            let got = lines(form, &message).unwrap();
            let first = got.lines().next().unwrap().strip_prefix("resource").unwrap();
            assert_eq!(first.strip_prefix(" ! "), fault, "{form:?}");
            assert!(got.contains("\"g\""), "the rest is read");
        }
    }
}

/// As `PVE::Status::OpenTelemetry` builds it: keys in any order, times as numbers (with an exponent
/// where Perl holds them as doubles), an empty scope, one metric to a point.
const PVE: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
{"unit":"bytes","gauge":{"dataPoints":[{"asInt":8123456789,"timeUnixNano":1763771000000000000,"attributes":[
  {"value":{"stringValue":"pve1"},"key":"node"}]}]},"name":"proxmox_node_memory_memused"},
{"sum":{"isMonotonic":true,"dataPoints":[{"timeUnixNano":1.763771e+18,"asDouble":123.5,"attributes":[
  {"key":"node","value":{"stringValue":"pve1"}}]}],"aggregationTemporality":2},"name":"proxmox_node_cpustat_iowait_total","unit":"seconds"},
{"name":"proxmox_vm_x","unit":"1","gauge":{"dataPoints":[{"asInt":1.84467440737096e+19,"timeUnixNano":"1763771000000000000","attributes":[
  {"key":"vmid","value":{"stringValue":100}},{"key":"name","value":{"stringValue":""}}]}]}}
],"scope":{}}],"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"proxmox-ve"}},
{"value":{"stringValue":12},"key":"rack"},{"key":"empty","value":{}},{"key":"none"}],"droppedAttributesCount":0}}]}"#;

#[test]
fn what_proxmox_ve_writes_is_read() {
    let expected = r#"resource service.name=proxmox-ve rack=12 empty= none=
 scope "" "" ""
  "proxmox_node_memory_memused" "" "bytes" Gauge Unspecified
   0 1763771000000000000 int 8123456789 node=pve1
  "proxmox_node_cpustat_iowait_total" "" "seconds" Sum Cumulative monotonic
   0 1763771000000000000 double 123.5 node=pve1
  "proxmox_vm_x" "" "1" Gauge Unspecified
   0 1763771000000000000 double 18446744073709600000 vmid=100 name=
"#;
    assert_eq!(lines(Form::Json, PVE.as_bytes()).unwrap(), expected);
    // Its test of the connection.
    let empty = r#"{"resourceMetrics":[{"resource":{"attributes":[]},"scopeMetrics":[{"scope":{},"metrics":[]}]}]}"#;
    assert_eq!(lines(Form::Json, empty.as_bytes()).unwrap(), "resource\n scope \"\" \"\" \"\"\n");
}

/// A point's fields as JSON, with what is read of them.
#[test]
fn json_is_read_as_proto3_has_it() {
    let gauge = |point: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{{{point}}}]}}}}]}}]}}]}}"#
        )
    };
    for (point, expected) in [
        (r#""asInt":"-12""#, "0 0 int -12"),
        (r#""asInt":12.0"#, "0 0 int 12"),
        (r#""asInt":1e3"#, "0 0 int 1000"),
        (r#""asDouble":"NaN""#, "0 0 double NaN"),
        (r#""asDouble":"-Infinity""#, "0 0 double -inf"),
        (r#""asDouble":"Infinity""#, "0 0 double inf"),
        (r#""asDouble":"1.5e2""#, "0 0 double 150"),
        (r#""asDouble":3"#, "0 0 double 3"),
        (r#""asDouble":null,"asInt":null"#, "0 0 absent"),
        (r#""flags":"1","startTimeUnixNano":"7","unknown":{"a":[1]}"#, "7 0 ended absent"),
        (r#""timeUnixNano":1.7e+18,"timeUnixNano":8"#, "0 8 absent"),
        (r#""\u0061sInt":1"#, "0 0 int 1"),
        (
            r#""attributes":[{"key":"a\u00e4\n","value":{"boolValue":true}}]"#,
            "0 0 absent aä\n=true",
        ),
        (r#""attributes":[{"key":"b","value":{"bytesValue":"-_8"}}]"#, "0 0 absent b=+/8="),
        (r#""attributes":[{"key":"i","value":{"intValue":"5"}}]"#, "0 0 absent i=5"),
    ] {
        let got = lines(Form::Json, gauge(point).as_bytes()).unwrap();
        let metric = "  \"\" \"\" \"\" Gauge Unspecified\n   ";
        assert_eq!(got.split_once(metric).unwrap().1, format!("{expected}\n"), "{point}");
    }
    for (message, expected) in [
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        ("{} x", "not JSON: trailing characters at line 1 column 4"),
        ("[]", "\"request\" is not an object"),
        (r#"{"resourceMetrics":{}}"#, "\"resourceMetrics\" is not an array"),
        (r#"{"resourceMetrics":[1]}"#, "\"resourceMetrics\" is not an object"),
        (
            &gauge(r#""timeUnixNano":-1"#),
            "\"timeUnixNano\" is not a whole number of 64 bits from 0 on",
        ),
        (
            &gauge(r#""timeUnixNano":1.5"#),
            "\"timeUnixNano\" is not a whole number of 64 bits from 0 on",
        ),
        (&gauge(r#""asInt":"x""#), "\"asInt\" is not a number"),
        (&gauge(r#""asDouble":{}"#), "\"asDouble\" is not text"),
        (&gauge(r#""attributes":[{"key":"\ud800"}]"#), "\"key\" is not text"),
    ] {
        assert_eq!(lines(Form::Json, message.as_bytes()).unwrap_err().to_string(), expected);
    }
    let not_utf8 = lines(Form::Json, b"{\"\xff\":1}").unwrap_err();
    assert!(matches!(not_utf8, ReadError::Json(_)), "{not_utf8}");
}

#[test]
fn protobuf_is_read_in_any_order_and_nothing_else_is_taken_for_it() {
    let check = |hex: &str, expected: &str| {
        let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        let message: Vec<u8> = digits.chunks(2).map(byte).collect();
        let got = lines(Form::Protobuf, &message).unwrap_or_else(|error| format!("{error}\n"));
        assert_eq!(got.trim_end_matches('\n'), expected, "{hex}");
    };
    let malformed = "not a message of the protocol: ";
    check("", "");
    check("48 01", "");
    check("0a 05 00", &format!("{malformed}it ends within a field"));
    check("08 01", &format!("{malformed}field 1 has the wrong wire type"));
    check("0b", &format!("{malformed}field 1 of wire type 3 cannot be"));
    // The scopes before the resource, and this in two parts; text that is no UTF-8.
    let resource = |key: &str| format!("0a 0a 0a08 0a01 {key} 1203 0a01 ff");
    let (a, b) = (resource("61"), resource("62"));
    check(&format!("0a 1a 1200 {a} {b}"), "resource a=\u{fffd} b=\u{fffd}\n scope \"\" \"\" \"\"");
    // A histogram whose points stand before the temporality, counts packed and not.
    let point = "0a 1d 31 0100000000000000 3210 0200000000000000 0300000000000000 40 01";
    let point = point.replace("40 01", "50 01");
    check(
        &format!("0a 29 12 27 12 25 4a 23 {point} 10 01 1801"),
        "resource\n scope \"\" \"\" \"\"\n  \"\" \"\" \"\" Histogram Delta\n   0 0 ended \
         Histogram(Explicit { count: 0, sum: None, bounds: [], counts: [1, 2, 3] })",
    );
}

#[test]
fn messages_beyond_the_bounds_are_refused() {
    let points = |n| {
        let data_points = vec![NumberDataPoint::default(); n];
        request(vec![], vec![metric("g", "", Data::Gauge(Gauge { data_points }))])
    };
    let buckets = |n| {
        let bucket_counts = vec![1; n];
        let data_points = vec![HistogramDataPoint { bucket_counts, ..Default::default() }];
        let data = Data::Histogram(Histogram { data_points, aggregation_temporality: 2 });
        request(vec![], vec![metric("h", "", data)])
    };
    struct Nothing;
    impl otlp::Visitor for Nothing {
        fn resource(&mut self, _resource: &otlp::Resource<'_>) {}
        fn scope(&mut self, _scope: &otlp::Scope<'_>) {}
        fn metric(&mut self, _metric: &otlp::Metric<'_>) {}
        fn point(&mut self, _point: &Point<'_>) {}
    }
    for (request, expected) in [
        (points(POINTS_MAX), Ok(())),
        (points(POINTS_MAX + 1), Err(ReadError::TooManyPoints)),
        (buckets(NUMBERS_MAX - 28), Ok(())),
        (buckets(NUMBERS_MAX - 27), Err(ReadError::TooManyNumbers)),
    ] {
        let message = request.encode_to_vec();
        assert_eq!(read(Form::Protobuf, &message, &mut Nothing), expected);
    }
    let json = |n| {
        let points = vec!["{}"; n].join(",");
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#
        )
    };
    let refused = read(Form::Json, json(POINTS_MAX + 1).as_bytes(), &mut Nothing);
    assert_eq!(refused, Err(ReadError::TooManyPoints));
}

#[test]
fn nesting_costs_neither_stack_nor_time() {
    let levels = 20_000;
    let json = [
        r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"k","value":"#,
        &r#"{"arrayValue":{"values":["#.repeat(levels),
        &"]}}".repeat(levels),
        "}]}}]}",
    ]
    .concat();
    let deep = "resource ! an attribute of more than 8 levels\n";
    assert_eq!(lines(Form::Json, json.as_bytes()).unwrap(), deep);
    let mut message = vec![0x10, 1];
    for field in [0x0a, 0x2a].into_iter().cycle().take(2 * 1000) {
        let mut outer = vec![field];
        prost::encoding::encode_varint(message.len() as u64, &mut outer);
        outer.append(&mut message);
        message = outer;
    }
    let mut request = vec![];
    for field in [0x12, 0x0a, 0x0a, 0x0a] {
        let mut outer = vec![field];
        prost::encoding::encode_varint((message.len()) as u64, &mut outer);
        outer.append(&mut message);
        message = outer;
    }
    request.append(&mut message);
    assert_eq!(lines(Form::Protobuf, &request).unwrap(), deep);
}

#[test]
fn answers_are_what_the_protocol_has() {
    let read = |bytes: &[u8]| ExportMetricsServiceResponse::decode(bytes).unwrap().partial_success;
    assert!(read(&response(Form::Protobuf, 0, "")).is_none());
    let partial = read(&response(Form::Protobuf, 300, "too old")).unwrap();
    assert_eq!((partial.rejected_data_points, &*partial.error_message), (300, "too old"));
    assert_eq!(response(Form::Json, 0, ""), b"{}");
    let json = br#"{"partialSuccess":{"rejectedDataPoints":"300","errorMessage":"\"x\""}}"#;
    assert_eq!(response(Form::Json, 300, "\"x\""), json);
    assert_eq!(status(Form::Protobuf, 3, "no"), b"\x08\x03\x12\x02no");
    assert_eq!(status(Form::Json, 3, "no"), br#"{"code":3,"message":"no"}"#);
}

/// A point of any kind, of finite numbers, which JSON can carry.
fn any_metric() -> impl Strategy<Value = Metric> {
    let finite = -1e30..1e30_f64;
    let attributes = proptest::collection::vec(("[a-z.]{1,4}", "\\PC{0,6}"), 0..3)
        .prop_map(|pairs| pairs.iter().map(|(key, of)| text(key, of)).collect::<Vec<_>>());
    let counts = proptest::collection::vec(any::<u64>(), 0..5);
    let number = prop_oneof![
        finite.clone().prop_map(number_data_point::Value::AsDouble),
        any::<i64>().prop_map(number_data_point::Value::AsInt),
    ];
    let number = (attributes.clone(), number, any::<u64>()).prop_map(|(attributes, value, t)| {
        let value = Some(value);
        NumberDataPoint { attributes, value, time_unix_nano: t, ..Default::default() }
    });
    let explicit = (attributes.clone(), counts.clone(), finite.clone(), any::<u64>());
    let explicit = explicit.prop_map(|(attributes, bucket_counts, sum, count)| {
        let explicit_bounds = vec![0.5; bucket_counts.len()];
        let sum = (count % 2 == 0).then_some(sum);
        let parts = HistogramDataPoint { attributes, bucket_counts, ..Default::default() };
        HistogramDataPoint { explicit_bounds, sum, count, ..parts }
    });
    let exponential = (attributes, counts, any::<i32>(), any::<i32>(), finite);
    let exponential = exponential.prop_map(|(attributes, counts, scale, offset, sum)| {
        let positive = Some(Buckets { offset, bucket_counts: counts });
        let parts = ExponentialHistogramDataPoint { attributes, scale, ..Default::default() };
        ExponentialHistogramDataPoint { positive, sum: Some(sum), ..parts }
    });
    let data = prop_oneof![
        number.clone().prop_map(|point| Data::Gauge(Gauge { data_points: vec![point] })),
        (number, 0..3_i32, any::<bool>()).prop_map(|(point, temporality, is_monotonic)| {
            let (data_points, aggregation_temporality) = (vec![point], temporality);
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
        }),
        explicit.prop_map(|point| {
            let data_points = vec![point];
            Data::Histogram(Histogram { data_points, aggregation_temporality: 2 })
        }),
        exponential.prop_map(|point| {
            let data_points = vec![point];
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality: 1,
            })
        }),
    ];
    ("\\PC{0,8}", "[a-z]{0,3}", data).prop_map(|(name, unit, data)| metric(&name, &unit, data))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn both_forms_say_the_same(metrics in proptest::collection::vec(any_metric(), 0..6)) {
        let [(_, protobuf), (_, json)] = forms(&request(vec![text("a", "b")], metrics));
        let read = lines(Form::Protobuf, &protobuf).unwrap();
        prop_assert_eq!(read, lines(Form::Json, &json).unwrap());
    }

    #[test]
    fn any_bytes_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        for form in [Form::Protobuf, Form::Json] {
            drop(lines(form, &message));
        }
    }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let mut kinds = all_kinds();
    kinds.retain(|metric| metric.name != "empty");
    let mut request = request(vec![text("service.name", "shop")], kinds);
    // Written numbers of one resource and of another, the second without points.
    request.resource_metrics.push(request.resource_metrics[0].clone());
    for metric in &mut request.resource_metrics[1].scope_metrics[0].metrics {
        metric.data = None;
    }
    let message = request.encode_to_vec();
    let mut writer = Writer::default();
    read(Form::Protobuf, &message, &mut writer).unwrap();
    assert_eq!(writer.points(), 6);
    let written = writer.finish();
    let decoded = ExportMetricsServiceRequest::decode(&*written).unwrap();
    assert_eq!(decoded.resource_metrics[0].scope_metrics[0].metrics.len(), 5);
    let without = |message: &[u8]| {
        let lines = lines(Form::Protobuf, message).unwrap();
        lines.replace(" 2 exemplars", "")
    };
    assert_eq!(without(&written), without(&message));
    assert_eq!(Writer::default().finish(), b"");
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    for (rejected, why) in [(0, ""), (0, "careful"), (u64::from(u32::MAX), "refused")] {
        let answer = response(Form::Protobuf, rejected, why);
        assert_eq!(partial_success(&answer), Ok((rejected, why.to_owned())));
    }
    assert!(partial_success(b"\x0a\xff").is_err());
    // -1 points.
    let answer = [&b"\x0a\x0b\x08"[..], &[0xff; 9], &[1]].concat();
    assert_eq!(partial_success(&answer), Ok((0, String::new())));
}
