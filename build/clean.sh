#!/usr/bin/env bash
# Removes what was built in this checkout. The toolchain and the cache of userland binaries in OXBOW_HOME stay.
. "$(dirname "$0")/env.sh"
rm -rf "$DIST" "$TARGET"
