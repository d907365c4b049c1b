//! What must be stored against what is.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::metrics::Counted;
use crate::record::{self, Account};

/// Violations printed, at most.
const PRINTED_MAX: usize = 40;

/// How often each side was killed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kills {
    pub(crate) collector: u64,
    pub(crate) agent: u64,
}

impl Kills {
    pub(crate) fn all(self) -> u64 {
        self.collector + self.agent
    }
}

/// A sample as the query API tells it: metric, label's value, time, value.
pub(crate) type Stored = (String, u64, i64, u64);

/// All there is to judge.
pub(crate) struct Facts {
    pub(crate) kills: Kills,
    pub(crate) account: Account,
    pub(crate) stored: Vec<Stored>,
    pub(crate) counted: Counted,
}

/// All samples of ours the collector has, as they are: in its order, twice where they are twice.
pub(crate) async fn stored(http: &str) -> anyhow::Result<Vec<Stored>> {
    let query = [("query", r#"{__name__=~"kill_.+"}[2h]"#)];
    let reply = reqwest::Client::new().get(format!("{http}/api/v1/query")).query(&query);
    let body: Value = reply.send().await?.json().await?;
    let result = body.pointer("/data/result").and_then(Value::as_array);
    let Some(result) = result else { bail!("no answer: {body}") };
    let mut stored = Vec::new();
    for series in result {
        let label = |name: &str| series.pointer(&format!("/metric/{name}")).and_then(Value::as_str);
        let metric = label("__name__").context("a series without a name")?;
        let of = label("of").context("a series without its label")?.parse()?;
        for pair in series.get("values").and_then(Value::as_array).into_iter().flatten() {
            let time = pair.get(0).and_then(Value::as_f64).context("a sample without a time")?;
            let value: f64 =
                pair.get(1).and_then(Value::as_str).context("a sample without a value")?.parse()?;
            stored.push((metric.to_owned(), of, whole(time * 1000.0)?, value.to_bits()));
        }
    }
    Ok(stored)
}

#[expect(clippy::cast_possible_truncation, reason = "it is looked at whether it is one")]
fn whole(ms: f64) -> anyhow::Result<i64> {
    let rounded = ms.round();
    anyhow::ensure!((rounded - ms).abs() < 0.01 && rounded.abs() < 1e15, "not a time: {ms}");
    Ok(rounded as i64)
}

/// Prints the violations and the line of counts; `true` when there is no violation.
pub(crate) fn print(facts: &Facts, mut wrong: Vec<String>, seed: u64, took: Duration) -> bool {
    let Facts { kills, account, stored, counted } = facts;
    let mut expected: HashMap<(&str, u64, i64), u64> = HashMap::new();
    for (&t, reading) in &account.readings {
        for (metric, of, value) in record::samples(reading.generation, reading.n) {
            expected.insert((metric, of, t), value.to_bits());
        }
    }
    let mut seen: HashSet<(&str, u64, i64)> = HashSet::new();
    for (metric, of, t, value) in stored {
        let key = (metric.as_str(), *of, *t);
        if !seen.insert(key) {
            wrong.push(format!("stored twice: {key:?}"));
        }
        if expected.get(&key) != Some(value) {
            let produced = expected.get(&key).copied().map(f64::from_bits);
            let value = f64::from_bits(*value);
            wrong.push(format!("stored {key:?} = {value}, produced {produced:?}"));
        }
    }
    let last = account.readings.values().map(|reading| reading.generation).max().unwrap_or(0);
    let (mut produced, mut acknowledged, mut spooled, mut gone) = (0, 0, 0, 0);
    for (&t, reading) in &account.readings {
        for (metric, of, _) in record::samples(reading.generation, reading.n) {
            produced += 1;
            acknowledged += u64::from(reading.acknowledged);
            spooled += u64::from(reading.spooled);
            if seen.contains(&(metric, of, t)) {
                continue;
            }
            let at = format!("{metric}{{of=\"{of}\"}} at {t}: {reading:?}");
            if reading.acknowledged {
                wrong.push(format!("acknowledged and lost: {at}"));
            } else if reading.spooled {
                wrong.push(format!("durable in the spool and lost: {at}"));
            } else if reading.generation == last {
                wrong.push(format!("lost without a kill: {at}"));
            } else {
                gone += 1;
            }
        }
    }
    let duplicates = counted.sum("stoa_collector_store_samples_total{outcome=\"duplicate\"}");
    let conflicting = counted.sum("stoa_collector_store_samples_total{outcome=\"conflicting\"}");
    let lost = counted.sum("stoa_collector_ingest_samples_lost_total");
    let dropped = account.dropped.iter().filter(|(reason, _)| *reason != record::crashed());
    let dropped: u64 = dropped.map(|(_, samples)| samples).sum();
    for (count, what) in [
        (duplicates, "samples reached the store a second time"),
        (conflicting, "samples conflicted in the store"),
        (lost, "samples were acknowledged as lost by the collector"),
        (dropped, "samples were dropped by the agent"),
        (account.returned, "samples were acknowledged that the collector no longer knew of"),
    ] {
        if count > 0 {
            wrong.push(format!("{count} {what}"));
        }
    }
    if !account.drained {
        wrong.push("the last agent did not drain".to_owned());
    }
    if kills.all() > 0 && acknowledged * 4 < produced {
        wrong.push("under a quarter was acknowledged: such a run proves little".to_owned());
    }
    for line in wrong.iter().take(PRINTED_MAX) {
        println!("violation: {line}");
    }
    println!(
        "kill: {} kills ({} collector, {} agent) in {} s, seed {seed}: {produced} samples produced, \
         {acknowledged} acknowledged, {} stored, {spooled} through the spool, {gone} only in the \
         memory of a killed agent, {} repeated and dropped by number, {duplicates} duplicates in \
         the store, {} sessions; {} violations",
        kills.all(),
        kills.collector,
        kills.agent,
        took.as_secs(),
        stored.len(),
        counted.sum("stoa_collector_ingest_samples_repeated_total"),
        counted.sum("stoa_collector_ingest_sessions_total"),
        wrong.len(),
    );
    wrong.is_empty()
}
