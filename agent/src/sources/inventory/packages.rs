//! Packages that matter when something breaks: the same that the source `packages` tells of.
//!
//! dpkg's list is read again only when it has changed.

use std::fs;
use std::time::SystemTime;

use regex::Regex;
use stoa_model::Inventory;

use super::Item;
use crate::sources::house::dpkg::{self, Package};
use crate::sources::house::packages::INCLUDE;
use crate::sources::{Problem, Roots};

/// The source of `packages`.
#[derive(Debug)]
pub(super) struct Packages {
    /// `None` only if the pattern were wrong.
    include: Option<Regex>,
    /// Of the list that was read last: when it was written, and its length.
    seen: Option<(SystemTime, u64)>,
    /// What it said.
    found: Vec<Package>,
}

impl Default for Packages {
    fn default() -> Self {
        Self { include: Regex::new(INCLUDE).ok(), seen: None, found: Vec::new() }
    }
}

impl Packages {
    /// `packages`, an item per package that matters and is installed.
    pub(super) fn gather(
        &mut self,
        roots: &Roots,
        document: &mut Inventory,
    ) -> Result<(), Problem> {
        let path = roots.on_host(dpkg::STATUS_PATH);
        let failed = |source| Problem::read(&path, source);
        let about = fs::metadata(&path).map_err(failed)?;
        let seen = about.modified().ok().map(|written| (written, about.len()));
        if seen.is_none() || seen != self.seen {
            let wanted = |name: &str| self.include.as_ref().is_some_and(|one| one.is_match(name));
            self.found = dpkg::packages(&path, wanted).map_err(failed)?;
            self.seen = seen;
        }
        for package in &self.found {
            Item::default()
                .text("version", &package.version)
                .text("architecture", &package.architecture)
                .flag("is_held", Some(package.is_held).filter(|held| *held))
                .put(document, "packages", &package.name);
        }
        Ok(())
    }
}
