#!/usr/bin/env bash
# Installs the system packages that a purpose needs and that are missing.
# Usage: packages.sh build|run|test|rust...
#
#   build   compile everything and assemble the image
#   run     boot the image
#   test    programs that the tests use or run inside Oxbow
#   rust    Debian's own Rust, for machines where rustup cannot download
#
# A package is wanted when what it provides is not there, so a tool that came another way (a newer QEMU in /usr/local,
# nodesource's Node.js) is left alone. Installs with apt on Debian and its kin; elsewhere it says what is missing.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# mke2fs and debugfs live here, and a user's PATH may lack it.
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive

missing=()
updated=

# Wants a package unless a command is on PATH or a file exists (an absolute path, which may be a pattern).
# Usage: want COMMAND_OR_FILE PACKAGE WHY
want() {
    case $1 in
    /*) ! compgen -G "$1" >/dev/null || return 0 ;;
    *) ! command -v "$1" >/dev/null || return 0 ;;
    esac
    missing+=("$2")
    say "missing: $2 ($3)"
}

# A shell that is linked statically runs inside Oxbow unmodified; a dynamic one of the same name does not count.
want_static() {
    if command -v "$1" >/dev/null && ! ldd "$(command -v "$1")" >/dev/null 2>&1; then return 0; fi
    missing+=("$2")
    say "missing: $2 ($3)"
}

apt_update() {
    [ -z "$updated" ] || return 0
    step "reading package lists"
    # One dead third-party source must not stop us: what counts is whether our packages can be found afterwards.
    quietly "$OXBOW_HOME/log/apt-update.log" as_root apt-get -o DPkg::Lock::Timeout=600 update || true
    updated=yes
}

candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \(([^)]*)\)\{0,1\}//p'; }

apt_install() {
    step "installing: $*"
    quietly "$OXBOW_HOME/log/apt-install.log" \
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"
}

# QEMU on bookworm: a qemu-utils from backports, which some images carry, refuses the qemu-system-x86 of bookworm itself.
# Then the backports suite of the same mirror is added and both come from there.
install_qemu() {
    if apt-get -s install -y --no-install-recommends "$@" >/dev/null 2>&1; then
        apt_install "$@"
        return
    fi
    local codename uri
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    uri=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | awk -v c="$codename" '$1 == c { print $2; exit }')
    [ -n "$codename" ] && [ -n "$uri" ] || die "apt cannot install $*." "Try: apt-get install $*"
    step "this $codename has parts of QEMU from backports: adding $codename-backports of $uri"
    local list=/etc/apt/sources.list.d/oxbow-backports.list
    if ! apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' | grep -qx "$codename-backports"; then
        echo "deb $uri $codename-backports main" | as_root tee "$list" >/dev/null
        updated=
        apt_update
    fi
    apt_install -t "$codename-backports" "$@"
}

for purpose in "$@"; do
    case $purpose in
    build)
        want cc gcc "the host's C compiler links build tools"
        want /usr/lib/x86_64-linux-gnu/crt1.o libc6-dev "start files for programs of the host"
        want musl-gcc musl-tools "compiles the C parts of userland crates against musl"
        want mke2fs e2fsprogs "makes and checks the root filesystem"
        want qemu-img qemu-utils "writes the qcow2 image"
        want ssh-keygen openssh-client "makes the key that development images trust"
        want curl curl "fetches Rust where its server answers, and test programs"
        want /etc/ssl/certs/ca-certificates.crt ca-certificates "lets downloads be checked"
        want git git "lists the files that go into an image"
        ;;
    run)
        want qemu-system-x86_64 qemu-system-x86 "boots the image"
        want "/usr/share/OVMF/OVMF_CODE*.fd" ovmf "UEFI firmware for QEMU"
        want ssh openssh-client "logs in to the guest"
        ;;
    test)
        want_static busybox busybox-static "a program of others that the tests run inside Oxbow"
        want_static bash-static bash-static "a program of others that the tests run inside Oxbow"
        want "/usr/lib/python3/dist-packages/paramiko/__init__.py" python3-paramiko "another SSH client"
        want patch patch "what ours is compared with"
        want openssl openssl "checks what was fetched"
        ;;
    rust)
        # Which of Debian's Rusts: the one kept current for browsers where there is one.
        command -v apt-get >/dev/null || die "no apt-get here, and rustup cannot download Rust $RUST_PIN." "Install Rust $RUST_PIN with the targets ${RUST_TARGETS[*]} by hand."
        if [ -z "$(candidate rustc-web)" ]; then
            need_root "reading package lists"
            apt_update
        fi
        if version=$(candidate rustc-web) && [ -n "$version" ] && [ "$version" != none ] && [ "$version" != "(none)" ]; then
            rust=(rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web rust-web-llvm)
        else
            rust=(rustc cargo rust-src rust-clippy rustfmt rust-llvm)
            version=$(candidate rustc)
        fi
        version_at_least "${version%%[+~-]*}" "$RUST_MINIMUM" || die \
            "rustup cannot download, and the newest Rust among this system's packages is ${version:-none}; at least $RUST_MINIMUM is needed." \
            "Give rustup a way to https://static.rust-lang.org (or set RUSTUP_DIST_SERVER), then try again."
        # The LLVM that this compiler is built on.
        llvm=$(apt-cache depends "${rust[5]}" | sed -n 's/^ *Depends: llvm-\([0-9]*\)$/\1/p' | head -n 1)
        [ -n "$llvm" ] || die "cannot tell from ${rust[5]} which LLVM Rust $version is built on."
        # LLVM's unwinder for musl; from 22 on Debian's is built against another C library.
        unwind=$(apt-cache search --names-only '^libunwind-1[0-9]-dev$' | cut -d' ' -f1 | sort -V | tail -n 1)
        for package in "${rust[@]}" "lld-$llvm" "llvm-$llvm" musl-tools musl-dev gcc libc6-dev "${unwind:-libunwind-19-dev}"; do
            [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
        done
        [ ${#missing[@]} = 0 ] || say "missing: Debian's Rust ${version%%[+~-]*} and LLVM $llvm (rustup cannot download here)"
        ;;
    *) die "packages.sh: unknown purpose '$purpose'" ;;
    esac
done

[ ${#missing[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to install them: ${missing[*]}" \
    "Install what provides them with your system's package manager."

check_disk /usr
need_root "installing packages"
apt_update
for package in "${missing[@]}"; do
    found=$(candidate "$package")
    [ -n "$found" ] && [ "$found" != "(none)" ] && [ "$found" != none ] || die \
        "apt knows no package '$package'." \
        "Either its lists could not be read (no network? see $OXBOW_HOME/log/apt-update.log)," \
        "or this release has it under another name."
done
qemu=() other=()
for package in "${missing[@]}"; do
    case $package in qemu-*) qemu+=("$package") ;; *) other+=("$package") ;; esac
done
failed=("installing packages failed." "No network or a full disk show in the lines above.")
[ ${#other[@]} = 0 ] || apt_install "${other[@]}" || die "${failed[@]}"
[ ${#qemu[@]} = 0 ] || install_qemu "${qemu[@]}" || die "${failed[@]}"
