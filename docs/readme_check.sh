#!/usr/bin/env bash
# Runs the README's Python, JavaScript and Go as pasted, against a server of its
# own on a free port (the port is the one thing that is replaced). Clients are
# installed into build/clients, with the versions that their checks pin.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
server=""
source .ci/server.sh
trap 'stop_server quietly || true; rm -rf "$work" "$root/build/readme"' EXIT

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

mkdir -p build/readme
install_python
install_javascript

start_server "$work/store"
snippet python >"$work/snippet.py"
snippet js >"$build/javascript/readme.mjs"
snippet go >build/readme/main.go
echo "README, Python:"
want "a cat" "$build/python/bin/python" "$work/snippet.py"
echo "README, JavaScript:"
want "a cat" node "$build/javascript/readme.mjs"
echo "README, Go:"
go build -o "$work/snippet" ./build/readme
(cd "$work" && want "a 0.00" ./snippet)
stop_server
