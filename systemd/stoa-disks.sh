#!/bin/sh
# Leaves what smartctl and LVM say in a directory where the agent, which has no rights, reads it.
# Run by stoa-disks.service. A disk that sleeps is not woken. A file's time says when its answer was
# given or last known to hold: the agent tells none that is older than an hour.
set -u
dir=${RUNTIME_DIRECTORY:-/run/stoa-disks}
sys=${STOA_SYSFS:-/sys}
udev=${STOA_UDEV:-/run/udev/data}

# ask SECONDS NAME COMMAND...: leaves what the command prints in .NAME. One that hangs in the kernel
# cannot be killed: it is left behind, and as long as it is there, it has the lock and is not begun again.
ask() {
    seconds=$1
    name=$2
    shift 2
    (
        flock -n 9 || exit 1
        rm -f "$dir/.$name"
        timeout -s KILL $((seconds + 10)) sh -c '"$@" & wait $!' sh \
            timeout -k 5 "$seconds" "$@" >"$dir/.$name" 2>/dev/null
    ) 9>"$dir/.$name.lock"
}

# put NAME COMMAND...: keeps the document that the command prints, put in place whole.
put() {
    ask 30 "$@"
    name=$1
    tail -n 1 "$dir/.$name" 2>/dev/null | grep -q '^ *}$' && mv -f "$dir/.$name" "$dir/$name.json"
}

# Which disks there are; nothing is opened for that but RAID controllers.
there() {
    ask 30 there smartctl --scan && cat "$dir/.there"
    for disk in "$sys"/block/*/device; do
        disk=${disk%/device}
        echo "$disk $(cat "$disk/diskseq" 2>/dev/null)"
    done
}

# Finds out what they are, in .disks. This opens them, which may wake one: it is done when there are others
# than before, and an hour after one could not be opened.
look() {
    now=$(there)
    if [ "$now" = "$(cat "$dir/.known" 2>/dev/null)" ]; then
        grep -qs '^#' "$dir/.disks" && [ -n "$(find "$dir/.disks" -mmin +60)" ] || return 0
    fi
    if ask 60 scan smartctl --scan-open; then
        mv -f "$dir/.scan" "$dir/.disks"
        printf '%s\n' "$now" >"$dir/.known"
    elif [ ! -e "$dir/.disks" ]; then
        # One hangs: the others are asked without.
        printf '%s\n' "$now" | sed -n 's/^\(\/dev\/[^ ]* -d \)scsi /\1auto /; /^\/dev\//p' >"$dir/.disks"
    fi
}

if command -v smartctl >/dev/null && look; then
    : >"$dir/.found"
    # One that could not be opened stands behind a `#`; its last answer may grow old.
    sed 's/^# *//' "$dir/.disks" | while read -r device _ type _; do
        case $device in
        /dev/*) ;;
        *) continue ;;
        esac
        name=smart-$(printf '%s' "${device#/dev/}-$type" | tr -c 'A-Za-z0-9' '_')
        echo "$name.json" >>"$dir/.found"
        if grep -q "^$device -d $type " "$dir/.disks"; then
            put "$name" smartctl -j -a -l devstat -l scttempsts -l scterc -l sataphy \
                -n standby,5 -d "$type" "$device"
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
