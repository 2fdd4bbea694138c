#!/usr/bin/env bash
# The tests that boot the image: every package under tests/. TEST=name runs those whose name contains it.
. "$(dirname "$0")/../env.sh"
. "$OXBOW_TOP/build/packages.sh"
ensure build run test
"$OXBOW_TOP/build/image.sh"

if [ -z "${ACCEL:-}" ]; then
    if "$OXBOW_TOP/build/kvm-works.sh"; then ACCEL=kvm; else ACCEL=tcg; fi
fi
export ACCEL IMAGE
# One VM at a time: each has two CPUs, and so may the machine.
# All of them run, so that one failure does not hide the next.
failed=()
for package in "${TESTS[@]}"; do
    say "integration tests: $package ($ACCEL)"
    cargo test --quiet --no-fail-fast -p "$package" -- --test-threads=1 --nocapture ${TEST:+"$TEST"} || failed+=("$package")
done
[ ${#failed[@]} = 0 ] || die "integration tests failed in: ${failed[*]}."
say "integration tests passed"
