//! `/sys/fs/xfs/*/stats/stats`: what each mounted XFS does.

use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, read_whole};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, number};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);
/// The file has about 1 KiB.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// The first word of a line, and the families of its numbers.
const LINES: [(&str, &[Desc]); 8] = [
    (
        "extent_alloc",
        &[
            Desc::counter(
                "node_xfs_extent_allocation_extents_allocated_total",
                "Number of extents allocated for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_extent_allocation_blocks_allocated_total",
                "Number of blocks allocated for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_extent_allocation_extents_freed_total",
                "Number of extents freed for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_extent_allocation_blocks_freed_total",
                "Number of blocks freed for a filesystem.",
            ),
        ],
    ),
    (
        "abt",
        &[
            Desc::counter(
                "node_xfs_allocation_btree_lookups_total",
                "Number of allocation B-tree lookups for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_allocation_btree_compares_total",
                "Number of allocation B-tree compares for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_allocation_btree_records_inserted_total",
                "Number of allocation B-tree records inserted for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_allocation_btree_records_deleted_total",
                "Number of allocation B-tree records deleted for a filesystem.",
            ),
        ],
    ),
    (
        "blk_map",
        &[
            Desc::counter(
                "node_xfs_block_mapping_reads_total",
                "Number of block map for read operations for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_mapping_writes_total",
                "Number of block map for write operations for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_mapping_unmaps_total",
                "Number of block unmaps (deletes) for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_mapping_extent_list_insertions_total",
                "Number of extent list insertions for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_mapping_extent_list_deletions_total",
                "Number of extent list deletions for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_mapping_extent_list_lookups_total",
                "Number of extent list lookups for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_mapping_extent_list_compares_total",
                "Number of extent list compares for a filesystem.",
            ),
        ],
    ),
    (
        "bmbt",
        &[
            Desc::counter(
                "node_xfs_block_map_btree_lookups_total",
                "Number of block map B-tree lookups for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_map_btree_compares_total",
                "Number of block map B-tree compares for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_map_btree_records_inserted_total",
                "Number of block map B-tree records inserted for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_block_map_btree_records_deleted_total",
                "Number of block map B-tree records deleted for a filesystem.",
            ),
        ],
    ),
    (
        "dir",
        &[
            Desc::counter(
                "node_xfs_directory_operation_lookup_total",
                "Number of file name directory lookups which miss the operating systems \
                 directory name lookup cache.",
            ),
            Desc::counter(
                "node_xfs_directory_operation_create_total",
                "Number of times a new directory entry was created for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_directory_operation_remove_total",
                "Number of times an existing directory entry was created for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_directory_operation_getdents_total",
                "Number of times the directory getdents operation was performed for a filesystem.",
            ),
        ],
    ),
    (
        "ig",
        &[
            Desc::counter(
                "node_xfs_inode_operation_attempts_total",
                "Number of times the OS looked for an XFS inode in the inode cache.",
            ),
            Desc::counter(
                "node_xfs_inode_operation_found_total",
                "Number of times the OS looked for and found an XFS inode in the inode cache.",
            ),
            Desc::counter(
                "node_xfs_inode_operation_recycled_total",
                "Number of times the OS found an XFS inode in the cache, but could not use it as \
                 it was being recycled.",
            ),
            Desc::counter(
                "node_xfs_inode_operation_missed_total",
                "Number of times the OS looked for an XFS inode in the cache, but did not find \
                 it.",
            ),
            Desc::counter(
                "node_xfs_inode_operation_duplicates_total",
                "Number of times the OS tried to add a missing XFS inode to the inode cache, but \
                 found it had already been added by another process.",
            ),
            Desc::counter(
                "node_xfs_inode_operation_reclaims_total",
                "Number of times the OS reclaimed an XFS inode from the inode cache to free \
                 memory for another purpose.",
            ),
            Desc::counter(
                "node_xfs_inode_operation_attribute_changes_total",
                "Number of times the OS explicitly changed the attributes of an XFS inode.",
            ),
        ],
    ),
    (
        "rw",
        &[
            Desc::counter(
                "node_xfs_write_calls_total",
                "Number of write(2) system calls made to files in a filesystem.",
            ),
            Desc::counter(
                "node_xfs_read_calls_total",
                "Number of read(2) system calls made to files in a filesystem.",
            ),
        ],
    ),
    (
        "vnodes",
        &[
            Desc::counter(
                "node_xfs_vnode_active_total",
                "Number of vnodes not on free lists for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_vnode_allocate_total",
                "Number of times vn_alloc called for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_vnode_get_total",
                "Number of times vn_get called for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_vnode_hold_total",
                "Number of times vn_hold called for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_vnode_release_total",
                "Number of times vn_rele called for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_vnode_reclaim_total",
                "Number of times vn_reclaim called for a filesystem.",
            ),
            Desc::counter(
                "node_xfs_vnode_remove_total",
                "Number of times vn_remove called for a filesystem.",
            ),
        ],
    ),
];

/// The families of the numbers in `text`, with them.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&'static Desc, f64)> {
    text.lines().flat_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let key = words.next().unwrap_or_default();
        let known = LINES.iter().find(|(known, _)| *known == key);
        let descs = known.map(|(_, descs)| *descs).unwrap_or_default();
        descs.iter().zip(words).filter_map(|(desc, word)| Some((desc, number(word)?)))
    })
}

/// The source `xfs`.
#[derive(Debug)]
pub(crate) struct Xfs {
    sheet: Sheet,
}

impl Configured for Xfs {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Source for Xfs {
    fn name(&self) -> &'static str {
        "xfs"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "fs/xfs");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            // node_exporter's collector succeeds without any XFS.
            Err(error) => return reading.note(Problem::read(dir, error)),
        };
        // Beside the devices there are the sums of all, `stats`.
        for (device, dir) in found.into_iter().filter(|(name, _)| name != "stats") {
            let path = dir.join("stats/stats");
            match read_whole(&path, FILE_BYTES_MAX) {
                Ok(text) => {
                    let labels = self.sheet.labels.of(&[("device", &device)]);
                    for (desc, value) in parse(&text) {
                        self.sheet.push(desc, labels.clone(), value);
                    }
                }
                Err(error) => reading.note(Problem::read(path, error)),
            }
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_told_by_line_and_column() {
        let text = "extent_alloc 1 872\nrw 28\nxpc 1 2 3\nabt x 5\n";
        let told: Vec<_> = parse(text).map(|(desc, value)| (desc.name, value)).collect();
        assert_eq!(
            told,
            [
                ("node_xfs_extent_allocation_extents_allocated_total", 1.0),
                ("node_xfs_extent_allocation_blocks_allocated_total", 872.0),
                ("node_xfs_write_calls_total", 28.0),
                ("node_xfs_allocation_btree_compares_total", 5.0),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), words in "(rw|dir|ig|abt)( [0-9a-z]{1,3}){0,99}") {
            prop_assert!(parse(&text).all(|(_, value)| value.is_finite()));
            prop_assert!(parse(&words).count() <= 7);
        }
    }
}
