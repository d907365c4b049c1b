//! `/proc/sys/fs/file-nr`: open files of the whole host.

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Problem, Reading, Roots, Source, number};

const ALLOCATED: Desc =
    Desc::gauge("node_filefd_allocated", "File descriptor statistics: allocated.");
const MAXIMUM: Desc = Desc::gauge("node_filefd_maximum", "File descriptor statistics: maximum.");

/// Open files, and the most there may be.
pub(super) fn parse(text: &str) -> Option<(f64, f64)> {
    let mut numbers = text.split_ascii_whitespace().map_while(number);
    let allocated = numbers.next()?;
    // The second number has been 0 since Linux 2.6.
    Some((allocated, numbers.nth(1)?))
}

/// The source `filefd`.
#[derive(Debug)]
pub(crate) struct FileDescriptors {
    file: KeptFile,
}

impl Configured for FileDescriptors {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("sys/fs/file-nr") }
    }
}

impl Source for FileDescriptors {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        match self.file.read(roots).map(parse) {
            Ok(Some((allocated, maximum))) => {
                reading.single(&ALLOCATED, allocated);
                reading.single(&MAXIMUM, maximum);
            }
            Ok(None) => {
                reading.fail(Problem::parse(self.file.path(roots), "not three numbers"));
            }
            Err(problem) => reading.fail(problem),
        }
    }
}
