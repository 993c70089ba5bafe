#!/usr/bin/env bash
# A hook for post_transcoding, long-lived (is_one_shot: false): copies each MP4 to $HOOK_ARCHIVE_DIR/<room_id>/. The MP4 stays
# where the server looks for it. A copy that fails fails the stage. Needs jq.
#
# One line with a JSON object comes in for each MP4, one line with a JSON object goes out for it. Nothing else may go to
# standard output; what goes to standard error is a line of the recorder's log.
set -uo pipefail

say() { printf '%s\n' "$*" >&2; }

# Prints the answer to the request $1, or fails.
answer() {
    local dir name room file target
    dir=$(jq -er '.input_path | strings' <<<"$1") || return 1
    name=$(jq -er '.file_name | strings' <<<"$1") || return 1
    room=$(jq -er '.room_id | strings' <<<"$1") || return 1
    file=$dir/$name
    # Absolute, the path cannot be taken for an option.
    case $file in /*) ;; *) file=$PWD/$file ;; esac
    target=$HOOK_ARCHIVE_DIR/$room
    mkdir -p -- "$target" || return 1
    # Whole or not at all: whoever looks into the archive sees no half of a file.
    cp -- "$file" "$target/.$name.part" || return 1
    mv -f -- "$target/.$name.part" "$target/$name" || return 1
    say "copied $name to $target"
    jq -c '{recording_id}' <<<"$1"
}

command -v jq >/dev/null || { say "jq is not installed" && exit 1; }
[ -d "${HOOK_ARCHIVE_DIR:-}" ] || { say "HOOK_ARCHIVE_DIR is not set to a directory" && exit 1; }

while IFS= read -r request; do
    answer "$request" || jq -c '{recording_id, error: "it could not be copied to the archive"}' <<<"$request"
done
