//! The JSON of `lvs`, `vgs` and `pvs`, under prometheus-lvm-exporter's names.

use serde::Deserialize;

use crate::sources::loose::{List, Part, Table, Text};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, number};

/// One of the three reports.
#[derive(Debug)]
pub(super) struct Kind {
    /// The program that writes it, and its key in the document.
    pub(super) program: &'static str,
    key: &'static str,
    /// The column that names a row.
    id: &'static str,
    info: Desc,
    /// Columns that are labels of `info` beside the name.
    names: &'static [&'static str],
    /// Columns of text, each a series with the text as label.
    texts: &'static [(&'static str, Desc)],
    numbers: &'static [(&'static str, Desc)],
}

/// Rows told of a report at most.
const ROWS_MAX: usize = 1024;

/// All reports.
pub(super) const KINDS: [Kind; 3] = [
    Kind {
        program: "lvs",
        key: "lv",
        id: "lv_uuid",
        info: Desc::gauge("lvm_lv_info", ""),
        names: &["lv_full_name", "lv_name"],
        texts: &[
            ("lv_health_status", Desc::gauge("lvm_lv_health_status", "LV health status")),
            ("lv_layout", Desc::gauge("lvm_lv_layout", "LV layout")),
            ("lv_when_full", Desc::gauge("lvm_lv_when_full", "For thin pools, behavior when full")),
            (
                "origin",
                Desc::gauge(
                    "lvm_lv_origin",
                    "For snapshots and thins, the origin device of this LV",
                ),
            ),
            (
                "pool_lv",
                Desc::gauge(
                    "lvm_lv_pool_lv",
                    "For cache/thin/vdo volumes, the cache/thin/vdo pool LV for this volume",
                ),
            ),
            (
                "raid_sync_action",
                Desc::gauge(
                    "lvm_lv_raid_sync_action",
                    "For RAID, the current synchronization action being performed",
                ),
            ),
        ],
        numbers: &[
            ("lv_size", Desc::gauge("lvm_lv_size_bytes", "Size of LV")),
            (
                "data_percent",
                Desc::gauge(
                    "lvm_lv_data_percent",
                    "For snapshot, cache and thin pools and volumes, the percentage full if LV is \
                     active",
                ),
            ),
            (
                "metadata_percent",
                Desc::gauge(
                    "lvm_lv_metadata_percent",
                    "For cache and thin pools, the percentage of metadata full if LV is active",
                ),
            ),
            (
                "lv_metadata_size",
                Desc::gauge(
                    "lvm_lv_metadata_size_bytes",
                    "For thin and cache pools, the size of the LV that holds the metadata",
                ),
            ),
            (
                "snap_percent",
                Desc::gauge(
                    "lvm_lv_snap_percent",
                    "For snapshots, the percentage full if LV is active",
                ),
            ),
            (
                "copy_percent",
                Desc::gauge(
                    "lvm_lv_copy_percent",
                    "For Cache, RAID, mirrors and pvmove, current percentage in-sync",
                ),
            ),
            (
                "sync_percent",
                Desc::gauge(
                    "lvm_lv_sync_percent",
                    "For Cache, RAID, mirrors and pvmove, current percentage in-sync",
                ),
            ),
            (
                "origin_size",
                Desc::gauge(
                    "lvm_lv_origin_size_bytes",
                    "For snapshots, the size of the origin device of this LV",
                ),
            ),
            (
                "raid_mismatch_count",
                Desc::gauge(
                    "lvm_lv_raid_mismatch_count",
                    "For RAID, number of mismatches found or repaired",
                ),
            ),
            ("cache_dirty_blocks", Desc::gauge("lvm_lv_cache_dirty_blocks", "Dirty cache blocks")),
            ("cache_read_hits", Desc::gauge("lvm_lv_cache_read_hits", "Cache read hits")),
            ("cache_read_misses", Desc::gauge("lvm_lv_cache_read_misses", "Cache read misses")),
            ("cache_total_blocks", Desc::gauge("lvm_lv_cache_total_blocks", "Total cache blocks")),
            ("cache_used_blocks", Desc::gauge("lvm_lv_cache_used_blocks", "Used cache blocks")),
            ("cache_write_hits", Desc::gauge("lvm_lv_cache_write_hits", "Cache write hits")),
            ("cache_write_misses", Desc::gauge("lvm_lv_cache_write_misses", "Cache write misses")),
            (
                "lv_check_needed",
                Desc::gauge(
                    "lvm_lv_check_needed",
                    "For thin pools and cache volumes, whether metadata check is needed",
                ),
            ),
            ("lv_merge_failed", Desc::gauge("lvm_lv_merge_failed", "Set if snapshot merge failed")),
            (
                "lv_snapshot_invalid",
                Desc::gauge("lvm_lv_snapshot_invalid", "Set if snapshot LV is invalid"),
            ),
        ],
    },
    Kind {
        program: "vgs",
        key: "vg",
        id: "vg_uuid",
        info: Desc::gauge("lvm_vg_info", ""),
        names: &["vg_name"],
        texts: &[],
        numbers: &[
            ("vg_size", Desc::gauge("lvm_vg_size_bytes", "Total size of VG in bytes")),
            ("vg_free", Desc::gauge("lvm_vg_free_bytes", "Total amount of free space in bytes")),
            ("vg_extent_size", Desc::gauge("lvm_vg_extent_size_bytes", "Size of Physical Extents")),
            ("lv_count", Desc::gauge("lvm_vg_lv_count", "Number of LVs")),
            ("pv_count", Desc::gauge("lvm_vg_pv_count", "Number of PVs in VG")),
            ("snap_count", Desc::gauge("lvm_vg_snap_count", "Number of snapshots")),
            (
                "vg_missing_pv_count",
                Desc::gauge("lvm_vg_missing_pv_count", "Number of PVs in VG which are missing"),
            ),
            ("vg_partial", Desc::gauge("lvm_vg_partial", "Set if VG is partial")),
        ],
    },
    Kind {
        program: "pvs",
        key: "pv",
        id: "pv_uuid",
        info: Desc::gauge("lvm_pv_info", ""),
        names: &["pv_fmt", "pv_name"],
        texts: &[],
        numbers: &[
            ("pv_size", Desc::gauge("lvm_pv_size_bytes", "Size of PV in bytes")),
            (
                "pv_free",
                Desc::gauge("lvm_pv_free_bytes", "Total amount of unallocated space in bytes"),
            ),
            (
                "pv_used",
                Desc::gauge("lvm_pv_used_bytes", "Total amount of allocated space in bytes"),
            ),
            ("pv_missing", Desc::gauge("lvm_pv_missing", "Set if PV is missing in system")),
        ],
    },
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    report: List<Table<List<Table<Text>>>>,
}

impl Kind {
    /// The arguments with which its program writes the report.
    pub(super) fn args(&self) -> Vec<String> {
        let columns = [self.id].into_iter().chain(self.names.iter().copied());
        let columns = columns.chain(self.texts.iter().chain(self.numbers).map(|(name, _)| *name));
        let columns: Vec<&str> = columns.collect();
        let mut args: Vec<String> =
            ["--reportformat", "json", "--units", "b", "--nosuffix", "--binary"]
                .map(str::to_owned)
                .into();
        if self.key == "lv" {
            args.push("--all".to_owned());
        }
        args.extend(["-o".to_owned(), columns.join(",")]);
        args
    }

    /// Tells a report; `None` when the text is not one.
    pub(super) fn tell(&self, text: &[u8], sheet: &mut Sheet) -> Option<()> {
        let Part(document): Part<Document> = serde_json::from_slice(text).ok()?;
        let rows: Vec<&Table<Text>> = document
            .report
            .0
            .iter()
            .filter_map(|report| report.0.get(self.key))
            .flat_map(|rows| &rows.0)
            .collect();
        let is_report = document.report.0.iter().any(|report| report.0.contains_key(self.key));
        for row in rows.into_iter().take(ROWS_MAX) {
            self.tell_row(row, sheet);
        }
        is_report.then_some(())
    }

    fn tell_row(&self, row: &Table<Text>, sheet: &mut Sheet) {
        let column = |name: &str| row.0.get(name).map_or("", Text::as_str);
        let id = (self.id, column(self.id));
        if id.1.is_empty() {
            return;
        }
        let mut pairs = vec![id];
        pairs.extend(self.names.iter().map(|name| (*name, column(name))));
        sheet.push(&self.info, &pairs, 1.0);
        for (name, desc) in self.texts {
            let text = column(name);
            if !text.is_empty() {
                let label = desc.name.strip_prefix("lvm_").unwrap_or(desc.name);
                sheet.push(desc, &[id, (label, text)], 1.0);
            }
        }
        for (name, desc) in self.numbers {
            // `-1` is how a truth is told that does not apply.
            sheet.push_some(desc, &[id], number(column(name)).filter(|value| *value >= 0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::sheet::lines;

    const LVS: &str = r#"
  {
      "report": [
          {
              "lv": [
                  {"lv_uuid":"aa", "lv_full_name":"pve/data", "lv_name":"data", "lv_health_status":"", "lv_layout":"thin,pool", "lv_when_full":"queue", "origin":"", "pool_lv":"", "raid_sync_action":"", "lv_size":"107374182400", "data_percent":"71.25", "metadata_percent":"3.50", "lv_metadata_size":"1073741824", "snap_percent":"", "copy_percent":"", "sync_percent":"", "origin_size":"", "raid_mismatch_count":"", "lv_check_needed":"0", "lv_merge_failed":"-1", "lv_snapshot_invalid":"-1"},
                  {"lv_uuid":"bb", "lv_full_name":"pve/vm-100-disk-0", "lv_name":"vm-100-disk-0", "lv_layout":"thin,sparse", "origin":"base-100", "pool_lv":"data", "lv_size":"34359738368", "data_percent":"12.00"},
                  {"lv_name":"no uuid", "lv_size":"1"}
              ]
          }
      ]
      ,
      "log": []
  }"#;

    #[track_caller]
    fn check(kind: &Kind, text: &str, expected: &[&str]) {
        let mut sheet = Sheet::new();
        assert_eq!(kind.tell(text.as_bytes(), &mut sheet), Some(()));
        assert_eq!(lines(&mut sheet), expected);
    }

    #[test]
    fn volumes_are_told_as_lvm_exporter_does() {
        check(
            &KINDS[0],
            LVS,
            &[
                r#"lvm_lv_info{lv_full_name="pve/data",lv_name="data",lv_uuid="aa"} 1"#,
                r#"lvm_lv_info{lv_full_name="pve/vm-100-disk-0",lv_name="vm-100-disk-0",lv_uuid="bb"} 1"#,
                r#"lvm_lv_layout{lv_layout="thin,pool",lv_uuid="aa"} 1"#,
                r#"lvm_lv_layout{lv_layout="thin,sparse",lv_uuid="bb"} 1"#,
                r#"lvm_lv_when_full{lv_uuid="aa",lv_when_full="queue"} 1"#,
                r#"lvm_lv_size_bytes{lv_uuid="aa"} 1.073741824e+11"#,
                r#"lvm_lv_size_bytes{lv_uuid="bb"} 3.4359738368e+10"#,
                r#"lvm_lv_data_percent{lv_uuid="aa"} 71.25"#,
                r#"lvm_lv_data_percent{lv_uuid="bb"} 12"#,
                r#"lvm_lv_metadata_percent{lv_uuid="aa"} 3.5"#,
                r#"lvm_lv_metadata_size_bytes{lv_uuid="aa"} 1.073741824e+09"#,
                r#"lvm_lv_check_needed{lv_uuid="aa"} 0"#,
                r#"lvm_lv_origin{lv_origin="base-100",lv_uuid="bb"} 1"#,
                r#"lvm_lv_pool_lv{lv_pool_lv="data",lv_uuid="bb"} 1"#,
            ],
        );
    }

    #[test]
    fn groups_and_their_disks_are_told() {
        let vgs = r#"{"report": [{"vg": [{"vg_uuid":"v", "vg_name":"pve", "vg_size":"500", "vg_free":"100", "pv_count":"2", "vg_missing_pv_count":"1", "vg_partial":"1"}]}]}"#;
        let expected = [
            r#"lvm_vg_info{vg_name="pve",vg_uuid="v"} 1"#,
            r#"lvm_vg_size_bytes{vg_uuid="v"} 500"#,
            r#"lvm_vg_free_bytes{vg_uuid="v"} 100"#,
            r#"lvm_vg_pv_count{vg_uuid="v"} 2"#,
            r#"lvm_vg_missing_pv_count{vg_uuid="v"} 1"#,
            r#"lvm_vg_partial{vg_uuid="v"} 1"#,
        ];
        check(&KINDS[1], vgs, &expected);
        let pvs = r#"{"report": [{"pv": [{"pv_uuid":"p", "pv_name":"/dev/sda3", "pv_fmt":"lvm2", "pv_size":"5", "pv_free":"1", "pv_used":"4"}]}]}"#;
        let expected = [
            r#"lvm_pv_info{pv_fmt="lvm2",pv_name="/dev/sda3",pv_uuid="p"} 1"#,
            r#"lvm_pv_size_bytes{pv_uuid="p"} 5"#,
            r#"lvm_pv_free_bytes{pv_uuid="p"} 1"#,
            r#"lvm_pv_used_bytes{pv_uuid="p"} 4"#,
        ];
        check(&KINDS[2], pvs, &expected);
    }

    #[test]
    fn a_host_without_volumes_tells_none() {
        check(&KINDS[0], r#"{"report": [{"lv": []}]}"#, &[]);
        let mut sheet = Sheet::new();
        for text in ["", "{}", "[]", r#"{"report": [{"vg": []}]}"#, r#"{"report": 3}"#] {
            assert_eq!(KINDS[0].tell(text.as_bytes(), &mut sheet), None, "{text}");
        }
    }

    #[test]
    fn the_job_that_has_the_rights_asks_for_the_same() {
        let script =
            include_str!("../../../../systemd/stoa-disks.sh").replace("\\\n            ", "");
        for kind in &KINDS {
            let command = format!("put {0} {0} {1} &&\n", kind.program, kind.args().join(" "));
            assert!(script.contains(&command), "{command}");
        }
    }

    #[test]
    fn rows_are_bounded() {
        let rows: Vec<String> =
            (0..ROWS_MAX + 9).map(|i| format!(r#"{{"pv_uuid": "{i}"}}"#)).collect();
        let text = format!(r#"{{"report": [{{"pv": [{}]}}]}}"#, rows.join(","));
        let mut sheet = Sheet::new();
        assert_eq!(KINDS[2].tell(text.as_bytes(), &mut sheet), Some(()));
        assert_eq!(lines(&mut sheet).len(), ROWS_MAX);
    }

    proptest! {
        #[test]
        fn a_cut_or_broken_document_is_no_panic(at in 0..LVS.len(), byte in any::<u8>()) {
            let mut sheet = Sheet::new();
            let mut text = LVS.as_bytes().to_vec();
            let _cut = KINDS[0].tell(&text[..at], &mut sheet);
            text[at] = byte;
            let _broken = KINDS[0].tell(&text, &mut sheet);
            prop_assert!(lines(&mut sheet).iter().all(|line| line.starts_with("lvm_lv_")));
        }
    }
}
