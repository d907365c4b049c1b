//! How much memory and swap there is.
//!
//! What `/proc/meminfo` calls the total is what the kernel has left to give away, which a balloon and
//! each new kernel change a little. A machine is told by its memory blocks, where the kernel knows
//! them: what is plugged in.

use stoa_model::Inventory;

use super::{Item, attribute, names_in, whole};
use crate::sources::container::Bounds;
use crate::sources::{KeptFile, Problem, Roots, Tree};

/// Memory blocks looked at, at most; the kernel makes them larger where there would be more.
const BLOCKS_MAX: usize = 1 << 16;

/// To what a total is rounded up that changes a little.
const GRAIN_BYTES: u64 = 64 << 20;

/// `memory`, one item; a container's own where the agent is in one.
pub(super) fn gather(
    roots: &Roots,
    bounds: Option<&Bounds>,
    document: &mut Inventory,
) -> Result<(), Problem> {
    let mut file = KeptFile::proc("meminfo");
    let text = file.read(roots)?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total, swap) = (bytes("MemTotal"), bytes("SwapTotal"));
    let of_machine = || plugged(roots).or_else(|| total?.checked_next_multiple_of(GRAIN_BYTES));
    let (size, swap) = match bounds {
        None => (of_machine(), swap),
        Some(bounds) if !bounds.is_memory_known => (None, None),
        Some(bounds) => {
            let total = if bounds.has_own_meminfo { total } else { of_machine() };
            let swap = if swap == Some(0) { bounds.no_swap_means.and_then(whole) } else { swap };
            (least(total, bounds.memory), least(swap, bounds.swap))
        }
    };
    Item::default()
        .number("size_bytes", size)
        .number("swap_bytes", swap)
        .put(document, "memory", "");
    Ok(())
}

/// The lesser of what there is and what may be used.
fn least(there_is: Option<u64>, limit: Option<f64>) -> Option<u64> {
    [there_is, limit.and_then(whole)].into_iter().flatten().min()
}

/// The memory blocks that are in use; `None` where the kernel does not tell of any.
fn plugged(roots: &Roots) -> Option<u64> {
    let dir = roots.path(Tree::Sys, "devices/system/memory");
    let size = u64::from_str_radix(&attribute(&dir.join("block_size_bytes")), 16).ok()?;
    let is_online = |name: &String| {
        let is_block = name.strip_prefix("memory").is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        is_block && attribute(&dir.join(name).join("online")) == "1"
    };
    let blocks = names_in(&dir, BLOCKS_MAX).ok()?.iter().filter(|name| is_online(name)).count();
    u64::try_from(blocks).ok()?.checked_mul(size).filter(|bytes| *bytes > 0)
}
