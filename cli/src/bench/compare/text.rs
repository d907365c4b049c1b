//! Readings as text: a page that an exporter would serve, and lines to import.

use std::fmt::Write as _;
use std::sync::Arc;

use stoa_exchange::exposition::value_text;
use stoa_model::{Labels, METRIC_NAME, TimestampMs, is_stale};
use stoa_proto::tick::{FamilyInfo, Tick};

/// The names of one host's series, each made once.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Option<String>>);

impl Names {
    /// A page with families described, as an exporter serves it.
    pub(super) fn page(&mut self, tick: &Tick) -> String {
        let mut out = String::with_capacity(tick.samples.len() * 64);
        let mut family: Option<&Arc<FamilyInfo>> = None;
        for (series, value) in tick.samples.iter().filter(|(_, value)| !is_stale(*value)) {
            if family.is_none_or(|last| !Arc::ptr_eq(last, &series.family)) {
                let FamilyInfo { name, help, kind, .. } = &*series.family;
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                // Writing to a string does not fail.
                let _ok = write!(out, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
                family = Some(&series.family);
            }
            out.push_str(self.name(series.id, || name(&series.labels)));
            out.push(' ');
            out.push_str(&value_text(*value));
            out.push('\n');
        }
        out
    }

    /// Lines with a host's labels and the time, in milliseconds or (OpenMetrics) in seconds.
    pub(super) fn lines(&mut self, tick: &Tick, host: &str, in_seconds: bool, out: &mut String) {
        let t = time(tick.t, in_seconds);
        for (series, value) in tick.samples.iter().filter(|(_, value)| !is_stale(*value)) {
            let labels = || name(&super::super::fill::labels(&series.labels, host));
            out.push_str(self.name(series.id, labels));
            out.push(' ');
            out.push_str(&value_text(*value));
            out.push_str(&t);
        }
    }

    fn name(&mut self, id: u32, make: impl FnOnce() -> String) -> &str {
        let at = usize::try_from(id).unwrap_or(usize::MAX);
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        match self.0.get_mut(at) {
            Some(name) => name.get_or_insert_with(make),
            None => "",
        }
    }
}

fn time(t: TimestampMs, in_seconds: bool) -> String {
    if in_seconds {
        format!(" {}.{:03}\n", t.div_euclid(1000), t.rem_euclid(1000))
    } else {
        format!(" {t}\n")
    }
}

/// `name{a="b",c="d"}`, without spaces: OpenMetrics knows none.
fn name(labels: &Labels) -> String {
    let mut out = labels.metric_name().unwrap_or_default().to_owned();
    let mut between = '{';
    for label in labels.iter().filter(|label| &*label.name != METRIC_NAME) {
        let value = label.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ok = write!(out, "{between}{}=\"{value}\"", label.name);
        between = ',';
    }
    if between == ',' {
        out.push('}');
    }
    out
}

#[cfg(test)]
mod tests {
    use stoa_exchange::exposition;
    use stoa_model::{MetricKind, stale_nan};
    use stoa_proto::tick::Series;

    use super::*;

    fn tick() -> Tick {
        let family = Arc::new(FamilyInfo {
            name: "a_total".into(),
            help: "Of all.".into(),
            unit: String::new(),
            kind: MetricKind::Counter,
        });
        let series = |id: u32, device: &str| {
            let labels = Labels::from_pairs([("__name__", "a_total"), ("device", device)]).unwrap();
            Arc::new(Series { id, family: Arc::clone(&family), labels })
        };
        let samples = vec![
            (series(0, "q\"\\"), 1.5),
            (series(1, "gone"), stale_nan()),
            (series(2, ""), f64::INFINITY),
        ];
        Tick { t: 1_500, samples }
    }

    #[test]
    fn a_page_is_one_an_exporter_would_serve() {
        let page = Names::default().page(&tick());
        assert_eq!(
            page,
            "# HELP a_total Of all.\n# TYPE a_total counter\na_total{device=\"q\\\"\\\\\"} 1.5\na_total +Inf\n"
        );
        let read = exposition::parse(&page).unwrap();
        assert_eq!(read.families.len(), 1);
    }

    #[test]
    fn lines_carry_host_and_time() {
        let (mut names, mut out) = (Names::default(), String::new());
        names.lines(&tick(), "h", true, &mut out);
        names.lines(&tick(), "h", false, &mut out);
        let lines: Vec<&str> = out.lines().collect();
        let whole = "a_total{device=\"q\\\"\\\\\",host=\"h\",instance=\"h\",job=\"node\"} 1.5";
        assert_eq!(lines[0], format!("{whole} 1.500"));
        assert_eq!(lines[2], format!("{whole} 1500"));
        assert_eq!(lines.len(), 4);
    }
}
