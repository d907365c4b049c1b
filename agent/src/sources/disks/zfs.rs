//! ZFS as `zpool` and `zfs` tell it: pools and their scrubs, devices, datasets, under zfs_exporter's
//! names where it has them.
//!
//! [`pool_list`] and [`dataset_list`] read tables, [`pool_status`] the text of `zpool status` and
//! [`pool_status_json`] its JSON (OpenZFS 2.3 and later); [`scan`] is what both say of scrubs.
//! [`pools`] and [`datasets`] are the sources. None needs root, and none reads the pools' disks:
//! datasets are listed only when their pool has changed, so that a pool may sleep.

use std::time::Duration;

use crate::sources::program::{Output, Program};
#[cfg(any(test, feature = "fuzzing"))]
use crate::sources::sheet::Sheet;
#[cfg(any(test, feature = "fuzzing"))]
use crate::sources::{Now, Reading};
use crate::sources::{Problem, Roots, Tree};

mod dataset_list;
mod datasets;
mod pool_list;
mod pool_status;
mod pool_status_json;
mod pools;
mod scan;

pub(crate) use datasets::Datasets;
pub(crate) use pools::Pools;

/// Pools read at most.
const POOLS_MAX: usize = 64;
/// Devices read of all pools at most.
const DEVICES_MAX: usize = 1024;
/// How long a program may take; those of a suspended pool wait for ever.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest text of a program: some 10,000 datasets, or 50,000 snapshots.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Whether the kernel has ZFS; without, its programs would load it.
fn is_there(roots: &Roots) -> Result<(), Problem> {
    let path = roots.path(Tree::Sys, "module/zfs");
    if path.exists() {
        return Ok(());
    }
    Err(Problem::Lacks("ZFS in this kernel"))
}

fn run(program: &str, args: &[&str]) -> Result<Output, Problem> {
    let program = Program::new(program).args(args.iter().copied());
    Ok(program.timeout(TIMEOUT).bytes_max(TEXT_BYTES_MAX).run()?)
}

/// What a program prints when it succeeds; `asked` is its name.
fn ask(asked: &'static str, program: &str, args: &[&str]) -> Result<String, Problem> {
    let output = run(program, args)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let wrong = output.stderr.lines().next().unwrap_or("failed").trim().to_owned();
    Err(Problem::Answer { asked, wrong })
}

#[cfg(test)]
mod tests;

/// Tells any bytes as what `zpool list` says: for fuzz targets and tests, as all below.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_pool_list(bytes: &[u8], _: Now, reading: &mut Reading) {
    let (text, mut sheet) = (String::from_utf8_lossy(bytes), Sheet::new());
    pool_list::parse(&text).for_each(|pool| pool_list::tell(&pool, &mut sheet));
    sheet.tell(reading);
}

/// As what `zfs list` says, of datasets and of snapshots.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_dataset_list(bytes: &[u8], _: Now, reading: &mut Reading) {
    let (text, mut sheet) = (String::from_utf8_lossy(bytes), Sheet::new());
    let snapshots = dataset_list::count_snapshots(&text);
    dataset_list::tell(&text, Some(&snapshots), 512, |_| true, &mut sheet);
    sheet.tell(reading);
}

/// As what `zpool status` says.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_pool_status(bytes: &[u8], _: Now, reading: &mut Reading) {
    tell_statuses(&pool_status::parse(&String::from_utf8_lossy(bytes)), reading);
}

/// As what `zpool status` says as JSON.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_pool_status_json(bytes: &[u8], now: Now, reading: &mut Reading) {
    tell_statuses(&pool_status_json::parse(bytes, now).unwrap_or_default(), reading);
}

#[cfg(any(test, feature = "fuzzing"))]
fn tell_statuses(pools: &[pool_status::PoolStatus], reading: &mut Reading) {
    assert!(pools.len() <= POOLS_MAX);
    assert!(pools.iter().map(|pool| pool.devices.len()).sum::<usize>() <= DEVICES_MAX);
    let mut sheet = Sheet::new();
    pools.iter().for_each(|pool| pool_status::tell(pool, None, &mut sheet));
    sheet.tell(reading);
}
