//! Prometheus with node_exporter and Stoa, on one machine at one time: do they agree?
//!
//! Given the two query addresses, takes every series of the sources both have, and asks that
//! (1) each series Prometheus has stands in Stoa under the same labels, and the other way round;
//! (2) a counter's value in Prometheus lies between Stoa's values one interval before and after;
//! (3) a gauge that did not move in Stoa over that window is equal, and one that moved lies within
//! what Stoa saw, give or take [`GAUGE_SLACK`];
//! (4) nothing else that node_exporter tells of the host is missing in Stoa, but for [`MISSING`].
//! Prints what disagrees and exits with 1 if anything does.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report for a person")]
#![expect(clippy::indexing_slicing, reason = "an absent JSON key reads as null")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Families of the sources compared, by prefix.
const FAMILIES: [&str; 27] = [
    "node_boot_time_seconds",
    "node_context_switches_total",
    "node_cpu_guest_seconds_total",
    "node_cpu_seconds_total",
    "node_disk_",
    "node_entropy_",
    "node_filefd_",
    "node_filesystem_",
    "node_forks_total",
    "node_hwmon_",
    "node_intr_total",
    "node_load",
    "node_memory_",
    "node_netstat_",
    "node_network_receive_",
    "node_network_transmit_",
    "node_nf_conntrack_",
    "node_pressure_",
    "node_procs_",
    "node_schedstat_",
    "node_sockstat_",
    "node_softnet_processed_total",
    "node_softnet_dropped_total",
    "node_softnet_times_squeezed_total",
    "node_time_seconds",
    "node_uname_info",
    "node_vmstat_",
];

/// Families the packaged node_exporter 1.5 does not have yet, or had under another name.
const NEWER: [&str; 7] = [
    "node_disk_filesystem_info",
    "node_filesystem_mount_info",
    "node_filesystem_purgeable_bytes",
    "node_pressure_irq_stalled_seconds_total",
    "node_network_receive_nohandler_total",
    "node_netstat_TcpExt_TCPOFOQueue",
    "node_netstat_TcpExt_TCPRcvQDrop",
];

/// What node_exporter 1.5 tells and Stoa does not: series that begin so, and why.
const MISSING: [(&str, &str); 6] = [
    ("node_exporter_build_info", "says which program told"),
    ("node_interrupts_total", "those that never were are told when asked (include_zeros)"),
    ("node_processes_state", "states that come and go, read at other moments"),
    ("node_processes_threads_state", "states that come and go, read at other moments"),
    ("node_scrape_collector_duration_seconds", "not told of a source that has nothing here"),
    ("node_scrape_collector_success", "a source may have another name, and succeeds where it can"),
];

/// Labels that say who collected, not what was read; and two that node_exporter 1.5 does not have.
const LEFT_OUT: [&str; 5] = ["job", "instance", "host", "rotational", "adminstate"];

/// Readings are not taken at the same instant; a moving gauge may lie this far, relatively,
/// outside what Stoa saw within the window.
const GAUGE_SLACK: f64 = 0.10;

/// Gauges that say what happened to be at the instant of reading: only their presence is compared.
const INSTANTS: [&str; 2] = ["node_procs_running", "node_procs_blocked"];

/// Half the width of the window around the instant compared, in seconds: one interval of either
/// side, and the time a reading takes to be stored.
const WINDOW_S: i64 = 4;

type Key = String;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run() -> anyhow::Result<bool> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a TLS provider is installed already");
    }
    let args: Vec<String> = std::env::args().collect();
    let [_, prometheus, stoa, at] = args.as_slice() else {
        bail!("usage: side-by-side PROMETHEUS_URL STOA_URL UNIX_SECONDS");
    };
    let at: i64 = at.parse().context("read UNIX_SECONDS")?;
    let theirs = instant(prometheus, r#"{job="node"}"#, at).await?;
    let window = format!(r#"{{job="node"}}[{}s]"#, 2 * WINDOW_S);
    let ours = windows(stoa, &window, at + WINDOW_S).await?;
    let kinds = kinds(prometheus).await?;

    let mut wrong: Vec<String> = Vec::new();
    for key in theirs.keys().filter(|key| !ours.contains_key(*key)) {
        wrong.push(format!("only in prometheus: {key}"));
    }
    for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
        // The packaged 1.5 leaves the loopback out of its netdev families; later ones have it.
        let loopback = key.starts_with("node_network_") && key.contains("device=\"lo\"");
        if !loopback && !NEWER.iter().any(|family| key.starts_with(family)) {
            wrong.push(format!("only in stoa: {key}"));
        }
    }
    let everything = r#"{job="node",__name__=~"node_.+"}"#;
    let theirs_all = ask(prometheus, "/api/v1/query", &moment(everything, at)).await?;
    let ours_all = ask(stoa, "/api/v1/query", &moment(everything, at)).await?;
    let (theirs_all, ours_all) = (names_of(&theirs_all), names_of(&ours_all));
    let is_missing = |key: &&Key| {
        !ours_all.contains(*key) && !MISSING.iter().any(|(part, _)| key.starts_with(part))
    };
    let missing: Vec<&Key> = theirs_all.iter().filter(is_missing).collect();
    println!("{} series of node_exporter, {} of them missing", theirs_all.len(), missing.len());
    wrong.extend(missing.into_iter().map(|key| format!("missing in stoa: {key}")));
    let (mut counters, mut still, mut moving) = (0, 0, 0);
    for (key, their) in &theirs {
        let Some(seen) = ours.get(key) else { continue };
        let low = seen.iter().copied().fold(f64::INFINITY, f64::min);
        let high = seen.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let family = key.split('{').next().unwrap_or(key);
        let counter = kinds.get(family).is_some_and(|kind| kind == "counter");
        let ok = if INSTANTS.contains(&family) {
            true
        } else if counter {
            counters += 1;
            (low..=high).contains(their)
        } else if low.to_bits() == high.to_bits() {
            still += 1;
            (low - their).abs() <= f64::EPSILON * low.abs()
        } else {
            moving += 1;
            let slack = GAUGE_SLACK * low.abs().max(high.abs());
            (low - slack..=high + slack).contains(their)
        };
        if !ok {
            wrong.push(format!("value: {key}: prometheus {their}, stoa {low} to {high}"));
        }
    }
    println!(
        "{} series in prometheus, {} in stoa: {counters} counters, {still} still and {moving} moving gauges compared, {} disagree",
        theirs.len(),
        ours.len(),
        wrong.len()
    );
    for line in wrong.iter().take(60) {
        println!("  {line}");
    }
    Ok(wrong.is_empty() && theirs.len() > 100)
}

/// The key of a series whose values are compared.
fn key_of(metric: &Value) -> Option<Key> {
    let key = whole_key(metric)?;
    FAMILIES.iter().any(|family| key.starts_with(family)).then_some(key)
}

fn moment(query: &str, at: i64) -> [(&'static str, String); 2] {
    [("query", query.to_owned()), ("time", at.to_string())]
}

/// The series of an answer.
fn names_of(data: &Value) -> BTreeSet<Key> {
    let series = data["result"].as_array().into_iter().flatten();
    series.filter_map(|series| whole_key(&series["metric"])).collect()
}

fn whole_key(metric: &Value) -> Option<Key> {
    let labels = metric.as_object()?;
    let name = labels.get("__name__")?.as_str()?;
    let rest: BTreeSet<String> = labels
        .iter()
        .filter(|(label, _)| *label != "__name__" && !LEFT_OUT.contains(&label.as_str()))
        .filter_map(|(label, value)| Some(format!("{label}={:?}", value.as_str()?)))
        .collect();
    Some(format!("{name}{{{}}}", rest.into_iter().collect::<Vec<_>>().join(",")))
}

async fn ask(base: &str, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
    let url = format!("{base}{path}");
    let reply = reqwest::Client::new().get(&url).query(query).send().await?;
    let status = reply.status();
    let body: Value = reply.json().await.with_context(|| format!("read JSON from {url}"))?;
    if !status.is_success() {
        bail!("{url} answered {status}: {body}");
    }
    body.get("data").cloned().with_context(|| format!("{url} answered without data"))
}

async fn instant(base: &str, query: &str, at: i64) -> anyhow::Result<BTreeMap<Key, f64>> {
    let data =
        ask(base, "/api/v1/query", &[("query", query.into()), ("time", at.to_string())]).await?;
    let mut found = BTreeMap::new();
    for series in data["result"].as_array().into_iter().flatten() {
        if let Some(key) = key_of(&series["metric"]) {
            let value = series["value"][1].as_str().unwrap_or("NaN").parse()?;
            found.insert(key, value);
        }
    }
    Ok(found)
}

async fn windows(base: &str, query: &str, at: i64) -> anyhow::Result<BTreeMap<Key, Vec<f64>>> {
    let data =
        ask(base, "/api/v1/query", &[("query", query.into()), ("time", at.to_string())]).await?;
    let mut found = BTreeMap::new();
    for series in data["result"].as_array().into_iter().flatten() {
        if let Some(key) = key_of(&series["metric"]) {
            let values = series["values"].as_array().into_iter().flatten();
            let values: Result<Vec<f64>, _> =
                values.map(|pair| pair[1].as_str().unwrap_or("NaN").parse()).collect();
            found.insert(key, values?);
        }
    }
    Ok(found)
}

async fn kinds(base: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let data = ask(base, "/api/v1/metadata", &[]).await?;
    let mut kinds = BTreeMap::new();
    for (name, entries) in data.as_object().into_iter().flatten() {
        if let Some(kind) = entries[0]["type"].as_str() {
            kinds.insert(name.clone(), kind.to_owned());
        }
    }
    Ok(kinds)
}
