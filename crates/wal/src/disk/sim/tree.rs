//! The names of a simulated disk: a tree of directories as a process sees it, the tree on the
//! platter, and the changes of names that lie between.
//!
//! A change of names (a creation, a removal, a rename) is one [`NameChange`] and survives a crash
//! whole or not at all. Syncing a directory makes every change that touches it durable, with the earlier
//! ones they build on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::Dice;
use super::file::SimContent;

pub(super) type Ino = u64;

const ROOT: Ino = 0;

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
    /// In the order in which they happened.
    pending: Vec<NameChange>,
    /// How many open handles each file has.
    held: BTreeMap<Ino, u32>,
}

#[derive(Clone, Debug)]
enum Node {
    File(SimContent),
    Dir(SimDir),
}

#[derive(Clone, Debug, Default)]
struct SimDir {
    live: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
}

/// What each (directory, name) is from now on.
type NameChange = Vec<((Ino, String), Option<Ino>)>;

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(SimDir::default()))]),
            next_ino: ROOT + 1,
            pending: Vec::new(),
            held: BTreeMap::new(),
        }
    }
}

impl Tree {
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.dir(path).is_ok()
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        match self.nodes.get(&ino) {
            Some(Node::File(_)) => Ok(ino),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> io::Result<&mut SimContent> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(content)) => Ok(content),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.dir_at(self.find(dir)?)?.live.keys().cloned().collect())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            match self.nodes.get(&ino) {
                Some(Node::File(content)) => bytes += content.live().len() as u64,
                Some(Node::Dir(dir)) => todo.extend(dir.live.values()),
                None => {}
            }
        }
        bytes
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(dir)? {
            at = match self.dir_at(at)?.live.get(name) {
                Some(ino) => *ino,
                None => {
                    let ino = self.add(Node::Dir(SimDir::default()));
                    self.change(vec![((at, name.to_owned()), Some(ino))])?;
                    ino
                }
            };
            self.dir_at(at)?;
        }
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Ino> {
        let (dir, name) = self.split(path)?;
        if self.dir_at(dir)?.live.contains_key(&name) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let ino = self.add(Node::File(SimContent::default()));
        self.change(vec![((dir, name), Some(ino))])?;
        Ok(ino)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ino = self.find(from)?;
        let (from, to) = (self.split(from)?, self.split(to)?);
        if from == to {
            return Ok(());
        }
        if let Some(Node::Dir(dir)) =
            self.dir_at(to.0)?.live.get(&to.1).and_then(|old| self.nodes.get(old))
            && !dir.live.is_empty()
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(vec![(from, None), (to, Some(ino))])
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let key = self.split(path)?;
        self.change(vec![(key, None)])
    }

    /// Removes name by name, as the real one: a crash may leave any part of the directory.
    pub(super) fn remove_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        let ino = self.dir(dir)?;
        let key = self.split(dir)?;
        let mut keys = vec![key];
        let mut todo = vec![ino];
        while let Some(ino) = todo.pop() {
            for (name, child) in &self.dir_at(ino)?.live {
                keys.push((ino, name.clone()));
                if let Some(Node::Dir(_)) = self.nodes.get(child) {
                    todo.push(*child);
                }
            }
        }
        for key in keys.into_iter().rev() {
            self.change(vec![(key, None)])?;
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        for change in self.take_touching(dir)? {
            self.make_durable(change);
        }
        self.collect();
        Ok(())
    }

    /// A part of the changes becomes durable; the rest will never be by syncing again, though every
    /// process still sees it.
    pub(super) fn fail_sync_dir(&mut self, dir: &Path, dice: &mut Dice) -> io::Result<()> {
        for change in self.take_touching(dir)? {
            if dice.coin() {
                self.make_durable(change);
            }
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        let how = dice.below(4);
        let cut = usize::try_from(dice.below(pending.len() as u64 + 1)).unwrap_or(0);
        for (at, change) in pending.into_iter().enumerate() {
            let kept = match how {
                0 => true,
                1 | 2 => at < cut,
                _ => dice.coin(),
            };
            if kept {
                self.make_durable(change);
            }
        }
        self.forget_handles();
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.live.clone_from(&dir.durable),
                Node::File(content) => content.crash(dice),
            }
        }
        self.collect();
    }

    pub(super) fn hold(&mut self, ino: Ino) -> io::Result<()> {
        self.file_mut(ino)?;
        *self.held.entry(ino).or_default() += 1;
        Ok(())
    }

    pub(super) fn let_go(&mut self, ino: Ino) {
        if let Some(held) = self.held.get_mut(&ino) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&ino);
            }
        }
    }

    pub(super) fn forget_handles(&mut self) {
        self.held.clear();
    }

    fn add(&mut self, node: Node) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        ino
    }

    fn change(&mut self, change: NameChange) -> io::Result<()> {
        for ((dir, name), to) in &change {
            let live = &mut self.dir_mut(*dir)?.live;
            match to {
                Some(ino) => live.insert(name.clone(), *ino),
                None => live.remove(name),
            };
        }
        self.pending.push(change);
        Ok(())
    }

    fn make_durable(&mut self, change: NameChange) {
        for ((dir, name), to) in change {
            if let Ok(dir) = self.dir_mut(dir) {
                match to {
                    Some(ino) => dir.durable.insert(name, ino),
                    None => dir.durable.remove(&name),
                };
            }
        }
    }

    /// Takes out the pending changes that touch a directory, and the earlier ones of the same names.
    fn take_touching(&mut self, dir: &Path) -> io::Result<Vec<NameChange>> {
        let dir = self.dir(dir)?;
        let mut wanted = BTreeSet::new();
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.iter().any(|(key, _)| key.0 == dir || wanted.contains(key)) {
                wanted.extend(change.iter().map(|(key, _)| key.clone()));
                taken.push(change);
            } else {
                left.push(change);
            }
        }
        left.reverse();
        taken.reverse();
        self.pending = left;
        Ok(taken)
    }

    /// Forgets what no name and no handle reaches any more.
    fn collect(&mut self) {
        let mut reached: BTreeSet<Ino> = self.held.keys().copied().collect();
        let mut todo: Vec<Ino> = vec![ROOT];
        todo.extend(
            self.pending
                .iter()
                .flatten()
                .flat_map(|((dir, _), to)| [Some(*dir), *to].into_iter().flatten()),
        );
        while let Some(ino) = todo.pop() {
            if reached.insert(ino)
                && let Some(Node::Dir(dir)) = self.nodes.get(&ino)
            {
                todo.extend(dir.live.values().chain(dir.durable.values()));
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
    }

    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self.dir_at(at)?.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn dir(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        self.dir_at(ino).map(|_| ino)
    }

    /// The directory a path lies in, and its last name.
    fn split(&self, path: &Path) -> io::Result<(Ino, String)> {
        let mut names = names(path)?;
        let last = names.pop().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let mut at = ROOT;
        for name in names {
            at = *self.dir_at(at)?.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir_at(at).map(|_| (at, last))
    }

    fn dir_at(&self, ino: Ino) -> io::Result<&SimDir> {
        match self.nodes.get(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> io::Result<&mut SimDir> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The names of a path from the root; the working directory is the root.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidFilename)?);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
