//! What the collector writes by itself: its own figures, `up 0` with stale markers for hosts that
//! have fallen silent, and stale markers for hosts that were revoked.
//!
//! Runs beside everything else, never in the way of ingest: when the store is full or failed, what
//! it would have written is left out, and counted by the store.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stoa_model::{HostId, Labels, METRIC_NAME, Matcher, TimestampMs, is_stale, stale_nan};
use stoa_promql::storage::{Select, Storage as _};
use stoa_tsdb::GroupId;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::hosts::Standing;
use crate::ingest::{group_of, host_labels};
use crate::selfstats;
use crate::server::Parts;

/// How often silence is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the collector's own figures are stored and the list of hosts is compared, in looks.
const FIGURES_EVERY: u32 = 10;

/// Series of a silent host that had a sample within this are ended by a stale marker: what a query
/// still shows (Prometheus's lookback).
const LOOKBACK_MS: i64 = 300_000;

/// Most series of one host that are ended.
const SERIES_ENDED_MAX: usize = 1_000_000;

/// The group of the collector's own series.
const OWN_GROUP: GroupId = GroupId(0);

/// The `job` of the collector's own series.
const OWN_JOB: &str = "stoa-collector";

/// Looks every second until told to stop.
pub async fn keep(parts: Parts, clock: Clock, stop: CancellationToken) {
    let mut looks: u32 = 0;
    loop {
        let looked = async {
            tokio::time::sleep(LOOK_EVERY).await;
            look(&parts, clock(), looks).await;
        };
        // Also while something waits for a full disk: it is in the store's hands.
        if stop.run_until_cancelled(looked).await.is_none() {
            return;
        }
        looks = looks.wrapping_add(1);
    }
}

async fn look(parts: &Parts, now_ms: TimestampMs, looks: u32) {
    let due = parts.presence.lock().unwrap_or_else(PoisonError::into_inner).due(now_ms);
    for silent in due {
        if silent.just_now {
            tracing::warn!(host = %silent.host, "the host has fallen silent");
            end_series(parts, &silent.host, now_ms, Up::GoesOn).await;
        }
        let up = host_labels("up", &silent.host);
        append(parts, group_of(&silent.host), now_ms, vec![(up, 0.0)]).await;
    }
    if looks.is_multiple_of(FIGURES_EVERY) {
        follow_books(parts, now_ms).await;
        append(parts, OWN_GROUP, now_ms, own_readings(parts).await).await;
    }
}

/// Expects hosts that have joined, and ends the series of those that were revoked.
async fn follow_books(parts: &Parts, now_ms: TimestampMs) {
    let members = Arc::clone(&parts.members);
    let Ok(hosts) = tokio::task::spawn_blocking(move || members.hosts()).await else { return };
    let mut gone = Vec::new();
    {
        let mut presence = parts.presence.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, host) in hosts {
            let Ok(id) = HostId::parse(&name) else { continue };
            match host.standing {
                Standing::Active => presence.expect(id, now_ms),
                Standing::Revoked { .. } if presence.forget(&id) => gone.push(id),
                Standing::Locked { .. } | Standing::Revoked { .. } => {}
            }
        }
    }
    for host in gone {
        end_series(parts, &host, now_ms, Up::Ends).await;
    }
}

async fn own_readings(parts: &Parts) -> Vec<(Labels, f64)> {
    let parts = parts.clone();
    let families = tokio::task::spawn_blocking(move || selfstats::families(&parts.figures())).await;
    let mut readings = Vec::new();
    for family in families.unwrap_or_default() {
        for metric in family.metrics {
            let named = match metric.labels.metric_name() {
                Some(_) => metric.labels,
                None => metric.labels.with(METRIC_NAME, &family.name),
            };
            let labels = named.with("job", OWN_JOB).with("instance", "collector");
            readings.push((labels, metric.value));
        }
    }
    readings
}

/// Whether `up` of a host whose series end ends too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Up {
    GoesOn,
    Ends,
}

/// Ends the series of a host that no longer speaks, as a failed scrape would.
async fn end_series(parts: &Parts, host: &HostId, now_ms: TimestampMs, up: Up) {
    let view = parts.store.view();
    let matchers = vec![Matcher::equal("host", host.as_str())];
    let live = tokio::task::spawn_blocking(move || {
        let select = Select {
            matchers: &matchers,
            start_ms: now_ms - LOOKBACK_MS,
            end_ms: now_ms,
            series_max: SERIES_ENDED_MAX,
            samples_max: usize::MAX,
        };
        view.select(&select)
    });
    match live.await {
        Ok(Ok(live)) => {
            let ended = live
                .into_iter()
                .filter(|series| up == Up::Ends || series.labels.metric_name() != Some("up"))
                .filter(|series| series.values.last().is_some_and(|last| !is_stale(*last)))
                .map(|series| (series.labels, stale_nan()));
            append(parts, group_of(host), now_ms, ended.collect()).await;
        }
        Ok(Err(error)) => tracing::warn!(%host, %error, "end the series of a silent host"),
        Err(error) => tracing::error!(%host, %error, "end the series of a silent host"),
    }
}

async fn append(parts: &Parts, group: GroupId, t_ms: TimestampMs, readings: Vec<(Labels, f64)>) {
    if readings.is_empty() {
        return;
    }
    if let Err(error) = parts.store.append_labelled(group, t_ms, &readings).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "store the collector's own series"
        );
    }
}
