#!/bin/sh
# Leaves what smartctl and LVM say in a directory where the agent, which has no rights, reads it.
# Run by stoa-disks.service. A disk that sleeps is not woken. A file's time says when its answer was
# given or last known to hold: the agent tells none that is older than an hour.
set -u
dir=${RUNTIME_DIRECTORY:-/run/stoa-disks}
sys=${STOA_SYSFS:-/sys}
udev=${STOA_UDEV:-/run/udev/data}

# put NAME COMMAND...: keeps what the command prints, put in place whole.
put() {
    name=$1
    shift
    timeout -k 5 30 "$@" >"$dir/.$name" 2>/dev/null
    if [ -s "$dir/.$name" ]; then
        mv -f "$dir/.$name" "$dir/$name.json"
    else
        rm -f "$dir/.$name"
        return 1
    fi
}

if command -v smartctl >/dev/null && timeout -k 5 60 smartctl --scan-open >"$dir/.scan" 2>/dev/null; then
    : >"$dir/.found"
    # One that could not be opened now stands behind a `#`; its last answer may grow old.
    sed 's/^# *//' "$dir/.scan" | while read -r device _ type _; do
        case $device in
        /dev/*) ;;
        *) continue ;;
        esac
        name=smart-$(printf '%s' "${device#/dev/}-$type" | tr -c 'A-Za-z0-9' '_')
        echo "$name.json" >>"$dir/.found"
        if grep -q "^$device -d $type " "$dir/.scan"; then
            put "$name" smartctl -j -a -l devstat -l scttempsts -l scterc -l sataphy \
                -n standby,5 -d "$type" "$device" </dev/null
        fi
    done
    # Disks that are gone.
    for file in "$dir"/smart-*.json; do
        grep -qxF "${file##*/}" "$dir/.found" || rm -f "$file"
    done
fi

# What LVM has done: volumes, or disks that are in groups without any.
used() {
    grep -s '^LVM-' "$sys"/block/dm-*/dm/uuid && cat "$sys"/block/dm-*/size "$sys"/block/dm-*/stat
    grep -ls '^E:ID_FS_TYPE=LVM2_member$' "$udev"/b*
}

# LVM reads the disks' metadata: it is asked only when a volume was used since.
if command -v lvs >/dev/null && [ -n "$(used)" ]; then
    used=$(used | cksum)
    if [ "$used" = "$(cat "$dir/.used" 2>/dev/null)" ]; then
        touch -c "$dir/lvs.json" "$dir/vgs.json" "$dir/pvs.json"
    else
        put lvs lvs --reportformat json --units b --nosuffix --binary --all \
            -o lv_uuid,lv_full_name,lv_name,lv_health_status,lv_layout,lv_when_full,origin,pool_lv,raid_sync_action,lv_size,data_percent,metadata_percent,lv_metadata_size,snap_percent,copy_percent,sync_percent,origin_size,raid_mismatch_count,cache_dirty_blocks,cache_read_hits,cache_read_misses,cache_total_blocks,cache_used_blocks,cache_write_hits,cache_write_misses,lv_check_needed,lv_merge_failed,lv_snapshot_invalid &&
        put vgs vgs --reportformat json --units b --nosuffix --binary \
            -o vg_uuid,vg_name,vg_size,vg_free,vg_extent_size,lv_count,pv_count,snap_count,vg_missing_pv_count,vg_partial &&
        put pvs pvs --reportformat json --units b --nosuffix --binary \
            -o pv_uuid,pv_fmt,pv_name,pv_size,pv_free,pv_used,pv_missing &&
        printf '%s\n' "$used" >"$dir/.used"
    fi
else
    rm -f "$dir/lvs.json" "$dir/vgs.json" "$dir/pvs.json" "$dir/.used"
fi
exit 0
