#!/usr/bin/env bash
# Puts a file onto an existing image, with its permissions, owned by root, without a rebuild and without privileges.
# Usage: drop.sh FILE [DEST]   (DEST defaults to /bin/NAME; a directory there is meant as the place for NAME)
. "$(dirname "$0")/env.sh"
file=${1:-}
[ -n "$file" ] || die "which file?" "Usage: make drop FILE=./hello [DEST=/bin/hello]"
[ -f "$file" ] || die "'$file' is not a file."
[ -f "$IMAGE" ] || die "there is no image '$IMAGE' yet." "make image makes it."
dest=${2:-/bin/$(basename "$file")}

# The image builder of the last build; a fresh checkout with somebody's image has none.
tool=$DIST/parts/oxbow-image
if [ ! -x "$tool" ]; then
    ensure build
    build_with_cargo -p oxbow-image --release
    tool=$TARGET/release/oxbow-image
fi
place=$("$tool" drop "$IMAGE" "$file" "$dest")
say "$place: $(stat -Lc '%s bytes, mode %a' "$file"), on ${IMAGE#"$OXBOW_TOP"/}"
