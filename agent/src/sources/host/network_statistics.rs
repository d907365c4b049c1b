//! `/proc/net/netstat`, `snmp` and `snmp6`: counters of the protocols.

use std::sync::Arc;

use serde::Deserialize;
use stoa_model::MetricKind;

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::Pattern;
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

const FIELDS: &str = "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)\
    |Icmp6?_(InMsgs|OutMsgs)\
    |TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)\
    |Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)\
    |Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$";

/// `[sources.netstat]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which fields to tell, as `Protocol_Field`.
    fields: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { fields: Pattern::fixed(FIELDS) }
    }
}

/// The source `netstat`.
#[derive(Debug)]
pub(crate) struct NetworkStatistics {
    netstat: KeptFile,
    snmp: KeptFile,
    snmp6: KeptFile,
    wanted: Pattern,
    /// Name and help, by protocol and field; `None` when it is not wanted.
    names: Kept<Option<Arc<(String, String)>>>,
    key: String,
}

impl Configured for NetworkStatistics {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            netstat: KeptFile::proc("net/netstat"),
            snmp: KeptFile::proc("net/snmp"),
            snmp6: KeptFile::proc("net/snmp6"),
            wanted: settings.fields,
            names: Kept::new(),
            key: String::new(),
        }
    }
}

impl Source for NetworkStatistics {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let key = &mut self.key;
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
                let names = self.names.get(key, |key| {
                    let help = || format!("Statistic {protocol}{field}.");
                    let named = || Arc::new((format!("node_netstat_{key}"), help()));
                    self.wanted.matches(key).then(named)
                });
                let Some(names) = names else { continue };
                let (name, help) = &*names;
                let Some(value) = number(value) else {
                    reading.note(Problem::parse(path.clone(), "a value is no number"));
                    continue;
                };
                reading.named(name, help, MetricKind::Untyped).push(no_labels(), value);
            }
        }
        self.names.end_round();
    }
}
