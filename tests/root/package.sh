#!/usr/bin/env bash
# The Debian package on a Debian with a real systemd: install, write, upgrade under a running rip, remove, purge.
#
#   FREEMKVD_TEST_ROOT=DIRECTORY tests/root/package.sh PACKAGE.deb
#
# packaging/deb makes it. The upgrade is to the same with a higher version and another example configuration.
# Without FREEMKVD_TEST_ROOT it is tried on this machine's Debian, of which nothing is changed.
# Needs root, systemd, dpkg, jq, and what loops.sh needs. Prints "ok - what" or "not ok - what" for each step,
# and fails if one failed.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[[ $# == 1 ]] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; }
if [[ -z ${FREEMKVD_TEST_MOUNTS:-} ]]; then
    exec "$here/loops.sh" "${BASH_SOURCE[0]}" "$@"
fi
# shellcheck disable=SC2034 # units.sh looks at it
by_hand=no
# shellcheck source=tests/root/units.sh
. "$here/units.sh" "$1" "$1"

echo "systemd $version"
# Images for containers have one that forbids to start anything.
rm -f "$root/usr/sbin/policy-rc.d"
cp "$1" "$root/run/old.deb"
dpkg-deb --raw-extract "$1" "$work/new"
newer=$(dpkg-deb --field "$1" Version)+newer
sed -i "s/^Version: .*/Version: $newer/" "$work/new/DEBIAN/control"
echo '# of the newer version' >>"$work/new/etc/freemkvd/config.toml"
dpkg-deb --root-owner-group -Znone --build "$work/new" "$root/run/new.deb" >/dev/null
# As an unattended upgrade does, the administrator's configuration is left. There is no network, and none is needed.
apt() {
    within env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        apt-get --yes -o Dpkg::Options::=--force-confold "$@"
}
present() { local file; for file; do [[ -s $root$file ]] || { echo "no $file"; return 1; }; done; }
absent() { local file; for file; do [[ ! -e $root$file && ! -L $root$file ]] || { echo "still there: $file"; return 1; }; done; }

# --- install

check "the package depends on libraries, and on systemd" \
    matches 'libc6 \(>= [0-9.]+\).*systemd \(>= ' "$(dpkg-deb --field "$1" Depends)"
check "apt install" apt install /run/old.deb
check "the user freemkv exists and cannot log in" \
    matches '^freemkv:.*:/:/usr/sbin/nologin$' "$(within getent passwd freemkv)"
check "so does the group" matches '^freemkv:' "$(within getent group freemkv)"
check "its directory is there" equal "755 freemkv freemkv" "$(within stat -c '%a %U %G' /run/freemkvd)"
for unit in freemkvd.socket freemkvd.service; do
    check "$unit is enabled" equal enabled "$(within systemctl is-enabled $unit)"
    check "$unit is active" soon is ActiveState active $unit
done
check "nothing failed" equal "" "$(within systemctl --failed --no-legend --plain)"
check "the units have nothing odd" silent within systemd-analyze verify freemkvd.socket freemkvd.service
if ((major >= 254)); then
    check "this systemd keeps files over a stop" is FileDescriptorStorePreserve yes
else
    check "this systemd gets nothing that it does not know" absent /usr/lib/systemd/system/freemkvd.service.d
fi
check "pages and completions are there" present \
    /usr/share/man/man{8/freemkvd.8,1/freemkvctl.1,5/freemkvd.toml.5,7/freemkvd-protocol.7}.gz \
    /usr/share/bash-completion/completions/freemkvctl /usr/share/zsh/vendor-completions/_freemkvctl \
    /usr/share/fish/vendor_completions.d/freemkvctl.fish /usr/lib/systemd/catalog/freemkvd.catalog
ready=$(sed -n 's/^\.It daemon-ready Ta //p' "$project/docs/man/freemkvd.8")
check "journalctl has its texts" matches "freemkvd is ready" "$(within journalctl --dump-catalog "$ready")"
check "dpkg finds every file as it was packed" silent within dpkg --verify freemkvd

# --- use

make_ready
check "root gets the status" status root .state
check "a member of the group gets the status" status muxer .state
head -c 5000001 /dev/urandom >"$work/bytes"
check "a member writes a file" as muxer freemkvctl write /srv/rips/x.mkv <"$work/bytes"
check "every byte arrived" cmp "$work/bytes" "$ext4/x.mkv"

# --- metrics, for whoever wants them

check "the socket for metrics is off" is ActiveState inactive freemkvd-metrics.socket
within systemctl --quiet enable freemkvd-metrics.socket
within systemctl stop freemkvd.socket freemkvd.service
within systemctl start freemkvd.socket freemkvd.service
check "once enabled, it comes with the daemon's" is ActiveState active freemkvd-metrics.socket
check "it has nothing odd" silent within systemd-analyze verify freemkvd-metrics.socket
# shellcheck disable=SC2016 # the inner shell's
scrape() {
    within bash -c 'exec 3<>/dev/tcp/127.0.0.1/9101 && printf "GET /metrics HTTP/1.1\r\nHost: rips\r\n\r\n" >&3 && cat <&3'
}
served() { matches '# EOF$' "$(scrape | tail -n 1)"; }
check "the daemon, which has no network, serves them" served
before=$(property MainPID)
another() { is ActiveState active && [[ $(property MainPID) != "$before" ]]; }
within systemctl restart freemkvd.service
check "a restart leaves the socket open" is ActiveState active freemkvd-metrics.socket
check "the next daemon serves them" served
check "it is another" another
before=$(property MainPID)
within systemctl restart freemkvd.socket
check "a restart of the daemon's socket opens it again" is ActiveState active freemkvd-metrics.socket
check "and its daemon serves them" served
check "it is another, too" another

# --- upgrade, with a rip under way

echo '# of the administrator' >>"$root/etc/freemkvd/config.toml"
declare -A rips=()
before_down() {
    : >"$work/enough"
    ((${#rips[@]} == 0)) || timeout 20 tail --pid="${rips[path]}" --pid="${rips[descriptor]}" -f /dev/null || true
}
# rip HOW: begins one, whose file is opened so, and which goes on until there is $work/enough.
rip() {
    (
        set +e
        while [[ ! -e $work/enough ]]; do head -c 131072 /dev/urandom || break; sleep 0.05; done |
            tee >(sha256sum >"$work/$1.sent") |
            timeout --foreground 120 "$here/systemd-pid1" exec "$host" runuser -u muxer -- \
                freemkvctl write --quiet --open-by "$1" "/srv/rips/$1.mkv" 2>"$work/$1.said"
        echo $? >"$work/$1.code"
    ) &
    rips[$1]=$!
}
written() { status root "[.streams[] | select(.written_bytes > $1)] | length == 2"; }
same() {
    equal 0 "$(cat "$work/$1.code")" || { cat "$work/$1.said"; return 1; }
    soon test -s "$work/$1.sent" && equal "$(cat "$work/$1.sent")" "$(sha256sum <"$ext4/$1.mkv")"
}
rip path
rip descriptor
check "two rips are under way" soon written 100000
before=$(property MainPID)
check "the upgrade" apt install /run/new.deb
check "the daemon is the new one" soon another
check "metrics are served on" served
done_by_now=$(as root freemkvctl status --json | jq '[.streams[].written_bytes] | max // 0')
check "both rips write on" soon written $((done_by_now + 200000))
: >"$work/enough"
wait "${rips[@]}" || true
for how in path descriptor; do check "the rip by $how ended well, byte for byte" same "$how"; done
rips=()
check "the new version is installed" \
    equal "$newer" "$(within dpkg-query -Wf '${Version}' freemkvd)"
check "the changed configuration is as it was" \
    equal '# of the administrator' "$(tail -n 1 "$root/etc/freemkvd/config.toml")"
check "the new example lies beside it" present /etc/freemkvd/config.toml.dpkg-dist

# What the administrator has stopped and disabled stays so, for whoever scrapes too.
stopped() {
    local unit
    scrape >/dev/null 2>&1 || true
    for unit in freemkvd.{service,socket} freemkvd-metrics.socket; do is ActiveState inactive "$unit" || return 1; done
}
within systemctl stop freemkvd.socket freemkvd.service
check "what was stopped stays stopped, also with a scrape" stopped
within systemctl --quiet disable freemkvd.socket freemkvd.service
within systemctl restart sockets.target
check "what was disabled does not come with the other sockets" stopped
check "the package once more" apt install --reinstall /run/new.deb
check "what was disabled stays disabled" \
    equal disabled "$(within systemctl is-enabled freemkvd.service || true)"
check "what was stopped stays stopped, over that" stopped
within systemctl --quiet enable --now freemkvd.socket freemkvd.service
check "the metrics are there again with it" served

# --- remove, purge

check "apt remove" apt remove freemkvd
check "no daemon is left" no_process
check "nor its socket" absent /run/freemkvd /usr/bin/freemkvd /usr/lib/systemd/system/freemkvd.service{,.d}
check "the configuration is left" present /etc/freemkvd/config.toml
check "installed again it runs" apt install /run/new.deb
check "without anybody's doing" soon is ActiveState active
check "apt remove, once more" apt remove freemkvd
check "apt purge" apt purge freemkvd
absent_all() {
    absent /etc/freemkvd/config.toml || return 1
    equal "" "$(within find /etc/systemd/system /var/lib/systemd/deb-systemd-helper-{enabled,masked} -name '*freemkvd*')"
}
check "neither the configuration nor a link to a unit is left" absent_all
check "what was ripped is" cmp "$work/bytes" "$ext4/x.mkv"
for how in path descriptor; do check "the rip by $how is, too" same "$how"; done
check "nothing failed on the way" equal "" "$(within systemctl --failed --no-legend --plain)"

echo "$passed passed, $failed failed"
((failed == 0))
