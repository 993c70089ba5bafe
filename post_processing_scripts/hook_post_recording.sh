#!/usr/bin/env bash
# A hook for post_recording, long-lived (is_one_shot: false): writes the SHA-256 of each raw file to
# $HOOK_CHECKSUM_DIR/<recording_id>.sha256, in the form that sha256sum --check reads. Needs jq.
#
# One line with a JSON object comes in for each recording, one line with a JSON object goes out for it. Nothing else may go to
# standard output; what goes to standard error is a line of the recorder's log.
set -uo pipefail

say() { printf '%s\n' "$*" >&2; }

# Prints the answer to the request $1, or says why there is none and fails.
answer() {
    local dir name id file sum
    dir=$(jq -er '.input_path | strings' <<<"$1") || { say "the request has no input_path" && return 1; }
    name=$(jq -er '.file_name | strings' <<<"$1") || { say "the request has no file_name" && return 1; }
    id=$(jq -er '.recording_id | strings' <<<"$1") || { say "the request has no recording_id" && return 1; }
    file=$dir/$name
    # Absolute, the path cannot be taken for an option.
    case $file in /*) ;; *) file=$PWD/$file ;; esac
    sum=$(sha256sum <"$file") || { say "cannot read $file" && return 1; }
    printf '%s  %s\n' "${sum%% *}" "$file" >"$HOOK_CHECKSUM_DIR/$id.sha256.new" || return 1
    mv -f -- "$HOOK_CHECKSUM_DIR/$id.sha256.new" "$HOOK_CHECKSUM_DIR/$id.sha256" || return 1
    # What is answered is laid over the request; this changes nothing but tells the next script. The id says whose it is.
    jq -cn --arg id "$id" --arg sum "${sum%% *}" '{recording_id: $id, sha256: $sum}'
}

command -v jq >/dev/null || { say "jq is not installed" && exit 1; }
[ -d "${HOOK_CHECKSUM_DIR:-}" ] || { say "HOOK_CHECKSUM_DIR is not set to a directory" && exit 1; }

while IFS= read -r request; do
    # An error keeps the job for a later try. A recording need not wait for a checksum, so this one only says it in the log.
    answer "$request" || printf '{}\n'
done
