#!/usr/bin/env bash
# Lays out the root filesystem in dist/root from userland/rootfs, build/rootfs.list and the programs in dist/parts/userland.
# Owners do not matter here: the image builder makes everything root's.
. "$(dirname "$0")/env.sh"
# The image's permissions are no matter of who builds it.
umask 022
programs=$DIST/parts/userland
list=$OXBOW_TOP/build/rootfs.list
rm -rf "$DIST/root"
root=$DIST/root
mkdir -p "$root"

if [ -d userland/rootfs ]; then
    # Not what git ignores: editors' backups and such.
    git ls-files -co --exclude-standard -- userland/rootfs | while read -r file; do
        [ -e "$file" ] || [ -L "$file" ] || continue
        to=$root/${file#userland/rootfs/}
        mkdir -p "$(dirname "$to")"
        cp -P "$file" "$to"
        # Whatever the umask of the checkout was.
        if [ -L "$to" ]; then :; elif [ -x "$to" ]; then chmod 755 "$to"; else chmod 644 "$to"; fi
    done
fi
find "$root" -type d -exec chmod 755 {} +

number=0
while read -r kind path argument rest; do
    number=$((number + 1))
    case $kind in
    '' | \#*) continue ;;
    dir)
        mkdir -p "$root$path"
        chmod "$argument" "$root$path"
        ;;
    bin)
        mkdir -p "$(dirname "$root$path")"
        install -m 755 "$programs/$argument" "$root$path"
        ;;
    link)
        mkdir -p "$(dirname "$root$path")"
        ln -sfn "$argument" "$root$path"
        ;;
    mode) chmod "$argument" "$root$path" ;;
    *) die "$list:$number: what is '$kind'?" ;;
    esac
    [ -z "$rest" ] || die "$list:$number: '$rest' is one word too many."
done <"$list"

# Whom the image lets in: a release image nobody.
if [ -z "$RELEASE" ]; then
    mkdir -p "$root/root/.ssh"
    chmod 700 "$root/root/.ssh"
    install -m 600 "$SSH_KEY.pub" "$root/root/.ssh/authorized_keys"
fi

# The certificate authorities that HTTPS clients trust.
"$DIST/parts/oxbow-image" certificates "$root/etc/ssl/certs/ca-certificates.crt"

# Applets; a program of that name that stands there already wins.
while read -r applet; do
    [ -n "$applet" ] || continue
    [ -e "$root/bin/$applet" ] || [ -L "$root/bin/$applet" ] || ln -s oxbox "$root/bin/$applet"
done <"$programs/applets"
