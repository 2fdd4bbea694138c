#!/usr/bin/env bash
# Fetches the Linux that Oxbow is measured against: Debian's cloud kernel, from the mirror that this machine's apt uses.
# It is unpacked, never installed. Prints, as its only line of output, the folder that holds
#
#   vmlinuz       the kernel
#   modules/N.ko  what it needs for virtio disks and cards, in the order to load them
#   version       the package's version
#
# 6.12 (Debian 13, or the backports of 12) is wanted; 6.1 serves where there is nothing newer.
. "$(dirname "$0")/../env.sh"
MODULES=(virtio_blk virtio_net)
fixtures=$OXBOW_HOME/fixtures
out=$fixtures/linux-cloud
[ -f "$out/version" ] && { echo "$out"; exit 0; }

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die "Linux to compare with comes from Debian's packages, and there is no apt-get here."
command -v xz >/dev/null || die "unpacking Linux's modules needs xz (package xz-utils)."

# The newest image of that kind that apt knows: the metapackage of the newest suite names it.
newest() {
    local meta
    meta=$(apt-cache madison linux-image-cloud-amd64 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' | sort -Vr | head -n 1)
    [ -n "$meta" ] || return 1
    apt-cache depends "linux-image-cloud-amd64=$meta" | awk '$1 == "Depends:" { print $2; exit }'
}
package=$(newest) || true
if [ -z "$package" ]; then
    quietly "$OXBOW_HOME/log/apt-update.log" as_root apt-get -o DPkg::Lock::Timeout=600 update || true
    package=$(newest) || die "apt knows no linux-image-cloud-amd64." "Is this Debian, and is there a network?"
fi

say "fetching Linux to compare with: $package"
mkdir -p "$fixtures"
work=$(mktemp -d "$fixtures/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download "$package" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "apt-get download $package failed."; }
dpkg-deb -x "$package"_*.deb tree
mkdir -p new/modules
cp tree/boot/vmlinuz-* new/vmlinuz

# Puts a module after those that it depends on. One that is not a file is built into the kernel.
number=0
declare -A placed=()
place() {
    local name=$1 file depends dependency
    [ -z "${placed[$name]:-}" ] || return 0
    placed[$name]=yes
    file=$(find tree \( -name "$name.ko*" -o -name "${name//_/-}.ko*" \) -print -quit)
    [ -n "$file" ] || return 0
    case $file in
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -dc "$file" ;;
    *) cat "$file" ;;
    esac >"module.$name"
    depends=$({ grep -az "^depends=" "module.$name" || true; } | tr -d "\0" | sed "s/^depends=//; s/,/ /g")
    for dependency in $depends; do place "$dependency"; done
    mv "module.$name" "new/modules/$number.ko"
    number=$((number + 1))
}
for module in "${MODULES[@]}"; do place "$module"; done
[ "$number" -le 10 ] || die "too many modules for the initramfs: $number"
dpkg-deb -f "$package"_*.deb Version >new/version
chmod -R a+rX new
rm -rf "$out"
mv new "$out"
echo "$out"
