//! The names of containers, for sources that know of one by its path alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::book::Facts;

/// By `docker/0123456789ab`; locked for a look only.
pub(crate) type SharedNames = Arc<Mutex<HashMap<String, Named>>>;

/// What a container is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) image: String,
    /// Empty: of none.
    pub(crate) compose_project: String,
}

impl Named {
    pub(super) fn of(facts: &Facts) -> Self {
        let project = facts.compose.as_ref().map(|compose| compose.project.clone());
        Self {
            name: facts.name.clone(),
            image: facts.image.clone(),
            compose_project: project.unwrap_or_default(),
        }
    }
}

/// Puts other names in the place of all there are.
pub(super) fn replace(names: &SharedNames, with: impl Iterator<Item = (String, Named)>) {
    let with = with.collect();
    *names.lock().unwrap_or_else(PoisonError::into_inner) = with;
}
