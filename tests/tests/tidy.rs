//! The few rules of docs/style.md and docs/architecture.md that no lint sees.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest file that needs no reason in its first lines.
const LINES_MAX: usize = 800;

/// Names that say a role instead of a noun.
const ROLES: [&str; 12] = [
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "core", "handler",
    "handlers", "types", "impls",
];

/// Crates that know neither async nor the network.
const PURE: [&str; 4] = ["model", "wal", "tsdb", "promql"];

/// What those crates must not import.
const IMPURE: [&str; 8] =
    ["tokio", "tonic", "hyper", "axum", "quinn", "reqwest", "serde_json", "toml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), ".rs", &mut found);
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn a_long_file_says_why() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            let reason = text.lines().take(12).any(|line| line.contains("long because"));
            text.lines().count() > LINES_MAX && !reason
        })
        .map(|path| shown(path))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines, and no \"long because\" on top: {long:?}");
}

#[test]
fn files_are_named_for_nouns() {
    let named: Vec<String> = sources()
        .iter()
        .filter(|path| {
            let stem = path.file_stem().unwrap().to_string_lossy();
            ROLES.contains(&stem.as_ref()) || stem == "mod"
        })
        .map(|path| shown(path))
        .collect();
    assert!(named.is_empty(), "named for a role: {named:?}");
}

#[test]
fn pure_crates_import_nothing_impure() {
    for name in PURE {
        let manifest =
            fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for banned in IMPURE {
            let imports = dependencies.lines().any(|line| {
                line.strip_prefix(banned).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            });
            assert!(!imports, "crates/{name} imports {banned}");
        }
    }
}

/// Names of our own series, as they stand in the code between quotes.
fn own_series(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2).filter(|word| {
        ["stoa_agent_", "stoa_collector_"].iter().any(|prefix| {
            word.strip_prefix(prefix).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            })
        })
    })
}

#[test]
fn every_series_of_our_own_is_in_the_catalogue() {
    let catalogue = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut emitted = BTreeSet::new();
    for path in sources() {
        let inside = shown(&path);
        if inside.starts_with("agent/src") || inside.starts_with("collector/src") {
            let text = fs::read_to_string(&path).unwrap();
            emitted.extend(own_series(&text).map(str::to_owned));
        }
    }
    let missing: Vec<&String> =
        emitted.iter().filter(|name| !catalogue.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    let listed: BTreeSet<&str> = catalogue
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.starts_with("stoa_agent_") || word.starts_with("stoa_collector_"))
        .collect();
    let gone: Vec<&&str> = listed.iter().filter(|name| !emitted.contains(**name)).collect();
    assert!(gone.is_empty(), "in docs/metrics.md but not emitted: {gone:?}");
}
