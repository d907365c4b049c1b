//! What `uname` says: names of kernel and host. Dashboards find a host by it.

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Reading, Roots, Source};

const INFO: Desc = Desc::gauge(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
);

/// The source `uname`.
#[derive(Debug)]
pub(crate) struct Uname {
    labels: Labels,
}

impl Configured for Uname {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Labels::empty() }
    }
}

impl Source for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        let uname = rustix::system::uname();
        let pairs = [
            ("domainname", uname.domainname()),
            ("machine", uname.machine()),
            ("nodename", uname.nodename()),
            ("release", uname.release()),
            ("sysname", uname.sysname()),
            ("version", uname.version()),
        ];
        let is_as_kept = |(name, value): &(&str, &std::ffi::CStr)| {
            self.labels.get(name).unwrap_or_default().as_bytes() == value.to_bytes()
        };
        if self.labels.is_empty() || !pairs.iter().all(is_as_kept) {
            self.labels = Labels::from_pairs_last_wins(
                pairs.map(|(name, value)| (name, value.to_string_lossy().into_owned())),
            );
        }
        reading.one(&INFO, self.labels.clone(), 1.0);
    }
}
