//! `stoa fsck`: reads every byte of a store that is not running and says what is damaged.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_daemon::{DataDir, Misuse};
use stoa_tsdb::{FsckReport, Options, fsck};
use stoa_wal::Disk;
use stoa_wal::disk::RealDisk;

use crate::local;
use crate::query::print;
use crate::table::{counted, printable};

/// Check the files of a stopped collector for damage
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa fsck /var/lib/stoa
  stoa fsck --repair /var/lib/stoa

Stop the collector first. Without --repair nothing is changed. Damaged parts that --repair takes
out are kept under quarantine/.

Exits with 0 when all is whole, or with --repair when all that was damaged is repaired; with 1 when
something is damaged and was not repaired, or the disk fails; with 2 when there is no store.")]
pub(crate) struct FsckArgs {
    /// The collector's data directory, its directory of metrics, or a snapshot
    #[arg(value_name = "DATA_DIR")]
    data_dir: PathBuf,
    /// Set aside what is damaged and keep the rest
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `stoa fsck`; prints to standard output.
///
/// # Errors
/// With [`Misuse`] in the chain when there is no store; when something is damaged and not repaired; when
/// the disk fails.
pub(crate) fn run(args: &FsckArgs) -> anyhow::Result<()> {
    let dir = store_dir(&args.data_dir)?;
    // What a running collector is about to write looks like damage, and must not be set aside.
    let collector = dir.parent().filter(|_| dir.ends_with("metrics"));
    let _lock = collector.map(DataDir::open).transpose()?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let now_ms = args.repair.then(stoa_daemon::unix_ms);
    let options = Options::default();
    let report = fsck(&disk, &dir, now_ms.map(|now_ms| (now_ms, &options)))?;
    print(&if args.json { json(&report)? } else { text(&report) })?;
    let left = report.damage.iter().filter(|damage| !damage.repaired).count() as u64;
    let left = if args.repair { left } else { left + report.unlisted };
    let places = match left {
        0 => return Ok(()),
        1 => "one place is".to_owned(),
        places => format!("{places} places are"),
    };
    if args.repair {
        anyhow::bail!("{places} still damaged");
    }
    anyhow::bail!("{places} damaged; to set it aside and keep the rest: stoa fsck --repair");
}

fn store_dir(dir: &Path) -> Result<PathBuf, Misuse> {
    let is_store = |dir: &Path| {
        let is_named = dir.ends_with("metrics")
            || dir.parent().is_some_and(|parent| parent.ends_with("snapshots"));
        dir.join("wal").is_dir() && (is_named || dir.join("blocks").is_dir())
    };
    match local::collector_dir(dir) {
        Ok(collector) => Ok(collector.join("metrics")),
        // Others keep a wal/ too, but no blocks/ beside it; a new store, and a snapshot of one, has no
        // blocks yet.
        Err(_) if is_store(dir) => Ok(dir.to_owned()),
        Err(misuse) => Err(misuse),
    }
}

fn text(report: &FsckReport) -> String {
    let mut out = String::new();
    for damage in &report.damage {
        let state = if damage.repaired { "repaired" } else { "damaged" };
        let mut place = damage.path.display().to_string();
        if damage.offset > 0 || damage.bytes > 0 {
            let _infallible = write!(place, " at {}", damage.offset);
        }
        if damage.bytes > 0 {
            let _infallible = write!(place, ", {}", counted(damage.bytes, "byte"));
        }
        let first = format!("{state}  {place}: {}", damage.what);
        let kept = damage.kept.iter().map(|kept| format!("  kept as {}", kept.display()));
        for line in [first, format!("  costs {}", damage.cost)].into_iter().chain(kept) {
            // Paths and texts of damaged files do not drive the terminal.
            let _infallible = writeln!(out, "{}", printable(&line));
        }
    }
    if report.unlisted > 0 {
        let more = counted(report.unlisted, "more damaged place");
        let _infallible = writeln!(out, "and {more} of log and head");
    }
    let _infallible = writeln!(
        out,
        "{}, {}, {}; {} of the log, {} of the head; {} damaged, {} torn, {} unfinished",
        counted(report.blocks, "block"),
        counted(report.chunks, "chunk"),
        counted(report.samples, "sample"),
        counted(report.records, "record"),
        counted(report.head_samples, "sample"),
        report.damage.len() as u64 + report.unlisted,
        report.torn,
        report.unfinished
    );
    out
}

fn json(report: &FsckReport) -> anyhow::Result<String> {
    let damage: Vec<_> = report
        .damage
        .iter()
        .map(|damage| {
            serde_json::json!({
                "path": damage.path.display().to_string(),
                "offset": damage.offset,
                "bytes": damage.bytes,
                "what": damage.what,
                "cost": damage.cost.to_string(),
                "kept": damage.kept.as_ref().map(|kept| kept.display().to_string()),
                "repaired": damage.repaired,
            })
        })
        .collect();
    let report = serde_json::json!({
        "blocks": report.blocks,
        "chunks": report.chunks,
        "samples": report.samples,
        "head_samples": report.head_samples,
        "records": report.records,
        "torn": report.torn,
        "unfinished": report.unfinished,
        "damage": damage,
        "unlisted": report.unlisted,
    });
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

#[cfg(test)]
mod tests {
    use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
    use stoa_wal::disk::RealDisk;

    use super::{FsckArgs, run};

    #[test]
    fn damage_is_said_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("metrics");
        let disk = std::sync::Arc::new(RealDisk);
        let options = Options { block_ms: 60_000, grace_ms: 0, ..Options::default() };
        let (db, _) = Db::open(disk, &store, options, 0).unwrap();
        let labels = stoa_model::Labels::from_pairs([("__name__", "up")]).unwrap();
        let up = db.resolve(GroupId(1), &labels).unwrap();
        for second in 0..90 {
            let rows = vec![Row { t_ms: second * 1000, samples: vec![(up, 1.0)] }];
            db.append(&Batch { group: GroupId(1), rows, marks: vec![] }).unwrap();
        }
        assert_eq!(db.maintain(120_000).unwrap().blocks_written, 2);
        db.close().unwrap();
        let args = |repair: bool| FsckArgs { data_dir: dir.path().into(), repair, json: !repair };
        run(&args(false)).unwrap();
        let block = std::fs::read_dir(store.join("blocks")).unwrap().next().unwrap().unwrap();
        let chunks = block.path().join("chunks");
        let mut bytes = std::fs::read(&chunks).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&chunks, bytes).unwrap();
        assert!(run(&args(false)).is_err());
        // So that `--repair && start` starts.
        run(&args(true)).unwrap();
        run(&args(false)).unwrap();
        assert_eq!(std::fs::read_dir(store.join("quarantine")).unwrap().count(), 1);
        let named = FsckArgs { data_dir: store.clone(), ..args(false) };
        run(&named).unwrap();
        std::fs::create_dir(dir.path().join("wal")).unwrap();
        let stray = FsckArgs { data_dir: store.join("blocks"), ..args(false) };
        assert!(run(&stray).is_err());
        let snapshot = dir.path().join("snapshots/20260101T000000Z-0000");
        std::fs::create_dir_all(snapshot.join("wal")).unwrap();
        run(&FsckArgs { data_dir: snapshot, ..args(false) }).unwrap();
        let nothing = FsckArgs { data_dir: dir.path().join("wal"), repair: false, json: false };
        assert!(run(&nothing).is_err());
        let running = stoa_daemon::DataDir::open(dir.path()).unwrap();
        let error = run(&args(true)).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        drop(running);
        run(&args(false)).unwrap();
    }
}
