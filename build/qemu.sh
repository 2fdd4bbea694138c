#!/usr/bin/env bash
# Boots the image in QEMU. Builds it first unless IMAGE names another one.
# Usage: qemu.sh console|window|debug
#
#   console   serial console in this terminal; Ctrl-A X leaves QEMU, Ctrl-A C is its monitor
#   window    the same, and the screen in a window
#   debug     stopped at reset, gdb server on port 1234
#
# Settings (environment): FIRMWARE=bios|uefi  CPUS=2  MEMORY=256 (MiB)  CPU=max  ACCEL=kvm|tcg  IMAGE=FILE  SSH_PORT=2222
. "$(dirname "$0")/env.sh"
how=${1:-console}
firmware=${FIRMWARE:-bios}

ensure build run
if [ "$IMAGE" = "$IMAGE_MADE" ]; then
    # An image that a guest or `make drop` has written to stays as it is while what it was built from stays the same.
    "$OXBOW_TOP/build/image.sh" --keep-changes
fi
[ -f "$IMAGE" ] || die "there is no image '$IMAGE'."

if [ -z "${ACCEL:-}" ]; then
    if "$OXBOW_TOP/build/kvm-works.sh"; then ACCEL=kvm; else ACCEL=tcg; fi
fi
case $ACCEL in
kvm) accel=kvm ;;
tcg) accel=tcg,thread=multi ;;
*) die "ACCEL is kvm or tcg, not '$ACCEL'." ;;
esac

# The guest's SSH port, on this machine only; left out while something else (another guest) has the port.
ssh_port=${SSH_PORT:-2222}
forward=
if ! (exec 3<>"/dev/tcp/127.0.0.1/$ssh_port") 2>/dev/null; then
    forward=",hostfwd=tcp:127.0.0.1:$ssh_port-:22"
fi

args=(
    -name oxbow -machine q35 -accel "$accel" -cpu "${CPU:-max}" -smp "${CPUS:-2}" -m "${MEMORY:-256}"
    # Only what is listed: a CD drive, a floppy or a network card's boot ROM would cost time at every boot.
    -nodefaults
    -drive "if=none,id=root,file=$IMAGE,format=qcow2,discard=unmap" -device virtio-blk-pci,drive=root,bootindex=0
    -device virtio-rng-pci
    -netdev "user,id=net0$forward" -device virtio-net-pci,netdev=net0,romfile=
    # Ctrl-C and Ctrl-Z go to the guest; Ctrl-A X leaves.
    -serial mon:stdio
)

case $firmware in
bios) ;;
uefi)
    # The plain builds, without enrolled keys; newer packages only have the 4 MiB ones.
    code=
    for file in /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd; do
        if [ -f "$file" ]; then code=$file && break; fi
    done
    [ -n "$code" ] || die "no OVMF firmware in /usr/share/OVMF (package ovmf)."
    # The variable store is written to: a copy per image folder.
    vars=$DIST/$(basename "${code/CODE/VARS}")
    [ -f "$vars" ] || cp "${code/CODE/VARS}" "$vars"
    args+=(
        -drive "if=pflash,format=raw,readonly=on,file=$code"
        -drive "if=pflash,format=raw,file=$vars"
    )
    ;;
*) die "FIRMWARE is bios or uefi, not '$firmware'." ;;
esac

case $how in
console) args+=(-display none) ;;
window)
    qemu-system-x86_64 -display help | grep -qx sdl || die "this QEMU has no SDL display." "Debian: apt-get install qemu-system-gui"
    args+=(-display sdl -vga std)
    ;;
debug)
    args+=(-display none -s -S)
    say "waiting for gdb: gdb $DIST/parts/kernel.debug -ex 'target remote :1234'   (docs/building.md says more)"
    ;;
*) die "usage: qemu.sh console|window|debug" ;;
esac

say "$firmware, $ACCEL, ${CPUS:-2} CPUs, ${MEMORY:-256} MiB; Ctrl-A X leaves"
exec qemu-system-x86_64 "${args[@]}"
