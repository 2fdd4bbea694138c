#!/usr/bin/env bash
# Runs what the hosted CI runs: the tests, in a fresh clone of the last commit, with a target folder of its own.
# Uncommitted changes are not part of it.
. "$(dirname "$0")/env.sh"
[ -z "$(git status --porcelain --untracked-files=no)" ] || say "note: uncommitted changes are not part of this run"
work=$(mktemp -d "${TMPDIR:-/tmp}/oxbow-ci.XXXXXX")
trap 'rm -rf "$work"' EXIT
git clone --quiet "$OXBOW_TOP" "$work/oxbow"
cd "$work/oxbow"
env -u CARGO_TARGET_DIR -u IMAGE .ci/run
