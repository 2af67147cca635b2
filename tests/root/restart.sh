#!/usr/bin/env bash
# Muxers write while a real systemd restarts the daemon in every way it can, and every file is right.
#
#   tests/root/restart.sh FREEMKVD FREEMKVCTL [MUXER]
#
# MUXER is the fake one of the tests, which says how long its calls waited; without it no pause is
# measured. FREEMKVD_KILLS is the number of kills (50), FREEMKVD_RESTARTS that of restarts (200), and
# FREEMKVD_STREAMS that of streams that must leave nothing behind (1000).
# Needs root, systemd, jq, and what loops.sh needs. Prints "ok - what" or "not ok - what" for each step,
# and fails if one failed.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[[ $# -ge 2 ]] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; }
if [[ -z ${FREEMKVD_TEST_MOUNTS:-} ]]; then
    exec "$here/loops.sh" "${BASH_SOURCE[0]}" "$@"
fi

kills=${FREEMKVD_KILLS:-50}
restarts=${FREEMKVD_RESTARTS:-200}
streams=${FREEMKVD_STREAMS:-1000}
mount_of() { tr ',' '\n' <<<"$FREEMKVD_TEST_MOUNTS" | sed -n "s/^$1=//p"; }
xfs=$(mount_of xfs)
liar=$(mount_of liar)
# The tmpfs on which its image lies: when that is full, writeback fails.
liar_disk=$(dirname "$liar")/images/liar
muxer=${3:+$(readlink -f "$3")}
# shellcheck disable=SC2034 # units.sh looks at it
binds=("$xfs:/srv/xfs" "$liar:/srv/liar")
# shellcheck source=tests/root/units.sh
. "$here/units.sh" "$1" "$2"

echo "systemd $version"
within systemd-sysusers freemkvd.conf 2>/dev/null
within systemd-tmpfiles --create freemkvd.conf
make_ready
within chown freemkv:freemkv /srv/xfs /srv/liar
within chmod 2775 /srv/xfs /srv/liar
[[ -z $muxer ]] || install -D "$muxer" "$root/usr/bin/muxer"
# On the liar nothing is drained, so that what is written is still dirty when the daemon is killed.
cat >"$root/etc/freemkvd/config.toml" <<'CONFIG'
[daemon]
roots = ["/srv/rips", "/srv/xfs", "/srv/liar"]
[root."/srv/liar"]
drain = "none"
CONFIG
# drop_in NAME LINE...: lines for [Service].
drop_in() {
    local file=$root/run/systemd/system/freemkvd.service.d/$1.conf
    shift
    mkdir -p "$(dirname "$file")"
    printf '%s\n' '[Service]' "$@" >"$file"
    within systemctl daemon-reload
}
# While this file is there the daemon is down: what starts is held before it, and clients wait.
gate=$root/run/freemkvd-gate
# A call that the filter of the unit denies kills, and does not merely fail: none is to be missed.
drop_in test 'ReadWritePaths=-/srv/xfs -/srv/liar' SystemCallErrorNumber=kill \
    'ExecStartPre=+/bin/sh -c "while [ -e /run/freemkvd-gate ]; do sleep 0.02; done"'

# --- muxers

# long SECONDS COMMAND...: as `within`, for what takes longer.
long() { timeout --foreground "$1" "$here/systemd-pid1" exec "$host" "${@:2}"; }

# source NAME: 128 KiB twenty times a second, until it is enough.
source_of() {
    while [[ ! -e $work/enough && ! -e $work/$1.enough ]]; do
        head -c 131072 /dev/urandom || break
        sleep 0.05
    done
}

declare -A rips=()
# For when a step ends all of this.
before_down() {
    : >"$work/enough"
    rm -f "$gate"
    fsfreeze --unfreeze "$xfs" 2>/dev/null || true
    ((${#rips[@]} == 0)) || timeout 20 tail --pid="${rips[*]: -1}" -f /dev/null || true
}

# rip NAME DIRECTORY [HOW]: begins one, whose file is opened so; what it sent is hashed on the way.
rip() {
    local name=$1 directory=$2 how=${3:-auto}
    rm -f "$work/$name".*
    (
        set +e
        source_of "$name" | tee >(sha256sum | cut -d' ' -f1 >"$work/$name.sent") |
            long 900 runuser -u muxer -- freemkvctl write --quiet --open-by "$how" \
                "$directory/$name.mkv" 2>"$work/$name.said"
        echo $? >"$work/$name.code"
    ) &
    rips[$name]=$!
    soon writes "$name" "$directory" 100000
}

# writes NAME DIRECTORY BYTES: so much of it is written.
writes() { status root "any(.streams[]; .path == \"$2/$1.mkv\" and .written_bytes > $3)"; }

begin_four() {
    local number
    for number in 1 2; do rip "$1-$number" /srv/rips path; done
    for number in 3 4; do rip "$1-$number" /srv/rips descriptor; done
}

# same NAME FILE: the rip ended well, and the file is what was sent. Says how long it is.
same() {
    equal 0 "$(cat "$work/$1.code")" || { cat "$work/$1.said"; return 1; }
    soon test -s "$work/$1.sent" || return 1
    equal "$(cat "$work/$1.sent")" "$(sha256sum <"$2" | cut -d' ' -f1)"
    echo "$(stat -c %s "$2") bytes" >>"$work/compared"
}

end() {
    : >"$work/$1.enough"
    wait "${rips[$1]}" || true
    unset "rips[$1]"
}

end_four() {
    local number result=0
    : >"$work/enough"
    for number in 1 2 3 4; do
        end "$1-$number"
        same "$1-$number" "$ext4/$1-$number.mkv" || result=1
        rm -f "$ext4/$1-$number.mkv"
    done
    rm "$work/enough"
    return "$result"
}

# all_write: every stream has written more than a moment ago.
all_write() {
    local before after
    before=$(as root freemkvctl status --json | jq '[.streams[].written_bytes] | add // 0')
    sleep 0.3
    after=$(as root freemkvctl status --json | jq '[.streams[].written_bytes] | add // 0')
    ((after > before))
}

kept() { is NFileDescriptorStore "$1"; }
# Beside each lies the file into which its next change will be written.
records() { equal "$1" "$(within sh -c 'ls /run/freemkvd/freemkvd.sock.streams 2>/dev/null | grep -vc "[.]new\$"')"; }
main_pid() { property MainPID; }
is_another() { is ActiveState active && [[ $(main_pid) != "$1" && $(main_pid) != 0 ]]; }

# Enabled, as it would be: what is not, systemd forgets with its store as soon as it has stopped.
within systemctl --quiet enable freemkvd.socket freemkvd.service
within systemctl start freemkvd.socket freemkvd.service

# --- restarts

begin_four restarted
# The two that were opened by path, each twice; muxers keep their own.
all_kept=4
check "two of four streams have four descriptors in the store" soon kept "$all_kept"
check "and four records" soon records 4
cat >"$root/run/restarts" <<'SCRIPT'
i=0
while [ $((i += 1)) -le "$1" ]; do
    systemctl reset-failed freemkvd.socket freemkvd.service
    systemctl restart freemkvd.service || exit 1
done
SCRIPT
begun=$EPOCHREALTIME
check "systemctl restart, $restarts times" long 300 sh /run/restarts "$restarts"
echo "# $restarts restarts in $(((${EPOCHREALTIME/./} - ${begun/./}) / 1000)) ms"
check "four muxers did not notice $restarts restarts" end_four restarted

# --- kills

cat >"$root/run/kills" <<'SCRIPT'
i=0
while [ $((i += 1)) -le "$1" ]; do
    systemctl reset-failed freemkvd.socket freemkvd.service
    pid=$(systemctl show --value -p MainPID freemkvd.service)
    kill -KILL "$pid" || exit 1
    tries=0
    while now=$(systemctl show --value -p MainPID freemkvd.service); [ "$now" = "$pid" ] || [ "$now" = 0 ] ||
        [ "$(systemctl show --value -p SubState freemkvd.service)" != running ]; do
        [ $((tries += 1)) -lt 500 ] || { echo "it did not come back"; exit 1; }
        sleep 0.02
    done
    sleep "0.$(($(od -An -N2 -tu2 /dev/urandom) % 20))"
done
SCRIPT
# In rounds: the disk is small.
for ((left = kills; left > 0; left -= 100)); do
    round=$((left < 100 ? left : 100))
    begin_four killed
    begun=$EPOCHREALTIME
    check "kill -9, $round times" long 900 sh /run/kills "$round"
    echo "# $round kills in $(((${EPOCHREALTIME/./} - ${begun/./}) / 1000)) ms"
    check "four muxers did not notice $round kills" end_four killed
done

# --- everything else that an administrator, the watchdog and the kernel do

begin_four various
before=$(main_pid)
check "systemctl reload" within systemctl reload freemkvd.service
check "it is the same process" equal "$before" "$(main_pid)"
check "all streams write on" soon all_write

before=$(main_pid)
check "freemkvctl drain" as root freemkvctl drain
check "the next daemon comes" soon is_another "$before"
check "and has the streams" soon kept "$all_kept"
check "all streams write on after a drain" soon all_write

within systemctl reset-failed freemkvd.socket freemkvd.service
check "systemctl stop, socket included" within systemctl stop freemkvd.socket freemkvd.service
if ((major >= 254)); then
    check "the store outlives a stop" kept "$all_kept"
else
    check "before 254 a stop empties the store" kept 0
fi
# The muxers are to find nobody for a while: nothing tells when they have.
sleep 3
check "and started again" within systemctl start freemkvd.socket freemkvd.service
check "all streams write on after a stop of seconds" soon all_write
check "and are in the store" soon kept "$all_kept"

drop_in watchdog WatchdogSec=2s
within systemctl restart freemkvd.service
before=$(main_pid)
within systemctl kill --signal=STOP --kill-who=main freemkvd.service
check "the watchdog ends a daemon that does nothing" soon is_another "$before"
check "all streams write on after the watchdog" soon all_write
rm "$root/run/systemd/system/freemkvd.service.d/watchdog.conf"
within systemctl daemon-reload

before=$(main_pid)
check "SIGKILL to all of its processes, as without memory" \
    within systemctl kill --signal=KILL --kill-who=all freemkvd.service
check "it comes back" soon is_another "$before"
within systemctl reset-failed freemkvd.socket freemkvd.service

: >"$gate"
within systemctl kill --signal=KILL freemkvd.service
sleep 2
rm "$gate"
check "down for two seconds, it comes back" soon is ActiveState active
check "all streams write on after that" soon all_write
within systemctl daemon-reexec
check "all streams write on after systemd was executed again" soon all_write
within systemctl restart freemkvd.service
check "four muxers did not notice any of it" end_four various
check "nothing is left in the store" soon kept 0
check "nor in the records" soon records 0

# --- what muxers feel

if [[ -n $muxer ]]; then
    # muxer NAME DIRECTORY: a UHD disc at twice its speed, ten seconds of it.
    play() {
        long 120 runuser -u muxer -- muxer --trace uhd --content-seconds 20 --speed 2 --sink daemon \
            --verify --out "$2/$1.mkv" >"$work/$1.json"
    }
    play calm /srv/rips
    play restarted /srv/rips &
    playing=$!
    soon writes restarted /srv/rips 1000000
    check "ten restarts during one title" long 60 sh /run/restarts 10
    check "its file is right" wait "$playing"
    for name in calm restarted; do
        jq -r --arg name "$name" '"# \($name): \(.verified_bytes) bytes compared, write() p99 " +
            "\(.write_p99_us) us, max \(.write_max_us) us"' "$work/$name.json"
    done
    rm -f "$ext4"/{calm,restarted}.mkv
fi

# --- one device stands still

rip frozen /srv/xfs
fsfreeze --freeze "$xfs"
# Until its thread hangs in it.
stuck() { status root 'any(.streams[]; .path == "/srv/xfs/frozen.mkv" and .blocked_in != null)'; }
check "a stream's thread hangs in a frozen file system" soon stuck
if [[ -n $muxer ]]; then
    play beside /srv/rips &
    playing=$!
    soon writes beside /srv/rips 1000000
fi
before=$(main_pid)
begun=$EPOCHREALTIME
within systemctl reset-failed freemkvd.socket freemkvd.service
check "systemctl restart with a thread that cannot be killed" within systemctl restart freemkvd.service
echo "# it took $(((${EPOCHREALTIME/./} - ${begun/./}) / 1000)) ms"
check "it is another process" is_another "$before"
check "status answers" status root '.state'
[[ -z $muxer ]] || check "the stream beside it came to its end" wait "$playing"
fsfreeze --unfreeze "$xfs"
check "the frozen stream writes on" soon writes frozen /srv/xfs 1500000
end frozen
check "and its file is right" same frozen "$xfs/frozen.mkv"
if [[ -n $muxer ]]; then
    jq -r '"# beside: \(.verified_bytes) bytes compared, write() p99 \(.write_p99_us) us, max \(.write_max_us) us"' \
        "$work/beside.json"
fi
rm -f "$ext4/beside.mkv" "$xfs/frozen.mkv"

# --- an error that strikes while nobody is there

# error_in_the_gap NAME: what was written is lost by the device between two daemons, and somebody else has
# already been told. Only a descriptor that was open all the time still knows.
error_in_the_gap() {
    local name=$1 film=$liar/$1.mkv
    rip "$name" /srv/liar || return 1
    soon writes "$name" /srv/liar 4000000 || return 1
    : >"$gate"
    within systemctl kill --signal=KILL freemkvd.service
    # Nothing is left of the tmpfs, so nothing more of the file can reach it.
    dd if=/dev/zero of="$liar_disk/filler" bs=1M 2>/dev/null
    if sync "$film" 2>"$work/sync"; then echo "no error was injected"; fi
    sync --file-system "$liar" 2>/dev/null
    rm -f "$liar_disk/filler" "$gate"
    soon is ActiveState active || return 1
    end "$name"
    cat "$work/$name.said"
    equal 1 "$(cat "$work/$name.code")"
    grep -Eq 'No space left|Input/output error|os error (5|28)' "$work/$name.said"
}
check "a writeback error while the daemon was down reaches the muxer" error_in_the_gap lost
rm -f "$liar/lost.mkv"
check "nothing of it is left in the store" soon kept 0

# --- its memory is taken away

rip forgotten /srv/rips
: >"$gate"
within systemctl kill --signal=KILL freemkvd.service
rm -r "$root/run/freemkvd/freemkvd.sock.streams"
rm "$gate"
soon is ActiveState active
end forgotten
check "without its records the muxer gets an error" equal 1 "$(cat "$work/forgotten.code")"
check "which says that nobody knows the stream" grep "knows nothing of this stream" "$work/forgotten.said"
check "and the store is empty" soon kept 0

within systemctl stop freemkvd.service
rm -r "$root/run/freemkvd"
check "without its runtime directory it starts" within systemctl restart freemkvd.socket freemkvd.service
check "and serves" soon status muxer .state

# --- no descriptor is left behind

mkdir -p "$ext4/many"
chmod 2777 "$ext4/many"
descriptors() { within sh -c "ls /proc/$(main_pid)/fd | wc -l"; }
before=$(descriptors)
check "$streams streams, four at a time" long 600 runuser -u muxer -- sh -c "seq $streams |
    xargs -P 4 -I NUMBER sh -c 'echo NUMBER | freemkvctl write --quiet /srv/rips/many/NUMBER'"
check "their files are right" \
    equal "$(seq "$streams" | sort | sha256sum)" "$(cat "$ext4"/many/* | sort | sha256sum)"
check "nothing is left in the store after $streams streams" soon kept 0
check "nor in the records" soon records 0
check "nor in the daemon" soon eval '[ "$(descriptors)" -le $((before + 4)) ]'
rm -r "$ext4/many"

denied() { within journalctl --no-pager --unit freemkvd.service | grep -aE 'status=31/SYS|SIGSYS'; }
check "no call was denied" [ -z "$(denied)" ]
check "nothing failed" equal "" "$(within systemctl --failed --no-legend --plain)"
awk '{ bytes += $1 } END { print "# " NR " files, " bytes " bytes compared" }' "$work/compared"
echo "$passed passed, $failed failed"
((failed == 0))
