# shellcheck shell=bash
# Shared by the scripts beside it; sourced, not run.
#
# Guarantees to whoever sources it: an unset variable or a failed command ends
# the script; what `at_exit` was told is done however the script ends (failure,
# Ctrl-C, SIGTERM, SIGHUP included), last thing first; a `step` is ended with
# all that it started. Everything temporary and every mount of ours lies under
# $scratch, which is what `leftovers` looks at.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
target=${CARGO_TARGET_DIR:-$repo/target}
case $target in /*) ;; *) target=$repo/$target ;; esac
target=$(realpath -m "$target")
scratch=$target/tmp
mkdir -p "$scratch"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# --- Cleaning up ------------------------------------------------------------

cleanups=()
step_pid=

at_exit() { cleanups+=("$*"); }

clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  # Whatever fails to be undone, the rest still is.
  set +e
  end_step
  local i
  for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
    eval "${cleanups[i]}"
  done
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Runs a command in a process group of its own and waits for it. Waiting, unlike
# running, is interrupted by a signal, so Ctrl-C takes effect at once.
step() {
  set -m
  "$@" </dev/null &
  step_pid=$!
  set +m
  local status=0
  wait "$step_pid" || status=$?
  step_pid=
  return "$status"
}

end_step() {
  [ -n "$step_pid" ] || return 0
  kill -TERM -- "-$step_pid" 2>/dev/null
  local tries
  for ((tries = 0; tries < 50; tries++)); do
    kill -0 -- "-$step_pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL -- "-$step_pid" 2>/dev/null
}

# A step whose output only matters if it fails.
quiet_step() {
  local log status=0
  log=$(mktemp -p "$scratch" --suffix=.log)
  at_exit "rm -f '$log'"
  step "$@" >"$log" 2>&1 || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 40 "$log" >&2
    printf '%s: failed with status %s: %s\n' "${0##*/}" "$status" "$*" >&2
  fi
  rm -f "$log"
  return "$status"
}

# A directory that is unmounted from and removed at the end. Sets $work.
make_work_dir() {
  work=$(mktemp -d -p "$scratch" --suffix=".$1")
  at_exit "unmount_under '$work'; as_root rm -rf --one-file-system '$work'"
}

# Mount points at or below a directory, innermost first.
mounts_under() {
  local dir=$1 point points=() i
  while read -r _ _ _ _ point _; do
    point=$(printf '%b' "$point")
    case $point/ in "$dir"/*) points+=("$point") ;; esac
  done </proc/self/mountinfo
  for ((i = ${#points[@]} - 1; i >= 0; i--)); do
    printf '%s\n' "${points[i]}"
  done
}

unmount_under() {
  local point
  mounts_under "$1" | while IFS= read -r point; do
    as_root umount --lazy -- "$point" 2>/dev/null || true
  done
}

# Processes of the binaries that were built here.
our_processes() {
  as_root find /proc -maxdepth 2 -name exe \
    \( -lname "$target/*/distrofs" -o -lname "$target/*/distrofs (deleted)" \) -printf '%h\n' 2>/dev/null |
    sed 's|.*/||'
}

# What should not be there any more: mounts, processes, control groups and
# temporary files of the tests.
leftovers() {
  local point pid group
  mounts_under "$target" | while IFS= read -r point; do printf 'still mounted: %s\n' "$point"; done
  for pid in $(our_processes); do
    printf 'still running: %s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
  done
  for group in /sys/fs/cgroup/distrofs-test-* /sys/fs/cgroup/memory/distrofs-test-*; do
    [ ! -d "$group" ] || printf 'control group left: %s\n' "$group"
  done
  find "$scratch" -mindepth 1 -maxdepth 1 -name 'test-*' -printf 'temporary files left: %p\n'
}

# Ends all of them, for a run that was cut short.
remove_leftovers() {
  local pid group
  unmount_under "$target"
  for pid in $(our_processes); do as_root kill -KILL "$pid" 2>/dev/null; done
  for group in /sys/fs/cgroup/distrofs-test-* /sys/fs/cgroup/memory/distrofs-test-*; do
    [ ! -d "$group" ] || as_root rmdir "$group" 2>/dev/null
  done
  as_root rm -rf --one-file-system "$scratch"/test-*
}

# Waits a little for processes to notice that their mount is gone.
wait_for_no_leftovers() {
  local tries
  for ((tries = 0; tries < 50; tries++)); do
    [ -n "$(leftovers)" ] || return 0
    sleep 0.1
  done
  leftovers >&2
  return 1
}

# --- What the machine has ---------------------------------------------------

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

need_root() {
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
    die "this needs root (to mount): run it as root or install sudo"
}

# Installs those of the Debian packages named that are missing.
need() {
  local package missing=()
  command -v dpkg-query >/dev/null ||
    die "this is no Debian; install by hand what these packages hold, then remove this check: $*"
  for package; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  need_root
  printf 'Installing %s\n' "${missing[*]}" >&2
  # One unreachable source of several is no reason to stop: the install decides.
  quiet_step as_root apt-get -q update || true
  quiet_step as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qy -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 install --no-install-recommends "${missing[@]}"
}

need_rust() {
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "cargo not found: install Rust (rust-version in Cargo.toml), for example with rustup"
  need gcc libc6-dev
}

need_fuse() {
  need fuse3
  [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || true
  [ -e /dev/fuse ] || die "/dev/fuse does not exist: the kernel has no FUSE, or this is a container that was not given the device"
}

# Sets $distrofs.
build_release() {
  need_rust
  (cd "$repo" && quiet_step cargo build --release --quiet --bin distrofs)
  # shellcheck disable=SC2034 # for the script that sources this
  distrofs=$target/release/distrofs
}

# --- Measuring --------------------------------------------------------------

# Some kernels page out by themselves what nobody used for a while (DAMON): not while
# something is measured. The schemes that were at work are again at the end.
rest_damon() {
  local state
  for state in /sys/kernel/mm/damon/admin/kdamonds/*/state; do
    if [ -w "$state" ] && [ "$(cat "$state")" = on ] && echo off >"$state"; then
      at_exit "echo on >'$state'"
    fi
  done
}

# --- Showing ----------------------------------------------------------------

now_us() {
  local now=${EPOCHREALTIME/[.,]/}
  printf '%s' "$now"
}

# Microseconds as seconds with two decimals.
seconds() { printf '%d.%02d' $(($1 / 1000000)) $(($1 % 1000000 / 10000)); }

megabytes() { printf '%d MB' $((($(stat -c %s "$1") + 500000) / 1000000)); }
