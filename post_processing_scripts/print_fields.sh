#!/usr/bin/env bash
# Prints what a script is told of a recording, one `key: value` line per field. The simplest sample; needs jq.
set -euo pipefail

fail() {
    printf 'print_fields: %s\n' "$*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "expected one argument, a JSON object; got $# arguments"
command -v jq >/dev/null || fail "jq is not installed"

jq --raw-output '
    if type != "object" then error("expected a JSON object, got: " + type) else . end
    | to_entries[] | "\(.key): \(.value)"
' <<<"$1"
