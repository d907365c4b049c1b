//! The keys by which a restarted listener is noticed at once.
//!
//! A listener that was killed knows none of its old QUIC connections. With the same keys as before
//! it can still answer their packets with a stateless reset, which the dialer believes; without, the
//! dialer waits out its idle timeout. Measured: under a second against 15 s.
//!
//! The file: `"stoa-rk1"`, 64 bytes HMAC key, 8 bytes connection-id key (little endian), SHA-256 of
//! all before it; 112 bytes, mode 0600. The keys authorise no one: who has them can end connections.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::peer::sha256;

const MAGIC: [u8; 8] = *b"stoa-rk1";
const FILE_BYTES: usize = 8 + 64 + 8 + 32;

/// The listener's stateless reset key and connection-id key.
#[derive(Clone)]
pub struct ResetKeys {
    /// HMAC-SHA-256 key of the stateless reset tokens.
    pub reset_key: [u8; 64],
    /// Key of the connection ids, by which foreign packets are dropped without an answer.
    pub cid_key: u64,
}

impl std::fmt::Debug for ResetKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKeys(..)")
    }
}

/// Why there are no reset keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResetKeysError {
    /// The operating system gave no random bytes.
    #[error("no random bytes for reset keys")]
    Random,
    /// The file could not be read.
    #[error("read reset keys {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("write reset keys {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ResetKeys {
    /// New keys, kept nowhere.
    ///
    /// # Errors
    /// [`ResetKeysError::Random`].
    pub fn generate() -> Result<Self, ResetKeysError> {
        let random = SystemRandom::new();
        let mut reset_key = [0; 64];
        let mut cid_key = [0; 8];
        random.fill(&mut reset_key).map_err(|_unspecified| ResetKeysError::Random)?;
        random.fill(&mut cid_key).map_err(|_unspecified| ResetKeysError::Random)?;
        Ok(Self { reset_key, cid_key: u64::from_le_bytes(cid_key) })
    }

    /// The keys in the file at `path`, which is made with new ones when absent. Blocks.
    ///
    /// A damaged file is set aside as `NAME.damaged` and replaced, with a warning: all it costs is
    /// that connections from before the restart end by their idle timeout.
    ///
    /// # Errors
    /// [`ResetKeysError`] when the file can be neither read nor written.
    pub fn load_or_create(path: &Path) -> Result<Self, ResetKeysError> {
        match read(path) {
            Ok(Some(keys)) => return Ok(keys),
            Ok(None) => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".damaged");
                tracing::warn!(path = %path.display(), "reset keys are damaged: set aside, made anew");
                fs::rename(path, aside).map_err(|source| write_error(path, source))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ResetKeysError::Read { path: path.to_owned(), source }),
        }
        let keys = Self::generate()?;
        keys.write(path).map_err(|source| write_error(path, source))?;
        Ok(keys)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.reset_key);
        bytes.extend_from_slice(&self.cid_key.to_le_bytes());
        let sum = sha256(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        if sha256(body) != *sum {
            return None;
        }
        let body = body.strip_prefix(&MAGIC)?;
        let (reset_key, body) = body.split_first_chunk::<64>()?;
        let cid_key: [u8; 8] = body.try_into().ok()?;
        Some(Self { reset_key: *reset_key, cid_key: u64::from_le_bytes(cid_key) })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let tmp = PathBuf::from(name);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }
}

/// The keys, or `None` when the bytes are not what was written.
fn read(path: &Path) -> io::Result<Option<ResetKeys>> {
    let mut bytes = Vec::with_capacity(FILE_BYTES + 1);
    let limit = u64::try_from(FILE_BYTES + 1).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(ResetKeys::decode(&bytes))
}

fn write_error(path: &Path, source: io::Error) -> ResetKeysError {
    ResetKeysError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_survive_a_restart_and_damage_does_not_stop_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reset.keys");
        let first = ResetKeys::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = ResetKeys::load_or_create(&path).unwrap();
        assert_eq!((first.reset_key, first.cid_key), (again.reset_key, again.cid_key));

        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), FILE_BYTES);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(ResetKeys::decode(&flipped).is_none(), "a flip at byte {at} went unnoticed");
            assert!(ResetKeys::decode(&whole[..at]).is_none(), "cut at {at}");
        }
        fs::write(&path, &whole[..50]).unwrap();
        let renewed = ResetKeys::load_or_create(&path).unwrap();
        assert_ne!(renewed.reset_key, first.reset_key);
        assert_eq!(fs::read(dir.path().join("reset.keys.damaged")).unwrap(), &whole[..50]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = ResetKeys::load_or_create(Path::new("/proc/no/such/dir")).unwrap_err();
        assert!(error.to_string().contains("/proc/no/such/dir"), "{error}");
    }
}
