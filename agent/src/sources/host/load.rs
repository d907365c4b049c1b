//! `/proc/loadavg`: the load averages.

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Problem, Reading, Roots, Source, number};

const LOADS: [Desc; 3] = [
    Desc::gauge("node_load1", "1m load average."),
    Desc::gauge("node_load5", "5m load average."),
    Desc::gauge("node_load15", "15m load average."),
];

/// The averages over 1, 5 and 15 minutes.
pub(super) fn parse(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace().map_while(number);
    Some([words.next()?, words.next()?, words.next()?])
}

/// The source `loadavg`.
#[derive(Debug)]
pub(crate) struct Load {
    file: KeptFile,
}

impl Configured for Load {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("loadavg") }
    }
}

impl Source for Load {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let averages = match self.file.read(roots) {
            Ok(text) => parse(text),
            Err(problem) => return reading.fail(problem),
        };
        let Some(averages) = averages else {
            return reading.fail(Problem::parse(self.file.path(roots), "not three numbers"));
        };
        for (desc, value) in LOADS.iter().zip(averages) {
            reading.single(desc, value);
        }
    }
}
