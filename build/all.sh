#!/usr/bin/env bash
# Builds kernel, loader, userland and the image builder. What an image is made of ends up in dist/parts/:
#
#   kernel         stripped of its debug information
#   kernel.debug   the same with it, for gdb and backtraces
#   loader.bios    loader for BIOS, an ELF file
#   loader.uefi    loader for UEFI, a PE file
#   oxbow-image    the image builder
#   userland/      link to the folder with the programs
. "$(dirname "$0")/env.sh"
. "$OXBOW_TOP/build/packages.sh"
ensure build
need_git
mkdir -p "$DIST/parts"

# Copies a build product when it changed, so that its time tells when it did. Usage: part FILE NAME
part() { cmp -s "$1" "$DIST/parts/$2" || cp "$1" "$DIST/parts/$2"; }

build_with_cargo -p oxbow-kernel --profile kernel --target $NONE
kernel=$TARGET/$NONE/kernel/oxbow-kernel
if ! cmp -s "$kernel" "$DIST/parts/kernel.debug"; then
    objcopy=$(rustc --print sysroot)/lib/rustlib/$RUST_HOST/bin/llvm-objcopy
    "$objcopy" --strip-debug "$kernel" "$DIST/parts/kernel"
    cp "$kernel" "$DIST/parts/kernel.debug"
fi

build_with_cargo -p "$LOADER_BIOS" --profile loader --target $NONE
part "$TARGET/$NONE/loader/$LOADER_BIOS" loader.bios
if [ -n "$LOADER_UEFI" ]; then
    build_with_cargo -p "$LOADER_UEFI" --profile loader --target $UEFI
    part "$TARGET/$UEFI/loader/$LOADER_UEFI.efi" loader.uefi
fi

build_with_cargo -p oxbow-image --release
part "$TARGET/release/oxbow-image" oxbow-image

userland=$("$OXBOW_TOP/build/userland.sh")
ln -sfn "$userland" "$DIST/parts/userland"
