#!/usr/bin/env bash
# The units, tried on a real systemd: what an administrator does after installing the package.
#
#   tests/root/systemd.sh FREEMKVD FREEMKVCTL [CONFIG]
#
# CONFIG defaults to config.example.toml. Its root has to be /srv/rips, which is a directory on ext4 here.
# Needs root, systemd, jq, and what loops.sh needs. Prints "ok - what" or "not ok - what" for
# each step, and fails if one failed.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[[ $# -ge 2 ]] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; }
if [[ -z ${FREEMKVD_TEST_MOUNTS:-} ]]; then
    exec "$here/loops.sh" "${BASH_SOURCE[0]}" "$@"
fi

# Outside of all roots.
xfs=$(tr ',' '\n' <<<"$FREEMKVD_TEST_MOUNTS" | sed -n 's/^xfs=//p')
# shellcheck disable=SC2034 # units.sh looks at it
binds=("$xfs:/srv/xfs")
# shellcheck source=tests/root/units.sh
. "$here/units.sh" "$@"

echo "systemd $version"
check "sysusers and tmpfiles have nothing to say" \
    silent within sh -c 'systemd-sysusers freemkvd.conf 2>&1 | grep -v "^Creating "
                         systemd-tmpfiles --create freemkvd.conf'
check "the user freemkv exists and cannot log in" \
    matches '^freemkv:.*:/:/usr/sbin/nologin$' "$(within getent passwd freemkv)"
check "systemd-analyze verify prints nothing" \
    silent within systemd-analyze verify freemkvd.socket freemkvd.service
check "systemd-analyze security finds little exposed" \
    within systemd-analyze security --no-pager --threshold=5 freemkvd.service

make_ready

# --- what the unit forbids

# Everything of it but the daemon: what freemkv can do anyway, and what is left of that in there.
within install -d -o freemkv -g freemkv /srv/elsewhere
within touch /dev/of-the-host /var/tmp/of-the-host /home/.of-the-host
install -D "$here/probe.sh" "$root/run/probe.sh"
daemon_only='Type|NotifyAccess|Exec[A-Za-z]*|Restart[A-Za-z]*|Watchdog[A-Za-z]*|RuntimeDirectory[A-Za-z]*'
daemon_only+='|FileDescriptorStore[A-Za-z]*|Requires|Also|WantedBy'
for file in "$root"/usr/lib/systemd/system/freemkvd.service{,.d/*.conf}; do
    [[ ! -e $file ]] || grep -Ev "^($daemon_only)=" "$file"
done >"$root/run/systemd/system/freemkvd-probe.service"
printf '%s\n' '[Service]' Type=oneshot 'ExecStart=/bin/sh /run/probe.sh /srv/rips' \
    StandardOutput=file:/run/probed >>"$root/run/systemd/system/freemkvd-probe.service"
within systemctl daemon-reload
as freemkv sh /run/probe.sh /srv/rips >"$work/free"
check "without the unit freemkv can do all of it" equal 12 "$(grep -c ': yes$' "$work/free")"
check "the probe runs in the unit" within systemctl start freemkvd-probe.service
check "and there it can do none of it" equal "$(sed 's/: yes$/: no/' "$work/free")" "$(cat "$root/run/probed")"

# --- by the service

check "systemctl start" within systemctl start freemkvd.service
check "it is active" is ActiveState active
check "the socket is there for the group" \
    equal "660 freemkv freemkv" "$(within stat -c '%a %U %G' /run/freemkvd/freemkvd.sock)"
check "the status text counts streams" soon eval 'matches streams "$(property StatusText)"'
check "the journal has its start, with fields" soon logged 'keys | any(startswith("FREEMKVD_"))'
ready=$(sed -n 's/^\.It daemon-ready Ta //p' "$project/docs/man/freemkvd.8")
check "and with a class and its number" \
    logged ".FREEMKVD_EVENT == \"daemon-ready\" and .MESSAGE_ID == \"$ready\" and .FREEMKVD_SOCKET == \"/run/freemkvd/freemkvd.sock\""
check "and the time when it was said" logged '(.FREEMKVD_TIME // "") | test("^20[0-9-]{8}T[0-9:.]{15}Z$")'
within journalctl --update-catalog
told_more() { within journalctl --unit freemkvd.service --catalog --no-pager | grep -c 'The daemon listens on /run/freemkvd/'; }
check "journalctl tells more about it" told_more

# --- a muxer

check "a member of the group gets the status" status muxer '.version and .protocol and .state'
check "the status is of this daemon" status muxer ".pid == $(property MainPID)"
check "the status has budget, devices and streams" \
    status muxer '.budget.limit_bytes > 0 and (.devices | type) == "array" and .streams == []'
refused() { ! as stranger freemkvctl status --json >"$work/refused" && [[ ! -s $work/refused ]]; }
check "others get no answer" refused

head -c 5000001 /dev/urandom >"$work/bytes"
check "freemkvctl write takes a file from standard input" \
    as muxer freemkvctl write /srv/rips/x.mkv <"$work/bytes"
check "every byte arrived" cmp "$work/bytes" "$ext4/x.mkv"
owned() { equal "$1" "$(within stat -c '%a %U %G' "$2")"; }
check "the file is the muxer's, and the directory's group's" owned "644 muxer freemkv" /srv/rips/x.mkv
by_path() { as muxer freemkvctl write --open-by path "$1" <"$work/bytes"; }
check "by path it is freemkv's, and the group may write it" by_path /srv/rips/y.mkv
check "as its mode says" owned "664 freemkv freemkv" /srv/rips/y.mkv
within install -d -o muxer -g muxer -m 755 /srv/xfs/own
outside() { ! by_path /srv/xfs/own/x.mkv && [[ ! -e $xfs/own/x.mkv ]]; }
check "nothing is written by path outside of the roots" outside
check "a muxer's own file may be anywhere" as muxer freemkvctl write /srv/xfs/own/x.mkv <"$work/bytes"
check "and is the muxer's there" owned "644 muxer muxer" /srv/xfs/own/x.mkv
within install -d -o freemkv -g freemkv -m 755 /srv/rips/closed
check "where the muxer may not write, the daemon does" \
    as muxer freemkvctl write /srv/rips/closed/x.mkv <"$work/bytes"
check "and the file is the daemon's" owned "664 freemkv freemkv" /srv/rips/closed/x.mkv

# --- a journal that hangs holds nobody up

journald=$(property MainPID systemd-journald.service)
head -c 4096 /dev/urandom >"$root/run/small"
within sh -c "kill -STOP $journald"
# More messages than its socket has room for: two of each stream.
hung='for n in $(seq 200); do
          freemkvctl write --quiet --overwrite "/srv/rips/hung$n.mkv" </run/small || exit
      done'
check "with a journal that hangs streams are opened, written and finished" as muxer sh -c "$hung"
check "and the status is there" status muxer '.streams == []'
within sh -c "kill -CONT $journald"
told() { equal 200 "$(journal | jq -r 'select(.FREEMKVD_EVENT == "stream-finished").MESSAGE' | grep -c '/srv/rips/hung')"; }
check "and when it goes on, it is told of all of them" soon told

# --- reload, kill, stop

before=$(lines)
check "systemctl reload" within systemctl reload freemkvd.service
reloaded() {
    journal | tail -n "+$((before + 1))" | jq -es 'map(select(._COMM == "freemkvd")) | length > 0'
}
check "the daemon says that it reloaded" soon reloaded
check "it is still the same process, and active" is NRestarts 0
cp "$root/etc/freemkvd/config.toml" "$work/config.toml"
printf '[budget]\ntotal = 7\n' >>"$root/etc/freemkvd/config.toml"
not() { ! "$@"; }
check "with a mistake systemctl reload fails" not within systemctl reload freemkvd.service
check "and the journal says where it is" soon logged '.MESSAGE | test("is kept as it was: /etc/freemkvd/config.toml:")'
cp "$work/config.toml" "$root/etc/freemkvd/config.toml"
check "without it it succeeds" within systemctl reload freemkvd.service
check "and the daemon is the same" is NRestarts 0

first=$(property MainPID)
socket_number() { within stat -c %i /run/freemkvd/freemkvd.sock; }
socket=$(socket_number)
within systemctl kill --signal=KILL freemkvd.service
restarted() { is ActiveState active && is NRestarts 1 && [[ $(property MainPID) != "$first" ]]; }
check "killed, it comes back" soon restarted
check "and answers" soon status muxer ".pid == $(property MainPID)"
check "on the very same socket, which a container may have mounted" equal "$socket" "$(socket_number)"

started=$EPOCHREALTIME
check "systemctl stop" within systemctl stop freemkvd.service
check "it ends at once: less than 900 ms" [ $(((${EPOCHREALTIME/./} - ${started/./}) / 1000)) -lt 900 ]
check "its result is success" is Result success
check "it is inactive" is ActiveState inactive
check "the socket unit still listens" is ActiveState active freemkvd.socket
check "no process is left" no_process

# --- the hook of docs/HOOK.md, in the unit

# from_docs FILE: what the page has for it.
from_docs() {
    awk -v name="\`$1\`" '/^```/ { if (inside) exit; inside = found; next }
        inside { print }
        index($0, name) == 1 { found = 1 }' "$project/docs/HOOK.md"
}
for file in /etc/systemd/system/freemkvd-notify.{path,service} /usr/local/lib/freemkvd/notify; do
    mkdir -p "$root${file%/*}"
    from_docs "$file" >"$root$file"
done
chmod 755 "$root/usr/local/lib/freemkvd/notify"
cp "$root/etc/freemkvd/config.toml" "$work/config.toml"
from_docs /etc/freemkvd/config.toml >"$root/etc/freemkvd/config.toml"
within systemctl daemon-reload
check "the daemon takes the hook of the documentation" within systemctl restart freemkvd.service
check "what sends its files waits for them" within systemctl start freemkvd-notify.path
# waits_for_space FILE: a muxer waits for space until the filler is gone.
waits_for_space() {
    fallocate -l "$(($(stat --file-system --format '%a * %S' "$ext4")))" "$ext4/filler"
    as muxer freemkvctl write "/srv/rips/$1" <"$work/bytes" &
    writer=$!
}
sent() {
    within journalctl --identifier rips --output cat --no-pager |
        grep "^stream [0-9]* waits for space on /srv/rips.*/late.mkv$"
}
waits_for_space late.mkv
check "a full disk is told, through a unit with a network" soon sent
rm "$ext4/filler"
check "and the stream goes on" wait "$writer"
check "every byte arrived" cmp "$work/bytes" "$ext4/late.mkv"
check "no file is left there" equal "" "$(ls -A "$root/run/freemkvd/events")"

# What the page says that a hook can do, and cannot.
cat >"$root/usr/local/lib/freemkvd/notify" <<'HOOK'
#!/bin/bash
can() { if "$@" >/dev/null 2>&1; then echo "can: $*"; else echo "cannot: $*"; fi; }
can logger 'from the hook'
can touch /run/freemkvd/touched
can touch /srv/rips/touched
can touch /tmp/touched
can touch /etc/touched
can chmod 600 /run/freemkvd/touched
can ln -s touched /run/freemkvd/link
can ls /home/.of-the-host
can eval 'exec 3<>/dev/udp/127.0.0.1/9'
sleep 1000 &
exit 3
HOOK
waits_for_space later.mkv
said() { logged '.FREEMKVD_EVENT == "hook-output" and (.MESSAGE | endswith("'"$1"'"))'; }
bad_end='.FREEMKVD_EVENT == "hook-failed" and .PRIORITY == "4" and (.MESSAGE | contains("failed with exit status: 3"))'
check "how a hook failed is in the journal" soon logged "$bad_end"
for what in "can: logger from the hook" "can: touch "{/run/freemkvd,/srv/rips,/tmp}/touched "cannot: touch /etc/touched" \
    "cannot: chmod 600 /run/freemkvd/touched" "cannot: ln -s touched /run/freemkvd/link" "cannot: ls /home/.of-the-host" \
    "cannot: eval exec 3<>/dev/udp/127.0.0.1/9"; do
    check "it $what" said "$what"
done
alone() { equal "/proc/$(property MainPID)" "$(within find /proc -maxdepth 1 -name '[0-9]*' -user freemkv)"; }
check "what it has left running is ended" soon alone
rm "$ext4/filler" "$ext4/touched"
check "and the stream goes on" wait "$writer"
within systemctl stop freemkvd-notify.path
cp "$work/config.toml" "$root/etc/freemkvd/config.toml"

# --- whatever it does, it needs nothing of what is forbidden

# From here on a forbidden call kills the daemon, instead of failing as on an old kernel.
mkdir -p "$root/run/systemd/system/freemkvd.service.d"
printf '[Service]\nSystemCallErrorNumber=kill\n' >"$root/run/systemd/system/freemkvd.service.d/kill.conf"
within systemctl daemon-reload
cp "$root/etc/freemkvd/config.toml" "$work/config.toml"
# Enough for several extents.
head -c 40000000 /dev/urandom >"$work/more"
drains() {
    printf '[root."/srv/rips"]\ndrain = "%s"\n[files]\nmake_directories = true\n' "$1" >"$root/etc/freemkvd/config.toml"
    within systemctl restart freemkvd.service || return 1
    before=$(property MainPID)
    local file=/srv/rips/$1/of/x.mkv
    as muxer freemkvctl write "$file" --open-by path --publish --size-hint 40MB <"$work/more" &&
        cmp "$work/more" "$ext4/$1/of/x.mkv" &&
        as muxer freemkvctl write "$file" --open-by descriptor --overwrite <"$work/more" &&
        cmp "$work/more" "$ext4/$1/of/x.mkv" &&
        rm -r "${ext4:?}/$1" &&
        status muxer '.state' &&
        within systemctl reload freemkvd.service &&
        equal "$before" "$(property MainPID)"
}
for rung in auto direct dontcache sync_file_range fdatasync none; do
    check "it writes with drain = \"$rung\"" drains "$rung"
done
check "it drains" as root freemkvctl drain
check "and comes back" soon status muxer '.state'
check "systemctl stop" within systemctl stop freemkvd.service
killed() { within journalctl --no-pager --unit freemkvd.service | grep -aE 'status=31/SYS|SIGSYS'; }
check "no call was denied" [ -z "$(killed)" ]
rm "$root/run/systemd/system/freemkvd.service.d/kill.conf"
cp "$work/config.toml" "$root/etc/freemkvd/config.toml"
within systemctl daemon-reload

# --- by the socket

# The first connection was made to systemd; root has the same user and the same mounts as that.
started_by() { within sh -c "umask 022; freemkvctl write $1" <"$work/bytes" 2>&1; }
check "a client that starts it through the socket opens its file itself" \
    matches "opened by descriptor" "$(started_by /srv/rips/z.mkv)"
check "and it is root's" owned "644 root freemkv" /srv/rips/z.mkv
check "a client gets the status of it" status muxer '.version'
check "and finds it active" is ActiveState active
check "systemctl stop, socket included" within systemctl stop freemkvd.socket freemkvd.service
check "the socket file is gone" [ ! -e "$root/run/freemkvd/freemkvd.sock" ]
none() {
    local code=0
    as muxer freemkvctl status || code=$?
    equal 3 "$code"
}
check "without a daemon freemkvctl exits with 3" none
check "nothing failed on the way" equal "" "$(within systemctl --failed --no-legend --plain)"
check "no process of the user is left" equal "" "$(within find /proc -maxdepth 1 -name '[0-9]*' -user freemkv)"

echo "$passed passed, $failed failed"
((failed == 0))
