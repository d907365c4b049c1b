//! What the collector writes by itself: its own figures, `up 0` with stale markers for hosts that
//! have fallen silent, and stale markers for hosts that were revoked.
//!
//! Runs beside everything else, never in the way of ingest: when the store is full or failed, what
//! it would have written is left out, and counted by the store.
//!
//! While senders do not vouch for the collector's clock ([`crate::ingest::clocks`]) nothing is written
//! and no host is found silent: a sample of a wrong time ahead would move the end of what is stored,
//! and all that agents send after would be too old; one of a time past would stand amid what hosts
//! sent then. What is held back so is counted; who fell silent or was revoked meanwhile is dealt with
//! after.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stoa_model::{HostId, Labels, METRIC_NAME, Matcher, TimestampMs, is_stale, stale_nan};
use stoa_promql::storage::{Select, Storage as _};
use stoa_proto::convert::COLLECTOR_JOB;
use stoa_tsdb::GroupId;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::hosts::Standing;
use crate::ingest::clocks::Standing as ClockStanding;
use crate::ingest::{group_of, host_labels};
use crate::selfstats;
use crate::server::Parts;
use crate::store::{Pending, StoreError};

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

/// What has been held back, to be printed as a series.
#[derive(Debug, Default)]
pub struct WatchFigures {
    held: AtomicU64,
}

impl WatchFigures {
    /// Samples of the collector's own not written because its clock was in doubt.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// Looks every second until told to stop.
pub async fn keep(parts: Parts, clock: Clock, stop: CancellationToken) {
    let mut watch = Watch { parts, looks: 0, holding: false, standing: ClockStanding::Fine };
    loop {
        let looked = async {
            tokio::time::sleep(LOOK_EVERY).await;
            watch.look(clock()).await;
        };
        // Also while something waits for a full disk: it is in the store's hands.
        if stop.run_until_cancelled(looked).await.is_none() {
            return;
        }
    }
}

struct Watch {
    parts: Parts,
    looks: u32,
    /// Whether the clock was in doubt at the last look.
    holding: bool,
    /// What senders said of it then.
    standing: ClockStanding,
}

impl Watch {
    async fn look(&mut self, now_ms: TimestampMs) {
        let parts = &self.parts;
        let figures_due = self.looks.is_multiple_of(FIGURES_EVERY);
        self.looks = self.looks.wrapping_add(1);
        let standing = parts.ingest.clock_standing();
        if standing != self.standing {
            say(standing);
            self.standing = standing;
        }
        let expected = parts.presence.lock().unwrap_or_else(PoisonError::into_inner).counts().0;
        if !parts.ingest.clock_vouched(now_ms, expected) {
            if !std::mem::replace(&mut self.holding, true) {
                tracing::info!(
                    "nothing of the collector's own is written until hosts' clocks agree"
                );
            }
            if figures_due {
                let held = own_readings(parts).await.len();
                let held = u64::try_from(held).unwrap_or(u64::MAX);
                parts.watch.held.fetch_add(held, Ordering::Relaxed);
            }
            return;
        }
        let steady_ms = parts.ingest.steady_ms();
        let due = {
            let mut presence = parts.presence.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut self.holding) {
                presence.resume(steady_ms);
            }
            presence.due(steady_ms)
        };
        // All of it is handed over before any of it is awaited: one sync for many hosts.
        let mut pending = Vec::new();
        for silent in due {
            if silent.just_now {
                tracing::warn!(host = %silent.host, "the host has fallen silent");
                pending.extend(end_series(parts, &silent.host, now_ms, Up::GoesOn).await);
            }
            let up = host_labels("up", &silent.host);
            pending.extend(submit(parts, group_of(&silent.host), now_ms, vec![(up, 0.0)]).await);
        }
        if figures_due {
            pending.extend(follow_books(parts, now_ms).await);
            pending.extend(submit(parts, OWN_GROUP, now_ms, own_readings(parts).await).await);
        }
        for pending in pending {
            if let Err(error) = pending.stored().await {
                warn(&error);
            }
        }
    }
}

fn say(standing: ClockStanding) {
    match standing {
        ClockStanding::Fine => tracing::info!("senders agree with the collector's clock"),
        ClockStanding::Behind => tracing::error!(
            "the collector's clock is behind most senders': what they read now is refused and they \
             keep it, its own series and silent hosts are not written; set the clock right"
        ),
        ClockStanding::Ahead => tracing::error!(
            "the collector's clock is ahead of most senders': its own series and silent hosts are \
             not written; set the clock right"
        ),
    }
}

/// Expects hosts that have joined, and ends the series of those that were revoked.
async fn follow_books(parts: &Parts, now_ms: TimestampMs) -> Vec<Pending> {
    let members = Arc::clone(&parts.members);
    let Ok(hosts) = tokio::task::spawn_blocking(move || members.hosts()).await else {
        return Vec::new();
    };
    let mut gone = Vec::new();
    {
        let mut presence = parts.presence.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, host) in hosts {
            let Ok(id) = HostId::parse(&name) else { continue };
            match host.standing {
                Standing::Active => presence.expect(id, parts.ingest.steady_ms()),
                Standing::Revoked { .. } if presence.forget(&id) => gone.push(id),
                Standing::Locked { .. } | Standing::Revoked { .. } => {}
            }
        }
    }
    let mut pending = Vec::new();
    for host in gone {
        pending.extend(end_series(parts, &host, now_ms, Up::Ends).await);
    }
    pending
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
            let labels = named.with("job", COLLECTOR_JOB).with("instance", "collector");
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
async fn end_series(parts: &Parts, host: &HostId, now_ms: TimestampMs, up: Up) -> Option<Pending> {
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
            return submit(parts, group_of(host), now_ms, ended.collect()).await;
        }
        Ok(Err(error)) => tracing::warn!(%host, %error, "end the series of a silent host"),
        Err(error) => tracing::error!(%host, %error, "end the series of a silent host"),
    }
    None
}

async fn submit(
    parts: &Parts,
    group: GroupId,
    t_ms: TimestampMs,
    readings: Vec<(Labels, f64)>,
) -> Option<Pending> {
    if readings.is_empty() {
        return None;
    }
    let submitted = parts.store.submit_labelled(group, t_ms, readings).await;
    submitted.inspect_err(warn).ok()
}

fn warn(error: &StoreError) {
    tracing::warn!(error = error as &dyn std::error::Error, "store the collector's own series");
}
