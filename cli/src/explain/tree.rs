//! An explanation as a text: the tree, and below it the totals.

use super::answer::{Explanation, Node, Place, Reading, Run, Selects};
use crate::chart::short;
use crate::table::{counted, printable};

/// The most places of a read that are shown one by one.
const PLACES_MAX: usize = 12;

/// The most characters of an operation that are shown.
const OPERATION_CHARS_MAX: usize = 80;

/// The whole text; `expr` is what was asked.
pub(super) fn drawn(explanation: &Explanation, expr: &str) -> String {
    let mut out = String::new();
    let nodes = &explanation.nodes;
    let followed = followed(nodes);
    // What stands before the lines below a node, for each depth.
    let mut bars: Vec<&str> = Vec::new();
    for (at, (node, is_followed)) in nodes.iter().zip(followed).enumerate() {
        let depth = node.depth.min(at);
        bars.truncate(depth.saturating_sub(1));
        let before = bars.concat();
        let fork = match (depth, is_followed) {
            (0, _) => "",
            (_, true) => "├─ ",
            (_, false) => "└─ ",
        };
        out.push_str(&format!("{before}{fork}{}\n", heading(node)));
        if depth > 0 {
            bars.push(if is_followed { "│  " } else { "   " });
        }
        let has_children = nodes.get(at + 1).is_some_and(|next| next.depth > node.depth);
        let bar = if has_children { "│" } else { " " };
        for detail in details(node, expr) {
            out.push_str(&format!("{}{bar}    {detail}\n", bars.concat()));
        }
    }
    out.push_str(&totals(explanation));
    out
}

/// For each node whether another of the same depth comes behind it, below the same one.
fn followed(nodes: &[Node]) -> Vec<bool> {
    let mut open: Vec<usize> = Vec::new();
    let mut followed: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes.iter().rev() {
        while open.last().is_some_and(|depth| *depth > node.depth) {
            open.pop();
        }
        followed.push(open.last() == Some(&node.depth));
        if open.last() != Some(&node.depth) {
            open.push(node.depth);
        }
    }
    followed.reverse();
    followed
}

/// `rate: instant vector, 12 series in 1.2 ms (300 µs own)`
fn heading(node: &Node) -> String {
    let mut line = format!("{}: {}", cut(&printable(&node.operation)), printable(&node.value));
    let Some(measured) = &node.measured else { return line };
    if let Some(series) = measured.series {
        line.push_str(&format!(", {series} series"));
    }
    if let Some(took) = measured.seconds {
        line.push_str(&format!(" in {}", seconds(took)));
        if let Some(own) = measured.own_seconds.filter(|own| *own < took) {
            line.push_str(&format!(" ({} own)", seconds(own)));
        }
    }
    line
}

/// The lines that say what a selector reads.
fn details(node: &Node, expr: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(selects) = &node.selects {
        lines.push(format!("wants    {}", stretch(selects.start_ms, selects.end_ms)));
        lines.extend(sharing(selects, expr));
        selects.reads.iter().for_each(|read| reading(read, &mut lines));
    }
    if let Some(read) = node.measured.as_ref().and_then(|measured| measured.read.as_ref()) {
        let samples = counted_short(read.samples, "sample");
        let took = seconds(read.seconds);
        lines.push(format!("reading  took {took}: {} series, {samples}", read.series));
    }
    lines
}

fn sharing(selects: &Selects, expr: &str) -> Option<String> {
    let text = |(start, end): (usize, usize)| {
        let text = expr.get(start..end).unwrap_or_default();
        format!("{} (at {})", cut(&printable(text)), start.saturating_add(1))
    };
    if let Some(from) = selects.taken_from {
        return Some(format!("shared   takes what is read for {}", text(from)));
    }
    let with = selects.shared_with.iter().take(PLACES_MAX).map(|place| text(*place));
    let with: Vec<String> = with.collect();
    let more = selects.shared_with.len().saturating_sub(PLACES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!with.is_empty()).then(|| format!("shared   reads for {}{more} too", with.join(", ")))
}

fn reading(read: &Reading, lines: &mut Vec<String>) {
    let (what, unit) = match (read.of.as_str(), read.window_ms) {
        ("rollups", Some(window)) => (format!("rollups of {}", length(window)), "rollup"),
        ("rollups", None) => ("samples, and rollups where these are gone".to_owned(), "sample"),
        ("newest", _) => ("the newest samples".to_owned(), "sample"),
        _ => ("samples".to_owned(), "sample"),
    };
    let why = if read.of == "newest" { "" } else { &format!(": {}", printable(&read.why)) };
    lines.push(format!("reads    {what}{why}"));
    lines.push(format!("         {}", stretch(read.start_ms, read.end_ms)));
    let all = weight(read.chunks, read.bytes, read.samples, unit);
    lines.push(format!("         {} series, {all}", read.series));
    lines
        .extend(read.places.iter().take(PLACES_MAX).map(|place| format!("         {}", of(place))));
    let more = read.places.len().saturating_sub(PLACES_MAX).saturating_add(read.places_left_out);
    if more > 0 {
        lines.push(format!("         and {}", counted(more as u64, "more place")));
    }
}

fn of(place: &Place) -> String {
    let (name, unit) = match (&place.tier, &place.name) {
        (Some(tier), Some(name)) => (format!("tier {tier} {name}"), "rollup"),
        (_, Some(name)) => (format!("block {name}"), "sample"),
        _ if place.kind == "head" => ("memory".to_owned(), "sample"),
        _ => (place.kind.clone(), "sample"),
    };
    format!(
        "- {}, {}: {} series, {}",
        printable(&name),
        stretch(place.start_ms, place.end_ms),
        place.series,
        weight(place.chunks, place.bytes, place.samples, unit)
    )
}

fn totals(explanation: &Explanation) -> String {
    let (asked, limits, plan) = (&explanation.asked, &explanation.limits, &explanation.plan);
    let mut lines = vec![String::new()];
    lines.push(match asked.step_ms {
        None => format!("asked    at {}", moment(asked.start_ms)),
        Some(step) => format!(
            "asked    {}, every {}: {} of {} steps",
            stretch(asked.start_ms, asked.end_ms),
            length(step),
            asked.steps,
            limits.steps
        ),
    });
    lines.push(format!("lookback {}", length(asked.lookback_ms)));
    lines.push(format!(
        "reads    {} for {}: {} series, {}",
        counted(plan.reads, "time"),
        counted(plan.selectors, "selector"),
        plan.series,
        weight(plan.chunks, plan.bytes, plan.samples, "sample")
    ));
    let most = format!("{} of {} series a selector", plan.series_most, limits.series);
    lines.push(format!("limits   {most}"));
    let held = format!("{} of {}", size(plan.held_bytes), size(limits.bytes));
    lines.push(format!("         {held} in memory at most, were all that is read held at once"));
    match &explanation.run {
        None => lines.push(format!("         {} samples held at a time", limits.samples)),
        Some(run) => lines.extend(taken(run, limits.samples)),
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What a run took, by Prometheus's phases and counts.
fn taken(run: &Run, samples_max: u64) -> Vec<String> {
    let (timings, samples) = (&run.stats.timings, &run.stats.samples);
    let mut lines = vec![
        format!("         {} of {samples_max} samples held at a time", samples.peak_samples),
        format!(
            "took     {}: reading {}, evaluating {}, sorting {}; waited {} for its turn",
            seconds(timings.eval_total_time),
            seconds(timings.query_preparation_time),
            seconds(timings.inner_eval_time),
            seconds(timings.result_sort_time),
            seconds(timings.exec_queue_time)
        ),
        format!(
            "samples  {} loaded, {} given to expressions, {} of them for the first time",
            run.loaded_samples, samples.total_queryable_samples, samples.samples_read
        ),
    ];
    let steps = &samples.total_queryable_samples_per_step;
    let busiest = steps.iter().max_by_key(|(_, count)| *count);
    if let Some((at, count)) = busiest.filter(|_| steps.len() > 1) {
        #[expect(clippy::cast_possible_truncation, reason = "a time within the range asked for")]
        let at = moment((at * 1000.0) as i64);
        lines.push(format!("         {count} at the step that has most, {at}"));
    }
    let samples = counted_short(run.result_samples, "sample");
    lines.push(format!("result   {} series, {samples}", run.result_series));
    lines
}

/// A moment; the very first ones are told as a second later.
fn moment(ms: i64) -> String {
    crate::table::moment(ms.max(i64::MIN + 1000))
}

fn stretch(start_ms: i64, end_ms: i64) -> String {
    if start_ms > end_ms {
        return "no time".to_owned();
    }
    format!("{} to {}", moment(start_ms), moment(end_ms))
}

fn weight(chunks: u64, bytes: u64, samples: u64, unit: &str) -> String {
    let samples = counted_short(samples, unit);
    format!("about {samples}, {} in {}", size(bytes), counted(chunks, "chunk"))
}

/// `1 sample`, `950 samples`, `1.2M samples`.
#[expect(clippy::cast_precision_loss, reason = "shown to four digits")]
fn counted_short(count: u64, what: &str) -> String {
    if count < 10_000 { counted(count, what) } else { format!("{} {what}s", short(count as f64)) }
}

#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        0.001.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

/// `1h30m`, `5m`, `-2d`, `250ms`.
fn length(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let mut rest = ms.unsigned_abs();
    let mut out = String::new();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")]
    {
        if rest >= unit {
            out.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { format!("{sign}{out}") }
}

fn cut(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= OPERATION_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(OPERATION_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::answer::Body;

    /// A quotient of a month: rollups, a selector that reads for another, literals.
    const ANSWER: &str = r#"{"status":"success","data":{
        "query":"rate(x[1h]) / (y + y offset 1m) * 2",
        "asked":{"startMs":0,"endMs":2592000000,"stepMs":3600000,"steps":721,"lookbackMs":300000},
        "limits":{"samples":50000000,"bytes":1073741824,"series":1000000,"steps":11000},
        "plan":{"selectors":3,"reads":2,"seriesMost":3,"series":5,"chunks":12,"bytes":70656,
          "samples":123456,"heldBytes":1975296},
        "nodes":[
          {"depth":0,"operation":"*","position":[0,35],"type":"instant vector"},
          {"depth":1,"operation":"/","position":[0,31],"type":"instant vector"},
          {"depth":2,"operation":"rate","position":[0,11],"type":"instant vector"},
          {"depth":3,"operation":"x[1h]","position":[5,10],"type":"range vector","selects":{
            "matchers":["__name__=\"x\""],"startMs":-3599999,"endMs":2592000000,"reads":[{
              "of":"rollups","windowMs":3600000,"why":"range and steps go with these windows",
              "startMs":-3599999,"endMs":2592000000,"series":2,"chunks":4,"bytes":2048,
              "samples":1442,"placesLeftOut":3,"places":[{"kind":"tier","tier":"1h","name":"0001",
              "startMs":1,"endMs":2592000000,"series":2,"chunks":4,"bytes":2048,"samples":1442}]}]}},
          {"depth":2,"operation":"+","position":[15,30],"type":"instant vector"},
          {"depth":3,"operation":"y","position":[15,16],"type":"instant vector","selects":{
            "matchers":["__name__=\"y\""],"startMs":-299999,"endMs":2592000000,
            "sharedWith":[[19,30]],"reads":[{"of":"samples",
              "why":"range and steps do not go with the windows of any rollups",
              "startMs":-359999,"endMs":2592000000,"series":3,"chunks":8,"bytes":68608,
              "samples":122014,"placesLeftOut":0,"places":[
              {"kind":"block","name":"0007","startMs":0,"endMs":2590000000,"series":3,"chunks":6,
               "bytes":60000,"samples":120000},
              {"kind":"head","startMs":2590000001,"endMs":2592000000,"series":3,"chunks":2,
               "bytes":8608,"samples":2014}]}]}},
          {"depth":3,"operation":"y offset 1m","position":[19,30],"type":"instant vector",
            "selects":{"matchers":["__name__=\"y\""],"startMs":-359999,"endMs":2591940000,
            "takenFrom":[15,16],"reads":[]}},
          {"depth":1,"operation":"2","position":[34,35],"type":"scalar"}]}}"#;

    #[test]
    fn a_plan_is_a_tree() {
        let body: Body = serde_json::from_str(ANSWER).unwrap();
        let expr = "rate(x[1h]) / (y + y offset 1m) * 2";
        insta::assert_snapshot!(drawn(&body.data, expr));
    }

    #[test]
    fn a_run_is_told_node_by_node() {
        let measured = r#""measured":{"seconds":0.05,"ownSeconds":0.01,"series":1}"#;
        let read = r#""measured":{"seconds":0.04,"ownSeconds":0.04,"series":2,
            "read":{"seconds":0.0002,"series":2,"samples":122}}"#;
        let json = format!(
            r#"{{"data":{{"asked":{{"startMs":0,"endMs":60000,"stepMs":60000,"steps":2,
            "lookbackMs":300000}},
            "limits":{{"samples":50000000,"bytes":1073741824,"series":1000000,"steps":11000}},
            "plan":{{"selectors":1,"reads":1,"seriesMost":2,"series":2,"chunks":0,"bytes":1952,
            "samples":122,"heldBytes":1952}},
            "run":{{"loadedSamples":122,"resultSeries":1,"resultSamples":2,"stats":{{
            "timings":{{"evalTotalTime":1.5,"resultSortTime":0.0001,"queryPreparationTime":1.2,
            "innerEvalTime":0.2999,"execQueueTime":0.000005,"execTotalTime":1.500005}},
            "samples":{{"totalQueryableSamples":4,"peakSamples":6,"samplesRead":4,
            "totalQueryableSamplesPerStep":[[0,1],[60,3]],"samplesReadPerStep":[[0,1],[60,3]]}}}}}},
            "nodes":[{{"depth":0,"operation":"sum","type":"instant vector",{measured}}},
            {{"depth":1,"operation":"x\u001b[2J","type":"instant vector","selects":{{"startMs":1,
            "endMs":0,"reads":[]}},{read}}}]}}}}"#
        );
        let body: Body = serde_json::from_str(&json).unwrap();
        insta::assert_snapshot!(drawn(&body.data, "sum(x)"));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            (length(90_000), length(-5_400_000), length(0)),
            ("1m30s".into(), "-1h30m".into(), "0s".into())
        );
        assert_eq!((seconds(0.000_012_3), seconds(0.0123)), ("12 µs".into(), "12.3 ms".into()));
        assert_eq!((size(12), size(3 << 20)), ("12 B".into(), "3.0 MiB".into()));
    }
}
