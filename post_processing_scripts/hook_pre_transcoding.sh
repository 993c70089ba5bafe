#!/usr/bin/env bash
# A hook for pre_transcoding, one-shot (is_one_shot: true): copies the raw file to a directory of its own in $HOOK_SCRATCH_DIR,
# a fast local disk, and answers that the input is now there, and is to be removed after the job. Needs jq.
#
# The request comes on standard input; the answer is what goes to standard output. A failing exit code fails the stage.
set -euo pipefail

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

command -v jq >/dev/null || fail "jq is not installed"
request=$(cat)
# A merge has several inputs, in place already: no answer, and the request goes on as it is.
[ "$(jq -r .task <<<"$request")" = single ] || exit 0
[ -d "${HOOK_SCRATCH_DIR:-}" ] || fail "HOOK_SCRATCH_DIR is not set to a directory"

dir=$(jq -er '.input_path | strings' <<<"$request") || fail "the request has no input_path"
name=$(jq -er '.file_name | strings' <<<"$request") || fail "the request has no file_name"
file=$dir/$name
case $file in /*) ;; *) file=$PWD/$file ;; esac

copy=$(mktemp -d "$HOOK_SCRATCH_DIR/raw-XXXXXXXX")
# Nobody else would know of it.
trap 'rm -rf -- "$copy"' ERR TERM INT
cp -- "$file" "$copy/$name"
jq -cn --arg dir "$copy" '{output_path: $dir, should_cleanup: true}'
