//! What a host is made of, and what has changed, as a person reads it.
//!
//! Sections and fields are what the agent wrote down: those that are known here come first and in an
//! order that reads well, all others after them by name.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use stoa_collector::inventory::{
    ChangeLine, Changes, Dated, FieldsLine, SectionLine, ValueLine, WhatLine,
};

use crate::table::{columns, counted, moment, printable};

/// Sections in the order they are printed.
const SECTIONS: [&str; 10] = [
    "system",
    "machine",
    "processor",
    "memory",
    "disks",
    "mounts",
    "interfaces",
    "packages",
    "units",
    "nodes",
];

/// Fields in the order they are printed.
const FIELDS: [&str; 16] = [
    "hostname",
    "os",
    "kernel",
    "vendor",
    "product",
    "kind",
    "name",
    "model",
    "version",
    "serial",
    "bus",
    "device",
    "type",
    "mac",
    "state",
    "addresses",
];

/// The document, section by section.
#[must_use]
pub(super) fn shown(dated: &Dated) -> String {
    let mut out = format!("{}, as it is since {}", printable(&dated.host), moment(dated.at_ms));
    let earlier = dated.kept.saturating_sub(1) as u64;
    let kept = if earlier == 0 {
        "\n".to_owned()
    } else {
        let since = moment(dated.kept_since_ms);
        format!("; {} before it, back to {since}\n", counted(earlier, "state"))
    };
    out.push_str(&kept);
    for (name, section) in ordered(&dated.document.sections, &SECTIONS) {
        let write = write!(out, "\n{}\n{}", printable(name), indented(&section_text(section)));
        debug_assert!(write.is_ok(), "BUG: a write to memory failed");
    }
    out
}

/// The changes, step by step.
#[must_use]
pub(super) fn changed(told: &Changes) -> String {
    let host = printable(&told.host);
    let mut out = String::new();
    if let Some(begins_ms) = told.begins_ms {
        out.push_str(&format!("{host} is known from {} on\n", moment(begins_ms)));
    }
    if told.steps.is_empty() {
        let since = moment(told.begins_ms.unwrap_or(told.from_ms));
        out.push_str(&format!("nothing has changed on {host} since {since}\n"));
    }
    for step in &told.steps {
        let rows: Vec<[String; 4]> = step.changes.iter().flat_map(lines).collect();
        out.push_str(&format!("{}\n{}", moment(step.at_ms), indented(&columns(&rows))));
    }
    if told.left_out > 0 {
        out.push_str(&format!("and {} more; ask for less time\n", told.left_out));
    }
    out
}

/// A change as rows: its sign, where, what; of an item that differs, a row for each field.
fn lines(change: &ChangeLine) -> Vec<[String; 4]> {
    let row = |sign: &str, item: &str, what: String| {
        [sign.to_owned(), change.section.clone(), item.to_owned(), what]
    };
    match &change.what {
        WhatLine::Added { fields } => vec![row("+", &change.item, described(fields))],
        WhatLine::Removed { fields } => vec![row("-", &change.item, described(fields))],
        WhatLine::LeftOut { before, after } => {
            vec![row("~", "", format!("left out: {before} -> {after}"))]
        }
        WhatLine::Changed { fields } => {
            let of = |name: &str, value: &Option<ValueLine>| match value {
                Some(value) => value_text(name, value),
                None => "none".to_owned(),
            };
            let fields = ordered(fields, &FIELDS).into_iter();
            let texts = fields.map(|(name, field)| {
                let (before, after) = (of(name, &field.before), of(name, &field.after));
                format!("{}: {before} -> {after}", title(name))
            });
            texts.map(|text| row("~", &change.item, text)).collect()
        }
    }
}

fn described(fields: &FieldsLine) -> String {
    let texts = ordered(fields, &FIELDS).into_iter();
    let texts = texts.map(|(name, value)| format!("{} {}", title(name), value_text(name, value)));
    texts.collect::<Vec<_>>().join(", ")
}

/// One item as a list of its fields, more as a table.
fn section_text(section: &SectionLine) -> String {
    let mut out = match section.items.get("") {
        Some(fields) if section.items.len() == 1 => {
            let rows = ordered(fields, &FIELDS).into_iter();
            let rows = rows.map(|(name, value)| [title(name), value_text(name, value)]);
            columns(&rows.collect::<Vec<_>>())
        }
        _ => items_text(section),
    };
    if section.left_out > 0 {
        out.push_str(&format!("and {} more that do not fit\n", section.left_out));
    }
    out
}

fn items_text(section: &SectionLine) -> String {
    let names: BTreeSet<&String> =
        section.items.values().flat_map(|fields| fields.keys()).collect();
    let names = names.into_iter().map(|name| (name.clone(), ())).collect();
    let names: Vec<&String> = ordered(&names, &FIELDS).into_iter().map(|(name, ())| name).collect();
    let titles = std::iter::once(String::new()).chain(names.iter().map(|name| title(name)));
    let mut rows: Vec<Vec<String>> = vec![titles.collect()];
    for (key, fields) in &section.items {
        let cell = |name: &&String| {
            fields.get(name.as_str()).map(|value| value_text(name, value)).unwrap_or_default()
        };
        rows.push(std::iter::once(key.clone()).chain(names.iter().map(cell)).collect());
    }
    columns(&rows)
}

/// What is known first, in the order given; the rest by name.
fn ordered<'a, T>(
    all: &'a std::collections::BTreeMap<String, T>,
    known: &[&str],
) -> Vec<(&'a String, &'a T)> {
    let place = |name: &str| known.iter().position(|one| *one == name).unwrap_or(known.len());
    let mut entries: Vec<(&String, &T)> = all.iter().collect();
    entries.sort_by_key(|(name, _)| place(name));
    entries
}

/// A field's name for people: without its unit, which stands at the value.
fn title(name: &str) -> String {
    let name = name.strip_prefix("is_").unwrap_or(name);
    let name = name.strip_suffix("_bytes").unwrap_or(name);
    name.strip_suffix("_bits_per_second").unwrap_or(name).replace('_', " ")
}

fn value_text(name: &str, value: &ValueLine) -> String {
    match value {
        ValueLine::Flag(true) => "yes".to_owned(),
        ValueLine::Flag(false) => "no".to_owned(),
        ValueLine::Text(text) => text.clone(),
        ValueLine::List(texts) => texts.join(", "),
        ValueLine::Number(number) if name.ends_with("_bytes") => {
            let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
            scaled(*number, &units, "B")
        }
        ValueLine::Number(number) if name.ends_with("_bits_per_second") => {
            let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s")];
            scaled(*number, &units, "bit/s")
        }
        ValueLine::Number(number) => number.to_string(),
    }
}

fn scaled(number: u64, units: &[(u64, &str)], one: &str) -> String {
    match units.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) if number.is_multiple_of(*unit) => format!("{} {name}", number / unit),
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / *unit as f64),
        None => format!("{number} {one}"),
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |out, line| out + "  " + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_section_by_section() {
        let dated: Dated = serde_json::from_str(
            r#"{"host":"pve1","at_ms":1800000000000,"kept":3,"kept_since_ms":1799000000000,
            "sections":{
              "disks":{"items":{
                "sda":{"model":"Samsung SSD 870","serial":"S1","size_bytes":2000398934016,"is_rotational":false},
                "sdb":{"model":"WDC","size_bytes":1073741824,"zones":7}},"left_out":2},
              "interfaces":{"items":{"eth0":{"mac":"aa:bb","state":"up",
                "speed_bits_per_second":2500000000,"addresses":["10.0.0.1/24","fd00::1/64"]}}},
              "novel":{"items":{"x":{"y":"\u001b[2J"}}},
              "system":{"items":{"":{"os":"Debian","kernel":"6.8","hostname":"pve1","boot_id":"1-2"}}}}}"#,
        )
        .unwrap();
        insta::assert_snapshot!(shown(&dated), @r"
        pve1, as it is since 2027-01-15T08:00:00Z; 2 states before it, back to 2027-01-03T18:13:20Z

        system
          hostname  pve1
          os        Debian
          kernel    6.8
          boot id   1-2

        disks
               model            serial  rotational  size     zones
          sda  Samsung SSD 870  S1      no          1.8 TiB
          sdb  WDC                                  1 GiB    7
          and 2 more that do not fit

        interfaces
                mac    state  addresses                speed
          eth0  aa:bb  up     10.0.0.1/24, fd00::1/64  2.5 Gbit/s

        novel
             y
          x  \u{1b}[2J
        ");
    }

    #[test]
    fn changes_are_told_with_their_times() {
        let told: Changes = serde_json::from_str(
            r#"{"host":"pve1","from_ms":0,"to_ms":1800000000000,"begins_ms":1799000000000,"left_out":4,"steps":[
            {"at_ms":1799500000000,"changes":[
              {"section":"disks","item":"sdb","change":"added","fields":{"size_bytes":1024,"model":"WDC"}},
              {"section":"disks","item":"sdc","change":"removed","fields":{"model":"WDC"}},
              {"section":"disks","item":"","change":"left_out","before":0,"after":2}]},
            {"at_ms":1799600000000,"changes":[
              {"section":"system","item":"","change":"changed","fields":{
                "kernel":{"before":"6.8","after":"6.9"},"boot_id":{"after":"3"}}}]}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(changed(&told), @r"
        pve1 is known from 2027-01-03T18:13:20Z on
        2027-01-09T13:06:40Z
          +  disks  sdb  model WDC, size 1 KiB
          -  disks  sdc  model WDC
          ~  disks       left out: 0 -> 2
        2027-01-10T16:53:20Z
          ~  system    kernel: 6.8 -> 6.9
          ~  system    boot id: none -> 3
        and 4 more; ask for less time
        ");
        let nothing = Changes { steps: Vec::new(), begins_ms: None, left_out: 0, ..told };
        assert_eq!(changed(&nothing), "nothing has changed on pve1 since 1970-01-01T00:00:00Z\n");
    }
}
