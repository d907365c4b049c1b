//! `zfs list -Hp -o …`: what file systems and volumes take, and how many snapshots they have.

use std::collections::BTreeMap;

use super::POOLS_MAX;
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, number};

/// What is asked for, in this order.
pub(super) const COLUMNS: &str = "name,type,available,compressratio,logicalused,quota,referenced,used,usedbydataset,\
     usedbysnapshots,volsize,written";

/// How a column becomes a number.
type Read = fn(&str) -> Option<f64>;

/// The columns after name and type.
const FAMILIES: [(Desc, Read); 10] = [
    (
        Desc::gauge(
            "zfs_dataset_available_bytes",
            "The amount of space in bytes available to the dataset and all its children.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_compression_ratio",
            "The ratio of compressed size vs uncompressed size for this dataset.",
        ),
        inverse,
    ),
    (
        Desc::gauge(
            "zfs_dataset_logical_used_bytes",
            "The amount of space in bytes that is \"logically\" consumed by this dataset and all \
             its descendents. See the \"used_bytes\" property.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_quota_bytes",
            "The maximum amount of space in bytes this dataset and its descendents can consume.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_referenced_bytes",
            "The amount of data in bytes that is accessible by this dataset, which may or may not \
             be shared with other datasets in the pool.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_used_bytes",
            "The amount of space in bytes consumed by this dataset and all its descendents.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_used_by_dataset_bytes",
            "The amount of space in bytes used by this dataset itself, which would be freed if the \
             dataset were destroyed.",
        ),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_used_by_snapshot_bytes",
            "The amount of space in bytes consumed by snapshots of this dataset.",
        ),
        number,
    ),
    (
        Desc::gauge("zfs_dataset_volume_size_bytes", "The logical size in bytes of this volume."),
        number,
    ),
    (
        Desc::gauge(
            "zfs_dataset_written_bytes",
            "The amount of referenced space in bytes written to this dataset since the previous \
             snapshot.",
        ),
        number,
    ),
];

const DATASETS: Desc =
    Desc::gauge("stoa_zfs_datasets", "File systems and volumes of the pool, told or not.");
const LEFT_OUT: Desc = Desc::gauge(
    "stoa_zfs_datasets_left_out",
    "File systems and volumes that are not told because there are too many.",
);
const SNAPSHOTS: Desc =
    Desc::gauge("stoa_zfs_dataset_snapshots", "Snapshots of the dataset itself.");

/// A file system or volume; `None` is what it does not have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dataset<'a> {
    pub(super) name: &'a str,
    kind: &'a str,
    columns: [Option<f64>; FAMILIES.len()],
}

impl Dataset<'_> {
    fn pool(&self) -> &str {
        pool(self.name)
    }
}

fn pool(dataset: &str) -> &str {
    dataset.split('/').next().unwrap_or(dataset)
}

pub(super) fn parse(text: &str) -> impl Iterator<Item = Dataset<'_>> {
    text.lines().filter_map(|line| {
        let mut words = line.split('\t');
        let name = words.next().filter(|name| !name.is_empty())?;
        let kind = words.next().filter(|kind| matches!(*kind, "filesystem" | "volume"))?;
        let mut columns = [None; FAMILIES.len()];
        for ((column, (_, read)), word) in columns.iter_mut().zip(&FAMILIES).zip(words) {
            *column = read(word);
        }
        Some(Dataset { name, kind, columns })
    })
}

/// Snapshots by dataset, of a list of their names.
pub(super) fn count_snapshots(text: &str) -> BTreeMap<String, u32> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (dataset, _) in text.lines().filter_map(|line| line.split_once('@')) {
        match counts.get_mut(dataset) {
            Some(count) => *count += 1,
            None => _ = counts.insert(dataset.to_owned(), 1),
        }
    }
    counts
}

/// Tells the datasets of `list` whose names `keeps` says yes to, `datasets_max` of them; all are
/// counted, of [`POOLS_MAX`] pools. `snapshots` counts theirs, if they were counted.
pub(super) fn tell(
    list: &str,
    snapshots: Option<&BTreeMap<String, u32>>,
    datasets_max: usize,
    keeps: impl Fn(&str) -> bool,
    sheet: &mut Sheet,
) {
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (at, dataset) in parse(list).filter(|dataset| keeps(dataset.name)).enumerate() {
        if counts.len() >= POOLS_MAX && !counts.contains_key(dataset.pool()) {
            continue;
        }
        let (all, left_out) = counts.entry(pool(dataset.name)).or_default();
        *all += 1;
        if at >= datasets_max {
            *left_out += 1;
            continue;
        }
        let pairs = [("name", dataset.name), ("pool", dataset.pool()), ("type", dataset.kind)];
        for ((desc, _), value) in FAMILIES.iter().zip(dataset.columns) {
            sheet.push_some(desc, &pairs, value);
        }
        if let Some(snapshots) = snapshots {
            let count = snapshots.get(dataset.name).copied().unwrap_or_default();
            sheet.push(&SNAPSHOTS, &pairs, f64::from(count));
        }
    }
    for (pool, (all, left_out)) in counts {
        sheet.push(&DATASETS, &[("pool", pool)], f64::from(all));
        sheet.push(&LEFT_OUT, &[("pool", pool)], f64::from(left_out));
    }
}

fn inverse(word: &str) -> Option<f64> {
    number(word.trim_end_matches('x')).filter(|ratio| *ratio > 0.0).map(|ratio| 1.0 / ratio)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::sheet::lines;

    const LIST: &str = "\
tank\tfilesystem\t1000\t1.25\t800\t0\t100\t600\t100\t50\t-\t7
tank/vm disk\tvolume\t900\t2.00\t300\t-\t150\t200\t150\t50\t4096\t0
";

    #[track_caller]
    fn check(snapshots: Option<&str>, datasets_max: usize, expected: &[&str]) {
        let mut sheet = Sheet::new();
        let snapshots = snapshots.map(count_snapshots);
        tell(LIST, snapshots.as_ref(), datasets_max, |_| true, &mut sheet);
        let told = lines(&mut sheet);
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn datasets_are_told_as_zfs_exporter_does() {
        let snapshots = "tank@a\ntank/vm disk@a\ntank/vm disk@b\ntank/gone@a\n";
        check(
            Some(snapshots),
            512,
            &[
                r#"zfs_dataset_available_bytes{name="tank",pool="tank",type="filesystem"} 1000"#,
                r#"zfs_dataset_available_bytes{name="tank/vm disk",pool="tank",type="volume"} 900"#,
                r#"zfs_dataset_compression_ratio{name="tank",pool="tank",type="filesystem"} 0.8"#,
                r#"zfs_dataset_compression_ratio{name="tank/vm disk",pool="tank",type="volume"} 0.5"#,
                r#"zfs_dataset_logical_used_bytes{name="tank",pool="tank",type="filesystem"} 800"#,
                r#"zfs_dataset_logical_used_bytes{name="tank/vm disk",pool="tank",type="volume"} 300"#,
                r#"zfs_dataset_quota_bytes{name="tank",pool="tank",type="filesystem"} 0"#,
                r#"zfs_dataset_referenced_bytes{name="tank",pool="tank",type="filesystem"} 100"#,
                r#"zfs_dataset_referenced_bytes{name="tank/vm disk",pool="tank",type="volume"} 150"#,
                r#"zfs_dataset_used_bytes{name="tank",pool="tank",type="filesystem"} 600"#,
                r#"zfs_dataset_used_bytes{name="tank/vm disk",pool="tank",type="volume"} 200"#,
                r#"zfs_dataset_used_by_dataset_bytes{name="tank",pool="tank",type="filesystem"} 100"#,
                r#"zfs_dataset_used_by_dataset_bytes{name="tank/vm disk",pool="tank",type="volume"} 150"#,
                r#"zfs_dataset_used_by_snapshot_bytes{name="tank",pool="tank",type="filesystem"} 50"#,
                r#"zfs_dataset_used_by_snapshot_bytes{name="tank/vm disk",pool="tank",type="volume"} 50"#,
                r#"zfs_dataset_written_bytes{name="tank",pool="tank",type="filesystem"} 7"#,
                r#"zfs_dataset_written_bytes{name="tank/vm disk",pool="tank",type="volume"} 0"#,
                r#"stoa_zfs_dataset_snapshots{name="tank",pool="tank",type="filesystem"} 1"#,
                r#"stoa_zfs_dataset_snapshots{name="tank/vm disk",pool="tank",type="volume"} 2"#,
                r#"zfs_dataset_volume_size_bytes{name="tank/vm disk",pool="tank",type="volume"} 4096"#,
                r#"stoa_zfs_datasets{pool="tank"} 2"#,
                r#"stoa_zfs_datasets_left_out{pool="tank"} 0"#,
            ],
        );
    }

    #[test]
    fn beyond_the_limit_datasets_are_only_counted() {
        let expected =
            [r#"stoa_zfs_datasets{pool="tank"} 2"#, r#"stoa_zfs_datasets_left_out{pool="tank"} 2"#];
        check(None, 0, &expected);
        let list: String = (0..9000).map(|i| format!("p/d{i}\tfilesystem\t1\n")).collect();
        let mut sheet = Sheet::new();
        tell(&list, None, 512, |name| name != "p/d0", &mut sheet);
        let told = lines(&mut sheet);
        assert_eq!(told.len(), 512 + 2);
        assert_eq!(told[513], r#"stoa_zfs_datasets_left_out{pool="p"} 8487"#);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|[\t\n@/0-9.x-]|filesystem|volume){0,200}") {
            let mut sheet = Sheet::new();
            tell(&text, Some(&count_snapshots(&text)), 10, |_| true, &mut sheet);
            prop_assert!(lines(&mut sheet).iter().all(|line| !line.contains("NaN")));
        }
    }
}
