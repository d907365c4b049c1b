//! A disk in memory that forgets, tears and fails the way real ones may, by seed.
//!
//! What it promises is what [`Disk`] promises and not a bit more. Bytes are durable
//! per 512-byte sector once their file was synced, names once their directory was; until then a
//! [`SimDisk::crash`] keeps a random part of them. So a crash can tear a record, leave a hole of
//! zeros in front of bytes that did reach the disk, lose a new file, bring back a removed one, undo a
//! rename, or leave a directory half removed. A rename is atomic, as every journalling file
//! system makes it.
//!
//! A failed `sync_data` behaves as Linux does: some of the pending sectors reached the disk, all of
//! them count as clean, and the reader sees either what was written or what is on the disk. A later
//! `sync_data` succeeds and does not bring them back. A failed `sync_dir` may lose its names likewise.
//!
//! It never knows the time and never blocks. All handles of one disk share one lock, held for one
//! operation. Memory: two copies of each file.

mod file;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, DiskRead};
use tree::{Ino, Tree};

/// What is torn by a crash: a disk writes 512 bytes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What happens to one mutating operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An I/O error. Nothing is written; of a sync, any part may have happened.
    Eio,
    /// No space left on the device. Like [`Fault::Eio`], with the other error.
    Enospc,
    /// A write stops half-way, with an error; any other operation fails as by [`Fault::Eio`].
    ShortWrite,
    /// The machine stops: this and every later operation fails until [`SimDisk::crash`].
    Halt,
}

/// A simulated disk. Clones are handles to the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

/// All of a disk at one moment, pending bytes included. Cheap to keep, not to take.
#[derive(Clone, Debug)]
pub struct SimSnapshot(Tree);

#[derive(Debug)]
struct State {
    tree: Tree,
    dice: Dice,
    /// Mutating operations so far.
    ops: u64,
    faults: BTreeMap<u64, Fault>,
    halted: bool,
    /// Counted up by a crash and a restore: a file handle from before is dead.
    boot: u64,
    capacity_bytes: Option<u64>,
    /// How many of the next openings of files fail.
    failing_opens: u64,
}

impl SimDisk {
    /// An empty disk. The same seed and the same calls give the same disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            tree: Tree::default(),
            dice: Dice(seed),
            ops: 0,
            faults: BTreeMap::new(),
            halted: false,
            boot: 0,
            capacity_bytes: None,
            failing_opens: 0,
        })))
    }

    /// Cuts the power: of what is not durable a random part stays. Every open handle is dead from
    /// here on, planned faults are forgotten, and the disk works again.
    pub fn crash(&self) {
        let mut state = self.lock();
        let State { tree, dice, .. } = &mut *state;
        tree.crash(dice);
        state.restart();
    }

    /// The disk as it is, to come back to by [`SimDisk::restore`].
    pub fn snapshot(&self) -> SimSnapshot {
        SimSnapshot(self.lock().tree.clone())
    }

    /// Rolls the disk back. Open handles are dead; what was pending then is pending again.
    pub fn restore(&self, snapshot: &SimSnapshot) {
        let mut state = self.lock();
        state.tree = snapshot.0.clone();
        state.tree.forget_handles();
        state.restart();
    }

    /// Plans a fault for the `n`-th mutating operation from now; 0 is the next one. Mutating are
    /// creations, writes, truncations, renames, removals and syncs.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut state = self.lock();
        let op = state.ops.saturating_add(n);
        state.faults.insert(op, fault);
    }

    /// Lets the next `n` openings of files for reading fail, as for want of file descriptors.
    pub fn fail_opens(&self, n: u64) {
        self.lock().failing_opens = n;
    }

    /// Forgets the planned faults that have not happened. A halted disk stays halted.
    pub fn clear_faults(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.failing_opens = 0;
    }

    /// Whether a [`Fault::Halt`] has happened since the last crash.
    pub fn halted(&self) -> bool {
        self.lock().halted
    }

    /// Mutating operations so far, failed ones included: the range for [`SimDisk::fail_at`].
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Sets the size of the disk in bytes of file content; `None` is endless.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Bytes of file content on the disk.
    pub fn used_bytes(&self) -> u64 {
        self.lock().tree.used_bytes()
    }

    /// Changes a file behind everybody's back, durably: rot.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.lock();
        let ino = state.tree.file(path)?;
        state.tree.file_mut(ino)?.corrupt(change);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn restart(&mut self) {
        self.boot += 1;
        self.halted = false;
        self.faults.clear();
        self.failing_opens = 0;
    }

    fn alive(&self) -> io::Result<()> {
        if self.halted { Err(io::Error::other("simulated: the machine is off")) } else { Ok(()) }
    }

    /// Counts one mutating operation and says what is to go wrong with it.
    fn mutate(&mut self) -> io::Result<Option<Fault>> {
        self.alive()?;
        let fault = self.faults.remove(&self.ops);
        self.ops += 1;
        if fault == Some(Fault::Halt) {
            self.halted = true;
            self.alive()?;
        }
        Ok(fault)
    }

    /// For operations that happen whole or not at all.
    fn mutate_whole(&mut self) -> io::Result<()> {
        self.mutate()?.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(capacity)
                if more > 0 && self.tree.used_bytes().saturating_add(more) > capacity =>
            {
                Err(Fault::Enospc.error())
            }
            _ => Ok(()),
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::Halt => io::Error::other("simulated: input/output error"),
            Self::Enospc => io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left"),
            Self::ShortWrite => io::Error::new(io::ErrorKind::WriteZero, "simulated: short write"),
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.tree.is_dir(dir) {
            return state.alive();
        }
        state.mutate_whole()?;
        state.tree.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.alive()?;
        state.tree.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.mutate_whole()?;
        let ino = match state.tree.file(path) {
            Ok(ino) => {
                state.tree.file_mut(ino)?.truncate(0);
                ino
            }
            Err(_) => state.tree.create_file(path)?,
        };
        Ok(Box::new(self.handle(&mut state, ino)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let ino = match state.tree.file(path) {
            Ok(ino) => {
                state.alive()?;
                ino
            }
            Err(_) => {
                state.mutate_whole()?;
                state.tree.create_file(path)?
            }
        };
        Ok(Box::new(self.handle(&mut state, ino)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>> {
        let mut state = self.lock();
        state.alive()?;
        if state.failing_opens > 0 {
            state.failing_opens -= 1;
            return Err(io::Error::other("simulated: too many open files"));
        }
        let ino = state.tree.file(path)?;
        Ok(Box::new(self.handle(&mut state, ino)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.mutate_whole()?;
        state.tree.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.mutate_whole()?;
        state.tree.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.mutate_whole()?;
        state.tree.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.mutate()?;
        let State { tree, dice, .. } = &mut *state;
        match fault {
            None => tree.sync_dir(dir),
            Some(fault) => {
                tree.fail_sync_dir(dir, dice)?;
                Err(fault.error())
            }
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        state.alive()?;
        Ok(state.tree.exists(path))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.lock();
        state.alive()?;
        let capacity = state.capacity_bytes.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(state.tree.used_bytes()))
    }
}

/// An open file, of the boot in which it was opened.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    ino: Ino,
    boot: u64,
}

impl SimDisk {
    fn handle(&self, state: &mut State, ino: Ino) -> io::Result<SimFile> {
        state.tree.hold(ino)?;
        Ok(SimFile { disk: self.clone(), ino, boot: state.boot })
    }
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        state.alive()?;
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(io::Error::other("simulated: a handle from before the crash"))
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.boot == self.boot {
            state.tree.let_go(self.ino);
        }
    }
}

impl DiskFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock()?;
        let fault = state.mutate()?;
        let room = state.room_for(bytes.len() as u64);
        let State { tree, dice, .. } = &mut *state;
        let file = tree.file_mut(self.ino)?;
        let fault = match (fault, room) {
            (Some(fault), _) => fault,
            (None, Err(_)) => Fault::Enospc,
            (None, Ok(())) => {
                file.write(bytes);
                return Ok(());
            }
        };
        if fault != Fault::Eio {
            let kept = usize::try_from(dice.below(bytes.len() as u64)).unwrap_or(0);
            file.write(bytes.get(..kept).unwrap_or_default());
        }
        Err(fault.error())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.lock()?;
        let fault = state.mutate()?;
        let State { tree, dice, .. } = &mut *state;
        let file = tree.file_mut(self.ino)?;
        match fault {
            None => {
                file.sync();
                Ok(())
            }
            Some(fault) => {
                file.fail_sync(dice);
                Err(fault.error())
            }
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        state.mutate_whole()?;
        let file = state.tree.file_mut(self.ino)?;
        let more = len.saturating_sub(file.live().len() as u64);
        state.room_for(more)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        state.tree.file_mut(self.ino)?.truncate(len);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.lock()?.tree.file_mut(self.ino)?.live().len() as u64)
    }
}

impl DiskRead for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        let bytes = state.tree.file_mut(self.ino)?.live();
        let found = usize::try_from(offset)
            .ok()
            .and_then(|from| bytes.get(from..from.checked_add(buf.len())?))
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        DiskFile::size(self)
    }
}

/// The seeded source of chance (SplitMix64): the same on every machine and in every version.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `n` exclusive; 0 for an empty range.
    fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[cfg(test)]
mod tests;
