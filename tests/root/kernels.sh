#!/usr/bin/env bash
# The daemon on another kernel, which lacks calls that this one may have, and with a file system that this
# one may lack: a real NFS mount, whose server dies in the middle of a film and comes back (its threads are
# taken away), or takes the directory away (exported no longer). The kernel is Debian's own, emulated:
#
#   tests/root/kernels.sh FREEMKVD FREEMKVCTL TESTS CACHE [PACKAGE]
#
# TESTS is the program of the daemon's unit tests; those of the storage run on each file system. PACKAGE is
# the kernel's, linux-image-amd64 by default: Linux 6.1 on Debian 12, without cachestat (6.5) and
# RWF_DONTCACHE (6.14). It and what else is needed in there are downloaded with apt-get into CACHE, once,
# and unpacked, not installed. Needs qemu-system-x86, cpio, kmod, xz-utils, e2fsprogs and jq, but no KVM.
# Takes three to five minutes. Prints "ok - what" or "not ok - what", and what the daemon says.
#
# The guest's root is this machine's, read-only over 9p, below an overlay that forgets everything; so the
# programs and the libraries in there are the ones out here.
set -euo pipefail

self=$(readlink -f "${BASH_SOURCE[0]}")
# Against a guest that hangs; four minutes were seen on a machine that was busy otherwise.
seconds_max=600
# How much is written, and the rung of the ladder that is to be found: the first that works there.
mib=64
rungs=(ext4=sync_file_range nfs4=fdatasync)

die() {
    echo "kernels.sh: $*" >&2
    exit 1
}

# --- out here

packages=(busybox-static keyutils libevent-core-2.1-7 libnfsidmap1 libtirpc3 libwrap0 nfs-common
    nfs-kernel-server)

# fetch PACKAGE DIR: unpacks the kernel and what the guest needs.
fetch() {
    local kernel dir=$2
    [[ ! -e $dir/complete ]] || return 0
    # The package that the short name stands for at present.
    kernel=$(apt-cache depends "$1" | awk '/Depends: linux-image/ { print $2; exit }')
    rm -rf "$dir"
    mkdir -p "$dir/debs"
    # As root apt would download as the user _apt, who may not write here.
    (cd "$dir/debs" && apt-get -qq -o APT::Sandbox::User=root download "${kernel:-$1}" "${packages[@]}" >&2)
    for deb in "$dir"/debs/*.deb; do
        dpkg-deb -x "$deb" "$dir"
    done
    rm -r "$dir/debs"
    [[ -d $dir/lib/modules ]] || ln -s usr/lib "$dir/lib"
    depmod -b "$dir" "$(ls "$dir/lib/modules")"
    touch "$dir/complete"
}

# initrd DIR VERSION: prints an archive with a busybox, the modules for 9p, and an init that enters the
# overlay and starts this script there.
initrd() {
    local dir=$1 version=$2 tree=$work/initrd module
    mkdir -p "$tree"/{bin,modules,proc,sys,dev,host,upper,fresh}
    cp "$dir/bin/busybox" "$tree/bin"
    for module in virtio_pci 9pnet_virtio 9p overlay; do
        modprobe -d "$dir" -S "$version" --show-depends "$module" | awk '/^insmod/ { print $2 }'
    done | awk '!seen[$0]++' | while read -r module; do
        cp "$module" "$tree/modules"
        basename "${module%.xz}"
    done >"$tree/order"
    find "$tree/modules" -name '*.xz' -exec xz -d {} +
    cat >"$tree/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read module; do insmod /modules/\$module; done </order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose host /host
mount -t tmpfs tmpfs /upper
mkdir /upper/changes /upper/work
mount -t overlay -o lowerdir=/host,upperdir=/upper/changes,workdir=/upper/work overlay /fresh
mkdir -p /fresh/lib/modules /fresh/outside
mount --bind /host /fresh/outside
ln -s "/outside$dir/lib/modules/$version" /fresh/lib/modules/$version
for name in dev proc sys; do mount --move /\$name /fresh/\$name; done
for name in run tmp dev/shm mnt; do mkdir -p /fresh/\$name; mount -t tmpfs tmpfs /fresh/\$name; done
chroot /fresh /bin/bash "/outside$self" --guest "/outside$dir" $(printf '"/outside%s" ' "$freemkvd" "$freemkvctl" "$tests")
echo "guest ended: \$?"
echo o >/fresh/proc/sysrq-trigger
sleep 60
INIT
    chmod +x "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc) | gzip -1
}

outside() {
    local dir version program
    for program in "${@:1:3}"; do
        [[ -x $program ]] || die "$program is no program"
    done
    freemkvd=$(readlink -f "$1")
    freemkvctl=$(readlink -f "$2")
    tests=$(readlink -f "$3")
    mkdir -p "$4"
    dir=$(readlink -f "$4")/${5:-linux-image-amd64}
    fetch "${5:-linux-image-amd64}" "$dir"
    version=$(ls "$dir/lib/modules")
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/freemkvd-kernels.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    initrd "$dir" "$version" >"$work/initrd.gz"
    # tcg: where there is a /dev/kvm, it may be a nested one in which this kernel does not come up.
    timeout --foreground --kill-after=5 "$seconds_max" qemu-system-x86_64 -accel tcg,thread=multi -m 2G -smp 2 \
        -nographic -no-reboot -nic none -kernel "$dir/boot/vmlinuz-$version" -initrd "$work/initrd.gz" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off" \
        -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
        </dev/null 2>&1 | tr -d '\r' | tee "$work/console" | sed -n '/^guest: /,$p' || true
    grep -qx 'guest ended: 0' "$work/console" && return
    # What came before may say why.
    grep -q '^guest: ' "$work/console" || tail -n 40 "$work/console"
    die "it failed on Linux $version"
}

# --- in there

failed=0

# check WHAT COMMAND...
check() {
    local what=$1
    shift
    if "$@" >/run/said 2>&1; then
        echo "ok - $what"
    else
        echo "not ok - $what"
        sed 's/^/    /' /run/said
        failed=1
    fi
}

# soon COMMAND...
soon() {
    local end=$((SECONDS + 60))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# image NAME: an ext4 on /mnt/NAME.
image() {
    truncate --size=512M "/run/$1.img"
    mkfs.ext4 -q "/run/$1.img"
    mkdir "/mnt/$1"
    mount -t ext4 -o loop "/run/$1.img" "/mnt/$1"
}

# An NFS server of this guest's kernel, and its export on /mnt/nfs4.
nfs() {
    local tools=$1
    image exported
    modprobe nfsd
    mount -t nfsd nfsd /proc/fs/nfsd
    mkdir -p /var/lib/nfs/v4recovery
    : >/var/lib/nfs/etab
    echo '/mnt/exported 127.0.0.1(rw,no_root_squash,fsid=0,insecure,no_subtree_check)' >/etc/exports
    # How long it waits for clients of a previous life when it is started again.
    echo 10 | tee /proc/fs/nfsd/nfsv4leasetime >/proc/fs/nfsd/nfsv4gracetime
    nfs_tool "$tools" rpc.mountd -N 3
    nfs_tool "$tools" exportfs -ra
    nfs_tool "$tools" rpc.nfsd -N 3 4
    # At first there are none.
    echo Y >/proc/fs/nfsd/v4_end_grace
    mkdir /mnt/nfs4
    # Without the helper of nfs-common, which is not installed: the kernel wants addresses.
    mount -i -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,hard 127.0.0.1:/ /mnt/nfs4
}

# holds FILTER: the daemon's status is such; it stays in /run/status.
holds() {
    "$freemkvctl" --socket /run/freemkvd.sock status --json >/run/status || true
    jq -es "length == 1 and (.[0] | $1)" /run/status >/dev/null
}

# storage TESTS FILESYSTEM: its unit tests write where they are started.
storage() {
    local skip=()
    # Some exchange two names all the time, and NFS has no call for that. One takes a lease, which NFS gives to
    # nobody whose server has not delegated the file to it.
    [[ $2 != nfs* ]] || skip=(--skip swapped --skip where_a_link_leads --skip has_a_lease)
    (cd "/mnt/$2" && "$1" --test-threads=1 "${skip[@]}" storage::)
}

# write FILESYSTEM RUNG
write() {
    local file=/mnt/$1/film.mkv writer
    rm -f /run/pipe
    mkfifo /run/pipe
    "$freemkvctl" --socket /run/freemkvd.sock write --quiet "$file" </run/pipe &
    writer=$!
    exec 3>/run/pipe
    cat /run/bytes >&3
    # Its end is still to come, so there is a stream to look at. What the client keeps for patches has not
    # been sent yet.
    check "$1: half of it gets written" soon holds ".streams[0].written_bytes >= $((mib << 19))"
    check "$1: the device and its drain are named" \
        holds "[.devices[] | [.filesystem, .drain]] == [[\"$1\", \"$2\"]]"
    check "$1: no more is charged than the budget has" holds '.budget.charged_bytes <= .budget.limit_bytes'
    check "$1: nothing is degraded" holds '[.streams[].error] == [null]'
    jq -Mc '{budget, devices, streams}' /run/status
    exec 3>&-
    check "$1: it is durable" wait "$writer"
    check "$1: the file is identical" cmp /run/bytes "$file"
    check "$1: every charge came back" holds '.budget.charged_bytes == 0 and .streams == []'
}

# rip NUMBER FILE OPTION...: starts a writer of FILE, whose input is what comes to descriptor NUMBER.
declare -A writers
rip() {
    local number=$1 file=$2
    shift 2
    rm -f "/run/pipe$number"
    mkfifo "/run/pipe$number"
    "$freemkvctl" --socket /run/freemkvd.sock write --quiet "$@" "$file" \
        <"/run/pipe$number" 2>"/run/said$number" &
    writers[$number]=$!
    eval "exec $number>/run/pipe$number"
}

# stream PATH FILTER: the stream of PATH is such.
stream() { holds "[.streams[] | select(.path == \"$1\") | $2] == [true]"; }

# nfs_tool TOOLS PROGRAM ARGUMENT...
nfs_tool() {
    local tools=$1 program=$2
    shift 2
    LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu "$tools/usr/sbin/$program" "$@"
}

# The server dies in the middle of a film, and comes back. What is mounted "hard" waits for it.
dead_server() {
    local tools=$1 half=$((mib << 19)) feeder began
    rip 4 /mnt/nfs4/dead.mkv
    head -c "$half" /run/bytes >&4
    check "dead server: half of a film is written" \
        soon stream /mnt/nfs4/dead.mkv ".written_bytes >= $((half - (4 << 20)))"
    echo 0 >/proc/fs/nfsd/threads
    tail -c "+$((half + 1))" /run/bytes >&4 &
    feeder=$!
    check "dead server: status says what its stream is stuck in, and names the server" \
        soon stream /mnt/nfs4/dead.mkv '.blocked_in != null and (.waiting_for.what | endswith(" on 127.0.0.1:/"))'
    jq -Mc '.streams[] | {path, state, blocked_in, waiting_for}' /run/status
    "$freemkvctl" --socket /run/freemkvd.sock status >/run/text || true
    check "dead server: status says it in words" grep -q '^stalled in .* on 127.0.0.1:/: stream ' /run/text
    grep '^stalled' /run/text
    began=$SECONDS
    rip 5 /mnt/ext4/well.mkv
    cat /run/bytes >&5
    exec 5>&-
    check "dead server: a film on ext4 is finished meanwhile" wait "${writers[5]}"
    check "dead server: the film on ext4 is identical" cmp /run/bytes /mnt/ext4/well.mkv
    echo "    it took $((SECONDS - began)) s"
    check "dead server: the other one still waits" \
        stream /mnt/nfs4/dead.mkv '.blocked_in != null and .error == null'
    began=$SECONDS
    nfs_tool "$tools" rpc.nfsd -N 3 4
    wait "$feeder"
    exec 4>&-
    check "dead server: its film is durable after it has come back" wait "${writers[4]}"
    echo "    it took $((SECONDS - began)) s"
    check "dead server: its film is identical" cmp /run/bytes /mnt/nfs4/dead.mkv
    check "dead server: nothing is charged" \
        holds '.budget.charged_bytes == 0 and all(.streams[]; .path | endswith("dead.mkv") | not)'
    rm /mnt/nfs4/dead.mkv /mnt/ext4/well.mkv
}

# A server that exports the directory no longer. It says so by ESTALE, 116, or, as of NFS 4, by EACCES, 13.
unexported() {
    local feeder
    rip 4 /mnt/nfs4/gone.mkv
    head -c "$((mib << 19))" /run/bytes >&4
    check "unexported: half of a film is written" soon stream /mnt/nfs4/gone.mkv ".written_bytes >= $((mib << 18))"
    nfs_tool "$1" exportfs -ua
    nfs_tool "$1" exportfs -f
    # It may have ended by then.
    tail -c "+$(((mib << 19) + 1))" /run/bytes 2>/run/nobody >&4 &
    feeder=$!
    exec 4>&-
    check "unexported: its muxer hears of it" eval '! wait "${writers[4]}"'
    wait "$feeder" || true
    cat /run/said4
    check "unexported: with the file's name" grep -q /mnt/nfs4/gone.mkv /run/said4
    check "unexported: status shows the number" stream /mnt/nfs4/gone.mkv '.state == "failed" and (.error.errno | . == 13 or . == 116)'
    jq -Mc '.streams[] | .error' /run/status
    check "unexported: nothing is charged" soon holds '.budget.charged_bytes == 0'
    nfs_tool "$1" exportfs -ra
}

# Names, and what is left, on NFS: which has no rename that replaces nothing.
publish() {
    local file=/mnt/nfs4/published.mkv
    rip 4 "$file" --publish
    cat /run/bytes >&4
    check "publish: it has its other name until then" [ -e "$file.partial" ]
    check "publish: it has not its own" [ ! -e "$file" ]
    exec 4>&-
    check "publish: it is durable" wait "${writers[4]}"
    check "publish: it is identical" cmp /run/bytes "$file"
    check "publish: the other name is gone" [ ! -e "$file.partial" ]
    rip 4 "$file" --publish
    exec 4>&-
    check "publish: a name that is taken is refused" eval '! wait "${writers[4]}"'
    cat /run/said4
    check "publish: nothing is left of that" [ ! -e "$file.partial" ]
    rm "$file"

    rip 4 "$file" --publish
    cat /run/bytes >&4
    check "publish: a second one is on its way" soon [ -e "$file.partial" ]
    echo other >"$file"
    exec 4>&-
    check "publish: a name that is taken meanwhile is not replaced" eval '! wait "${writers[4]}"'
    cat /run/said4
    check "publish: it belongs to the other one" [ "$(cat "$file")" = other ]
    check "publish: the film is whole" cmp /run/bytes "$file.partial"
    rm "$file" "$file.partial"

    rip 4 "$file" --leftover remove
    cat /run/bytes >&4
    check "leftover: it is there" soon [ -e "$file" ]
    kill -INT "${writers[4]}"
    check "leftover: it was interrupted" eval '! wait "${writers[4]}"'
    exec 4>&-
    check "leftover: it is removed" soon [ ! -e "$file" ]
    check "leftover: nothing is left, hidden or not" soon eval '[ -z "$(ls -A /mnt/nfs4 | grep -E "nfs|published")" ]'
}

guest() {
    local daemon rung
    freemkvd=$2
    freemkvctl=$3
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    # On a line of its own: the firmware has left the cursor somewhere.
    printf '\nguest: Linux %s\n' "$(uname -r)"
    "$1/bin/busybox" ip link set lo up
    modprobe -a loop ext4 nfsv4
    image ext4
    nfs "$1"
    head -c "${mib}M" /dev/urandom >/run/bytes
    # Without a window a stream begins on the highest rung.
    printf '[budget]\ntotal = "16MiB"\n[stream]\nwindow = "0B"\n' >/run/config.toml
    "$freemkvd" --config /run/config.toml --socket /run/freemkvd.sock --root /mnt/ext4 --root /mnt/nfs4 \
        2>/run/log &
    daemon=$!
    check "the daemon answers" soon holds '.state'
    for rung in "${rungs[@]}"; do
        check "${rung%=*}: the storage's own tests" storage "$4" "${rung%=*}"
        write "${rung%=*}" "${rung#*=}"
    done
    check "a rung that was refused is logged, once" \
        [ "$(grep -c ' instead of dontcache: the file system does not support it' /run/log)" = 1 ]
    publish
    dead_server "$1"
    unexported "$1"
    kill -TERM "$daemon"
    check "the daemon stops" wait "$daemon"
    check "what was done to them is told as an error, and nothing else" \
        [ "$(sed -n 's/.* ERROR stream [0-9]* failed: [^/]*\([^ :]*\).*/\1/p' /run/log | tr '\n' ' ')" = \
        "/mnt/nfs4/published.mkv.partial /mnt/nfs4/gone.mkv " ]
    check "that are all errors" [ "$(grep -c ' ERROR ' /run/log)" = 2 ]
    cat /run/log
    return "$failed"
}

if [[ ${1:-} == --guest ]]; then
    shift
    guest "$@"
    exit
fi
[[ $# -ge 4 ]] || { sed -n '2,5s/^# \?//p' "$self"; exit 2; }
outside "$@"
