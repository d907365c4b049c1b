use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::sources::{Now, Reading, Roots};

/// Reads every source there is once; no family may be told twice, by one source or by two.
#[track_caller]
fn check_names(roots: &Roots) {
    let mut settings = Settings::default();
    names().into_iter().for_each(|name| settings.enable(name, true));
    // It asks servers that are not on this host.
    settings.enable("ntp", false);
    let mut told_by: BTreeMap<String, &str> = BTreeMap::new();
    let mut twice = Vec::new();
    for Planned { mut source, .. } in sources(&settings).unwrap() {
        // Whose families are left out where others have their names.
        if source.tells_foreign_families() {
            continue;
        }
        let mut reading = Reading::default();
        reading.begin();
        source.read(roots, Now { unix_micros: 1_770_000_000_000_000 }, &mut reading);
        reading.end();
        for family in reading.families() {
            if let Some(other) = told_by.insert(family.name.clone(), source.name()) {
                twice.push(format!("{} by {other} and {}", family.name, source.name()));
            }
            let mut labels: Vec<String> =
                family.metrics.iter().map(|metric| metric.labels.to_string()).collect();
            labels.sort_unstable();
            let is_twice = |pair: &&[String]| pair.first() == pair.last();
            twice.extend(labels.windows(2).find(is_twice).map(|pair| {
                format!("{}{} twice by {}", family.name, pair.concat(), source.name())
            }));
        }
    }
    assert!(told_by.len() > 50, "{told_by:?}");
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn no_two_sources_tell_a_family_of_this_machine() {
    check_names(&Roots::default());
}

#[test]
fn no_two_sources_tell_a_family_of_the_fixtures() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let archive = Path::new(&data).join("exporters/node_exporter/fixtures.tar.gz");
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status();
    assert!(tar.unwrap().success());
    check_names(&Roots {
        procfs: dir.path().join("proc"),
        sysfs: dir.path().join("sys"),
        rootfs: dir.path().into(),
        udev: dir.path().join("udev/data"),
        textfile: None,
        identity: None,
    });
}
