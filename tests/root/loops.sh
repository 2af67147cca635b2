#!/usr/bin/env bash
# Runs a command with real file systems to test on:
#
#   tests/root/loops.sh cargo test -p freemkvd-tests --test root -- --ignored
#
# Tests may mount more below the directory that these are in; what they leave is ended and unmounted, too.
# The command finds them in FREEMKVD_TEST_MOUNTS, as name=directory separated by commas: ext4, xfs and
# btrfs (loop devices, 1 GiB), overlay and fuse (mergerfs; each over an ext4 of its own, whose directory
# is overlay-below and fuse-below), tmpfs (64 MiB, to run out of space), liar (an ext4 of 256 MiB on a
# tmpfs of 32 MiB: takes every write and loses most at writeback), and debugfs, where the kernel counts
# the dirty pages of each device.
# Exits as the command does; with 1 if it left something behind that keeps a file system busy.
#
# The mounts are in a mount namespace of their own, and the loop devices detach themselves with the last
# mount: even when this script is killed, both go with the last process in here. Needs root, e2fsprogs,
# xfsprogs, btrfs-progs and mergerfs.
set -euo pipefail

if [[ ${FREEMKVD_TEST_NAMESPACE:-} != "$$" ]]; then
    # unshare without --fork becomes bash again: the process, and so $$, stays the same.
    FREEMKVD_TEST_NAMESPACE=$$ exec unshare --mount --propagation private -- "$BASH" "$0" "$@"
fi
[[ $# -gt 0 ]] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/freemkvd-loops.XXXXXX")
mounted=()
child=
interrupted=0
throttle=/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device

# restore DIRECTORY: ends what a test that was killed may have left on the device mounted there. One
# that stays frozen could not be unmounted, and a limit would hold for the next one of that number.
restore() {
    local device
    device=$(findmnt --noheadings --output SOURCE --mountpoint "$1" || true)
    [[ $device == /dev/loop* ]] || return 0
    fsfreeze --unfreeze "$1" 2>/dev/null || true
    [[ ! -w $throttle ]] || echo "$(<"/sys/block/${device#/dev/}/dev") 0" >"$throttle"
}

# places: prints the mounts below $work, also those that the command has made, the newest first.
places() { findmnt --noheadings --raw --output TARGET | grep --fixed-strings "$work/" | tac; }

finish() {
    local code=$? dir tries
    trap '' INT TERM HUP
    # Before anybody is waited for who may wait for it.
    for dir in $(places); do restore "$dir"; done
    if [[ -n $child ]]; then
        if ((interrupted)); then
            # Time to clean up: the command may have to shut a whole systemd down.
            kill -TERM -- "-$child" 2>/dev/null || true
            for ((tries = 300; tries > 0; tries--)); do
                kill -0 -- "-$child" 2>/dev/null || break
                sleep 0.1
            done
        elif kill -0 -- "-$child" 2>/dev/null; then
            echo "loops.sh: the command left processes behind" >&2
            code=1
        fi
        kill -KILL -- "-$child" 2>/dev/null || true
    fi
    for dir in $(places); do
        [[ " ${mounted[*]} " == *" $dir "* ]] || { echo "loops.sh: $dir was left mounted" >&2; code=1; }
        for ((tries = 50; tries > 0; tries--)); do
            umount "$dir" 2>/dev/null && break
            sleep 0.1
        done
        if ((tries == 0)); then
            echo "loops.sh: $dir is still in use" >&2
            umount --lazy "$dir"
            code=1
        fi
    done
    rm -rf --one-file-system "$work"
    exit "$code"
}
trap finish EXIT
trap 'interrupted=1; exit 130' INT
trap 'interrupted=1; exit 143' TERM HUP

# image SIZE NAME TYPE [MKFS OPTION...]: makes and mounts $work/NAME; the image is in $work/images/NAME
# if that is a directory.
image() {
    local size=$1 name=$2 type=$3 file=$work/$2.img
    shift 3
    [[ ! -d $work/images/$name ]] || file=$work/images/$name/$name.img
    truncate --size="$size" "$file"
    "mkfs.$type" -q "$@" "$file" >"$work/mkfs.log" 2>&1 || { cat "$work/mkfs.log" >&2; return 1; }
    mkdir "$work/$name"
    mount -t "$type" -o loop "$file" "$work/$name"
    mounted+=("$work/$name")
    restore "$work/$name"
}

image 1G ext4 ext4
image 1G xfs xfs
image 1G btrfs btrfs

image 1G overlay-device ext4
under=$work/overlay-device
mkdir "$work/overlay" "$under"/{lower,upper,work}
mount -t overlay -o "lowerdir=$under/lower,upperdir=$under/upper,workdir=$under/work" overlay "$work/overlay"
mounted+=("$work/overlay")

image 1G fuse-below ext4
mkdir "$work/fuse"
# In the foreground, so that it ends with this script whatever happens.
setpriv --pdeathsig KILL mergerfs -f -o minfreespace=0 "$work/fuse-below" "$work/fuse" &
for ((tries = 100; tries > 0; tries--)); do
    mountpoint --quiet "$work/fuse" && break
    sleep 0.1
done
((tries > 0)) || { echo "loops.sh: mergerfs did not mount" >&2; exit 1; }
mounted+=("$work/fuse")

mkdir "$work/tmpfs"
mount -t tmpfs -o size=64m tmpfs "$work/tmpfs"
mounted+=("$work/tmpfs")

mkdir -p "$work/images/liar"
mount -t tmpfs -o size=32m tmpfs "$work/images/liar"
mounted+=("$work/images/liar")
# Without a journal: with one, ext4 ends itself at the first error, and write(2) already says so.
image 256M liar ext4 -O ^has_journal -E lazy_itable_init=1

mkdir "$work/debugfs"
mount -t debugfs debugfs "$work/debugfs"
mounted+=("$work/debugfs")

mounts=
for name in ext4 xfs btrfs overlay fuse fuse-below tmpfs liar debugfs; do
    mounts+=$name=$work/$name,
done
mounts+=overlay-below=$under/upper

# Not in the foreground: bash would run the traps only after the command ends. In a session, and so in a
# process group, of its own, so that all of it can be ended; if this script is killed, by the kernel.
FREEMKVD_TEST_MOUNTS=$mounts setsid setpriv --pdeathsig TERM "$@" <&0 &
child=$!
code=0
wait "$child" || code=$?
exit "$code"
