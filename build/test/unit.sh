#!/usr/bin/env bash
# Everything that needs no VM: formatting, lints, layers, and the unit tests of all packages.
. "$(dirname "$0")/../env.sh"
. "$OXBOW_TOP/build/packages.sh"
ensure build

"$OXBOW_TOP/build/lint.sh" check

# Unit tests of some packages. Usage: unit WHAT CARGO_ARGUMENTS...
unit() {
    say "unit tests: $1"
    shift
    cargo test --quiet "$@"
}
as_packages() { local name; for name in "$@"; do echo "-p$name"; done; }

# shellcheck disable=SC2046
{
    unit "kernel" -p oxbow-kernel --lib
    unit "loader and build tools" $(as_packages "${LOADER_LIBS[@]}" "${TOOLS[@]}")
    # Static musl programs run on the host as they are.
    unit "userland" $(as_packages "${USERLAND[@]}") --target $MUSL
}
say "unit tests passed"
