//! The streams of deltas of all senders, kept over a restart.
//!
//! The collector writes them to [`FILE`] when it stops, and takes the file away when it starts: what is in
//! it holds only as long as nothing was added since. After a crash there is none, and streams begin anew,
//! which queries see as counters' resets. The file is docs/formats/otlp.md.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stoa_exchange::otlp::{Accumulate, DeltaCounts, DeltaFault, DeltaLimits, Deltas, Point, Total};
use stoa_model::TimestampMs;
use stoa_wal::Disk;

use crate::ingest::FUTURE_MAX_MS;

/// Where they are kept, in the data directory.
const FILE: &str = "otlp.deltas";

/// What the file begins with; then a CRC32C of the rest.
const MAGIC: [u8; 8] = *b"STOADLT1";

/// The streams of all senders.
#[derive(Debug)]
pub(super) struct Streams(Mutex<Deltas>);

impl Streams {
    pub(super) fn new(limits: DeltaLimits) -> Self {
        Self(Mutex::new(Deltas::new(limits)))
    }

    pub(super) fn counts(&self) -> DeltaCounts {
        self.lock().counts()
    }

    /// Those of one sender, for one message.
    pub(super) fn of(&self, sender: &str, now_ms: TimestampMs) -> OfSender<'_> {
        let mut name = sender.as_bytes().to_vec();
        // No name of a credential has it.
        name.push(0xff);
        OfSender { streams: self, sender: name.len(), name, now_ms }
    }

    /// Takes what was kept, and takes the file away.
    pub(super) fn restore(&self, disk: &dyn Disk, dir: &Path) {
        let path = dir.join(FILE);
        let kept = take_away(disk, &path).and_then(|bytes| match bytes {
            None => Ok(0),
            Some(bytes) => {
                let bytes = checked(&bytes).ok_or_else(|| io::Error::other("it is damaged"))?;
                self.lock().read(bytes).map_err(io::Error::other)
            }
        });
        match kept {
            Ok(0) => {}
            Ok(left_out) => tracing::warn!(left_out, "series of deltas begin anew: too many"),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "series of deltas begin anew: cannot read them");
            }
        }
    }

    /// Writes what there is, for the next start.
    pub(super) fn keep(&self, disk: &dyn Disk, dir: &Path) {
        let streams = self.lock();
        if streams.counts().streams == 0 {
            return;
        }
        let bytes = streams.write();
        drop(streams);
        let path = dir.join(FILE);
        let check = crc32c::crc32c(&bytes).to_le_bytes();
        if let Err(error) = disk.replace(&path, &[&MAGIC[..], &check, &bytes].concat()) {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot keep series of deltas; they will begin anew");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Deltas> {
        // A panic within leaves a stream as it was, or added to.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in a file that is no more. One that cannot be taken away is not read: it would be again.
fn take_away(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !disk.exists(path)? {
        return Ok(None);
    }
    let bytes = disk.read(path);
    disk.remove_file(path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    bytes.map(Some)
}

fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (check, streams) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
    (crc32c::crc32c(streams) == u32::from_le_bytes(*check)).then_some(streams)
}

/// The streams of a sender while a message of it is walked.
pub(super) struct OfSender<'s> {
    streams: &'s Streams,
    /// The sender and then the stream.
    name: Vec<u8>,
    sender: usize,
    now_ms: TimestampMs,
}

impl Accumulate for OfSender<'_> {
    fn add(
        &mut self,
        series: &[u8],
        point: &Point<'_>,
        grows: bool,
    ) -> Result<Option<Total>, DeltaFault> {
        self.name.truncate(self.sender);
        self.name.extend_from_slice(series);
        let horizon_ms = self.now_ms.saturating_add(FUTURE_MAX_MS);
        self.streams.lock().add(&self.name, point, grows, self.now_ms, horizon_ms)
    }

    fn begun_ns(&mut self, series: &[u8]) -> u64 {
        self.name.truncate(self.sender);
        self.name.extend_from_slice(series);
        self.streams.lock().begun_ns(&self.name).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stoa_exchange::otlp::Measure;
    use stoa_wal::disk::SimDisk;

    use super::*;

    fn add(streams: &Streams, sender: &str, t_s: u64) -> Option<Total> {
        let time_ns = t_s * 1_000_000_000;
        let (start_ns, attributes, measure) = (0, Ok(&[][..]), Measure::Integer(1));
        let point = Point {
            attributes,
            start_ns,
            time_ns,
            ended: false,
            measure,
            exemplars: &[],
            exemplars_left_out: 0,
        };
        streams.of(sender, 0).add(b"s", &point, true).unwrap()
    }

    #[test]
    fn what_is_kept_is_taken_once_and_only_whole() {
        let disk = Arc::new(SimDisk::new(1));
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        let limits = DeltaLimits { streams_max: 10, stale_ms: 0 };
        let first = Streams::new(limits);
        first.restore(&*disk, dir);
        for t_s in [1, 2] {
            add(&first, "ann", t_s);
        }
        assert_eq!(add(&first, "bob", 2), Some(Total::Integer(1)));
        first.keep(&*disk, dir);
        let second = Streams::new(limits);
        second.restore(&*disk, dir);
        assert_eq!(add(&second, "ann", 3), Some(Total::Integer(3)));
        let third = Streams::new(limits);
        third.restore(&*disk, dir);
        assert_eq!(add(&third, "ann", 3), Some(Total::Integer(1)), "the file is gone");

        second.keep(&*disk, dir);
        let path = dir.join(FILE);
        let mut bytes = disk.read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        disk.replace(&path, &bytes).unwrap();
        let fourth = Streams::new(limits);
        fourth.restore(&*disk, dir);
        assert_eq!(fourth.counts().streams, 0);
        assert!(!disk.exists(&path).unwrap());
    }
}
