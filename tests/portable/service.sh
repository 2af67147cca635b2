#!/usr/bin/env bash
# The service of Windows under wine: installed, started, written through, stopped, started again, removed.
#
#   service.sh DIR     where freemkvd.exe and freemkvctl.exe are; WINEPREFIX says which wine
set -euo pipefail

built=$1
rips=$WINEPREFIX/drive_c/Rips
export FREEMKVD_SOCKET='\\.\pipe\freemkvd-service-test'
failed=0

check() { # WORDS COMMAND...
    local words=$1
    shift
    if "$@"; then echo "ok - $words"; else echo "FAILED - $words"; failed=1; fi
}
daemon() { wine "$built/freemkvd.exe" --root 'C:\Rips' --socket "$FREEMKVD_SOCKET" "$@" </dev/null; }
ctl() { wine "$built/freemkvctl.exe" "$@"; }
state() { wine sc query freemkvd </dev/null | tr -d '\r' | grep -q "STATE .* $1"; }
until_state() {
    local tries
    for ((tries = 150; tries > 0; tries--)); do
        ! state "$1" || return 0
        sleep 0.1
    done
    return 1
}
written() { echo "$2" | ctl write "C:\\Rips\\$1" 2>/dev/null && [[ $(<"$rips/$1") == "$2" ]]; }
goes_on() {
    local muxer
    (echo first; while [[ ! -e $WINEPREFIX/go ]]; do sleep 0.1; done; echo second) | ctl write 'C:\Rips\long' 2>/dev/null &
    muxer=$!
    while ! ctl status --json </dev/null | grep -q long; do sleep 0.1; done
    wine sc stop freemkvd </dev/null >/dev/null
    until_state STOPPED
    wine sc start freemkvd </dev/null >/dev/null
    until_state RUNNING
    touch "$WINEPREFIX/go"
    wait "$muxer" && [[ $(<"$rips/long") == $'first\nsecond' ]]
}

mkdir -p "$rips"
check "it is installed" daemon service install
check "a second one is refused" bash -c "! wine '$built/freemkvd.exe' service install </dev/null 2>/dev/null"
wine sc start freemkvd </dev/null >/dev/null
check "it runs" until_state RUNNING
check "a file is written through it" written one 'some content'
check "a stream goes on over a stop and a start" goes_on
wine sc stop freemkvd </dev/null >/dev/null
check "it stops" until_state STOPPED
check "its log has what it did" bash -c "cat \$(find '$WINEPREFIX' -path '*freemkvd/log/*') | grep -q 'stream 1 opened'"
check "it is removed" daemon service uninstall
check "and is gone" bash -c "! wine sc query freemkvd </dev/null | grep -q STATE"
exit "$failed"
