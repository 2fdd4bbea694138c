#!/usr/bin/env bash
# Fetches programs that other people built, which the tests run inside Oxbow and which no system package has.
# Prints nothing when they are there. They go to OXBOW_HOME/fixtures:
#
#   esbuild    a static Go binary, from the npm package @esbuild/linux-x64
#
# A version and a checksum are pinned. The package is one tarball on npm's registry, so curl is enough; npm, which is hundreds
# of packages on Debian, is only asked for its registry where it is installed.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

ESBUILD_VERSION=0.28.2
# As in the registry's dist.integrity.
ESBUILD_SHA512=4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==

fixtures=$OXBOW_HOME/fixtures
have=$fixtures/esbuild.version
if [ -x "$fixtures/esbuild" ] && [ "$(cat "$have" 2>/dev/null)" = "$ESBUILD_VERSION" ]; then exit 0; fi

say "missing: esbuild $ESBUILD_VERSION (a Go program that the tests run inside Oxbow)"
mkdir -p "$fixtures"
work=$(mktemp -d "$fixtures/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
registry=https://registry.npmjs.org
if command -v npm >/dev/null; then registry=$(npm config get registry 2>/dev/null | tail -n 1 || echo $registry); fi
curl -fsSL --retry 2 -o package.tgz "${registry%/}/@esbuild/linux-x64/-/linux-x64-$ESBUILD_VERSION.tgz" ||
    die "esbuild cannot be fetched from $registry." "Is there a network? The tests need that program once."
got=$(openssl dgst -sha512 -binary package.tgz | openssl base64 -A)
[ "$got" = "$ESBUILD_SHA512" ] || die "esbuild's package from $registry has a wrong checksum: $got"
tar -xzf package.tgz package/bin/esbuild
install -m 755 package/bin/esbuild "$fixtures/esbuild"
echo "$ESBUILD_VERSION" >"$have"
