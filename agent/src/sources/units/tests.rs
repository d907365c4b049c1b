use proptest::prelude::*;

use super::init::version_number;
use super::*;

fn known(settings: Settings) -> Known {
    Known::new(&settings)
}

fn status<'m>(name: &'m str, active: &'m str) -> Status<'m> {
    Status { name, load: "loaded", active, sub: "", path: "/unit" }
}

fn take(known: &mut Known, statuses: &[Status<'_>]) {
    known.round += 1;
    for status in statuses {
        known.take(*status);
    }
    let round = known.round;
    known.units.retain(|_, unit| unit.round == round);
}

fn told(known: &mut Known, settings: &Settings) -> Vec<String> {
    let mut reading = Reading::default();
    known.tell(settings, &mut reading);
    let mut lines = Vec::new();
    for family in reading.families() {
        for metric in &family.metrics {
            lines.push(format!("{}{} {}", family.name, metric.labels, metric.value));
        }
    }
    lines
}

#[test]
fn units_are_counted_by_state_whether_they_are_told_or_not() {
    let settings = Settings::default();
    let mut known = known(settings.clone());
    take(
        &mut known,
        &[
            status("a.service", "active"),
            status("b.mount", "active"),
            status("c.device", "active"),
            status("d.service", "reloading"),
            Status { load: "not-found", ..status("e.service", "inactive") },
        ],
    );
    let lines = told(&mut known, &settings);
    for expected in [
        r#"node_systemd_units{state="active"} 3"#,
        r#"node_systemd_units{state="failed"} 0"#,
        r#"node_systemd_units{state="inactive"} 1"#,
        r#"node_systemd_units{state="reloading"} 1"#,
        r#"node_systemd_unit_state{name="a.service", state="active"} 1"#,
        r#"node_systemd_unit_state{name="a.service", state="failed"} 0"#,
        r#"node_systemd_unit_state{name="d.service", state="active"} 0"#,
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
    }
    for unexpected in ["b.mount", "c.device", "e.service", "maintenance"] {
        assert!(!lines.iter().any(|line| line.contains(unexpected)), "{unexpected}");
    }
}

#[test]
fn what_failed_is_told_whatever_its_kind() {
    let settings = Settings::default();
    let mut known = known(settings.clone());
    let failed = [status("srv-data.mount", "failed"), status("x.service", "failed")];
    take(&mut known, &failed);
    let lines = told(&mut known, &settings);
    for expected in [
        r#"stoa_systemd_failed_unit_info{name="srv-data.mount", type="mount"} 1"#,
        r#"stoa_systemd_failed_unit_info{name="x.service", type="service"} 1"#,
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
    }
    take(&mut known, &[status("srv-data.mount", "active"), status("x.service", "active")]);
    let lines = told(&mut known, &settings);
    assert!(!lines.iter().any(|line| line.contains("failed_unit") || line.contains("mount")));
}

#[test]
fn what_is_too_much_is_left_out_and_counted() {
    let settings = Settings::default();
    let mut known = known(settings.clone());
    let names: Vec<String> = (0..UNITS_MAX + 10).map(|n| format!("{n}.service")).collect();
    let mut statuses: Vec<Status<'_>> = names.iter().map(|name| status(name, "active")).collect();
    let long = format!("{}.service", "x".repeat(NAME_BYTES_MAX));
    statuses.insert(0, status(&long, "active"));
    take(&mut known, &statuses);
    assert_eq!(known.units.len(), UNITS_MAX);
    assert!(told(&mut known, &settings).contains(&"stoa_systemd_units_left_out{} 11".to_owned()));
}

#[test]
fn both_exporters_names_stand_side_by_side() {
    let settings = Settings {
        names: vec![Names::NodeExporter, Names::SystemdExporter],
        enable_start_time_metrics: true,
        ..Settings::default()
    };
    let mut known = known(settings.clone());
    take(&mut known, &[status("a.socket", "active"), status("b.service", "inactive")]);
    let lines = told(&mut known, &settings);
    for expected in [
        r#"node_systemd_unit_state{name="a.socket", state="active"} 1"#,
        r#"systemd_unit_state{name="a.socket", state="active", type="socket"} 1"#,
        "systemd_watchdog_enabled{} 0",
        r#"node_systemd_unit_start_time_seconds{name="b.service"} 0"#,
        r#"systemd_unit_start_time_seconds{name="b.service", type="service"} 0"#,
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
    }
}

#[test]
fn when_a_unit_changed_is_told_whatever_it_does_now() {
    let settings = Settings { names: vec![Names::SystemdExporter], ..Settings::default() };
    let mut known = known(settings.clone());
    assert!(
        known.wanted[Number::ActiveEntered.place()] && known.wanted[Number::ActiveLeft.place()]
    );
    take(&mut known, &[status("a.timer", "active"), status("b.service", "inactive")]);
    for unit in known.units.values_mut() {
        unit.set(Number::ActiveEntered, 10.0);
        unit.set(Number::ActiveLeft, 20.0);
        unit.set(Number::InactiveEntered, 21.0);
        unit.set(Number::InactiveLeft, 9.0);
    }
    let lines = told(&mut known, &settings);
    for (name, kind) in [("a.timer", "timer"), ("b.service", "service")] {
        for (family, value) in [
            ("active_enter", 10),
            ("active_exit", 20),
            ("inactive_enter", 21),
            ("inactive_exit", 9),
        ] {
            let expected = format!(
                r#"systemd_unit_{family}_time_seconds{{name="{name}", type="{kind}"}} {value}"#
            );
            assert!(lines.contains(&expected), "{expected}\n{lines:#?}");
        }
    }
    let start = r#"systemd_unit_start_time_seconds{name="b.service", type="service"} 0"#;
    assert!(lines.iter().any(|line| line == start), "it is not active");
}

#[test]
fn no_two_numbers_have_one_name() {
    let mut names: Vec<&str> = SHOWN.iter().map(|shown| shown.desc.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SHOWN.len());
}

#[test]
fn patterns_match_whole_names() {
    let settings: Settings = toml::from_str(
        "unit_include = 'a|b\\.service'\nunit_exclude = ''\nnames = ['systemd_exporter']",
    )
    .unwrap();
    let mut known = known(settings);
    let names = ["b.service", "bb.service", "b.service.timer", "a.service"];
    take(&mut known, &names.map(|name| status(name, "active")));
    let kept: Vec<&str> = known.units.keys().map(|name| &**name).collect();
    assert_eq!(kept, ["b.service"]);
    for wrong in ["unit_include = '('", "names = ['other']", "unit_includes = 'a'"] {
        assert!(toml::from_str::<Settings>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_version_is_its_first_long_number() {
    for (version, expected) in [
        ("252.39-1~deb12u2", 252.39),
        ("257", 257.0),
        ("v259-rc1", 259.0),
        ("systemd 1.2 (v255.4-1ubuntu8)", 255.4),
        ("255.", 255.0),
        ("12.34", 0.0),
        ("", 0.0),
    ] {
        assert_eq!(version_number(version), expected, "{version}");
    }
}

proptest! {
    #[test]
    fn a_list_of_any_units_does_no_harm(
        units in proptest::collection::vec((".{0,300}", ".{0,12}", ".{0,12}", ".{0,40}"), 0..64),
    ) {
        let settings = Settings {
            names: vec![Names::NodeExporter, Names::SystemdExporter],
            unit_exclude: Whole(Pattern::default()),
            ..Settings::default()
        };
        let mut known = known(settings.clone());
        let statuses: Vec<Status<'_>> = units
            .iter()
            .map(|(name, load, active, path)| Status { name, load, active, sub: load, path })
            .collect();
        take(&mut known, &statuses);
        take(&mut known, &statuses);
        prop_assert!(known.units.keys().all(|name| name.len() <= NAME_BYTES_MAX));
        told(&mut known, &settings);
    }

    #[test]
    fn a_version_of_any_text_is_a_number(version in ".{0,80}") {
        prop_assert!(version_number(&version) >= 0.0);
    }
}

#[test]
fn what_is_known_stays_when_the_time_was_too_short_and_not_when_systemd_went() {
    let mut known = known(Settings::default());
    known.init.version = Some((label("version", "252"), 252.0));
    known.lose(&BusError::Failed(io::ErrorKind::TimedOut.into()));
    assert!(known.init.version.is_some());
    known.lose(&BusError::Failed(io::ErrorKind::ConnectionReset.into()));
    assert!(known.init.version.is_none());
}
