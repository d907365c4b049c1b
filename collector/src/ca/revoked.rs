//! The list of revoked certificates, as a file beside the CA's key.
//!
//! It is a file of its own, and not a table, because it must outlive the state database: whoever
//! damages that must not get a revoked host back in. One line per certificate, appended and synced
//! before a revocation is reported done; a line that cannot be read (torn by a crash) is skipped.
//! Lines of certificates that have expired are left out when the file is next opened.
//!
//! Format: `<serial, hex> <end of validity, ms> <host name>`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use stoa_model::TimestampMs;

use super::{CaError, Serial, file_error, write_private};

/// A certificate that no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedCert {
    /// Its serial number.
    pub serial: Serial,
    /// When it would have ended; after that the entry is no longer needed.
    pub not_after_ms: TimestampMs,
    /// Whose it was.
    pub host: String,
}

/// The file.
#[derive(Debug)]
pub struct RevokedFile {
    path: PathBuf,
}

impl RevokedFile {
    /// Opens the list below a data directory and reads what has not expired.
    ///
    /// # Errors
    /// [`CaError::File`] when it exists and cannot be read or rewritten.
    pub fn open(data_dir: &Path, now_ms: TimestampMs) -> Result<(Self, Vec<RevokedCert>), CaError> {
        let path = data_dir.join("ca").join("revoked");
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(file_error("read", &path)(error)),
        };
        let mut live = BTreeMap::new();
        // A last line without its end was torn; it must not run into the next one appended.
        let mut stale = !text.is_empty() && !text.ends_with('\n');
        for line in text.lines() {
            match parse_line(line) {
                Some(cert) if cert.not_after_ms > now_ms => {
                    live.insert(cert.serial, cert);
                }
                Some(_) => stale = true,
                None => {
                    stale = true;
                    tracing::warn!(path = %path.display(), "skipped an unreadable line");
                }
            }
        }
        let live: Vec<RevokedCert> = live.into_values().collect();
        if stale {
            let lines: String = live.iter().map(line_of).collect();
            write_private(&path, lines.as_bytes())?;
        }
        Ok((Self { path }, live))
    }

    /// Adds certificates, durably when this returns.
    ///
    /// # Errors
    /// [`CaError::File`] when the file cannot be written or synced.
    pub fn append(&self, certs: &[RevokedCert]) -> Result<(), CaError> {
        let lines: String = certs.iter().map(line_of).collect();
        let write = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options.create(true).append(true).mode(0o600).open(&self.path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_all()?;
            fs::File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(file_error("write", &self.path))
    }
}

fn line_of(cert: &RevokedCert) -> String {
    format!("{} {} {}\n", cert.serial, cert.not_after_ms, cert.host)
}

fn parse_line(line: &str) -> Option<RevokedCert> {
    let mut words = line.split(' ');
    let (serial, end, host) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || host.is_empty() {
        return None;
    }
    Some(RevokedCert {
        serial: Serial::parse(serial)?,
        not_after_ms: end.parse().ok()?,
        host: host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cert(first: u8, not_after_ms: TimestampMs) -> RevokedCert {
        RevokedCert { serial: Serial([first; 16]), not_after_ms, host: "pve1".to_owned() }
    }

    #[test]
    fn what_was_revoked_stays_so_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ca")).unwrap();
        let (file, live) = RevokedFile::open(dir.path(), 0).unwrap();
        assert_eq!(live, []);
        file.append(&[cert(1, 100), cert(2, 200)]).unwrap();
        file.append(&[cert(3, 300)]).unwrap();
        let (_, live) = RevokedFile::open(dir.path(), 50).unwrap();
        assert_eq!(live, [cert(1, 100), cert(2, 200), cert(3, 300)]);
        let (_, live) = RevokedFile::open(dir.path(), 100).unwrap();
        assert_eq!(live, [cert(2, 200), cert(3, 300)]);
        let text = fs::read_to_string(dir.path().join("ca/revoked")).unwrap();
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ca")).unwrap();
        let path = dir.path().join("ca/revoked");
        let good = line_of(&cert(1, 100));
        for cut in 0..good.len() - 1 {
            let torn = good.get(..cut).unwrap();
            fs::write(&path, format!("{}{torn}", line_of(&cert(2, 200)))).unwrap();
            let (file, live) = RevokedFile::open(dir.path(), 0).unwrap();
            assert!(live.contains(&cert(2, 200)), "{torn:?}");
            file.append(&[cert(3, 300)]).unwrap();
            let (_, live) = RevokedFile::open(dir.path(), 0).unwrap();
            assert!(live.contains(&cert(3, 300)), "{torn:?}");
        }
        fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert_eq!(RevokedFile::open(dir.path(), 0).unwrap().1, []);
    }
}
