#!/usr/bin/env bash
# Puts a file onto an existing image, with its permissions, owned by root, without a rebuild and without privileges.
# Usage: drop.sh FILE [DEST]   (DEST defaults to /bin/NAME; a directory there is meant as the place for NAME)
#
# The root partition is opened in a raw copy of the image by e2fsprogs, which take an offset after the file's name; the
# image is replaced at the end, when the filesystem has been checked.
. "$(dirname "$0")/env.sh"
file=${1:-}
dest=${2:-}

[ -n "$file" ] || die "which file?" "Usage: make drop FILE=./hello [DEST=/bin/hello]"
[ -f "$file" ] || die "'$file' is not a file."
[ -f "$IMAGE" ] || die "there is no image '$IMAGE' yet." "make image makes it."
ensure build
dest=${dest:-/bin/$(basename "$file")}
case $dest in
/*) ;;
*) die "DEST must be a path from the root of the image, such as /bin/hello." ;;
esac
case $file$dest in
*[\"$'\n']*) die "names with quotes or newlines do not work here." ;;
esac

work=$(mktemp -d "$(dirname "$IMAGE")/drop.XXXXXX")
trap 'rm -rf "$work"' EXIT
raw=$work/raw
qemu-img convert -O raw "$IMAGE" "$raw" ||
    die "cannot read $IMAGE." "Is a virtual machine using it? Power it off first."

# The byte offset of the first Linux filesystem partition (0FC63DAF-8483-4772-8E79-3D69D8477DE4), read from the GPT:
# header in sector 1, table start at its byte 72, entries 128 bytes apart (UEFI 2.10, 5.3).
le() { od -An -v -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }
root_offset() {
    local table count size i at
    table=$(($(le "$raw" $((512 + 72)) 8) * 512))
    count=$(le "$raw" $((512 + 80)) 4)
    size=$(le "$raw" $((512 + 84)) 4)
    for ((i = 0; i < count && i < 128; i++)); do
        at=$((table + i * size))
        if [ "$(od -An -v -t x1 -j $at -N 16 "$raw" | tr -d ' \n')" = af3dc60f838472478e793d69d8477de4 ]; then
            echo $(($(le "$raw" $((at + 32)) 8) * 512))
            return
        fi
    done
    return 1
}
offset=$(root_offset) || die "$IMAGE has no Linux partition in a GPT."
fs="$raw?offset=$offset"

# A guest that was ended by force leaves a filesystem to repair; status 1 says it has been.
check() { e2fsck -f"$1" "$fs" >"$work/fsck" 2>&1 || [ $? -le 1 ] || { cat "$work/fsck" >&2 && return 1; }; }
check p || die "the root filesystem of $IMAGE is damaged beyond what e2fsck repairs by itself." "make image makes a new one."

query() { debugfs -R "$1" "$fs" 2>/dev/null; }
# A dot behind the name makes debugfs follow a link to a directory.
is_dir() { query "stat \"${1%/}/.\"" | grep -q "Type: directory"; }
exists() { query "stat \"$1\"" | grep -q '^Inode:'; }

if is_dir "$dest"; then dest=${dest%/}/$(basename "$file"); fi
parent=$(dirname "$dest")
name=$(basename "$dest")
if exists "$parent" && ! is_dir "$parent"; then die "$parent on the image is not a directory."; fi
mode=$(stat -Lc '%a' "$file")
{
    # Folders on the way that are missing.
    path=
    IFS=/ read -ra folders <<<"${parent#/}"
    for folder in "${folders[@]}"; do
        path=$path/$folder
        exists "$path" || echo "mkdir \"$path\""
    done
    # `cd` follows links to directories, a path given to `write` does not.
    echo "cd \"${parent%/}/.\""
    ! exists "$dest" || echo "rm \"$name\""
    echo "write \"$(realpath "$file")\" \"$name\""
    echo "set_inode_field \"$name\" mode $(printf "0%o" $((0100000 | 0$mode)))"
    echo "set_inode_field \"$name\" uid 0"
    echo "set_inode_field \"$name\" gid 0"
} >"$work/commands"
debugfs -w -f "$work/commands" "$fs" >"$work/log" 2>&1 || true
size=$(stat -Lc %s "$file")
query "stat \"$dest\"" | grep -q "Size: $size\$" || {
    cat "$work/log" >&2
    die "$dest could not be written ($size bytes; is there room?)." "The image is as it was."
}
check n || die "the filesystem does not check clean after the write." "The image is as it was."

qemu-img convert -c -O qcow2 "$raw" "$work/new.qcow2"
mv "$work/new.qcow2" "$IMAGE"
say "$dest is on $IMAGE ($size bytes, mode $mode)"
