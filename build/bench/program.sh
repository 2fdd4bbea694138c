#!/usr/bin/env bash
# Compiles the benchmark program, static with musl, and prints its path.
. "$(dirname "$0")/../env.sh"
out=$DIST/bench/bench
mkdir -p "$(dirname "$out")"
musl-gcc -O2 -static -Wall -Wextra -Werror -o "$out" tests/bench/program/*.c
strip "$out"
echo "$out"
