#!/usr/bin/env bash
# Makes plain `cargo` in this checkout use Rust at the pinned version with all three targets.
#
# In order: what is there already; rustup, where it can download; Debian's packages (toolchain-debian.sh). The result is
# known to rustup under the pinned version's own name, so every checkout with our rust-toolchain.toml finds it. Without
# rustup it stands at OXBOW_HOME/toolchain, whose bin/ the Makefile puts first on PATH.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
cd "$OXBOW_TOP"
current=$OXBOW_HOME/toolchain
dist=${RUSTUP_DIST_SERVER:-https://static.rust-lang.org}

is_there() { if has_rustup; then toolchain_complete; else toolchain_complete "$current/bin"; fi; }
! is_there || exit 0
say "Rust $RUST_PIN for ${RUST_TARGETS[*]} is not there yet"
mkdir -p "$OXBOW_HOME"
check_disk "$OXBOW_HOME"
# Two checkouts make it once.
exec 8>"$OXBOW_HOME/setup.lock"
if ! flock -n 8; then
    say "another set-up is making it; waiting"
    flock 8
    ! is_there || exit 0
fi
# What a set-up that was ended by force left behind.
rm -rf "$OXBOW_HOME"/assembling.*

# rustup, asked for exactly what rust-toolchain.toml lists. Debian's assembly, if it sits under this name, makes way.
rustup_install() {
    local name=$RUST_PIN-$RUST_HOST home
    home=$(rustup_home)
    [ ! -L "$home/toolchains/$name" ] || rm "$home/toolchains/$name"
    step "rustup downloads it from $dist (about 150 MB)"
    quietly "$OXBOW_HOME/log/rustup.log" rustup toolchain install "$RUST_PIN" --profile minimal --no-self-update \
        --component rustfmt --component clippy --component llvm-tools "${RUST_TARGETS[@]/#/--target=}"
}

# No rustup on this machine, but its server answers: a private one under OXBOW_HOME, which changes nothing of the user's.
private_rustup() {
    command -v curl >/dev/null || return 1
    local init=$OXBOW_HOME/rustup-init url=$dist/rustup/dist/$RUST_HOST/rustup-init
    step "fetching rustup into $OXBOW_HOME"
    curl -fsSL --retry 2 -o "$init" "$url" || return 1
    [ "$(sha256sum <"$init" | cut -d' ' -f1)" = "$(curl -fsSL "$url.sha256" | cut -d' ' -f1)" ] || return 1
    chmod +x "$init"
    export RUSTUP_HOME=$OXBOW_HOME/rustup
    CARGO_HOME=$OXBOW_HOME/rustup quietly "$OXBOW_HOME/log/rustup-init.log" \
        "$init" -y --no-modify-path --profile minimal --default-toolchain none || return 1
    rm "$init"
    PATH=$OXBOW_HOME/rustup/bin:$PATH CARGO_HOME=$OXBOW_HOME/rustup rustup_install || return 1
    ln -sfn "$RUSTUP_HOME/toolchains/$RUST_PIN-$RUST_HOST" "$current"
}

if reachable "$dist/dist/channel-rust-$RUST_PIN.toml.sha256"; then
    if has_rustup; then
        rustup_install && toolchain_complete && exit 0
    else
        private_rustup && toolchain_complete "$current/bin" && exit 0
    fi
    say "rustup did not manage; trying the system's packages"
else
    step "rustup cannot download here ($dist does not answer): using the system's packages"
fi

toolchain_complete "$TOOLCHAIN_DIR/bin" || {
    "$OXBOW_TOP/build/setup/packages.sh" rust
    say "assembling the toolchain (about 2 minutes, once)"
    "$OXBOW_TOP/build/setup/toolchain-debian.sh"
}
if has_rustup; then
    mkdir -p "$(rustup_home)/toolchains"
    ln -sfn "$TOOLCHAIN_DIR" "$(rustup_home)/toolchains/$RUST_PIN-$RUST_HOST"
    # A rustup that installs on its own would now try to download the components of rust-toolchain.toml. An override for
    # this folder keeps it from looking there.
    if ! toolchain_complete; then
        rustup toolchain link oxbow "$TOOLCHAIN_DIR" && rustup override set oxbow --path "$OXBOW_TOP"
    fi
    toolchain_complete || die "rustup does not accept the toolchain in $TOOLCHAIN_DIR." "Try: RUSTUP_AUTO_INSTALL=0 cargo --version"
else
    ln -sfn "$TOOLCHAIN_DIR" "$current"
    say "there is no rustup here: make finds the toolchain by itself; for plain cargo put $current/bin first on PATH"
fi
