# Sourced by tests that are scripts: steps that print "ok - what" or "not ok - what", counted in `passed` and
# `failed`. Expects `work`, a directory for what was said.
# shellcheck shell=bash

passed=0
failed=0

# check WHAT COMMAND...: prints what the command said only if it fails.
check() {
    local what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok - $what"
        passed=$((passed + 1))
    else
        echo "not ok - $what"
        sed 's/^/    /' "$work/said"
        failed=$((failed + 1))
    fi
}

# equal WANTED FOUND
equal() {
    [[ $1 == "$2" ]] || { printf 'wanted: %s\nfound:  %s\n' "$1" "$2"; return 1; }
}

# matches PATTERN FOUND
matches() {
    [[ $2 =~ $1 ]] || { printf 'wanted: %s\nfound:  %s\n' "$1" "$2"; return 1; }
}

# soon COMMAND...: the command holds within ten seconds; what its last try said is kept.
soon() {
    local end=$((SECONDS + 10))
    until "$@" >"$work/tried" 2>&1; do
        ((SECONDS < end)) || { cat "$work/tried"; return 1; }
        sleep 0.1
    done
}
