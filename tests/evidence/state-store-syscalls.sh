#!/usr/bin/env bash
# Counts the system calls by which sled 0.34.7 and redb 4 make N commits durable.
# Evidence for docs/decisions/0002-redb-not-sled.md. Needs cargo and strace; builds outside the workspace.
#   tests/evidence/state-store-syscalls.sh [N]
set -euo pipefail
cd "$(dirname "$0")/state-store"
commits=${1:-300}
command -v strace >/dev/null || { echo "strace is not installed (apt-get install strace)" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --locked --quiet --target-dir "$target"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '%-14s %8s %8s %10s %8s %16s\n' store commits fsync fdatasync msync sync_file_range
for store in sled sled-default redb; do
  strace -f -c -e trace=fsync,fdatasync,msync,sync_file_range -o "$scratch/$store.count" \
    "$target/debug/state-store" "$store" "$scratch/$store" "$commits"
  count() { awk -v call="$1" '$NF == call { print $4; found = 1 } END { if (!found) print 0 }' "$scratch/$store.count"; }
  printf '%-14s %8s %8s %10s %8s %16s\n' "$store" "$commits" \
    "$(count fsync)" "$(count fdatasync)" "$(count msync)" "$(count sync_file_range)"
done
