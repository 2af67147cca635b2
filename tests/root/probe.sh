#!/bin/sh
# Run by systemd.sh as freemkv, in its unit and out of it: says of each thing that a write daemon has no
# business with whether it can be done, "WHAT: yes" or "WHAT: no".
#
#   probe.sh DIRECTORY    one of freemkv's, in which files may be made
cd "$1" || exit 1
try() {
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "$what: yes"; else echo "$what: no"; fi
}
# Succeeds unless the call does not exist. With an argument that no call takes, so that it does nothing.
exists() { perl -e '$! = 0; syscall(shift, -1, -1, -1, -1, -1); exit($!{ENOSYS} ? 1 : 0)' "$1"; }
calm() { [ -z "$(nice -n 1 true 2>&1)" ]; }

: >probe
try "change an owner" chown "$(id -u)" probe
try "change a mode" chmod 640 probe
try "make a link" ln -s probe probe-link
rm -f probe probe-link
try "make a FIFO" mkfifo fifo
rm -f fifo
try "change its priority" calm
try "become another user namespace" unshare --user true
try "use the network" perl -MSocket -e 'socket(my $s, PF_INET, SOCK_STREAM, 0) or exit 1'
try "use io_uring" exists 425
try "write elsewhere" touch /srv/elsewhere/probe
try "see the temporary files of others" test -e /var/tmp/of-the-host
try "see homes" test -e /home/.of-the-host
try "see a device" test -e /dev/of-the-host
