#!/usr/bin/env bash
# Uploads the MP4 to where the environment variable UPLOAD_TARGET says; needs jq. The name of the file is added to it.
#
#   s3://bucket/prefix          aws, or rclone where there is no aws
#   remote:path                 rclone, with a remote of its configuration
#   https://host/path/ (http:)  curl, with PUT
#
# Credentials stay where these tools look for them (~/.aws, rclone.conf, ~/.netrc or their own environment variables).
# Nothing of UPLOAD_TARGET is printed, since it may hold a password or a signature.
set -euo pipefail

fail() {
    printf 'upload: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null; }

[ $# -eq 1 ] || fail "expected one argument, a JSON object; got $# arguments"
have jq || fail "jq is not installed"
target=${UPLOAD_TARGET:-}
[ -n "$target" ] || fail "UPLOAD_TARGET is not set: s3://bucket/prefix, remote:path or https://host/path/"

file=$(jq -er '.file_path | strings | select(. != "")' <<<"$1") || fail "the argument has no file_path"
name=$(jq -er '.file_name | strings | select(. != "")' <<<"$1") || fail "the argument has no file_name"
name=${name##*/}
# Absolute, the path can be taken neither for an option nor for a remote.
case $file in /*) ;; *) file=$PWD/$file ;; esac
[ -f "$file" ] || fail "no such file: $file"
[ -r "$file" ] || fail "not readable: $file"

# $1 is where the file goes, its name included.
with_aws() { aws s3 cp --no-progress "$file" "$1" || fail "aws failed with exit code $?"; }
with_rclone() { rclone copyto -- "$file" "$1" || fail "rclone failed with exit code $?"; }

with_curl() {
    local base=${target%%\?*} query='' url status
    [ "$base" = "$target" ] || query="?${target#*\?}"
    url="${base%/}/$(jq -rn --arg name "$name" '$name | @uri')$query"
    url=${url//\\/\\\\}
    url=${url//\"/\\\"}
    # The URL goes in by stdin: on the command line every user of the machine could read a password in it.
    status=$(curl --config - --globoff --proto '=http,https' --netrc-optional --upload-file "$file" --silent --show-error --fail \
        --output /dev/null --write-out '%{http_code}' --connect-timeout 30 --speed-limit 1 --speed-time 60 --retry 3 \
        <<<"url = \"$url\"") || fail "curl failed with exit code $?"
    # A redirect is no error to curl, but nothing was stored.
    case $status in
        2??) ;;
        *) fail "the server answered $status" ;;
    esac
}

case $target in
    s3://*)
        if have aws; then
            tool=aws
            with_aws "${target%/}/$name"
        elif have rclone; then
            tool=rclone
            bucket=${target#s3://}
            with_rclone ":s3,provider=AWS,env_auth=true:${bucket%/}/$name"
        else
            fail "an s3:// target needs aws or rclone, and neither is installed"
        fi
        ;;
    http://* | https://*)
        have curl || fail "an http(s):// target needs curl, which is not installed"
        tool=curl
        with_curl
        ;;
    *://*) fail "UPLOAD_TARGET must begin with s3://, http:// or https://, or be an rclone remote:path" ;;
    *:*)
        have rclone || fail "a remote:path target needs rclone, which is not installed"
        tool=rclone
        case $target in *: | */) with_rclone "$target$name" ;; *) with_rclone "$target/$name" ;; esac
        ;;
    *) fail "UPLOAD_TARGET must be s3://bucket/prefix, remote:path or https://host/path/" ;;
esac

printf 'uploaded %s with %s\n' "$name" "$tool"
