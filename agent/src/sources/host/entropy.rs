//! `/proc/sys/kernel/random`: what the kernel has to make random numbers of.

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Problem, Reading, Roots, Source, number};

const AVAILABLE: Desc = Desc::gauge("node_entropy_available_bits", "Bits of available entropy.");
const POOL: Desc = Desc::gauge("node_entropy_pool_size_bits", "Bits of entropy pool.");

/// The source `entropy`.
#[derive(Debug)]
pub(crate) struct Entropy {
    available: KeptFile,
    pool: KeptFile,
}

impl Configured for Entropy {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self {
            available: KeptFile::proc("sys/kernel/random/entropy_avail"),
            pool: KeptFile::proc("sys/kernel/random/poolsize"),
        }
    }
}

impl Source for Entropy {
    fn name(&self) -> &'static str {
        "entropy"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        for (desc, file) in [(&AVAILABLE, &mut self.available), (&POOL, &mut self.pool)] {
            match file.read(roots).map(|text| number(text.trim())) {
                Ok(Some(bits)) => reading.single(desc, bits),
                Ok(None) => reading.fail(Problem::parse(file.path(roots), "no number")),
                Err(problem) => reading.fail(problem),
            }
        }
    }
}
