//! `zpool list -Hp -o …`: what pools have and how they are.

use super::POOLS_MAX;
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, number};

/// What is asked for, in this order.
pub(super) const COLUMNS: &str = "name,allocated,dedupratio,fragmentation,capacity,expandsize,free,freeing,health,leaked,\
     readonly,size";

/// States as zfs_exporter numbers them; those of spares are ours.
const STATES: [&str; 9] = [
    "ONLINE",
    "DEGRADED",
    "FAULTED",
    "OFFLINE",
    "UNAVAIL",
    "REMOVED",
    "SUSPENDED",
    "AVAIL",
    "INUSE",
];

/// How a column becomes a number.
type Read = fn(&str) -> Option<f64>;

/// The columns after the name.
const FAMILIES: [(Desc, Read); 11] = [
    (
        Desc::gauge("zfs_pool_allocated_bytes", "Amount of storage in bytes used within the pool."),
        number,
    ),
    (
        Desc::gauge(
            "zfs_pool_deduplication_ratio",
            "The ratio of deduplicated size vs undeduplicated size for data in this pool.",
        ),
        inverse,
    ),
    (Desc::gauge("zfs_pool_fragmentation_ratio", "The fragmentation ratio of the pool."), percent),
    (Desc::gauge("zfs_pool_capacity_ratio", "Ratio of pool space used."), percent),
    (
        Desc::gauge(
            "zfs_pool_expand_size_bytes",
            "Amount of uninitialized space within the pool or device that can be used to increase \
             the total capacity of the pool.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_pool_free_bytes",
            "The amount of free space in bytes available in the pool.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_pool_freeing_bytes",
            "The amount of space in bytes remaining to be freed following the destruction of a \
             file system or snapshot.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_pool_health",
            "Health status code for the pool [0: ONLINE, 1: DEGRADED, 2: FAULTED, 3: OFFLINE, \
             4: UNAVAIL, 5: REMOVED, 6: SUSPENDED].",
        ),
        state,
    ),
    (Desc::gauge("zfs_pool_leaked_bytes", "Number of leaked bytes in the pool."), number),
    (
        Desc::gauge(
            "zfs_pool_readonly",
            "Read-only status of the pool [0: read-write, 1: read-only].",
        ),
        is_on,
    ),
    (Desc::gauge("zfs_pool_size_bytes", "Total size in bytes of the storage pool."), number),
];

/// A pool's name and its columns; `None` is what the pool does not have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pool<'a> {
    pub(super) name: &'a str,
    columns: [Option<f64>; FAMILIES.len()],
}

pub(super) fn parse(text: &str) -> impl Iterator<Item = Pool<'_>> {
    let pools = text.lines().filter_map(|line| {
        let mut words = line.split('\t');
        let name = words.next().filter(|name| !name.is_empty())?;
        let mut columns = [None; FAMILIES.len()];
        for ((column, (_, read)), word) in columns.iter_mut().zip(&FAMILIES).zip(words) {
            *column = read(word);
        }
        Some(Pool { name, columns })
    });
    pools.take(POOLS_MAX)
}

pub(super) fn tell(pool: &Pool<'_>, sheet: &mut Sheet) {
    for ((desc, _), value) in FAMILIES.iter().zip(pool.columns) {
        sheet.push_some(desc, &[("pool", pool.name)], value);
    }
}

/// The number of a state; `None` for one not known.
pub(super) fn state(word: &str) -> Option<f64> {
    let at = STATES.iter().position(|state| *state == word)?;
    u32::try_from(at).ok().map(f64::from)
}

fn percent(word: &str) -> Option<f64> {
    number(word.trim_end_matches('%')).map(|percent| percent / 100.0)
}

fn inverse(word: &str) -> Option<f64> {
    number(word.trim_end_matches('x')).filter(|ratio| *ratio > 0.0).map(|ratio| 1.0 / ratio)
}

fn is_on(word: &str) -> Option<f64> {
    match word {
        "on" => Some(1.0),
        "off" => Some(0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::sheet::lines;

    #[test]
    fn pools_are_told_as_zfs_exporter_does() {
        let text = "rpool\t62813708288\t1.00\t12\t25\t-\t182536110080\t0\tONLINE\t0\toff\t245349818368\n\
                    old pool\t10\t2.00\t-\t100\t5\t0\t0\tSUSPENDED\t0\ton\t10\n";
        let mut sheet = Sheet::new();
        for pool in parse(text) {
            tell(&pool, &mut sheet);
        }
        assert_eq!(
            lines(&mut sheet),
            [
                r#"zfs_pool_allocated_bytes{pool="rpool"} 6.2813708288e+10"#,
                r#"zfs_pool_allocated_bytes{pool="old pool"} 10"#,
                r#"zfs_pool_deduplication_ratio{pool="rpool"} 1"#,
                r#"zfs_pool_deduplication_ratio{pool="old pool"} 0.5"#,
                r#"zfs_pool_fragmentation_ratio{pool="rpool"} 0.12"#,
                r#"zfs_pool_capacity_ratio{pool="rpool"} 0.25"#,
                r#"zfs_pool_capacity_ratio{pool="old pool"} 1"#,
                r#"zfs_pool_free_bytes{pool="rpool"} 1.8253611008e+11"#,
                r#"zfs_pool_free_bytes{pool="old pool"} 0"#,
                r#"zfs_pool_freeing_bytes{pool="rpool"} 0"#,
                r#"zfs_pool_freeing_bytes{pool="old pool"} 0"#,
                r#"zfs_pool_health{pool="rpool"} 0"#,
                r#"zfs_pool_health{pool="old pool"} 6"#,
                r#"zfs_pool_leaked_bytes{pool="rpool"} 0"#,
                r#"zfs_pool_leaked_bytes{pool="old pool"} 0"#,
                r#"zfs_pool_readonly{pool="rpool"} 0"#,
                r#"zfs_pool_readonly{pool="old pool"} 1"#,
                r#"zfs_pool_size_bytes{pool="rpool"} 2.45349818368e+11"#,
                r#"zfs_pool_size_bytes{pool="old pool"} 10"#,
                r#"zfs_pool_expand_size_bytes{pool="old pool"} 5"#,
            ]
        );
    }

    #[test]
    fn pools_are_bounded() {
        let text: String = (0..POOLS_MAX + 3).map(|i| format!("p{i}\t1\n")).collect();
        assert_eq!(parse(&text).count(), POOLS_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|[\t\n0-9.x%-]|ONLINE|on){0,200}") {
            prop_assert!(parse(&text).all(|pool| !pool.name.is_empty()));
        }
    }
}
