#!/usr/bin/env bash
# Usage: lint.sh check | format
#
#   check    formatting, clippy with warnings denied for the host and each target, and the layers of the kernel
#   format   rewrites the sources in rustfmt's style
. "$(dirname "$0")/env.sh"
. "$OXBOW_TOP/build/packages.sh"
ensure build

if [ "${1:-check}" = format ]; then
    cargo fmt --all
    exit
fi

# Clippy for some packages. Usage: clippy WHAT CARGO_ARGUMENTS...
clippy() {
    say "clippy: $1"
    shift
    cargo clippy --quiet "$@" -- -D warnings
}
as_packages() { local name; for name in "$@"; do echo "-p$name"; done; }

say "rustfmt"
cargo fmt --all --check || die "the sources are not formatted." "make fmt"
say "layers of the kernel"
cargo run --quiet -p oxbow-check -- layers kernel/src
# shellcheck disable=SC2046
{
    clippy "kernel on the host, with its tests" -p oxbow-kernel --lib --tests
    clippy "kernel" -p oxbow-kernel --target $NONE
    clippy "loader, build tools and VM tests on the host" $(as_packages "${LOADER_LIBS[@]}" "${TOOLS[@]}" "${TESTS[@]}") --all-targets
    [ -z "$LOADER_BIOS" ] || clippy "loader for BIOS" -p "$LOADER_BIOS" --target $NONE
    clippy "kernel that checks the hand-over" -p oxbow-handover-kernel --target $NONE
    [ -z "$LOADER_UEFI" ] || clippy "loader for UEFI" -p "$LOADER_UEFI" --target $UEFI
    clippy "userland" $(as_packages "${USERLAND[@]}") --target $MUSL --all-targets
}
