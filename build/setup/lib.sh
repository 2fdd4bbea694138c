# Shared by the set-up scripts: messages, privileges, versions and folders.
#
# Responsible for: the one place that knows where the toolchain lives, which Rust version the tree pins,
# and how to say what happens. Not for: installing anything.
# shellcheck shell=bash

# The checkout these scripts belong to.
OXBOW_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Everything that set-up keeps outside the tree: survives `make clean` and serves every checkout of the user.
export OXBOW_HOME=${OXBOW_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/oxbow}

# The Rust version that rust-toolchain.toml pins, e.g. "1.96.0".
RUST_PIN=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$OXBOW_TOP/rust-toolchain.toml")
RUST_HOST=x86_64-unknown-linux-gnu
RUST_TARGETS=(x86_64-unknown-none x86_64-unknown-uefi x86_64-unknown-linux-musl)

# The oldest Rust that the sources accept (rust-version in Cargo.toml). Debian's packages may be at another version than
# the pin; from this one on they serve.
RUST_MINIMUM=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$OXBOW_TOP/Cargo.toml")

# Where a toolchain assembled from Debian's packages goes. It is tied to one version.
TOOLCHAIN_DIR=$OXBOW_HOME/toolchain-$RUST_PIN

# Space that toolchain, packages, build products and image need together, in GiB.
NEEDED_GIB=6

# What messages start with.
TAG=setup

# Bold and red where somebody looks, nothing in a log.
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\033[1m' RED=$'\033[1;31m' PLAIN=$'\033[0m'; else BOLD='' RED='' PLAIN=''; fi
say() { printf '%s[%s]%s %s\n' "$BOLD" "$TAG" "$PLAIN" "$*" >&2; }
step() { printf '%s[%s]%s   %s\n' "$BOLD" "$TAG" "$PLAIN" "$*" >&2; }

# Ends the script with a message and, on further lines, what the user can do about it.
die() {
    printf '%s[%s] error:%s %s\n' "$RED" "$TAG" "$PLAIN" "$1" >&2
    shift
    local line
    for line in "$@"; do printf '                %s\n' "$line" >&2; done
    exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Makes sure that as_root will work, and lets sudo ask for the password now, while nothing else writes to the terminal.
# Usage: need_root WHAT_FOR
need_root() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "$1 needs root, and there is no sudo." "Run this as root once: make setup"
    sudo -n true 2>/dev/null || sudo -p "[$TAG] $1 needs root; sudo's password for %u: " -v ||
        die "$1 needs root, and sudo refuses." "Run this as root once: make setup"
}

# Runs a command quietly; its output goes to a log whose end is shown when the command fails.
# Passing seconds say that it is alive.
# Usage: quietly LOGFILE COMMAND...
quietly() {
    local log=$1 pid seconds=0
    shift
    mkdir -p "$(dirname "$log")"
    # Ctrl-C is for the command too, which as a background one would not hear it.
    (trap - INT QUIT && "$@") >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        if [ -t 2 ]; then
            printf '\r            %d s' "$seconds" >&2
        elif [ $((seconds % 15)) = 0 ]; then
            step "... $seconds s"
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    wait "$pid" && return 0
    local status=$?
    tail -n 25 "$log" | sed 's/^/    | /' >&2
    step "the whole log: $log"
    return "$status"
}

# Fails when less than NEEDED_GIB is free where we write. An existing parent of the folder is asked.
check_disk() {
    local dir=$1 free
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge "$NEEDED_GIB" ] || die "only $free GiB are free in $dir; toolchain and build need $NEEDED_GIB GiB." \
        "Free some space, or point OXBOW_HOME (toolchain) and CARGO_TARGET_DIR (build) at another disk."
}

# Is the URL's host reachable within a few seconds? Follows proxies that curl or wget are set up for.
reachable() {
    if command -v curl >/dev/null; then
        curl -fsIL --max-time 8 -o /dev/null "$1" 2>/dev/null
    elif command -v wget >/dev/null; then
        wget -q --spider --timeout=8 --tries=1 "$1" 2>/dev/null
    else
        return 1
    fi
}

has_rustup() { command -v rustup >/dev/null; }
rustup_home() { echo "${RUSTUP_HOME:-$HOME/.rustup}"; }

# Usage: version_at_least VERSION MINIMUM
version_at_least() { [ -n "$1" ] && [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Is there a Rust that is new enough and has all three targets? Asks what plain `cargo` here would use, or the commands in
# BIN_DIR. Prints nothing. Usage: toolchain_complete [BIN_DIR]
toolchain_complete() {
    local rustc=${1:+$1/}rustc sysroot target version
    version=$("$rustc" --version 2>/dev/null | cut -d' ' -f2) && version_at_least "$version" "$RUST_MINIMUM" || return 1
    sysroot=$("$rustc" --print sysroot) || return 1
    for target in "${RUST_TARGETS[@]}"; do
        compgen -G "$sysroot/lib/rustlib/$target/lib/libcore-*.rlib" >/dev/null || return 1
    done
}
