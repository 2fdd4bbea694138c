# Sourced by every build script: where things are, which cargo, and how messages look.
# shellcheck shell=bash
set -euo pipefail

# shellcheck source=setup/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"

TAG=oxbow
DIST=$OXBOW_TOP/dist
TARGET=${CARGO_TARGET_DIR:-$OXBOW_TOP/target}
case ${RELEASE:-} in
1) IMAGE_MADE=$DIST/oxbow-release.qcow2 ;;
'' | 0) IMAGE_MADE=$DIST/oxbow.qcow2 RELEASE= ;;
*) die "RELEASE is 1 or nothing, not '$RELEASE'." ;;
esac
IMAGE=${IMAGE:-$IMAGE_MADE}
# The key pair that a development image trusts.
SSH_KEY=$DIST/ssh/id_ed25519

NONE=x86_64-unknown-none
UEFI=x86_64-unknown-uefi
MUSL=x86_64-unknown-linux-musl

# Without rustup, set-up leaves the toolchain here.
if ! has_rustup && [ -d "$OXBOW_HOME/toolchain/bin" ]; then
    PATH=$OXBOW_HOME/toolchain/bin:$PATH
fi
# Toolchains are set-up's business: rustup must neither download nor ask in the middle of a build.
export RUSTUP_AUTO_INSTALL=0
# Panic messages name the files of crates, which lie in somebody's home: not in programs that are the same for everybody.
# (In the environment, so that cargo finds the same flags when a test calls it; there, a space would end a flag.)
crates=${CARGO_HOME:-$HOME/.cargo}/registry/src
if [[ $crates != *[[:space:]]* ]]; then
    for target in $NONE $UEFI $MUSL; do
        target=${target^^}
        export "CARGO_TARGET_${target//-/_}_RUSTFLAGS=--remap-path-prefix=$crates=/crates"
    done
fi
# mke2fs, debugfs and e2fsck.
PATH=$PATH:/usr/sbin:/sbin
cd "$OXBOW_TOP"

# Brings the machine to where PURPOSES work. Usage: ensure build run test
ensure() {
    "$OXBOW_TOP/build/setup/setup.sh" "$@"
    # The first run may just have made the toolchain.
    if ! has_rustup && [[ $PATH != "$OXBOW_HOME/toolchain/bin:"* ]]; then
        PATH=$OXBOW_HOME/toolchain/bin:$PATH
    fi
}

# Compiles, quietly when nothing changed: cargo's "Finished" lines stay out, progress and errors do not. A line a minute
# says that it is alive: linking a program with all its crates takes several.
build_with_cargo() (
    # A pipe that nobody writes to: a wait that needs no program, which would be left over when the wait is cut short.
    exec {silence}<> <(:)
    (
        minutes=0
        until read -r -t 60 -u "$silence"; do
            minutes=$((minutes + 1))
            step "... still compiling, $minutes min"
        done
    ) &
    ticker=$!
    trap 'kill $ticker' EXIT
    cargo build "$@" 2> >(grep --line-buffered -v '^ *Finished ' >&2 || true) && return
    local status=$?
    reachable https://index.crates.io/config.json ||
        say "note: crates.io cannot be reached from here; the first build fetches the crates of Cargo.lock from there"
    return "$status"
)

# Which files are sources is git's to say.
need_git() {
    git ls-files --error-unmatch Makefile >/dev/null ||
        die "git cannot list the files of $OXBOW_TOP (its reason is above)." "Oxbow is built in a git checkout of your own: git clone"
}

seconds_since() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f s", b - a }'; }
