//! A target's series: the sheet of a source, with the labels that say whose they are.

use stoa_proto::convert::{TARGET_INSTANCE, TARGET_JOB};

use crate::sources::Desc;
use crate::sources::sheet::Sheet;

/// Where what one server says is told.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) sheet: &'a mut Sheet,
    pub(super) job: &'static str,
    pub(super) instance: &'a str,
}

/// Labels of one series; pairs with an empty value are left out.
pub(super) type Pairs<'p> = &'p [(&'static str, &'p str)];

impl Told<'_> {
    pub(super) fn push(&mut self, desc: &Desc, pairs: Pairs<'_>, value: f64) {
        let mut all = Vec::with_capacity(pairs.len() + 2);
        all.push((TARGET_JOB, self.job));
        all.push((TARGET_INSTANCE, self.instance));
        all.extend_from_slice(pairs);
        self.sheet.push(desc, &all, value);
    }

    /// Adds a series that is absent when there is no value.
    pub(super) fn push_some(&mut self, desc: &Desc, pairs: Pairs<'_>, value: Option<f64>) {
        if let Some(value) = value {
            self.push(desc, pairs, value);
        }
    }

    /// Adds one series for each state there is, 1 for the one that is.
    pub(super) fn push_state(
        &mut self,
        desc: &Desc,
        pairs: Pairs<'_>,
        (label, states): (&'static str, &[&'static str]),
        is: &str,
    ) {
        for state in states {
            let mut all = pairs.to_vec();
            all.push((label, state));
            self.push(desc, &all, f64::from(u8::from(*state == is)));
        }
        if !is.is_empty() && !states.contains(&is) {
            let mut all = pairs.to_vec();
            all.push((label, is));
            self.push(desc, &all, 1.0);
        }
    }
}
