# The lab: hosts with a real systemd as PID 1, in Docker on this machine. To be sourced by a test that
# runs as root; tests/install gets docker.io and debootstrap.
#
#   lab_start                 a dockerd to work with: the one that runs, or one of its own
#   lab_image [PACKAGE...]    makes an image of Debian with systemd and these packages; kept for next time
#   lab_host NAME [ARG...]    starts a host of that image (ARGs go to `docker run`) and waits until it is up
#   lab_exec NAME CMD...      runs a command on a host as root; `lab_exec -u nobody NAME ...` as another
#   lab_copy FILE NAME PATH   copies a file onto a host
#   lab_end                   ends all hosts of this run, and dockerd if this run began it
#
# A test calls lab_end in its EXIT trap. What is kept: a tarball of each package list's file system
# under $STOA_LAB_CACHE, and Docker's image made of it.

LAB_CACHE=${STOA_LAB_CACHE:-/var/cache/stoa-lab}
LAB_RUN=stoa-lab-$$
LAB_NETWORK=$LAB_RUN
LAB_SUITE=bookworm
LAB_MIRROR=${STOA_LAB_MIRROR:-http://deb.debian.org/debian}
LAB_HOSTS=()
LAB_DOCKERD=
LAB_IMAGE=

# What comes with Debian, not another version's that may stand before it in the path.
lab_docker() {
  if [ -x /usr/bin/docker ]; then /usr/bin/docker "$@"; else docker "$@"; fi
}

lab_fail() {
  echo "lab: $*" >&2
  exit 1
}

lab_start() {
  [ "$(id -u)" = 0 ] || lab_fail "needs root"
  mkdir -p "$LAB_CACHE"
  # Two runs that begin at once share one dockerd.
  exec {LAB_LOCK}>"$LAB_CACHE/lock"
  flock "$LAB_LOCK"
  if ! lab_docker info >/dev/null 2>&1; then
    command -v dockerd >/dev/null || lab_fail "no dockerd: run tests/install"
    setsid dockerd >"$LAB_CACHE/dockerd.log" 2>&1 {LAB_LOCK}>&- &
    LAB_DOCKERD=$!
    for _ in $(seq 150); do
      lab_docker info >/dev/null 2>&1 && break
      kill -0 "$LAB_DOCKERD" 2>/dev/null || break
      sleep 0.2
    done
    lab_docker info >/dev/null 2>&1 || { tail -n 20 "$LAB_CACHE/dockerd.log" >&2; lab_fail "dockerd does not answer"; }
  fi
  lab_docker network create "$LAB_NETWORK" >/dev/null
  flock -u "$LAB_LOCK"
}

lab_image() {
  local packages key root
  packages=$(printf '%s\n' systemd systemd-sysv dbus iproute2 procps "$@" | LC_ALL=C sort -u | paste -sd,)
  key=$(printf '%s' "$LAB_SUITE $packages" | sha256sum | cut -c1-16)
  LAB_IMAGE=stoa-lab/base:$key
  flock "$LAB_LOCK"
  if ! lab_docker image inspect "$LAB_IMAGE" >/dev/null 2>&1; then
    if [ ! -e "$LAB_CACHE/$key.tar" ]; then
      command -v debootstrap >/dev/null || lab_fail "no debootstrap: run tests/install"
      root=$(mktemp -d "$LAB_CACHE/root.XXXXXX")
      debootstrap --variant=minbase --include="$packages" "$LAB_SUITE" "$root" "$LAB_MIRROR" \
        >"$LAB_CACHE/$key.log" 2>&1 || { tail -n 20 "$LAB_CACHE/$key.log" >&2; rm -rf "$root"; lab_fail "debootstrap failed"; }
      rm -f "$root"/var/cache/apt/archives/*.deb
      tar -C "$root" -cf "$LAB_CACHE/$key.tar.new" .
      mv "$LAB_CACHE/$key.tar.new" "$LAB_CACHE/$key.tar"
      rm -rf "$root"
    fi
    lab_docker import "$LAB_CACHE/$key.tar" "$LAB_IMAGE" >/dev/null
  fi
  flock -u "$LAB_LOCK"
}

lab_host() {
  local name=$1 state
  shift
  [ -n "$LAB_IMAGE" ] || lab_fail "lab_image comes before lab_host"
  # cgroups of the machine: systemd wants to make its own below the one it finds itself in.
  lab_docker run -d --name "$LAB_RUN-$name" --hostname "$name" --network "$LAB_NETWORK" \
    --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --cgroupns=host --tmpfs /run --tmpfs /run/lock --tmpfs /tmp:exec -v /sys/fs/cgroup:/sys/fs/cgroup:rw \
    -e container=docker "$@" "$LAB_IMAGE" /lib/systemd/systemd >/dev/null
  LAB_HOSTS+=("$name")
  for _ in $(seq 150); do
    state=$(lab_exec "$name" systemctl is-system-running 2>/dev/null || true)
    case $state in running | degraded) return ;; esac
    sleep 0.2
  done
  lab_docker logs "$LAB_RUN-$name" 2>&1 | tail -n 20 >&2
  lab_fail "$name does not come up: ${state:-systemctl does not answer}"
}

lab_exec() {
  local as=root
  if [ "$1" = -u ]; then as=$2; shift 2; fi
  local name=$1
  shift
  lab_docker exec -i -u "$as" "$LAB_RUN-$name" "$@"
}

lab_copy() {
  # Not `docker cp`: it does not see into what is mounted on the host.
  lab_exec "$2" sh -c 'cat >"$0" && chmod 755 "$0"' "$3" <"$1"
}

lab_end() {
  local name
  for name in "${LAB_HOSTS[@]}"; do
    lab_docker rm -f -v "$LAB_RUN-$name" >/dev/null 2>&1 || true
  done
  LAB_HOSTS=()
  [ -n "${LAB_LOCK:-}" ] || return 0
  flock "$LAB_LOCK"
  lab_docker network rm "$LAB_NETWORK" >/dev/null 2>&1 || true
  # Another run may have come to use it.
  if [ -n "$LAB_DOCKERD" ] && [ -z "$(lab_docker ps -q 2>/dev/null)" ]; then
    kill "$LAB_DOCKERD" 2>/dev/null || true
    wait "$LAB_DOCKERD" 2>/dev/null || true
    LAB_DOCKERD=
  fi
  flock -u "$LAB_LOCK"
}
