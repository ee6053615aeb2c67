# shellcheck shell=bash
# Shared by `run` and `api`; sourced, not run, after scripts/lib.sh. Whoever sources it
# sets `containers`, `style` and `distrofs`.
#
# Guarantees: containers, the Emperor and the service end however the script does.

here=$repo/examples/uwsgi-emperor
wait_seconds_max=30
service=
launcher=
emperor=

# What the examples need besides the program; not root's rights.
need_of_examples() {
  need_root
  need_fuse
  need coreutils curl findutils iproute2 procps python3-minimal util-linux uwsgi-core
  [ -n "$distrofs" ] || build_release
  distrofs=$(realpath -e "$distrofs")
}

# --- Saying and checking ----------------------------------------------------

say() { printf '  %s\n' "$*"; }
title() { printf '\n== %s\n' "$*"; }

# expect WHAT EXPECTED ACTUAL
expect() {
  [ "$2" = "$3" ] || die "$1: expected '$2', found '$3'"
  say "$1: ${3//$'\n'/, }"
}

show_logs() {
  local log
  for log in "$work"/emperor.log "$work"/serve.log "$work"/homes/*/logs/*; do
    [ ! -f "$log" ] || printf -- '--- %s\n%s\n' "${log#"$work/"}" "$(tail -n 25 "$log")" >&2
  done
}

# wait_until WHAT COMMAND…
wait_until() {
  local what=$1 end=$((SECONDS + wait_seconds_max))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || die "waited $wait_seconds_max s in vain for $what"
    [ -z "$launcher" ] || [ -e "/proc/$launcher" ] || [ "$what" = stopping ] || die "the Emperor ended instead of $what"
    sleep 0.1
  done
}

# Asks the program in a container: ask UID PATH [OPTIONS OF curl]. The Emperor
# runs in a network of its own, so that no port of this machine is taken.
ask() {
  local uid=$1 path=$2
  shift 2
  nsenter --net="/proc/$emperor/ns/net" curl --silent --max-time 10 "$@" "http://127.0.0.1:$uid$path"
}

# Whether a container's rc.local scripts were run this often: started UID TIMES.
started() {
  [ "$(grep --count --no-messages '^home:' "$work/homes/$1/logs/rc.local.log")" = "$2" ]
}

answers() { ask "$1" / --fail --output "$work/$1.json"; }

# One value of what a container last said about itself, as Python says it:
# fact UID EXPRESSION.
fact() {
  python3 -c 'import json, sys; it = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$work/$1.json" "$2"
}

digest_of() { sha256sum "$1" | cut -c -16; }

# What whoever reads the image sees, but for access times.
image_listing() {
  find "$shared" -printf '%P %M %U:%G %s %T@ %n %l\n' | sort | sha256sum | cut -c -16
}

# The Emperor's process that is a container: process_of UID.
process_of() { pgrep --parent "$emperor" --uid "$1"; }

# Whose processes there are in a container: owners UID.
owners() {
  pgrep --ns "$(process_of "$1")" --nslist pid | xargs ps -o uid= -p | tr -d ' ' | sort --unique
}

# Ends the Emperor and with it, as it is the first process of its namespace, every
# process of every container.
end_containers() {
  [ -n "$launcher" ] || return 0
  kill -KILL "${emperor:-$launcher}" 2>/dev/null
  wait "$launcher" 2>/dev/null
}

# Mount namespaces of containers.
container_namespaces() {
  local table
  { grep --files-with-matches --no-messages -E "${work##*/}/homes/3000[12]" /proc/[0-9]*/mountinfo || true; } |
    while read -r table; do readlink "${table%/*}/ns/mnt" || true; done | sort --unique | wc --lines
}

# Ends the service and, as nobody uses its images any more, the process that reads them.
end_service() {
  [ -n "$service" ] || return 0
  kill -TERM "$service" 2>/dev/null
  wait "$service" 2>/dev/null
}

# --- Homes and Emperor ------------------------------------------------------

# A directory of homes, one for each container. Sets $work.
make_homes() {
  local uid
  # Only root can enter it: nobody reaches the image around a container's view.
  make_work_dir uwsgi-emperor
  # shellcheck disable=SC2016 # evaluated at the end
  at_exit '[ "$status" -eq 0 ] || show_logs'
  case $work$distrofs in *' '*) die "hooks of uWSGI cannot name files with a space: $work, $distrofs" ;; esac
  mkdir "$work"/{vassals,homes,roots}
  chmod 700 "$work/roots"
  for uid in "${containers[@]}"; do
    mkdir -p "$work/roots/$uid" "$work/homes/$uid"
    cp -R "$here/home/." "$work/homes/$uid/"
    mkdir "$work/homes/$uid/logs"
    chown -R "$uid:$uid" "$work/homes/$uid"
    chmod 700 "$work/homes/$uid"
    cp "$here/container.ini" "$work/vassals/$uid.ini"
  done
}

# Starts the service with these settings, and waits until it serves.
start_service() {
  local setting settings=()
  for setting; do settings+=(--set "$setting"); done
  "$distrofs" serve -v --set homes="$work/homes" --set run="$work/run" "${settings[@]}" \
    </dev/null >"$work/serve.log" 2>&1 &
  service=$!
  at_exit end_service
  served() { grep --quiet 'all images are served' "$work/serve.log"; }
  wait_until 'the service' served
}

# Starts the Emperor, and with it the containers.
start_emperor() {
  set -m
  env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin unshare --net --pid --fork --kill-child=KILL \
    sh -c 'ip link set lo up && exec "$@"' sh \
    uwsgi-core --set-ph base="$work" --set-ph distrofs="$distrofs" --set-ph style="$style" --ini "$here/emperor.ini" \
    </dev/null >"$work/emperor.log" 2>&1 &
  launcher=$!
  set +m
  at_exit end_containers
  starts() { emperor=$(pgrep --parent "$launcher" --exact uwsgi-core); }
  wait_until 'starting' starts
}

stop_emperor() {
  kill -TERM "$emperor"
  stopped() { [ ! -e "/proc/$launcher" ]; }
  wait_until 'stopping' stopped
  launcher=
}

stop_service() {
  kill -TERM "$service"
  wait "$service"
  service=
}

# Nothing of it is there any more.
expect_nothing_left() {
  expect 'mount namespaces of containers' 0 "$(container_namespaces)"
  daemon_gone() { ! pgrep --full -- "$work" >/dev/null; }
  wait_until 'the processes of the service ending' daemon_gone
  expect 'mounts left on the host' '' "$(mounts_under "$work")"
}
