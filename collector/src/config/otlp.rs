//! OTLP: where it is taken beside `http.listen`, what its metrics and labels are called, and where it is
//! sent. The keys of the names are Prometheus's (`otlp` in prometheus.yml), and so are those of targets,
//! which are remote write's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoa_daemon::Span;
use stoa_exchange::otlp::{DeltaLimits, Options, Strategy};

use super::remote::{RemoteWriteConfig, WrittenRemoteWrite};

/// Where OTLP is taken, and what comes of it.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// Where OTLP over HTTP is taken beside `http.listen`.
    pub http_listen: Option<SocketAddr>,
    /// Where OTLP over gRPC is taken beside `http.listen`.
    pub grpc_listen: Option<SocketAddr>,
    /// What metrics and labels are called.
    pub options: Options,
    /// How many series of deltas are added up, and for how long; they are refused when `None`.
    pub deltas: Option<DeltaLimits>,
    /// The same as written, where they are refused.
    deltas_written: DeltaLimits,
    /// Where what is stored is sent by OTLP.
    pub exports: Vec<RemoteWriteConfig>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenOtlp {
    http_listen: Option<SocketAddr>,
    grpc_listen: Option<SocketAddr>,
    translation_strategy: WrittenStrategy,
    promote_resource_attributes: BTreeSet<String>,
    promote_all_resource_attributes: bool,
    ignore_resource_attributes: BTreeSet<String>,
    keep_identifying_resource_attributes: bool,
    promote_scope_metadata: bool,
    convert_histograms_to_nhcb: bool,
    label_name_underscore_sanitization: bool,
    label_name_preserve_multiple_underscores: bool,
    delta_to_cumulative: bool,
    delta_streams_max: usize,
    delta_max_stale: Span,
    export: Vec<WrittenRemoteWrite>,
}

/// As many as SDKs of some dozen hosts have. What counts seldom says nothing in between, and would begin
/// anew with each point if it ended before.
const DELTAS: DeltaLimits = DeltaLimits { streams_max: 100_000, stale_ms: 86_400_000 };

impl Default for WrittenOtlp {
    fn default() -> Self {
        OtlpConfig {
            http_listen: None,
            grpc_listen: None,
            options: Options::default(),
            deltas: Some(DELTAS),
            deltas_written: DELTAS,
            exports: Vec::new(),
        }
        .shown()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
enum WrittenStrategy {
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    NoUTF8EscapingWithSuffixes,
    NoTranslation,
}

impl WrittenStrategy {
    fn mean(self) -> Strategy {
        match self {
            Self::UnderscoreEscapingWithSuffixes => Strategy::UnderscoreEscapingWithSuffixes,
            Self::UnderscoreEscapingWithoutSuffixes => Strategy::UnderscoreEscapingWithoutSuffixes,
            Self::NoUTF8EscapingWithSuffixes => Strategy::NoUTF8EscapingWithSuffixes,
            Self::NoTranslation => Strategy::NoTranslation,
        }
    }

    fn shown(strategy: Strategy) -> Self {
        match strategy {
            Strategy::UnderscoreEscapingWithSuffixes => Self::UnderscoreEscapingWithSuffixes,
            Strategy::UnderscoreEscapingWithoutSuffixes => Self::UnderscoreEscapingWithoutSuffixes,
            Strategy::NoUTF8EscapingWithSuffixes => Self::NoUTF8EscapingWithSuffixes,
            Strategy::NoTranslation => Self::NoTranslation,
        }
    }
}

impl OtlpConfig {
    /// `taken` is listened on for something else. An error says of which key it is.
    pub(super) fn mean(
        written: WrittenOtlp,
        taken: &[SocketAddr],
    ) -> Result<Self, (&'static str, String)> {
        let mut taken = taken.to_vec();
        for (key, listen) in
            [("otlp.http_listen", written.http_listen), ("otlp.grpc_listen", written.grpc_listen)]
        {
            let Some(listen) = listen else { continue };
            if listen.port() != 0 && taken.contains(&listen) {
                return Err((key, format!("{listen} is listened on for something else")));
            }
            taken.push(listen);
        }
        let all = written.promote_all_resource_attributes;
        for (key, names, is_idle, why) in [
            (
                "otlp.promote_resource_attributes",
                &written.promote_resource_attributes,
                all,
                "promote_all_resource_attributes promotes all",
            ),
            (
                "otlp.ignore_resource_attributes",
                &written.ignore_resource_attributes,
                !all,
                "it is for promote_all_resource_attributes",
            ),
        ] {
            if is_idle && !names.is_empty() {
                return Err((key, why.to_owned()));
            }
            if names.iter().any(String::is_empty) {
                return Err((key, "an empty name is no attribute's".to_owned()));
            }
        }
        if written.delta_streams_max == 0 {
            let why = "0 would refuse all deltas; delta_to_cumulative = false does".to_owned();
            return Err(("otlp.delta_streams_max", why));
        }
        let stale_ms = i64::try_from(written.delta_max_stale.0.as_millis()).unwrap_or(i64::MAX);
        let deltas = DeltaLimits { streams_max: written.delta_streams_max, stale_ms };
        Ok(Self {
            deltas: written.delta_to_cumulative.then_some(deltas),
            deltas_written: deltas,
            exports: RemoteWriteConfig::mean_otlp(written.export)
                .map_err(|message| ("otlp.export", message))?,
            http_listen: written.http_listen,
            grpc_listen: written.grpc_listen,
            options: Options {
                translation_strategy: written.translation_strategy.mean(),
                promote_resource_attributes: written.promote_resource_attributes,
                promote_all_resource_attributes: all,
                ignore_resource_attributes: written.ignore_resource_attributes,
                keep_identifying_resource_attributes: written.keep_identifying_resource_attributes,
                promote_scope_metadata: written.promote_scope_metadata,
                convert_histograms_to_nhcb: written.convert_histograms_to_nhcb,
                label_name_underscore_sanitization: written.label_name_underscore_sanitization,
                label_name_preserve_multiple_underscores: written
                    .label_name_preserve_multiple_underscores,
            },
        })
    }

    pub(super) fn shown(self) -> WrittenOtlp {
        let Self { http_listen, grpc_listen, options, deltas, deltas_written, exports } = self;
        let stale_ms = u64::try_from(deltas_written.stale_ms).unwrap_or(0);
        let Options {
            translation_strategy,
            promote_resource_attributes,
            promote_all_resource_attributes,
            ignore_resource_attributes,
            keep_identifying_resource_attributes,
            promote_scope_metadata,
            convert_histograms_to_nhcb,
            label_name_underscore_sanitization,
            label_name_preserve_multiple_underscores,
        } = options;
        WrittenOtlp {
            http_listen,
            grpc_listen,
            translation_strategy: WrittenStrategy::shown(translation_strategy),
            promote_resource_attributes,
            promote_all_resource_attributes,
            ignore_resource_attributes,
            keep_identifying_resource_attributes,
            promote_scope_metadata,
            convert_histograms_to_nhcb,
            label_name_underscore_sanitization,
            label_name_preserve_multiple_underscores,
            delta_to_cumulative: deltas.is_some(),
            delta_streams_max: deltas_written.streams_max,
            delta_max_stale: Span(Duration::from_millis(stale_ms)),
            export: exports.iter().map(RemoteWriteConfig::shown).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Wire};

    fn read(text: &str) -> Result<OtlpConfig, String> {
        let config = Config::parse(Path::new("c.toml"), &format!("[otlp]\n{text}"));
        config.map(|config| config.otlp).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_prometheuss() {
        let otlp = read("").unwrap();
        assert_eq!((otlp.http_listen, otlp.grpc_listen), (None, None));
        assert_eq!(otlp.options, Options::default());
        assert_eq!(otlp.deltas, Some(DELTAS));
    }

    #[test]
    fn deltas_are_added_up_or_not() {
        let otlp = read("delta_to_cumulative = false\ndelta_streams_max = 7").unwrap();
        assert_eq!(otlp.deltas, None);
        let shown = serde_json::to_value(otlp.shown()).unwrap();
        assert_eq!(
            (&shown["delta_to_cumulative"], &shown["delta_streams_max"]),
            (&false.into(), &7.into())
        );
        let otlp = read("delta_max_stale = \"1h\"").unwrap();
        assert_eq!(otlp.deltas.unwrap().stale_ms, 3_600_000);
        assert_eq!(read("delta_max_stale = \"0s\"").unwrap().deltas.unwrap().stale_ms, 0);
    }

    #[test]
    fn what_counts_seldom_is_added_up() {
        use stoa_exchange::otlp::{Deltas, Measure, Point, Total};
        let mut deltas = Deltas::new(read("").unwrap().deltas.unwrap());
        for n in 1..=4 {
            // One every six minutes.
            let minutes = 6 * n;
            let time_ns = minutes * 60_000_000_000;
            let (start_ns, attributes, measure) = (time_ns - 1, Ok(&[][..]), Measure::Integer(1));
            let point = Point {
                attributes,
                start_ns,
                time_ns,
                ended: false,
                measure,
                exemplars: &[],
                exemplars_left_out: 0,
            };
            let now_ms = i64::try_from(minutes * 60_000).unwrap();
            let total = deltas.add(b"s", &point, true, now_ms, i64::MAX).unwrap();
            assert_eq!(total, Some(Total::Integer(i64::try_from(n).unwrap())));
        }
    }

    #[test]
    fn what_is_written_is_meant_and_shown() {
        let text = "http_listen = \"127.0.0.1:4318\"\ntranslation_strategy = \"NoTranslation\"\n\
                    promote_all_resource_attributes = true\nignore_resource_attributes = [\"a.b\"]\n";
        let otlp = read(text).unwrap();
        assert_eq!(otlp.options.translation_strategy, Strategy::NoTranslation);
        assert_eq!(otlp.options.ignore_resource_attributes, BTreeSet::from(["a.b".to_owned()]));
        let shown = serde_json::to_value(otlp.shown()).unwrap();
        assert_eq!(shown["http_listen"], "127.0.0.1:4318");
        assert_eq!(shown["translation_strategy"], "NoTranslation");
        assert_eq!(shown["promote_all_resource_attributes"], true);
    }

    #[test]
    fn a_target_is_written_as_one_of_remote_write_and_shown_without_secrets() {
        let text = "[[otlp.export]]\nurl = \"https://otel.lan:4318/v1/metrics\"\n\
                    authorization = { credentials = \"hunter2\" }\n\
                    write_relabel_configs = [{ source_labels = [\"__name__\"], regex = \"stoa_.*\", action = \"keep\" }]";
        let otlp = read(text).unwrap();
        let [target] = &*otlp.exports else { panic!("{:?}", otlp.exports) };
        assert_eq!((target.wire, target.relabel.len()), (Wire::Otlp, 1));
        let shown = serde_json::to_value(otlp.shown()).unwrap();
        assert_eq!(shown["export"][0]["url"], "https://otel.lan:4318/v1/metrics");
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["export"][0]["protocol"], "http/protobuf");
        let grpc = read("export = [{ url = \"http://h:4317\", protocol = \"grpc\" }]").unwrap();
        assert_eq!(grpc.exports[0].wire, Wire::OtlpGrpc);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_key() {
        for (text, expected) in [
            ("http_listen = \"127.0.0.1:7480\"", "otlp.http_listen: 127.0.0.1:7480 is listened on"),
            ("grpc_listen = \"127.0.0.1:7443\"", "otlp.grpc_listen: 127.0.0.1:7443 is listened on"),
            (
                "http_listen = \"127.0.0.1:1\"\ngrpc_listen = \"127.0.0.1:1\"",
                "otlp.grpc_listen: 127.0.0.1:1 is listened on",
            ),
            (
                "promote_all_resource_attributes = true\npromote_resource_attributes = [\"a\"]",
                "otlp.promote_resource_attributes: promote_all_resource_attributes promotes all",
            ),
            (
                "ignore_resource_attributes = [\"a\"]",
                "otlp.ignore_resource_attributes: it is for promote_all_resource_attributes",
            ),
            ("promote_resource_attributes = [\"\"]", "an empty name is no attribute's"),
            ("translation_strategy = \"None\"", "otlp.translation_strategy"),
            (
                "export = [{ url = \"http://h/v1/metrics\", protocol = \"grpc\" }]",
                "otlp.export: url of gRPC is a host and a port, without a path",
            ),
            (
                "export = [{ url = \"http://h/\", protocol = \"http/json\" }]",
                "unknown variant, expected `http/protobuf` or `grpc`",
            ),
            (
                "export = [{ url = \"http://h/\", protobuf_message = \"prometheus.WriteRequest\" }]",
                "otlp.export: protobuf_message is for remote_write",
            ),
            (
                "export = [{ url = \"http://h/\" }, { url = \"http://h/\" }]",
                "otlp.export: two targets are named",
            ),
            (
                "export = [{ url = \"http://h/\" }]\n[[remote_write]]\nurl = \"http://h/\"",
                "otlp.export: a remote_write is named",
            ),
            ("delta_streams_max = 0", "otlp.delta_streams_max: 0 would refuse all deltas"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}\nnot: {expected}");
        }
    }
}
