#!/bin/sh
# Keeps the pod's annotations as /protect says: busy or not. Only a clear no (404) makes it safe to evict.
admin=${ADMIN:-http://127.0.0.1:8089}
account=${ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
pod=${API:-https://kubernetes.default.svc}/api/v1/namespaces/$NAMESPACE/pods/$POD
trap 'exit 0' TERM INT
told=
while :; do
    safe=false cost=1000
    case $(curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "$admin/protect") in
        404) safe=true cost=0 ;;
    esac
    if [ "$told" != "$safe" ]; then
        busy=true
        [ "$safe" = false ] || busy=false
        patch='{"metadata":{"annotations":{"cluster-autoscaler.kubernetes.io/safe-to-evict":"'$safe'",
            "karpenter.sh/do-not-disrupt":"'$busy'","controller.kubernetes.io/pod-deletion-cost":"'$cost'"}}}'
        # The token is renewed in its file every hour.
        if curl --silent --show-error --fail --output /dev/null --max-time 10 --cacert "$account/ca.crt" \
            --header "Authorization: Bearer $(cat "$account/token")" \
            --header 'Content-Type: application/merge-patch+json' --request PATCH --data "$patch" "$pod"; then
            told=$safe
            echo "safe to evict: $safe"
        else
            echo "the pod's annotations cannot be set; does its service account may patch pods? Trying again" >&2
        fi
    fi
    sleep "${PAUSE:-5}" &
    wait $!
done
