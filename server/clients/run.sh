#!/bin/sh
# Runs the checks of the official clients against a server: one line a check, then "N passed, N failed". Exit 1 when one failed.
#
#   server/clients/run.sh                        builds chromad and starts it on a free port over an empty directory
#   server/clients/run.sh --binary bin/chromad   the same with a binary that is there
#   server/clients/run.sh --url http://host:port a running server; nothing is deleted that the checks have not made
#
# --client python|javascript runs one of the two; --reference says that the server is Chroma's own, whose known bugs are forgiven.
# The clients (pinned in requirements.txt and package-lock.json) are installed into build/clients.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$root/build/clients
binary= url= only= reference=
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$2; shift 2 ;;
    --url) url=$2; shift 2 ;;
    --client) only=$2; shift 2 ;;
    --reference) reference=--reference; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

. "$here/install.sh"
[ "$only" = javascript ] || install_python
[ "$only" = python ] || install_javascript

work=$(mktemp -d)
pid=
stop() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    [ -z "$pid" ] || wait "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

reset=
if [ -z "$url" ]; then
    if [ -z "$binary" ]; then
        binary=$work/chromad
        (cd "$root" && go build -o "$binary" ./cmd/chromad)
    fi
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    url=http://127.0.0.1:$port
    reset=--reset
    "$binary" run --path "$work/data" --host 127.0.0.1 --port "$port" --allow-reset >"$work/log" 2>&1 &
    pid=$!
    wait_for_server "$url" "$pid" || { cat "$work/log" >&2; exit 1; }
fi
place=${url#http://}
place=${place%/}
host=${place%:*} port=${place##*:}

if [ "$only" != javascript ]; then
    "$build/python/bin/python" -B "$here/python/check_client.py" --host "$host" --port "$port" $reset $reference | tee "$work/python" || true
fi
if [ "$only" != python ]; then
    node "$here/javascript/check_client.mjs" --modules "$build/javascript" --host "$host" --port "$port" $reset $reference | tee "$work/javascript" || true
fi

# A program that died before its last line counts as a failure.
passed=0 failed=0
for language in python javascript; do
    [ -z "$only" ] || [ "$only" = "$language" ] || continue
    line=$(sed -n "s/^$language: \([0-9]*\) passed, \([0-9]*\) failed\$/\1 \2/p" "$work/$language")
    case $line in
    "" | "0 "*) failed=$((failed + 1)); echo "FAIL  $language: stopped early" ;;
    *) passed=$((passed + ${line% *})) failed=$((failed + ${line#* })) ;;
    esac
done
[ "$failed" -eq 0 ] || [ ! -s "$work/log" ] || tail -n 20 "$work/log" >&2
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
