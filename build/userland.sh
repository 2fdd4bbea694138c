#!/usr/bin/env bash
# Builds the userland programs and prints, as its only line of output, the folder that holds them.
#
# Why a cache beside cargo's: fat LTO over shell and utilities takes minutes, and a clean checkout, another worktree or a
# return to an earlier commit needs the same bytes again. The folder is named by a hash of everything that goes in: the
# resolved crates, our own sources, profile and flags, and the compiler.
. "$(dirname "$0")/env.sh"

PROGRAMS=(oxbow-init oxsh oxbox oxsshd oxsu)
KEEP=8 # builds to keep; the oldest unused ones go
cache=$OXBOW_HOME/userland

hash_of_inputs() {
    {
        rustc -vV
        # Names and versions of all crates, with their features; our own sources follow file by file.
        cargo tree --locked --offline --target $MUSL -e normal,build --prefix none -f '{p} {f}' "${PROGRAMS[@]/#/-p}" 2>/dev/null ||
            cat Cargo.lock
        cat .cargo/config.toml build/userland.sh
        # The sections of Cargo.toml that say how: the profile and what it inherits, and replaced crates.
        awk '/^\[/ { wanted = /^\[(profile\.(user|release).*|patch\..*)\]/ } wanted && !/^(#|$)/' Cargo.toml
        git ls-files -co --exclude-standard -- userland ':!userland/rootfs' ':!userland/*/tests' ':!userland/cases.rs' ':!*.md' | LC_ALL=C sort | while read -r file; do
            [ ! -f "$file" ] || sha256sum "$file"
        done
    } | sed "s#$OXBOW_TOP#.#g" | sha256sum | cut -c1-24
}

hash=$(hash_of_inputs)
out=$cache/$hash
if [ ! -d "$out" ]; then
    mkdir -p "$cache"
    # Two checkouts with the same sources build once.
    exec 9>"$cache/$hash.lock"
    flock -n 9 || { say "another build makes these userland binaries; waiting for it"; flock 9; }
    if [ ! -d "$out" ]; then
        say "building userland: ${PROGRAMS[*]} (minutes the first time; then only what changed)"
        build_with_cargo --profile user --target $MUSL "${PROGRAMS[@]/#/-p}"
        objcopy=$(rustc --print sysroot)/lib/rustlib/$RUST_HOST/bin/llvm-objcopy
        new=$(mktemp -d "$cache/new.XXXXXX")
        trap 'rm -rf "$new"' EXIT
        chmod 755 "$new"
        for program in "${PROGRAMS[@]}"; do
            # A panic aborts here, so nobody reads the tables for walking the stack, a twentieth of these programs. They
            # become zeros: what follows them has its address.
            "$objcopy" --remove-section .eh_frame --remove-section .eh_frame_hdr "$TARGET/$MUSL/user/$program" "$new/$program"
        done
        "$new/oxbox" --list >"$new/applets"
        # The crates may have been fetched only now, and the hash is then another one.
        hash=$(hash_of_inputs)
        out=$cache/$hash
        rm -rf "$out"
        mv "$new" "$out"
        # The oldest builds make room.
        ls -1dt "$cache"/[0-9a-f]*/ | tail -n +$((KEEP + 1)) | xargs -r rm -rf
    fi
    exec 9>&-
    find "$cache" -name '*.lock' -mmin +600 -delete
fi
touch "$out"
echo "$out"
