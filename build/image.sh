#!/usr/bin/env bash
# Builds everything and makes dist/oxbow.qcow2, when what it is made of has changed. With RELEASE=1 in the environment it
# makes dist/oxbow-release.qcow2, which is the same less the development key: nobody can log in to it.
# Usage: image.sh [--keep-changes]
#
# An image that was written to since (by a guest, or by `make drop`) is made anew, so that `make image` and the tests have a
# fresh one. --keep-changes leaves it alone as long as its inputs stay the same: that is what `make qemu` wants.
. "$(dirname "$0")/env.sh"
image=$IMAGE_MADE
stamp=$DIST/parts/$(basename "$image" .qcow2).stamp
limit=$((12500 * 1000)) # bytes the compressed image may have

"$OXBOW_TOP/build/all.sh"
[ -n "$RELEASE" ] || "$OXBOW_TOP/build/key.sh"

parts=("$DIST"/parts/{kernel,loader.bios,oxbow-image})
[ ! -f "$DIST/parts/loader.uefi" ] || parts+=("$DIST/parts/loader.uefi")
inputs() {
    sha256sum "${parts[@]}" | cut -d' ' -f1
    readlink "$DIST/parts/userland"
    if [ -n "$RELEASE" ]; then echo release; else cat "$SSH_KEY.pub"; fi
    git ls-files -co --exclude-standard -- userland/rootfs build/rootfs.list build/stage.sh build/cmdline | while read -r file; do
        if [ -L "$file" ]; then readlink "$file"; elif [ -f "$file" ]; then sha256sum "$file" && test -x "$file" && echo x; fi
    done || true
}
state_of_image() { stat -c '%s %.Y' "$image" 2>/dev/null || true; }

now=$(inputs | sha256sum | cut -d' ' -f1)
before=$(sed -n 1p "$stamp" 2>/dev/null || true)
if [ -f "$image" ] && [ "$now" = "$before" ]; then
    if [ "${1:-}" = --keep-changes ] || [ "$(state_of_image)" = "$(sed -n 2p "$stamp")" ]; then exit 0; fi
    say "the image was written to since it was made: making it anew"
fi

start=$(date +%s.%N)
"$OXBOW_TOP/build/stage.sh"
uefi=()
[ ! -f "$DIST/parts/loader.uefi" ] || uefi=(--uefi "$DIST/parts/loader.uefi")
"$DIST/parts/oxbow-image" build --kernel "$DIST/parts/kernel" --bios "$DIST/parts/loader.bios" "${uefi[@]}" \
    --cmdline-file "$OXBOW_TOP/build/cmdline" --root "$DIST/root" --output "$image"
size=$(stat -c %s "$image")
printf '%s\n%s\n' "$now" "$(state_of_image)" >"$stamp"
say "${image#"$OXBOW_TOP"/}: $(awk -v b="$size" 'BEGIN { printf "%.2f MB", b / 1e6 }'), made in $(seconds_since "$start")"
[ "$size" -lt "$limit" ] || die "the image is too large: $size bytes, the limit is $limit."
