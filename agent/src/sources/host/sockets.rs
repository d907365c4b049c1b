//! `/proc/net/sockstat` and `sockstat6`: sockets in use, by protocol.

use std::sync::Arc;

use stoa_model::MetricKind;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Kept, KeptFile, Now, Reading, Roots, Source, no_labels, number};

/// Protocol, state, number; `sockets used` under the protocol `sockets`.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    text.lines().filter_map(|line| line.split_once(':')).flat_map(|(protocol, rest)| {
        let mut words = rest.split_ascii_whitespace();
        std::iter::from_fn(move || Some((protocol, words.next()?, words.next().and_then(number)?)))
    })
}

/// The states that are told; the kernel has no others yet.
const STATES: [&str; 6] = ["inuse", "orphan", "tw", "alloc", "mem", "memory"];

/// The source `sockstat`.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: KeptFile,
    v6: KeptFile,
    page_bytes: f64,
    /// Name and help, by protocol and state.
    names: Kept<Arc<(String, String)>>,
    key: String,
}

impl Configured for Sockets {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self {
            v4: KeptFile::proc("net/sockstat"),
            v6: KeptFile::proc("net/sockstat6"),
            page_bytes: rustix::param::page_size() as f64,
            names: Kept::new(),
            key: String::new(),
        }
    }
}

fn names(protocol: &str, state: &str) -> Arc<(String, String)> {
    let help = match (protocol, state) {
        ("sockets", "used") => "Number of IPv4 sockets in use.".to_owned(),
        _ => format!("Number of {protocol} sockets in state {state}."),
    };
    Arc::new((format!("node_sockstat_{protocol}_{state}"), help))
}

impl Source for Sockets {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        for file in [&mut self.v4, &mut self.v6] {
            let text = match file.read(roots) {
                Ok(text) => text,
                // A kernel without IPv4 or IPv6.
                Err(problem) if problem.is_absence() => continue,
                Err(problem) => {
                    reading.fail(problem);
                    continue;
                }
            };
            let mut tell = |protocol: &str, state: &str, value| {
                self.key.clear();
                self.key.extend([protocol, " ", state]);
                let names = self.names.get(&self.key, |_| names(protocol, state));
                let (name, help) = &*names;
                reading.named(name, help, MetricKind::Gauge).push(no_labels(), value);
            };
            for (protocol, state, value) in parse(text) {
                if STATES.contains(&state) || (protocol, state) == ("sockets", "used") {
                    tell(protocol, state, value);
                }
                if state == "mem" {
                    tell(protocol, "mem_bytes", value * self.page_bytes);
                }
            }
        }
        self.names.end_round();
    }
}
