#!/bin/sh
# Leaves what smartctl and LVM say in a directory where the agent, which has no rights, reads it.
# Run by stoa-disks.service. A disk that sleeps is not woken.
set -u
dir=${RUNTIME_DIRECTORY:-/run/stoa-disks}
sys=${STOA_SYSFS:-/sys}

# put NAME COMMAND...: keeps what the command prints, put in place whole.
put() {
    name=$1
    shift
    timeout -k 5 30 "$@" >"$dir/.$name" 2>/dev/null
    if [ -s "$dir/.$name" ]; then
        mv -f "$dir/.$name" "$dir/$name.json"
    else
        rm -f "$dir/.$name"
    fi
}

if command -v smartctl >/dev/null; then
    timeout -k 5 60 smartctl --scan-open 2>/dev/null | while read -r device _ type _; do
        case $device in
        /dev/*) ;;
        *) continue ;; # could not be opened
        esac
        name=smart-$(printf '%s' "${device#/dev/}-$type" | tr -c 'A-Za-z0-9' '_')
        put "$name" smartctl -j -a -l devstat -l scttempsts -l scterc -l sataphy \
            -n standby,5 -d "$type" "$device" </dev/null
    done
    # Disks that are gone.
    find "$dir" -name 'smart-*.json' -mmin +60 -delete
fi

# LVM reads the disks' metadata: it is asked only when a volume was used since.
if command -v lvs >/dev/null && grep -qs '^LVM-' "$sys"/block/dm-*/dm/uuid; then
    used=$(cat "$sys"/block/dm-*/dm/uuid "$sys"/block/dm-*/size "$sys"/block/dm-*/stat | cksum)
    if [ ! -e "$dir/pvs.json" ] || [ "$used" != "$(cat "$dir/.used" 2>/dev/null)" ]; then
        put lvs lvs --reportformat json --units b --nosuffix --binary --all \
            -o lv_uuid,lv_full_name,lv_name,lv_health_status,lv_layout,lv_when_full,origin,pool_lv,raid_sync_action,lv_size,data_percent,metadata_percent,lv_metadata_size,snap_percent,copy_percent,sync_percent,origin_size,raid_mismatch_count,cache_dirty_blocks,cache_read_hits,cache_read_misses,cache_total_blocks,cache_used_blocks,cache_write_hits,cache_write_misses,lv_check_needed,lv_merge_failed,lv_snapshot_invalid
        put vgs vgs --reportformat json --units b --nosuffix --binary \
            -o vg_uuid,vg_name,vg_size,vg_free,vg_extent_size,lv_count,pv_count,snap_count,vg_missing_pv_count,vg_partial
        put pvs pvs --reportformat json --units b --nosuffix --binary \
            -o pv_uuid,pv_fmt,pv_name,pv_size,pv_free,pv_used,pv_missing
        printf '%s\n' "$used" >"$dir/.used"
    fi
fi
