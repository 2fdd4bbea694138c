#!/usr/bin/env bash
# Prints the verbs of a Makefile: every target with a `##` comment, in order.
# Usage: help.sh MAKEFILE
set -euo pipefail
echo "Oxbow: an operating system for virtual machines. First steps: make qemu, make test-all."
echo
sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' "$1" | while IFS=$'\t' read -r verb text; do
    printf '  make %-18s %s\n' "$verb" "$text"
done
