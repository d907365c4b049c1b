//! What the collector was told: `status/config`, `status/flags`, `features`, `status/walreplay`. It does not
//! change while it runs, so it is written once.

use std::sync::Arc;

use axum::extract::State;
use stoa_daemon::{Bytes, Span};
use stoa_promql::Feature;

use super::json;
use super::reply::Success;
use crate::config::{Config, START_TIMES};
use crate::http::routes::{Routes, Scope};

/// The answers, as JSON.
struct Settings {
    config: Vec<u8>,
    flags: Vec<u8>,
    features: Vec<u8>,
}

/// The routes over a configuration. Secrets are left out of what they show.
pub fn settings_routes(config: &Config) -> Routes {
    let mut yaml = b"{\"yaml\":".to_vec();
    json::string(&mut yaml, &config.to_yaml());
    yaml.push(b'}');
    let settings = Settings { config: yaml, flags: flags(config), features: features(config) };
    let table: Routes<Arc<Settings>> = Routes::new()
        .get("/api/v1/status/config", Scope::Read, shown_config)
        .get("/api/v1/status/flags", Scope::Read, shown_flags)
        .get("/api/v1/features", Scope::Read, shown_features)
        .get("/api/v1/status/walreplay", Scope::Read, walreplay);
    table.with_state(Arc::new(settings))
}

async fn shown_config(State(settings): State<Arc<Settings>>) -> Success {
    Success::data(|out| out.extend_from_slice(&settings.config))
}

async fn shown_flags(State(settings): State<Arc<Settings>>) -> Success {
    Success::data(|out| out.extend_from_slice(&settings.flags))
}

async fn shown_features(State(settings): State<Arc<Settings>>) -> Success {
    Success::data(|out| out.extend_from_slice(&settings.features))
}

/// HTTP is served only when the log has been read: there is never any left.
async fn walreplay() -> Success {
    Success::data(|out| {
        out.extend_from_slice(br#"{"min":0,"max":0,"current":0}"#);
    })
}

/// The keys that are Prometheus's flags too, under its names; all values are texts there.
fn flags(config: &Config) -> Vec<u8> {
    let on = Feature::ALL.into_iter().filter(|feature| config.query.features.has(*feature));
    let on = on.map(Feature::name).chain(config.push.start_times.then_some(START_TIMES));
    let flags = [
        ("enable-feature", on.collect::<Vec<_>>().join(",")),
        ("query.lookback-delta", "5m".to_owned()),
        ("query.max-concurrency", config.query.concurrency_max.to_string()),
        ("query.max-samples", config.query.samples_max.to_string()),
        ("query.timeout", Span(config.query.timeout).to_string()),
        ("storage.tsdb.path", config.data_dir.join("metrics").display().to_string()),
        (
            "storage.tsdb.retention.size",
            Bytes(config.storage.retention_bytes_max.unwrap_or(0)).to_string(),
        ),
        ("storage.tsdb.retention.time", Span(config.storage.retention).to_string()),
        ("web.enable-admin-api", "true".to_owned()),
        ("web.enable-lifecycle", "false".to_owned()),
        ("web.enable-remote-write-receiver", "true".to_owned()),
        ("web.listen-address", config.http.listen.to_string()),
    ];
    let mut out = vec![b'{'];
    for (i, (name, value)) in flags.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::string(&mut out, name);
        out.push(b':');
        json::string(&mut out, value);
    }
    out.push(b'}');
    out
}

/// What can be done here that not every Prometheus can, by area, in the shape Prometheus tells it.
fn features(config: &Config) -> Vec<u8> {
    let promql = Feature::ALL.into_iter().map(|feature| {
        let name = feature.name().trim_start_matches("promql-").replace('-', "_");
        (name, config.query.features.has(feature))
    });
    let on = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true)).collect();
    let areas: [(&str, Vec<(String, bool)>); 3] = [
        (
            "api",
            on(&[
                "admin",
                "exclude_alerts",
                "label_values_match",
                "otlp_write_receiver",
                "query_stats",
                "query_warnings",
                "remote_write_receiver",
                "time_range_labels",
                "time_range_series",
            ]),
        ),
        ("promql", promql.collect()),
        ("tsdb", on(&["exemplars", "native_histograms"])),
    ];
    let mut out = vec![b'{'];
    for (i, (area, features)) in areas.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::string(&mut out, area);
        out.extend_from_slice(b":{");
        for (i, (name, is_on)) in features.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::string(&mut out, name);
            out.extend_from_slice(if *is_on { b":true" } else { b":false" });
        }
        out.push(b'}');
    }
    out.push(b'}');
    out
}
