#!/usr/bin/env bash
# What packaging/install puts where, and takes away again. Needs no root.
#
#   tests/root/install.sh BUILT
#
# BUILT is the directory of the two programs. Prints "ok - what" or "not ok - what" for each step.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[[ $# == 1 ]] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; }
install=$(dirname "$(dirname "$here")")/packaging/install
work=$(mktemp -d "${TMPDIR:-/var/tmp}/freemkvd-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/root/checks.sh
. "$here/checks.sh"
tree=$work/tree
where=(BUILT="$(readlink -f "$1")" DESTDIR="$tree" PREFIX=/opt/rips SYSTEMD=257)
files() { (cd "$tree" && find . -type f | grep -v '^./opt/rips/share/doc/' | LC_ALL=C sort); }

check "it installs" "$install" "${where[@]}"
check "these files" equal "./etc/freemkvd/config.toml
./opt/rips/bin/freemkvctl
./opt/rips/bin/freemkvd
./opt/rips/lib/systemd/catalog/freemkvd.catalog
./opt/rips/lib/systemd/system/freemkvd-metrics.socket
./opt/rips/lib/systemd/system/freemkvd.service
./opt/rips/lib/systemd/system/freemkvd.service.d/50-systemd-254.conf
./opt/rips/lib/systemd/system/freemkvd.socket
./opt/rips/lib/sysusers.d/freemkvd.conf
./opt/rips/lib/tmpfiles.d/freemkvd.conf
./opt/rips/share/bash-completion/completions/freemkvctl
./opt/rips/share/fish/vendor_completions.d/freemkvctl.fish
./opt/rips/share/man/man1/freemkvctl.1.gz
./opt/rips/share/man/man5/freemkvd.toml.5.gz
./opt/rips/share/man/man7/freemkvd-protocol.7.gz
./opt/rips/share/man/man8/freemkvd.8.gz
./opt/rips/share/zsh/site-functions/_freemkvctl" "$(files)"
check "the unit starts what was installed" grep -qx \
    'ExecStart=/opt/rips/bin/freemkvd --config /etc/freemkvd/config.toml' "$tree/opt/rips/lib/systemd/system/freemkvd.service"
check "no unit names another prefix" \
    equal "" "$(grep -rnE '/usr/(bin|lib|local)' "$tree/opt/rips/lib" || true)"
check "what was installed runs" "$tree/opt/rips/bin/freemkvd" --check-config --config "$tree/etc/freemkvd/config.toml"
echo '# of the administrator' >>"$tree/etc/freemkvd/config.toml"
check "it installs again" "$install" "${where[@]}"
check "over no configuration" grep -qx '# of the administrator' "$tree/etc/freemkvd/config.toml"
check "for an older systemd it leaves out what that does not know" \
    "$install" "${where[@]}" DESTDIR="$work/older" SYSTEMD=252
check "as said" [ ! -e "$work/older/opt/rips/lib/systemd/system/freemkvd.service.d" ]
check "it uninstalls" "$install" --uninstall "${where[@]}"
check "all but the configuration" equal ./etc/freemkvd/config.toml "$(cd "$tree" && find . -type f)"
refused() { ! "$install" "$@" 2>/dev/null; }
check "a setting that it does not know is refused" refused "${where[@]}" PREFXI=/usr

echo "$passed passed, $failed failed"
((failed == 0))
