#!/usr/bin/env bash
# Logs in to the guest that `make qemu` runs, as root, with the development key.
# Usage: ssh.sh [COMMAND]
#
# Settings (environment): SSH_PORT=2222  SSH_WAIT=20 (seconds for the guest to answer)
# Exit status: the command's; 255 when there is no connection.
. "$(dirname "$0")/env.sh"
port=${SSH_PORT:-2222}
wait=${SSH_WAIT:-20}
command -v ssh >/dev/null || ensure run
[ -f "$SSH_KEY" ] || die "there is no key '$SSH_KEY'." "make image makes it, and an image that trusts it."

# What listens on the port: QEMU takes connections for a guest that does not answer yet, so the server's first words count.
# Prints `nothing`, `silence` or the greeting.
greeting() {
    local line=
    if ! { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; then
        echo nothing
        return
    fi
    read -r -t 2 -u 3 line 2>/dev/null || true
    exec 3>&-
    echo "${line:-silence}"
}

end=$((SECONDS + wait))
until found=$(greeting) && [[ $found == SSH-* ]]; do
    if [ "$SECONDS" -ge "$end" ]; then
        if [ "$found" = nothing ]; then
            ( die "nothing listens on port $port of this machine." "make qemu, in another terminal, starts the guest." ) || exit 255
        else
            ( die "what listens on port $port gives no SSH greeting." "On the guest's console: svc status sshd" ) || exit 255
        fi
    fi
    sleep 0.2
done

# Nothing of the user's own configuration, keys or known hosts: every image has a host key of its own.
exec ssh -F /dev/null -p "$port" -i "$SSH_KEY" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@127.0.0.1 "$@"
