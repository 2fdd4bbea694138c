#!/usr/bin/env bash
# Every test, on a machine that needs nothing prepared. Says what it does and how long each step took; ends with status 0
# only when every step passed.
. "$(dirname "$0")/../env.sh"
begin=$(date +%s.%N)

# Usage: stage NAME COMMAND...
stage() {
    local name=$1 start
    shift
    start=$(date +%s.%N)
    say "=== $name"
    "$@" || die "$name failed after $(seconds_since "$start")."
    say "=== $name: passed in $(seconds_since "$start")"
}
stage "set-up" "$OXBOW_TOP/build/setup/setup.sh" build run test
stage "image" "$OXBOW_TOP/build/image.sh"
stage "unit tests" "$OXBOW_TOP/build/test/unit.sh"
stage "integration tests" "$OXBOW_TOP/build/test/integration.sh"
say "all tests passed in $(seconds_since "$begin")"
