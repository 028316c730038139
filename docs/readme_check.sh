#!/usr/bin/env bash
# Runs the README's Python, JavaScript and Go as pasted, against a server of its
# own on a free port (the port is the one thing that is replaced). Clients are
# installed into build/readme, with the versions that the clients' checks pin.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
server=""
source .ci/server.sh
trap 'stop_server quietly || true; rm -rf "$work" "$root/build/readme/go"' EXIT

# snippet LANGUAGE prints the README's fenced block of that language.
snippet() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/p" README.md | sed '1d;$d' | sed "s/port=8000/port=$port/; s/port: 8000/port: $port/"; }

# want WORD command... runs the command and wants the word in what it prints.
want() {
  local word=$1 out
  shift
  out=$("$@") || return 1
  echo "$out"
  [[ $out == *"$word"* ]] || { echo "expected $word"; return 1; }
}

mkdir -p build/readme/js build/readme/go
[ -x build/readme/py/bin/python ] || python3 -m venv build/readme/py
build/readme/py/bin/pip install --quiet --disable-pip-version-check -r server/clients/python/requirements.txt
cp server/clients/javascript/package.json server/clients/javascript/package-lock.json build/readme/js/
(cd build/readme/js && npm ci --silent --no-audit --no-fund)

start_server "$work/store"
snippet python >"$work/snippet.py"
snippet js >build/readme/js/snippet.mjs
snippet go >build/readme/go/main.go
echo "README, Python:"
want "a cat" "$root/build/readme/py/bin/python" "$work/snippet.py"
echo "README, JavaScript:"
want "a cat" node build/readme/js/snippet.mjs
echo "README, Go:"
go build -o "$work/snippet" ./build/readme/go
(cd "$work" && want "a 0.00" ./snippet)
stop_server
