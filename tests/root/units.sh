# Sourced by the tests that try the units on a real systemd: what they share. Sets `host` to a booted one
# that has the package installed and /srv/rips on ext4, `root` to where its files can be reached, `ext4` to
# where /srv/rips can be, and `version` and `major` to those of that systemd.
#
#   . units.sh FREEMKVD FREEMKVCTL [CONFIG]
#
# Expects to be run below loops.sh, and `set -euo pipefail`.
# shellcheck shell=bash

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
project=$(dirname "$(dirname "$here")")
freemkvd=$(readlink -f "$1")
freemkvctl=$(readlink -f "$2")
config=$(readlink -f "${3:-$project/config.example.toml}")
ext4=$(tr ',' '\n' <<<"$FREEMKVD_TEST_MOUNTS" | sed -n 's/^ext4=//p')

# More directories to bind in, SOURCE:TARGET.
declare -p binds >/dev/null 2>&1 || binds=()

work=$(mktemp -d "${TMPDIR:-/var/tmp}/freemkvd-systemd.XXXXXX")
host=$work/host
# shellcheck source=tests/root/checks.sh
. "$here/checks.sh"

# What has to end before systemd does; the test replaces it.
before_down() { :; }

finish() {
    local code=$?
    trap '' INT TERM HUP
    before_down
    "$here/systemd-pid1" down "$host" || code=1
    rm -rf --one-file-system "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A step that hangs fails. --foreground: its process group stays ours.
within() { timeout --foreground 30 "$here/systemd-pid1" exec "$host" "$@"; }

# as USER COMMAND...
as() {
    local user=$1
    shift
    within runuser -u "$user" -- "$@"
}

property() { within systemctl show --value -p "$1" "${2:-freemkvd.service}"; }
is() { equal "$2" "$(property "$1" "${3:-freemkvd.service}")"; }
silent() { equal "" "$("$@" 2>&1)"; }
journal() { within journalctl --unit freemkvd.service --output json --no-pager; }
lines() { journal | wc -l; }
no_process() { ! within sh -c 'cat /proc/[0-9]*/comm' 2>/dev/null | grep -x freemkvd; }

# status USER FILTER: freemkvctl status --json answers, and the filter holds.
status() {
    local answer
    # 4: it answers, and something is wrong, which may be what is looked for.
    answer=$(as "$1" freemkvctl status --json) || (($? == 4)) || { echo "no answer"; return 1; }
    # Slurped, because without any input jq 1.6 finds everything true.
    jq -es "length == 1 and (.[0] | $2)" <<<"$answer" >/dev/null || { echo "not: $2"; echo "$answer"; return 1; }
}

# logged FILTER: an entry of the daemon itself (not of systemd about it) for which the jq filter holds.
logged() {
    journal | jq -es "map(select(._COMM == \"freemkvd\" and ($1))) | length > 0" >"$work/jq" && return
    journal | jq -c 'with_entries(select(.key | test("^(_COMM|MESSAGE|FREEMKVD_.*|CODE_.*|TARGET)$")))' | tail -n 20
    return 1
}

# --- the package

# What a package would; a test that has one says by_hand=no, and installs it itself.
put_in_place() {
    install -D "$freemkvd" "$freemkvctl" -t "$root/usr/bin"
    install -D -m 644 "$project"/systemd/freemkvd.{service,socket} -t "$root/usr/lib/systemd/system"
    ((major < 254)) || install -D -m 644 "$project/systemd/freemkvd-systemd-254.conf" \
        "$root/usr/lib/systemd/system/freemkvd.service.d/50-systemd-254.conf"
    install -D -m 644 "$project/systemd/freemkvd.sysusers" "$root/usr/lib/sysusers.d/freemkvd.conf"
    install -D -m 644 "$project/systemd/freemkvd.tmpfiles" "$root/usr/lib/tmpfiles.d/freemkvd.conf"
    install -D -m 644 "$project/systemd/freemkvd.catalog" -t "$root/usr/lib/systemd/catalog"
    install -D -m 644 "$config" "$root/etc/freemkvd/config.toml"
}

binds=("$ext4:/srv/rips" "${binds[@]}")
"$here/systemd-pid1" boot "$host" "${binds[@]}" >/dev/null
root=$("$here/systemd-pid1" root "$host")
# As "252 (252.38-1~deb12u1)"; the number alone in $major.
version=$("$here/systemd-pid1" exec "$host" systemctl --version | sed -n '1s/systemd //p')
major=${version%%[!0-9]*}
[[ ${by_hand:-yes} == no ]] || put_in_place

# make_ready: what is left to do after the package's users and directories were made.
make_ready() {
    within useradd --groups freemkv --no-create-home muxer
    within useradd --no-create-home stranger
    within chown freemkv:freemkv /srv/rips
    within chmod 2775 /srv/rips
    within systemctl daemon-reload
}
