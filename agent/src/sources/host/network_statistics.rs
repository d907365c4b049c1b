//! `/proc/net/netstat`, `snmp` and `snmp6`: counters of the protocols.

use std::collections::BTreeMap;

use regex::Regex;
use stoa_model::{Family, Metric, MetricKind};

use crate::sources::settings::{HostSettings, PatternError, pattern};
use crate::sources::{Kept, KeptFile, Now, Problem, Reading, Roots, Source, no_labels, number};

/// Protocol, field and value of `netstat` and `snmp`: a line of names, then a line of values.
pub(super) fn parse_pairs(text: &str) -> Vec<(&str, &str, &str)> {
    let mut fields = Vec::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((protocol, names)) = names.split_once(':') else { continue };
        let Some((_, values)) = values.split_once(':') else { continue };
        let names = names.split_ascii_whitespace();
        for (name, value) in names.zip(values.split_ascii_whitespace()) {
            fields.push((protocol, name, value));
        }
    }
    fields
}

/// Protocol, field and value of `snmp6`: a line each, the protocol being what ends with a 6.
pub(super) fn parse_six(text: &str) -> Vec<(&str, &str, &str)> {
    let field = |line: &'_ str| -> Option<(usize, usize)> {
        let key = line.split_ascii_whitespace().next()?;
        Some((key.find('6')? + 1, key.len()))
    };
    let split = |line| {
        let (protocol, key) = field(line)?;
        let value = line.get(key..)?.trim();
        Some((line.get(..protocol)?, line.get(protocol..key)?, value))
    };
    text.lines().filter_map(split).collect()
}

/// The source `netstat`.
#[derive(Debug)]
pub(super) struct NetworkStatistics {
    netstat: KeptFile,
    snmp: KeptFile,
    snmp6: KeptFile,
    wanted: Regex,
    /// Name and help, by protocol and field; `None` when it is not wanted.
    names: Kept<Option<(String, String)>>,
}

impl NetworkStatistics {
    pub(super) fn new(settings: &HostSettings) -> Result<Self, PatternError> {
        Ok(Self {
            netstat: KeptFile::proc("net/netstat"),
            snmp: KeptFile::proc("net/snmp"),
            snmp6: KeptFile::proc("net/snmp6"),
            wanted: pattern(&settings.netstat_fields)?,
            names: Kept::new(),
        })
    }
}

impl Source for NetworkStatistics {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mut told: BTreeMap<String, Family> = BTreeMap::new();
        let mut key = String::new();
        for (file, six) in
            [(&mut self.netstat, false), (&mut self.snmp, false), (&mut self.snmp6, true)]
        {
            let path = file.path(roots);
            let fields = match file.read(roots) {
                Ok(text) if six => parse_six(text),
                Ok(text) => parse_pairs(text),
                // A kernel without IPv6.
                Err(problem) if six && problem.is_absence() => continue,
                Err(problem) => {
                    reading.fail(problem);
                    continue;
                }
            };
            for (protocol, field, value) in fields {
                key.clear();
                key.extend([protocol, "_", field]);
                let names = self.names.get(&key, |key| {
                    let help = || format!("Statistic {protocol}{field}.");
                    self.wanted.is_match(key).then(|| (format!("node_netstat_{key}"), help()))
                });
                let Some((name, help)) = names else { continue };
                let Some(value) = number(value) else {
                    reading.note(Problem::parse(path.clone(), "a value is no number"));
                    continue;
                };
                let metrics = vec![Metric { labels: no_labels(), value }];
                let family =
                    Family { name: name.clone(), help, kind: MetricKind::Untyped, metrics };
                told.insert(name, family);
            }
        }
        self.names.end_round();
        reading.families.extend(told.into_values());
    }
}
