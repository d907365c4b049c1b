//! The sources of devices and storage.

use super::{check, check_with, settings};

#[test]
fn zfs() {
    check(
        "zfs",
        &[
            ("proc/spl/kstat/zfs/arcstats", "6 1 0x01 91\nname type data\nhits 4 8\nc_new 4 3\n"),
            ("proc/spl/kstat/zfs/fm", "0 1\nname type data\nerpt-dropped 4 2\n"),
            ("proc/spl/kstat/zfs/tank/io", "12 3\nnread rcnt\n7 0\n"),
            ("proc/spl/kstat/zfs/tank/objset-0x36", "1\n2\ndataset_name 7 tank/a\nreads 4 5\n"),
        ],
        &[
            "node_zfs_arc_c_new 3",
            "node_zfs_arc_hits 8",
            "node_zfs_fm_erpt_dropped 2",
            r#"node_zfs_zpool_dataset_reads{dataset="tank/a",zpool="tank"} 5"#,
            r#"node_zfs_zpool_nread{zpool="tank"} 7"#,
            r#"node_zfs_zpool_rcnt{zpool="tank"} 0"#,
        ],
    );
}

#[test]
fn xfs() {
    check(
        "xfs",
        &[("sys/fs/xfs/sda1/stats/stats", "rw 28 1\n"), ("sys/fs/xfs/stats/stats", "rw 28 1\n")],
        &[
            r#"node_xfs_read_calls_total{device="sda1"} 1"#,
            r#"node_xfs_write_calls_total{device="sda1"} 28"#,
        ],
    );
}

#[test]
fn bcachefs() {
    check(
        "bcachefs",
        &[
            (
                "sys/fs/bcachefs/u/counters/new_one",
                "since mount: 1\nsince filesystem creation: 2k\n",
            ),
            ("sys/fs/bcachefs/u/dev-0/state", "[rw] ro\n"),
            ("sys/fs/bcachefs/u/dev-0/label", "a\n"),
            ("sys/fs/bcachefs/u/dev-0/bucket_size", "512k\n"),
        ],
        &[
            r#"node_bcachefs_device_bucket_size_bytes{device="0",uuid="u"} 524288"#,
            r#"node_bcachefs_device_info{device="0",label="a",state="[rw] ro",uuid="u"} 1"#,
            r#"node_bcachefs_info{uuid="u"} 1"#,
            r#"node_bcachefs_new_one_total{uuid="u"} 2048"#,
        ],
    );
}

#[test]
fn infiniband() {
    check(
        "infiniband",
        &[
            ("sys/class/infiniband/mlx5_0/fw_ver", "1.2\n"),
            ("sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n"),
            ("sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data", "2\n"),
            ("sys/class/infiniband/mlx5_0/ports/1/counters/symbol_error", "N/A (no PMA)\n"),
            ("sys/class/infiniband/mlx5_0/ports/1/hw_counters/out_of_buffer", "3\n"),
            ("sys/class/infiniband/mlx5_0/ports/1/hw_counters/lifespan", "10\n"),
        ],
        &[
            r#"node_infiniband_info{device="mlx5_0",firmware_version="1.2"} 1"#,
            r#"node_infiniband_lifespan_seconds{device="mlx5_0",port="1"} 0.01"#,
            r#"node_infiniband_out_of_buffer_drops_total{device="mlx5_0",port="1"} 3"#,
            r#"node_infiniband_port_data_received_bytes_total{device="mlx5_0",port="1"} 8"#,
            r#"node_infiniband_state_id{device="mlx5_0",port="1"} 4"#,
        ],
    );
}

#[test]
fn bcache() {
    let files = [
        ("sys/fs/bcache/register", ""),
        ("sys/fs/bcache/a-b/cache_available_percent", "97\n"),
        ("sys/fs/bcache/a-b/cache0/written", "2k\n"),
        ("sys/fs/bcache/a-b/cache0/priority_stats", "Unused:\t9%\n"),
        ("sys/fs/bcache/a-b/bdev1/writeback_rate_debug", "rate:\t\t1.0k/sec\n"),
    ];
    let told = [
        r#"node_bcache_cache_available_percent{uuid="a-b"} 97"#,
        r#"node_bcache_priority_stats_unused_percent{cache_device="cache0",uuid="a-b"} 9"#,
        r#"node_bcache_writeback_rate{backing_device="bdev1",uuid="a-b"} 1024"#,
        r#"node_bcache_written_bytes_total{cache_device="cache0",uuid="a-b"} 2048"#,
    ];
    check("bcache", &files, &[told[0], told[2], told[3]]);
    let mut all = settings();
    all.set("bcache", "priority_stats", true);
    check_with(&all, "bcache", &files, &told);
}

#[test]
fn fibre_channel() {
    check(
        "fibrechannel",
        &[
            ("sys/class/fc_host/host0/port_name", "0x1000\n"),
            ("sys/class/fc_host/host0/statistics/rx_frames", "0x10\n"),
            ("sys/class/fc_host/host0/statistics/tx_frames", "0xffffffffffffffff\n"),
        ],
        &[
            r#"node_fibrechannel_info{fc_host="host0",port_name="1000"} 1"#,
            r#"node_fibrechannel_rx_frames_total{fc_host="host0"} 16"#,
        ],
    );
}

#[test]
fn drbd() {
    check(
        "drbd",
        &[("proc/drbd", "version: 8\n\n 1: cs:WFConnection ro:Primary/Unknown C\n    ns:2 al:3\n")],
        &[
            r#"node_drbd_activitylog_writes_total{device="drbd1"} 3"#,
            r#"node_drbd_connected{device="drbd1"} 0"#,
            r#"node_drbd_network_sent_bytes_total{device="drbd1"} 2048"#,
            r#"node_drbd_node_role_is_primary{device="drbd1",node="local"} 1"#,
            r#"node_drbd_node_role_is_primary{device="drbd1",node="remote"} 0"#,
        ],
    );
}

#[test]
fn power_supplies() {
    check(
        "powersupplyclass",
        &[
            ("sys/class/power_supply/BAT0/energy_now", "36580000\n"),
            ("sys/class/power_supply/BAT0/temp", "251\n"),
            ("sys/class/power_supply/BAT0/type", "Battery\n"),
            ("sys/class/power_supply/BAT0/scope", "\n"),
        ],
        &[
            r#"node_power_supply_energy_watthour{power_supply="BAT0"} 36.58"#,
            r#"node_power_supply_info{power_supply="BAT0",type="Battery"} 1"#,
            r#"node_power_supply_temp_celsius{power_supply="BAT0"} 25.1"#,
        ],
    );
}

#[test]
fn btrfs() {
    check(
        "btrfs",
        &[
            ("sys/fs/btrfs/features/raid1c34", "0\n"),
            ("sys/fs/btrfs/a-b/label", "home\n"),
            ("sys/fs/btrfs/a-b/commit_stats", "commits 3\ntotal_commit_ms 1500\n"),
            ("sys/fs/btrfs/a-b/devices/sda/size", "8\n"),
            ("sys/fs/btrfs/a-b/allocation/data/bytes_reserved", "1\n"),
            ("sys/fs/btrfs/a-b/allocation/data/raid1/total_bytes", "2\n"),
        ],
        &[
            r#"node_btrfs_allocation_ratio{block_group_type="data",mode="raid1",uuid="a-b"} 2"#,
            r#"node_btrfs_commit_seconds_total{uuid="a-b"} 1.5"#,
            r#"node_btrfs_commits_total{uuid="a-b"} 3"#,
            r#"node_btrfs_device_size_bytes{device="sda",uuid="a-b"} 4096"#,
            r#"node_btrfs_info{label="home",uuid="a-b"} 1"#,
            r#"node_btrfs_reserved_bytes{block_group_type="data",uuid="a-b"} 1"#,
            r#"node_btrfs_size_bytes{block_group_type="data",mode="raid1",uuid="a-b"} 2"#,
        ],
    );
}

#[test]
fn tapes() {
    check(
        "tapestats",
        &[
            ("sys/class/scsi_tape/st0/stats/io_ns", "1500000000\n"),
            ("sys/class/scsi_tape/st0a/stats/io_ns", "1500000000\n"),
            ("sys/class/scsi_tape/nst0/stats/io_ns", "1500000000\n"),
        ],
        &[r#"node_tape_io_time_seconds_total{device="st0"} 1.5"#],
    );
}

#[test]
fn watchdogs() {
    check(
        "watchdog",
        &[
            ("sys/class/watchdog/watchdog0/identity", "iTCO\n"),
            ("sys/class/watchdog/watchdog0/timeout", "30\n"),
        ],
        &[
            r#"node_watchdog_info{identity="iTCO",name="watchdog0"} 1"#,
            r#"node_watchdog_timeout_seconds{name="watchdog0"} 30"#,
        ],
    );
}

#[test]
fn arrays() {
    check(
        "mdadm",
        &[
            ("proc/mdstat", "md0 : active raid1 sda[0]\n   8 blocks [2/1] [U_]\n"),
            ("sys/block/md0/md/raid_disks", "2\n"),
            ("sys/block/md0/md/degraded", "1\n"),
            ("sys/block/md1/md/raid_disks", "3\n"),
            // A directory stands for a file that answers with an error.
            ("sys/block/md1/md/degraded/x", ""),
        ],
        &[
            r#"node_md_blocks{device="md0"} 8"#,
            r#"node_md_blocks_synced{device="md0"} 8"#,
            r#"node_md_degraded{device="md0"} 1"#,
            r#"node_md_disks{device="md0",state="active"} 1"#,
            r#"node_md_disks{device="md0",state="failed"} 0"#,
            r#"node_md_disks{device="md0",state="spare"} 0"#,
            r#"node_md_disks_required{device="md0"} 2"#,
            r#"node_md_raid_disks{device="md0"} 2"#,
            r#"node_md_raid_disks{device="md1"} 3"#,
            r#"node_md_state{device="md0",state="active"} 1"#,
            r#"node_md_state{device="md0",state="check"} 0"#,
            r#"node_md_state{device="md0",state="inactive"} 0"#,
            r#"node_md_state{device="md0",state="recovering"} 0"#,
            r#"node_md_state{device="md0",state="resync"} 0"#,
        ],
    );
}

#[test]
fn multipath() {
    check(
        "dmmultipath",
        &[
            ("sys/block/dm-0/dm/uuid", "LVM-x\n"),
            ("sys/block/dm-1/dm/uuid", "mpath-x\n"),
            ("sys/block/dm-1/dm/name", "a\n"),
            ("sys/block/dm-1/dm/suspended", "1\n"),
            ("sys/block/dm-1/slaves/sda/x", ""),
            ("sys/block/dm-1/slaves/nvme0n1/x", ""),
            ("sys/block/sda/device/state", "offline\n"),
            ("sys/block/nvme0n1/device/state", "live\n"),
        ],
        &[
            r#"node_dmmultipath_device_active{device="a",sysfs_name="dm-1"} 0"#,
            r#"node_dmmultipath_device_info{device="a",sysfs_name="dm-1",uuid="mpath-x"} 1"#,
            r#"node_dmmultipath_device_paths{device="a",sysfs_name="dm-1"} 2"#,
            r#"node_dmmultipath_device_paths_active{device="a",sysfs_name="dm-1"} 1"#,
            r#"node_dmmultipath_device_paths_failed{device="a",sysfs_name="dm-1"} 1"#,
            r#"node_dmmultipath_path_state{device="a",path="nvme0n1",state="live"} 1"#,
            r#"node_dmmultipath_path_state{device="a",path="sda",state="offline"} 1"#,
        ],
    );
}

#[test]
fn nvme() {
    check(
        "nvme",
        &[
            ("sys/class/nvme/nvme0/model", "M 1\n"),
            ("sys/class/nvme/nvme0/nvme0n1/size", "8\n"),
            ("sys/class/nvme/nvme0/nvme0n1/queue/logical_block_size", "512\n"),
        ],
        &[
            r#"node_nvme_info{device="nvme0",model="M 1"} 1"#,
            r#"node_nvme_namespace_capacity_bytes{device="nvme0",nsid="1"} 4096"#,
            r#"node_nvme_namespace_info{ana_state="unknown",device="nvme0",nsid="1"} 1"#,
            r#"node_nvme_namespace_logical_block_size_bytes{device="nvme0",nsid="1"} 512"#,
            r#"node_nvme_namespace_size_bytes{device="nvme0",nsid="1"} 4096"#,
        ],
    );
}

#[test]
fn memory_controllers() {
    check(
        "edac",
        &[
            ("sys/devices/system/edac/mc/mc0/ce_count", "1\n"),
            ("sys/devices/system/edac/mc/mc0/csrow2/ue_count", "2\n"),
            ("sys/devices/system/edac/mc/mc0/csrow2/ch1_ce_count", "3\n"),
        ],
        &[
            r#"node_edac_channel_correctable_errors_total{channel="1",controller="0",csrow="2",dimm_label="unknown"} 3"#,
            r#"node_edac_correctable_errors_total{controller="0"} 1"#,
            r#"node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="2"} 2"#,
        ],
    );
}

#[test]
fn bonds() {
    check(
        "bonding",
        &[
            ("sys/class/net/bonding_masters", "bond0\n"),
            ("sys/class/net/bond0/bonding/slaves", "eth0 eth1 eth2\n"),
            ("sys/class/net/bond0/lower_eth0/bonding_slave/mii_status", "up\n"),
            ("sys/class/net/bond0/slave_eth1/bonding_slave/mii_status", "down\n"),
        ],
        &[r#"node_bonding_active{master="bond0"} 1"#, r#"node_bonding_slaves{master="bond0"} 3"#],
    );
}

#[test]
fn firmware() {
    check(
        "dmi",
        &[("sys/class/dmi/id/sys_vendor", "V\n"), ("sys/class/dmi/id/modalias", "x\n")],
        &[r#"node_dmi_info{system_vendor="V"} 1"#],
    );
}

#[test]
fn thermal() {
    check(
        "thermal_zone",
        &[
            ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
            ("sys/class/thermal/thermal_zone0/temp", "-5500\n"),
            ("sys/class/thermal/thermal_zone1/type", "asleep\n"),
            ("sys/class/thermal/cooling_device2/type", "Fan\n"),
            ("sys/class/thermal/cooling_device2/cur_state", "1\n"),
        ],
        &[
            r#"node_cooling_device_cur_state{name="2",type="Fan"} 1"#,
            r#"node_thermal_zone_temp{type="acpitz",zone="0"} -5.5"#,
        ],
    );
}
