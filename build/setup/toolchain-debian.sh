#!/usr/bin/env bash
# Assembles a Rust toolchain for Oxbow's three targets from Debian's own packages.
#
# Why: where rustup cannot download, no prebuilt standard library for x86_64-unknown-{none,uefi,linux-musl} is to be had.
# Debian ships the compiler, its matching library sources and LLVM, so the libraries are built here, once (about 2 minutes),
# and laid out as rustup would: TOOLCHAIN_DIR/bin and TOOLCHAIN_DIR/lib/rustlib/<target>. The compiler stays Debian's; the
# commands in bin/ are wrappers that point it at this folder.
#
# Expects the packages of packages.sh. The result is moved into place at the end, so an interrupted run leaves nothing behind.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

NONE=x86_64-unknown-none
UEFI=x86_64-unknown-uefi
MUSL=x86_64-unknown-linux-musl

[ -x /usr/bin/rustc ] || die "/usr/bin/rustc is missing: Debian's Rust packages are not installed." "See build/setup/packages.sh."
version=$(/usr/bin/rustc --version | cut -d' ' -f2)
version_at_least "$version" "$RUST_MINIMUM" || die "the system's rustc is $version; at least $RUST_MINIMUM is needed."
[ "$version" = "$RUST_PIN" ] || say "note: the system has Rust $version, the pin is $RUST_PIN; $version serves in its place"
[ -d /usr/lib/rustlib/src/rust/library ] || die "the library sources (package rust-web-src or rust-src) are missing."

mkdir -p "$OXBOW_HOME"
new=$(mktemp -d "$OXBOW_HOME/assembling.XXXXXX")
trap 'rm -rf "$new"' EXIT
# While it is being built, wrappers and libraries live in $root; paths written into wrappers name the final place.
root=$new/toolchain
work=$new/work
rustlib=$root/lib/rustlib
mkdir -p "$root/bin" "$rustlib/$RUST_HOST" "$work/src"

# --- the standard libraries -----------------------------------------------------------------------------------------

# std is built through an empty crate and -Zbuild-std, which stable refuses without RUSTC_BOOTSTRAP; that variable is set
# for this step only. Bitcode is embedded because fat LTO of our programs needs it.
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "oxbow-std-builder"
version = "0.0.0"
edition = "2024"
[profile.release]
codegen-units = 1
[workspace]
TOML
echo '#![no_std]' >"$work/src/lib.rs"

# panic_abort must itself be compiled with panic=abort, or programs built with `panic = "abort"` are refused.
cat >"$work/rustc" <<'SH'
#!/bin/bash
case " $* " in
*" --crate-name panic_abort "*) exec /usr/bin/rustc "$@" -C panic=abort ;;
*) exec /usr/bin/rustc "$@" ;;
esac
SH
chmod +x "$work/rustc"

# Usage: build_std TARGET CRATES [FEATURES]; leaves the libraries in the new toolchain.
build_std() {
    local target=$1 crates=$2 features=${3:-}
    step "building the standard library for $target"
    quietly "$OXBOW_HOME/log/std-$target.log" \
        env -u RUSTUP_TOOLCHAIN -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER \
        RUSTC_BOOTSTRAP=1 RUSTC="$work/rustc" RUSTFLAGS="-Cembed-bitcode=yes" CARGO_TARGET_DIR="$work/target" \
        /usr/bin/cargo build --manifest-path "$work/Cargo.toml" --release --target "$target" \
        -Zbuild-std="$crates" ${features:+-Zbuild-std-features="$features"} ||
        die "building the standard library for $target failed." \
            "If the log speaks of a download: std's own dependencies come from crates.io, which must be reachable."
    mkdir -p "$rustlib/$target/lib"
    find "$work/target/$target/release/deps" -name '*.rlib' ! -name 'liboxbow_std_builder*' \
        -exec cp -t "$rustlib/$target/lib" {} +
}
# Not in a checkout: a .cargo/config.toml there would add its own flags.
cd "$work"
build_std $NONE core,alloc,compiler_builtins compiler-builtins-mem
build_std $UEFI core,alloc,compiler_builtins compiler-builtins-mem
build_std $MUSL std,panic_abort,panic_unwind,proc_macro,test

# --- musl's start files and C library -------------------------------------------------------------------------------

step "collecting musl's start files and an unwinder"
selfc=$rustlib/$MUSL/lib/self-contained
mkdir -p "$selfc"
cp -t "$selfc" /usr/lib/x86_64-linux-musl/{crt1,rcrt1,Scrt1,crti,crtn}.o /usr/lib/x86_64-linux-musl/libc.a
for object in crtbegin crtbeginS crtend crtendS; do
    cp -t "$selfc" "$(gcc -print-file-name=$object.o)"
done
# LLVM's unwinder; gcc's libgcc_eh.a wants glibc's _dl_find_object. Debian compiles it against glibc with
# _FORTIFY_SOURCE, so it calls two checked functions that musl does not have: define them by their plain forms.
unwind=$(find /usr/lib/llvm-*/lib -name libunwind.a | sort -V | tail -n 1)
[ -n "$unwind" ] || die "libunwind.a is missing (package libunwind-19-dev)."
cp "$unwind" "$selfc/libunwind.a"
cat >"$work/chk.c" <<'C'
#include <stdarg.h>
#include <stdio.h>
int __fprintf_chk(FILE *f, int flag, const char *fmt, ...) {
    (void)flag;
    va_list ap;
    va_start(ap, fmt);
    int n = vfprintf(f, fmt, ap);
    va_end(ap);
    return n;
}
int __snprintf_chk(char *s, size_t max, int flag, size_t len, const char *fmt, ...) {
    (void)flag;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(s, max < len ? max : len, fmt, ap);
    va_end(ap);
    return n;
}
C
musl-gcc -O2 -fPIC -U_FORTIFY_SOURCE -c "$work/chk.c" -o "$work/oxbow_chk.o"
ar rs "$selfc/libunwind.a" "$work/oxbow_chk.o" 2>/dev/null

# --- the host's libraries and tools: Debian's -----------------------------------------------------------------------

step "linking Debian's compiler, linker and LLVM tools"
ln -s "/usr/lib/rustlib/$RUST_HOST/lib" "$rustlib/$RUST_HOST/lib"
mkdir "$rustlib/$RUST_HOST/bin"
for tool in "/usr/lib/rustlib/$RUST_HOST/bin/"*; do
    ln -s "$tool" "$rustlib/$RUST_HOST/bin/"
done
ln -sfn /usr/lib/rustlib/src "$rustlib/src"
# The LLVM whose bitcode this rustc writes.
llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
for tool in ar nm objcopy objdump profdata readobj size strip cov; do
    [ ! -x "/usr/bin/llvm-$tool-$llvm" ] || ln -sf "/usr/bin/llvm-$tool-$llvm" "$rustlib/$RUST_HOST/bin/llvm-$tool"
done
lld=$(command -v "ld.lld-$llvm" rust-lld | head -n 1) || true
[ -n "$lld" ] || die "no lld for LLVM $llvm (package lld-$llvm)."
ln -sf "$lld" "$rustlib/$RUST_HOST/bin/rust-lld"

for tool in rustc rustdoc; do
    # bash, not sh: dash drops variables whose name has a dash, like cargo's CARGO_BIN_EXE_oxbow-image.
    printf '#!/bin/bash\nexec /usr/bin/%s --sysroot "%s" "$@"\n' $tool "$TOOLCHAIN_DIR" >"$root/bin/$tool"
done
# cargo calls clippy-driver as a rustc wrapper: the first argument is then the path of rustc, and flags come after it.
cat >"$root/bin/clippy-driver" <<SH
#!/bin/bash
case "\${1-}" in
*rustc) first=\$1; shift; exec /usr/bin/clippy-driver "\$first" --sysroot "$TOOLCHAIN_DIR" "\$@" ;;
*) exec /usr/bin/clippy-driver --sysroot "$TOOLCHAIN_DIR" "\$@" ;;
esac
SH
chmod +x "$root/bin/"*
# cargo-clippy looks for clippy-driver beside its own file, so a link would find Debian's.
cp /usr/bin/cargo-clippy "$root/bin/"
for tool in cargo cargo-fmt rustfmt; do ln -s "/usr/bin/$tool" "$root/bin/$tool"; done

# --- into place -----------------------------------------------------------------------------------------------------

rm -rf "$TOOLCHAIN_DIR"
mv "$root" "$TOOLCHAIN_DIR"
toolchain_complete "$TOOLCHAIN_DIR/bin" || die "the assembled toolchain in $TOOLCHAIN_DIR does not work."
say "Rust $version for ${RUST_TARGETS[*]} is in $TOOLCHAIN_DIR"
