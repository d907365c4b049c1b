//! Small runs of the benches that start processes: they come to their end, and what they count adds
//! up. Prometheus and VictoriaMetrics take part where they are installed.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use serde_json::Value;

fn stoa() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stoa"));
    command.env_remove("STOA_CONFORMANCE_DATA").arg("bench");
    command
}

fn figures(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list<'a>(document: &'a Value, name: &str) -> &'a [Value] {
    document[name].as_array().unwrap()
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|figure| figure > 0.0)
}

#[test]
fn every_store_takes_the_same_bodies_by_remote_write() {
    let args = ["write", "--hosts", "3", "--series", "50", "--minutes", "4", "--interval", "10s"];
    let outcome = figures(stoa().args(args));
    assert!(list(&outcome, "failed").is_empty(), "{outcome:#}");
    let stores = list(&outcome, "stores");
    let names: Vec<&str> = stores.iter().map(|store| store["name"].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["Stoa", "Stoa, version 2"]);
    for store in stores {
        assert_eq!(store["samples"], 3 * 50 * 24, "{store}");
        // Three of four senders have a host, 1200 samples each, in one body.
        assert_eq!(store["bodies"], 3, "{store}");
        let is_same = store["version"] == 2 || store["body_bytes"] == stores[0]["body_bytes"];
        assert!(is_same, "{store}");
        assert!(is_positive(&store["start_again_s"]), "{store}");
    }
}

#[test]
fn all_of_a_history_is_imported_by_every_way() {
    let args = ["import", "--hosts", "2", "--series", "30", "--minutes", "150"];
    let outcome = figures(stoa().args(args).args(["--interval", "1m"]));
    assert_eq!(outcome["samples"], 2 * 30 * 150);
    assert!(list(&outcome, "failed").is_empty(), "{outcome:#}");
    let imports = list(&outcome, "imports");
    let ways = ["text_to_directory", "text_to_server", "blocks_to_directory"];
    for (import, way) in imports.iter().zip(ways) {
        assert_eq!((&import["name"], &import["way"]), (&"Stoa".into(), &way.into()));
    }
    assert!(imports.len() >= ways.len());
    for import in imports {
        assert_eq!(import["samples"], outcome["samples"], "{import}");
        assert!(is_positive(&import["samples_per_s_and_core"]), "{import}");
    }
}

#[test]
fn a_store_holds_what_it_was_given_when_a_collector_starts_over_it() {
    let args = ["ingest", "--hosts", "3", "--series", "40", "--minutes", "5", "--interval", "10s"];
    let outcome = figures(stoa().args(args));
    let samples = outcome["samples"].as_f64().unwrap();
    assert!((samples - 3.0 * 40.0 * 30.0).abs() < 0.5);
    assert!(outcome["collector"]["samples"].as_f64().unwrap() >= samples, "{outcome}");
    assert_eq!(outcome["disk"]["compacted"]["samples"], outcome["samples"]);
}

#[test]
fn one_command_says_all_figures_and_which_part_failed() {
    // Nobody else is found in an empty path, and no dashboard.
    let outcome = figures(stoa().args(["figures", "--small"]).env("PATH", ""));
    let rows = list(&outcome, "figures");
    for (name, goal) in [
        ("disk at 1 s, B/sample", 0.45),
        ("disk at 10 s, B/sample", 0.65),
        ("memory, agents' stream, B/series", 900.0),
        ("CPU, agents' stream, µs/sample", 0.4),
        ("memory, remote write in, B/series", 900.0),
        ("CPU, remote write in, µs/sample", 1.2),
        ("CPU, remote write 2 in, µs/sample", 1.2),
        ("start again, 1 M series, s", 30.0),
        ("import of text, M samples/s/core", 1.5),
        ("the same over HTTP", 1.5),
        ("import of blocks, M samples/s/core", 1.5),
    ] {
        let row = rows.iter().find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("no {name} in {outcome:#}"));
        assert_eq!(row["goal"], goal, "{row}");
        assert!(row["stoa"].is_f64() && row["is_met"].is_boolean(), "{row}");
        assert!(row["prometheus"].is_null() && row["victoria_metrics"].is_null(), "{row}");
    }
    for part in list(&outcome, "parts") {
        let failed = part["failed"].as_str();
        match part["part"].as_str().unwrap() {
            "dashboard" => assert!(failed.is_some_and(|why| why.contains("no dashboard"))),
            _ => assert_eq!(failed, None, "{part}"),
        }
    }
}
