//! Who uses a GPU, as told: those that use most of its memory one by one, and all of them summed by whose
//! they are.
//!
//! The same for every vendor, in the words each source gives. Bounded: [`OWNERS_MAX`] owners of a GPU, as
//! many processes as a person sets; what is left out one by one is counted and in the sums.

use std::collections::BTreeMap;

use super::owner::Owner;
use crate::sources::Desc;
use crate::sources::attributes::Sheet;

/// What stands for the guest of a process of which is not known whose it is.
const UNKNOWN: &str = "unknown";
/// Owners of one GPU's processes told at most; beyond, they are one.
const OWNERS_MAX: usize = 256;

/// The families.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) process_memory: Desc,
    pub(super) process_busy: Desc,
    pub(super) owner_memory: Desc,
    pub(super) owner_busy: Desc,
    pub(super) left_out: Desc,
}

/// A process that uses a GPU.
#[derive(Debug)]
pub(super) struct User<'a> {
    pub(super) pid: u32,
    pub(super) name: &'a str,
    /// `None`: it is not known whose it is.
    pub(super) owner: Option<&'a Owner>,
    /// Bytes of the GPU's memory.
    pub(super) memory: Option<u64>,
    /// The share of the time in which each engine worked for it.
    pub(super) busy: &'a BTreeMap<String, f64>,
}

/// What an owner's processes use together.
#[derive(Debug, Default)]
struct Total<'a> {
    memory: Option<u64>,
    busy: BTreeMap<&'a str, f64>,
}

/// Tells the users of the GPU with the labels `gpu`, given by memory used, most first.
pub(super) fn tell(
    gpu: &[(&'static str, &str)],
    users: &[User<'_>],
    processes_max: usize,
    words: &Words,
    sheet: &mut Sheet,
) {
    let unknown = Owner { guest: UNKNOWN.to_owned(), ..Owner::default() };
    for user in users.iter().take(processes_max) {
        let pid = user.pid.to_string();
        let mut pairs = gpu.to_vec();
        pairs.extend([("pid", pid.as_str()), ("name", user.name)]);
        pairs.extend(user.owner.unwrap_or(&unknown).labels());
        if let Some(bytes) = user.memory {
            let labels = sheet.labels.of(&pairs);
            sheet.push(&words.process_memory, labels, bytes as f64);
        }
        tell_busy(
            &words.process_busy,
            &pairs,
            user.busy.iter().map(|(e, r)| (e.as_str(), *r)),
            sheet,
        );
    }
    let left_out = users.len().saturating_sub(processes_max);
    if left_out > 0 {
        let labels = sheet.labels.of(gpu);
        sheet.push(&words.left_out, labels, left_out as f64);
    }
    let mut totals: BTreeMap<&Owner, Total<'_>> = BTreeMap::new();
    for user in users {
        let owner = user.owner.unwrap_or(&unknown);
        let has_room = totals.len() < OWNERS_MAX || totals.contains_key(owner);
        let total = totals.entry(if has_room { owner } else { &unknown }).or_default();
        if let Some(bytes) = user.memory {
            total.memory = Some(total.memory.unwrap_or_default().saturating_add(bytes));
        }
        for (engine, ratio) in user.busy {
            *total.busy.entry(engine).or_default() += ratio;
        }
    }
    for (owner, total) in totals {
        let mut pairs = gpu.to_vec();
        pairs.extend(owner.labels());
        if let Some(bytes) = total.memory {
            let labels = sheet.labels.of(&pairs);
            sheet.push(&words.owner_memory, labels, bytes as f64);
        }
        tell_busy(&words.owner_busy, &pairs, total.busy.into_iter(), sheet);
    }
}

fn tell_busy<'a>(
    desc: &Desc,
    pairs: &[(&'static str, &str)],
    busy: impl Iterator<Item = (&'a str, f64)>,
    sheet: &mut Sheet,
) {
    for (engine, ratio) in busy {
        let mut pairs = pairs.to_vec();
        pairs.push(("engine", engine));
        let labels = sheet.labels.of(&pairs);
        sheet.push(desc, labels, ratio);
    }
}
