#!/usr/bin/env bash
# A muxer in a container, and the daemon outside of it.
#
#   tests/root/containers.sh FREEMKVD STATIC_FREEMKVCTL STATIC_SWEEP
#
# The container is what podman and docker make, by hand: namespaces of its own for users, mounts and
# processes, and a root that has nothing but the static freemkvctl, a static muxer, the directory of the
# socket, a volume, and what the kernel shows of itself. Its root is the host's user "muxer", as in rootless podman. The daemon
# runs as another user.
# Needs root. Prints "ok - what" or "not ok - what" for each step, and fails if one failed.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[[ $# -eq 3 ]] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; }
freemkvd=$(readlink -f "$1")
freemkvctl=$(readlink -f "$2")
sweep=$(readlink -f "$3")
# Users that nobody has made: only their numbers count.
daemon=61001 muxer=61002 stranger=61003

work=$(mktemp -d "${TMPDIR:-/var/tmp}/freemkvd-containers.XXXXXX")
# shellcheck source=tests/root/checks.sh
. "$here/checks.sh"
pid=
finish() {
    local code=$?
    trap '' INT TERM HUP
    : >"$work/enough"
    wait_for_container || true
    [[ -z $pid ]] || { kill -TERM "$pid" 2>/dev/null && wait "$pid" || true; }
    rm -rf --one-file-system "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- the host

chmod 755 "$work"
run=$work/run volume=$work/volume rips=$work/rips socket=$work/run/freemkvd.sock
# The socket's directory is for everybody to enter, as /run/freemkvd is.
install -d -m 755 -o $daemon -g $daemon "$run"
# The volume is the muxer's, and the daemon may not write there. The root is the daemon's.
install -d -m 755 -o $muxer -g $muxer "$volume"
install -d -m 2775 -o $daemon -g $daemon "$rips"
install -D -m 755 "$freemkvd" "$work/bin/freemkvd"
install -D -m 755 -t "$work/image" "$freemkvctl" "$sweep"
head -c 9000001 /dev/urandom >"$work/bytes"
install -m 644 "$work/bytes" "$work/image/disc"

answers() { "$freemkvctl" --socket "$socket" status --json; }
start() {
    setpriv --reuid $daemon --regid $daemon --clear-groups \
        sh -c 'umask 0002; exec "$@"' sh "$work/bin/freemkvd" --root "$rips" --socket "$socket" 2>>"$work/log" &
    pid=$!
    soon answers || { cat "$work/log"; exit 1; }
    chgrp $daemon "$socket"
    chmod 660 "$socket"
}
# --- the container

# container USER GROUPS COMMAND...: runs it as root of a new one, which is USER on the host. It sees the
# volume as /rips, which the host has not, and the root of the daemon under the name that it has there.
container() {
    local user=$1 groups=$2
    shift 2
    # shellcheck disable=SC2016 # the inner shell's variables
    setpriv --reuid "$user" --regid "$user" --groups "$groups" \
        unshare --user --map-root-user --mount --pid --fork --kill-child sh -euc '
        work=$1
        shift
        root=$work/container
        mount -t tmpfs tmpfs "$root"
        mkdir -p "$root/run/freemkvd" "$root/rips" "$root/proc" "$root/image" "$root$work/rips"
        : >"$root/socket-alone"
        mount --bind "$work/image" "$root/image"
        mount --bind -o ro "$work/run" "$root/run/freemkvd"
        mount --bind "$work/run/freemkvd.sock" "$root/socket-alone"
        mount --bind "$work/volume" "$root/rips"
        mount --bind "$work/rips" "$root$work/rips"
        mount -t proc proc "$root/proc"
        exec chroot "$root" "$@"
        ' sh "$work" "$@"
}
mkdir "$work/container"
inside() { container $muxer $daemon "$@"; }
ctl() { inside /image/freemkvctl --socket /run/freemkvd/freemkvd.sock "$@"; }
# For when a step ends all of this.
writing=
wait_for_container() { [[ -z $writing ]] || wait "$writing"; }

not_dynamic() { ! grep -aq 'ld-musl\|ld-linux' "$1"; }
same() { cmp "$work/bytes" "$1"; }
owner() { equal "$1" "$(stat -c '%u:%g %a' "$2")"; }
# refuses CODE WORDS COMMAND...: it ends with this exit code, and says so.
refuses() {
    local wanted=$1 words=$2 code=0 said
    shift 2
    said=$("$@" 2>&1 </dev/null) || code=$?
    equal "$wanted" "$code" && matches "$words" "$said"
}

start
check "freemkvctl needs no library and no loader" not_dynamic "$freemkvctl"
check "nor does a muxer" not_dynamic "$sweep"
check "the container has nothing of the host" refuses 127 "No such file" inside /bin/sh
check "status through the directory of the socket" ctl status
check "a user who may not connect outside may not inside" \
    refuses 3 "ermission denied" container $stranger $stranger \
    /image/freemkvctl --socket /run/freemkvd/freemkvd.sock status

# --- by descriptor: what the container calls /rips

written() { ctl write "$@" <"$work/bytes" 2>&1 | tee "$work/answer" && same "$volume/film.mkv"; }
check "a file of the volume is written, by a path that the host has not" written /rips/film.mkv
swept() {
    FREEMKVD_SOCKET=/run/freemkvd/freemkvd.sock inside /image/sweep /image/disc /rips/disc.iso &&
        same "$volume/disc.iso" && grep -q "opened.*disc.iso" "$work/log"
}
check "a muxer of the client library writes one, too" swept
check "its descriptor was passed" grep "opened by descriptor" "$work/answer"
check "it is the muxer's, whoever it is in there" owner "$muxer:$muxer 644" "$volume/film.mkv"
check "it is replaced in one step if wanted" written /rips/film.mkv --publish --overwrite
check "a file that exists is left alone without --overwrite" refuses 1 "exists" ctl write /rips/film.mkv

# --- by path: what the daemon calls so

check "the path of the container means nothing to the daemon" \
    refuses 1 "outside the daemon's roots" ctl write /rips/by-path.mkv --open-by path
by_path() { ctl write "$rips/film.mkv" --open-by path <"$work/bytes" && same "$rips/film.mkv"; }
check "below a root that has the same name inside it is written by path" by_path
check "and the daemon's then" owner "$daemon:$daemon 664" "$rips/film.mkv"

# --- while it runs

# begin NAME: a muxer that gets a piece of the bytes now and then, until it has all.
begin() {
    (
        for ((at = 0; at < 90; at++)); do
            tail -c "+$((at * 100000 + 1))" "$work/bytes" | head -c 100000
            [[ -e $work/enough ]] || sleep 0.05
        done
        tail -c 1 "$work/bytes"
    ) | ctl write "/rips/$1" --quiet &
    writing=$!
    soon stream ".client_uid == $muxer and .written_bytes > 0"
}
stream() { host_status | jq -e ".streams | length == 1 and (.[0] | $1)" >/dev/null; }
host_status() { "$freemkvctl" --socket "$socket" status --json || (($? == 4)); }
restarted() {
    kill -KILL "$pid"
    wait "$pid" || true
    start
    soon stream ".client_uid == $muxer and .written_bytes > 100000"
}
# Root of the container, and the host knows who that is.
check "the daemon sees the host's user" begin slow.mkv
# What is in it while it runs.
within() {
    setpriv --reuid $muxer --regid $muxer --groups $daemon nsenter --preserve-credentials \
        --target "$(pgrep -n -u $muxer -x freemkvctl)" --user --mount --root /image/freemkvctl "$@"
}
check "the socket's file alone, mounted, is the socket too" within --socket /socket-alone status
check "what the daemon has made is nobody's in there" equal 65534 \
    "$(nsenter --target "$(pgrep -n -u $muxer -x freemkvctl)" --user stat -c %u "$rips/film.mkv")"
check "killed, a new daemon makes a new socket, and the rip goes on" restarted
check "in the directory the new one is found" within --socket /run/freemkvd/freemkvd.sock status
check "the file that was mounted alone is the old one, for ever" \
    refuses 3 "" within --socket /socket-alone status
: >"$work/enough"
finished() { wait "$writing" && same "$volume/slow.mkv"; }
check "and its file is right" finished
rm "$work/enough"

echo "$passed passed, $failed failed"
((failed == 0))
