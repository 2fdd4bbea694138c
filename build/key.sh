#!/usr/bin/env bash
# Makes the key pair that development images trust, dist/ssh/id_ed25519, unless it is there. It is of this checkout alone:
# git ignores dist/, and a release image trusts no key.
. "$(dirname "$0")/env.sh"
[ ! -f "$SSH_KEY" ] || [ ! -f "$SSH_KEY.pub" ] || exit 0
command -v ssh-keygen >/dev/null || die "there is no ssh-keygen (package openssh-client)."
mkdir -p "$(dirname "$SSH_KEY")"
chmod 700 "$(dirname "$SSH_KEY")"
if [ -f "$SSH_KEY" ]; then
    ssh-keygen -y -f "$SSH_KEY" >"$SSH_KEY.pub.new" && mv "$SSH_KEY.pub.new" "$SSH_KEY.pub"
else
    rm -f "$SSH_KEY.pub"
    ssh-keygen -q -t ed25519 -N '' -C oxbow-development -f "$SSH_KEY"
    say "${SSH_KEY#"$OXBOW_TOP"/}: the key that development images of this checkout let in"
fi
