#!/usr/bin/env bash
# The official clients against a server with TLS and users of every kind: server/clients/secured.sh [BINARY].
# One line a check; exit status 1 when one failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
server=""
source .ci/server.sh
trap 'stop_server quietly || true; rm -rf "$work"' EXIT

install_python
install_javascript
if [ $# -gt 0 ]; then cp "$1" "$work/chromad"; else go build -o "$work/chromad" ./cmd/chromad; fi
store=$work/store
users() { "$work/chromad" users "$@" 2>>"$work/users.log" || { cat "$work/users.log" >&2; return 1; }; }

"$work/chromad" certs dev --out "$work/certs" >/dev/null
"$work/chromad" certs dev --out "$work/other" >/dev/null
start_server "$store"
stop_server
admin=$(users add "$store" ada --role admin --key)
echo "correct horse battery" | users password "$store" ada
reader=$(users add "$store" bob --role reader --on default_tenant --key)
editor=$(users add "$store" eve --role editor --on 'default_tenant/default_database/docs-*' --key)
acme=$(users add "$store" acme --role editor --on acme/main --key)
expired=$(users add "$store" late --role admin --key --expires 1s)
users export "$store" | sed 's/^\( *\)- name: acme$/&\n\1  tenant: acme\n\1  database: main/' >"$work/users.yaml"
# The role of docs/security.md whose rule is about records, as it stands there.
awk '/^### Row rules/ { here = 1 } here && /^```yaml/ { block = 1; next } block && /^```/ { exit } block && /^roles:/ { roles = 1 } roles' docs/security.md >>"$work/users.yaml"
users import "$store" "$work/users.yaml"
team=$(users add "$store" mel --role team --on default_tenant/main --attribute teams=red,blue --key)
other=$(users add "$store" gus --role team --on default_tenant/main --attribute teams=green --key)

SSL_CERT_FILE=$work/certs/ca.pem start_server "$store" --allow-reset --tls-cert "$work/certs/server.pem" --tls-key "$work/certs/server.key"
curl() { command curl --silent --fail --show-error --cacert "$work/certs/ca.pem" -H "x-chroma-token: $admin" -H 'Content-Type: application/json' "$@" >/dev/null; }
api=https://localhost:$port/api/v2
curl "$api/tenants" -d '{"name":"acme"}'
curl "$api/tenants/acme/databases" -d '{"name":"main"}'
curl "$api/tenants/default_tenant/databases" -d '{"name":"main"}'
"$build/python/bin/python" - "$port" "$work/certs/ca.pem" "$admin" <<'PYTHON'
import sys
import chromadb
from chromadb.config import Settings

client = chromadb.HttpClient("localhost", int(sys.argv[1]), ssl=True, headers={"x-chroma-token": sys.argv[3]}, settings=Settings(chroma_server_ssl_verify=sys.argv[2]))
client.create_collection("docs-kept", embedding_function=None).add(ids=["a", "b"], embeddings=[[1, 0], [0, 1]], documents=["first", "second"])
client.create_collection("other", embedding_function=None)
main = chromadb.HttpClient("localhost", int(sys.argv[1]), ssl=True, headers={"x-chroma-token": sys.argv[3]}, settings=Settings(chroma_server_ssl_verify=sys.argv[2]), database="main")
main.create_collection("ruled", embedding_function=None).add(
    ids=["red", "blue", "green", "public", "nobody's"], embeddings=[[1, 0], [0, 1], [1, 0.1], [0.5, 0.5], [1, 0.05]],
    metadatas=[{"team": "red"}, {"team": "blue"}, {"team": "green"}, {"team": "green", "public": True}, None])
PYTHON
cat >"$work/place.json" <<JSON
{"port": $port, "ca": "$work/certs/ca.pem", "other_ca": "$work/other/ca.pem", "store": "$store", "binary": "$work/chromad", "password": "correct horse battery",
 "admin": "$admin", "reader": "$reader", "editor": "$editor", "acme": "$acme", "expired": "$expired", "team": "$team", "other": "$other"}
JSON

failed=0
"$build/python/bin/python" -B -W ignore "$here/python/check_secured.py" --place "$work/place.json" || failed=1
javascript() { node "$here/javascript/check_secured.mjs" --modules "$build/javascript" --place "$work/place.json" "$@"; }
NODE_EXTRA_CA_CERTS=$work/certs/ca.pem javascript || failed=1
NODE_EXTRA_CA_CERTS=$work/other/ca.pem javascript --strangers || failed=1

# No credential stands in the log, right or wrong.
if grep -E 'chromad_[A-Za-z0-9]{8}_|correct horse' "$work/server.log"; then echo "FAIL  a credential is in the log"; failed=1; fi
stop_server
exit $failed
