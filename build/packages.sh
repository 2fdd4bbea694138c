# Which packages of the workspace are for what. Sourced by scripts that build, lint or test them.
#
# A package belongs to the target it runs on. Those that are pure logic are also tested on the host.
# shellcheck shell=bash disable=SC2034

# The names of the packages under a folder, one per line. Usage: packages_in FOLDER...
packages_in() {
    local folder manifest
    for folder in "$@"; do
        for manifest in "$folder"/*/Cargo.toml "$folder"/Cargo.toml; do
            [ ! -f "$manifest" ] || sed -n 's/^name *= *"\(.*\)"/\1/p;' "$manifest" | head -n 1
        done
    done
}

# The front of the loader that is a UEFI application, and the one that starts in real mode.
LOADER_UEFI=$(packages_in bootloader/uefi)
LOADER_BIOS=$(packages_in bootloader/bios)
# The rest of the loader is logic: tested on the host, compiled for both.
mapfile -t LOADER_LIBS < <(packages_in bootloader | grep -vx -e "${LOADER_UEFI:-none}" -e "${LOADER_BIOS:-none}")
mapfile -t USERLAND < <(packages_in userland)
# Tools of the build and the VM tests run on the host.
mapfile -t TOOLS < <(packages_in build)
mapfile -t TESTS < <(packages_in tests)
