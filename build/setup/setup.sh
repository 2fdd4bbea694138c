#!/usr/bin/env bash
# Brings a machine to where Oxbow builds, boots and tests. Installs only what is missing; when nothing is, it takes a
# fraction of a second and says nothing.
# Usage: setup.sh [build] [run] [test]   (default: all three)
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -gt 0 ] || set -- build run test

[ "$(uname -sm)" = "Linux x86_64" ] || die "Oxbow builds on Linux on x86_64; this is $(uname -sm)."
"$OXBOW_TOP/build/setup/packages.sh" "$@"
"$OXBOW_TOP/build/setup/toolchain.sh"
case " $* " in *" test "*) "$OXBOW_TOP/build/setup/fixtures.sh" ;; esac
