#!/usr/bin/env bash
# Runs what docs/security.md shows, as pasted: its commands, Python and JavaScript, the roles and the provider's settings. Replaced are the port,
# the keys, which nobody knows before, and what starts a server, which this does by itself: docs/security_check.sh [BINARY].
set -euo pipefail
cd "$(dirname "$0")/.."
page=$PWD/docs/security.md
work=$(mktemp -d)
server=""
source .ci/server.sh
trap 'stop_server quietly || true; rm -rf "$work"' EXIT

# snippet LANGUAGE prints the page's first block of that language.
snippet() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{p;/^\`\`\`\$/q}" "$page" | sed '1d;$d' | sed "s/port=8000/port=$port/; s/port: 8000/port: $port/; s/chromad_…/$key/"; }

# commands PATTERN prints the lines of the page's unnamed blocks that begin so.
commands() { awk '/^```/ { block = !block; inside = block && $0 == "```"; next } inside' "$page" | grep "^$1"; }

want() { # WORD command...
  local word=$1 out
  shift
  out=$("$@" 2>&1) || { echo "$out"; return 1; }
  [[ $out == *"$word"* ]] || { echo "$out"; echo "expected $word"; return 1; }
}

install_python
install_javascript
if [ $# -gt 0 ]; then cp "$1" "$work/chromad"; else go build -o "$work/chromad" ./cmd/chromad; fi
export PATH=$work:$PATH
echo "security.md, commands:"
(cd "$work" && source <(commands "chromad certs dev") >/dev/null)
(cd "$work" && source <(commands "chromad users add")) >"$work/keys"
[ "$(grep -c '^chromad_' "$work/keys")" = "$(commands "chromad users add" | wc -l)" ] || { echo "expected a key of each user"; exit 1; }
key=$(tail -1 "$work/keys")

SSL_CERT_FILE=$work/certs/ca.pem start_server "$work/chroma" --tls-cert "$work/certs/server.pem" --tls-key "$work/certs/server.key"
KEY=$(grep -m1 '^chromad_' "$work/keys")
(cd "$work" && source <(commands curl | sed "s/:8000/:$port/; s/^curl/curl --silent --show-error --fail/")) >"$work/answers"
for word in heartbeat '"name":"ada"' '"secret":"chromad_'; do grep -q "$word" "$work/answers" || { cat "$work/answers"; echo "expected $word"; exit 1; }; done
chromad users list "$work/chroma" | grep -q laptop
echo "security.md, Python:"
snippet python >"$work/snippet.py"
(cd "$work" && "$build/python/bin/python" snippet.py)
echo "security.md, JavaScript:"
snippet js >"$build/javascript/security.mjs"
want "a cat" env NODE_EXTRA_CA_CERTS="$work/certs/ca.pem" node "$build/javascript/security.mjs"
stop_server

# Every block of YAML: users and roles are imported, settings are read at a start.
echo "security.md, YAML:"
awk -v into="$work/part" '/^```yaml$/ { n++; inside = 1; next } /^```/ { inside = 0 } inside { print > (into n ".yaml") }' "$page"
for part in "$work"/part*.yaml; do
  if grep -q '^version:' "$part"; then
    chromad users import "$work/chroma" "$part" --force
  else
    start_server "$work/chroma" "$part"
    stop_server
  fi
done
