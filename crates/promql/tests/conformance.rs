//! Prometheus's own test scripts, when `STOA_CONFORMANCE_DATA` says where they are, and ours.

#![expect(clippy::expect_used, reason = "a test; a missing file is its failure")]

use std::path::{Path, PathBuf};

use stoa_promql::script;

/// Passing evaluations per script of Prometheus's corpus. A ratchet: raise it with what is gained.
const PASSED_AT_LEAST: [(&str, usize); 8] = [
    ("aggregators.test", 160),
    ("at_modifier.test", 78),
    ("collision.test", 2),
    ("functions.test", 431),
    ("literals.test", 25),
    ("operators.test", 214),
    ("selectors.test", 31),
    ("staleness.test", 17),
];

fn scripts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn prometheus_scripts_keep_passing() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    let mut short = Vec::new();
    for path in scripts(&Path::new(&data).join("promqltest")) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let report = script::run(&std::fs::read_to_string(&path).expect("a readable script"));
        println!("{name}: {} of {} passed", report.passed, report.total());
        for failure in &report.failed {
            println!("  {name}:{}: {}", failure.line, failure.message);
        }
        let least = PASSED_AT_LEAST.iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| *n);
        if report.passed < least {
            short.push(format!("{name}: {} passed, at least {least} did before", report.passed));
        }
    }
    assert!(short.is_empty(), "{short:#?}");
}

#[test]
fn own_scripts_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let paths = scripts(&dir);
    assert!(!paths.is_empty(), "{} holds no script", dir.display());
    let mut failed = Vec::new();
    for path in paths {
        let report = script::run(&std::fs::read_to_string(&path).expect("a readable script"));
        assert!(report.total() > 0, "{} evaluates nothing", path.display());
        for failure in report.failed {
            failed.push(format!("{}:{}: {}", path.display(), failure.line, failure.message));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
