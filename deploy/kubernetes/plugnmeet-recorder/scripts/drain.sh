#!/bin/sh
# preStop: nothing new is taken on, and what runs goes on to its end, or to the end of the grace period.
admin=${ADMIN:-http://127.0.0.1:8089}
token=$(cat "${TOKEN_FILE:-/admin/token}")
curl --silent --show-error --fail --max-time 5 --request POST --header "Authorization: Bearer $token" "$admin/drain" || exit 0
# 200 while anything is recorded, transcoded or undelivered, 404 when the pod may go. No answer three times in a row: the
# recorder has ended.
silent=0
while [ "$silent" -lt 3 ]; do
    case $(curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "$admin/protect") in
        404) exit 0 ;;
        000) silent=$((silent + 1)) ;;
        *) silent=0 ;;
    esac
    sleep "${PAUSE:-2}"
done
