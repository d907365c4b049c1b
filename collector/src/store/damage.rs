//! What the store met or did that a person is to read in the log, in plain words.

use std::path::Path;

use stoa_model::rfc3339;
use stoa_tsdb::{Cost, Damage, Deleted, Missing, Recovery, Tier};

/// Damaged files named one by one; more are counted.
const LINES_MAX: usize = 20;

/// Warnings in one answer; more are counted.
const WARNINGS_MAX: usize = 5;

/// Says what the start found.
pub(super) fn log_start(dir: &Path, recovery: &Recovery) {
    tracing::info!(
        series = recovery.series,
        samples = recovery.samples,
        blocks = recovery.blocks,
        records = recovery.records,
        "opened the store"
    );
    if recovery.torn > 0 {
        let places = recovery.torn;
        tracing::info!(
            places,
            "a crash cut off the end of the log; nothing of it was acknowledged"
        );
    }
    let unlisted = recovery.damaged.saturating_sub(recovery.damage.len() as u64);
    log(dir, &recovery.damage, unlisted);
    for what in recovery.unread.iter().take(LINES_MAX) {
        tracing::warn!(
            "a block cannot be read now, and is missing from answers until it can: {what}"
        );
    }
}

/// Says what is damaged, a line for each file.
pub(super) fn log(dir: &Path, damage: &[Damage], unlisted: u64) {
    let lines = lines(damage);
    let told = lines.len().min(LINES_MAX);
    for (costs, line) in lines.iter().take(told) {
        if *costs {
            tracing::error!("damage in the store: {line}");
        } else {
            tracing::warn!("damage in the store: {line}");
        }
    }
    let more = unlisted + (lines.len() - told) as u64;
    if more > 0 {
        tracing::error!("damage in the store: {more} more places");
    }
    if lines.iter().any(|(costs, _)| *costs) || more > 0 {
        // A collector's own directory is the one above.
        let dir = dir.parent().unwrap_or(dir).display();
        tracing::warn!(
            "what is whole is in use; to read every byte, stop the collector and run `stoa fsck {dir}`; \
             what is lost can only come back from a backup or from who sent it"
        );
    }
}

/// One line for each file and what is wrong with it, and whether it costs anything.
fn lines(damage: &[Damage]) -> Vec<(bool, String)> {
    let mut merged: Vec<(Damage, u64)> = Vec::new();
    for one in damage {
        let same = merged.iter_mut().rev().find_map(|(known, places)| {
            let is_same = known.path == one.path && known.what == one.what;
            let cost = is_same.then(|| known.cost.and(one.cost)).flatten()?;
            Some((known, places, cost))
        });
        match same {
            Some((known, places, cost)) => {
                known.cost = cost;
                *places += 1;
            }
            None => merged.push((one.clone(), 1)),
        }
    }
    let line = |(damage, places): (Damage, u64)| {
        let costs = damage.cost != Cost::Nothing;
        let line =
            if places > 1 { format!("{places} places, {damage}") } else { damage.to_string() };
        (costs, line)
    };
    merged.into_iter().map(line).collect()
}

/// Says which blocks retention deleted.
pub(super) fn log_deleted(deleted: &[Deleted]) {
    let kinds = std::iter::once(None).chain(Tier::ALL.map(Some));
    let parts: Vec<String> = kinds.filter_map(|tier| deleted_line(deleted, tier)).collect();
    if !parts.is_empty() {
        tracing::info!("retention deleted {}", parts.join("; "));
    }
}

fn deleted_line(deleted: &[Deleted], tier: Option<Tier>) -> Option<String> {
    let of_tier = || deleted.iter().filter(|one| one.tier == tier);
    let first = of_tier().map(|one| one.first_t).min()?;
    let last = of_tier().map(|one| one.last_t).max()?;
    let sum = |figure: fn(&Deleted) -> u64| of_tier().map(figure).sum::<u64>();
    let what = match tier {
        None => "samples".to_owned(),
        Some(tier) => format!("aggregates of {}", tier.name()),
    };
    let (blocks, samples, bytes) = (sum(|_| 1), sum(|one| one.samples), sum(|one| one.bytes));
    let (from, to) = (rfc3339(first), rfc3339(last));
    Some(format!("{samples} {what} from {from} to {to} ({blocks} blocks, {bytes} bytes)"))
}

/// What an answer says that may lack something.
pub(super) fn warnings(dir: &Path, missing: &[Missing]) -> Vec<String> {
    let warning = |one: &Missing| {
        let path = one.path.strip_prefix(dir).unwrap_or(&one.path);
        let (from, to) = one.times;
        let when = match (from, to) {
            (i64::MIN, i64::MAX) => "of any time".to_owned(),
            (i64::MIN, to) => format!("before {}", rfc3339(to)),
            (from, to) => format!("from {} to {}", rfc3339(from), rfc3339(to)),
        };
        format!("samples {when} may be missing: {}: {}", path.display(), one.what)
    };
    let mut warnings: Vec<String> = missing.iter().take(WARNINGS_MAX).map(warning).collect();
    let more = missing.len() - warnings.len();
    if more > 0 {
        warnings.push(format!("samples may be missing because of {more} more damaged files"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_line_however_many_of_its_chunks_are_damaged() {
        let damage = |path: &str, offset, cost| Damage {
            path: path.into(),
            offset,
            bytes: 8,
            what: "chunk fails its checksum".to_owned(),
            cost,
            kept: None,
            repaired: false,
        };
        let samples = |most, first, last| Cost::Samples { most, times: Some((first, last)) };
        let found = [
            damage("/m/head/a.chunks", 16, samples(120, 0, 119_000)),
            damage("/m/head/b.chunks", 16, Cost::Nothing),
            damage("/m/head/a.chunks", 90, samples(1, 200_000, 200_000)),
        ];
        let expected = [
            (
                true,
                "2 places, /m/head/a.chunks at 16: chunk fails its checksum; costs at most 121 \
                 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:03:20Z"
                    .to_owned(),
            ),
            (
                false,
                "/m/head/b.chunks at 16: chunk fails its checksum; costs nothing: it is not needed, \
                 or made again"
                    .to_owned(),
            ),
        ];
        assert_eq!(lines(&found), expected);
    }

    #[test]
    fn what_retention_deleted_is_said_by_kind() {
        let deleted =
            |tier, first_t, last_t| Deleted { tier, first_t, last_t, samples: 7, bytes: 9 };
        let all = [
            deleted(None, 60_000, 119_000),
            deleted(Some(Tier::Minute), 0, 59_000),
            deleted(None, 0, 59_000),
        ];
        assert_eq!(
            deleted_line(&all, None).unwrap(),
            "14 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:59Z (2 blocks, 18 bytes)"
        );
        assert_eq!(
            deleted_line(&all, Some(Tier::Minute)).unwrap(),
            "7 aggregates of 1m from 1970-01-01T00:00:00Z to 1970-01-01T00:00:59Z (1 blocks, 9 bytes)"
        );
        assert_eq!(deleted_line(&all, Some(Tier::Hour)), None);
    }

    #[test]
    fn an_answer_names_a_few_and_counts_the_rest() {
        let missing = |n: u32, times| Missing {
            path: format!("/data/metrics/blocks/{n}/index").into(),
            what: "section fails its checksum".to_owned(),
            times,
        };
        let dir = Path::new("/data/metrics");
        assert_eq!(
            warnings(dir, &[missing(1, (0, 1000)), missing(2, (i64::MIN, 0))]),
            [
                "samples from 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z may be missing: \
                 blocks/1/index: section fails its checksum",
                "samples before 1970-01-01T00:00:00Z may be missing: blocks/2/index: section fails \
                 its checksum",
            ]
        );
        let many: Vec<_> = (0..8).map(|n| missing(n, (i64::MIN, i64::MAX))).collect();
        let told = warnings(dir, &many);
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "samples may be missing because of 3 more damaged files");
    }
}
