#!/usr/bin/env bash
# Measures Oxbow against Linux. Leaves dist/bench.json and dist/bench.svg, or for some rows dist/bench-row.*.
# Usage: bench.sh [flame]: with `flame`, draws where the time of the row ROW goes into dist/flame-ROW.svg instead.
# Settings (environment): ROW=name[,name]  QUICK=1  ROUNDS=5  ONLY=times|instructions|boot  IMAGE=FILE  ACCEL=tcg|kvm
. "$(dirname "$0")/../env.sh"
# shellcheck disable=SC2034 # what messages start with
TAG=bench
ensure build run
if [ "$IMAGE" = "$DIST/oxbow.qcow2" ]; then "$OXBOW_TOP/build/image.sh" --keep-changes; fi
[ -f "$IMAGE" ] || die "there is no image '$IMAGE'."
if [ -z "${ACCEL:-}" ]; then
    if "$OXBOW_TOP/build/kvm-works.sh"; then ACCEL=kvm; else ACCEL=tcg; fi
fi
export ACCEL
BENCH_LINUX=$("$OXBOW_TOP/build/bench/linux.sh")
BENCH_OUT=$DIST
mkdir -p "$DIST/bench"
BENCH_PROGRAM=$("$OXBOW_TOP/build/bench/program.sh")
# Both systems run from this image: Oxbow's own, and the program.
BENCH_IMAGE=$DIST/bench/image.qcow2
cp --sparse=always "$IMAGE" "$BENCH_IMAGE"
tool=$DIST/parts/oxbow-image
if [ ! -x "$tool" ]; then
    build_with_cargo -p oxbow-image --release
    tool=$TARGET/release/oxbow-image
fi
"$tool" drop "$BENCH_IMAGE" "$BENCH_PROGRAM" /bin/bench
export BENCH_LINUX BENCH_OUT BENCH_PROGRAM BENCH_IMAGE
build_with_cargo -p oxbow-bench
FLAME=0
if [ "${1:-}" = flame ]; then
    FLAME=1
    [ -f "$DIST/parts/kernel.debug" ] || die "there is no dist/parts/kernel.debug to name functions by." "make all makes it."
else
    say "against Linux $(cat "$BENCH_LINUX/version") ($ACCEL)"
fi
export FLAME
"$TARGET/debug/oxbow-bench"
