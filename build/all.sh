#!/usr/bin/env bash
# Builds kernel, loader and userland. What an image is made of ends up in dist/parts/:
#
#   kernel         stripped, for the image
#   kernel.debug   the same with symbols, for gdb and backtraces
#   userland/      link to the folder with the programs
#
# The loader's stages stay where cargo puts them; build/image.sh names them.
. "$(dirname "$0")/env.sh"
ensure build
mkdir -p "$DIST/parts"

build_with_cargo -p oxbow-kernel --profile kernel --target $NONE
kernel=$TARGET/$NONE/kernel/oxbow-kernel
if [ ! -f "$DIST/parts/kernel" ] || [ "$kernel" -nt "$DIST/parts/kernel.debug" ]; then
    objcopy=$(rustc --print sysroot)/lib/rustlib/$RUST_HOST/bin/llvm-objcopy
    "$objcopy" --strip-all "$kernel" "$DIST/parts/kernel"
    cp -p "$kernel" "$DIST/parts/kernel.debug"
fi

userland=$("$OXBOW_TOP/build/userland.sh")
ln -sfn "$userland" "$DIST/parts/userland"
