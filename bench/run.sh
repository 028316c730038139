#!/bin/sh
# Measures the full WordNet set (make data builds it) through HTTP with the official client, then through the engine.
#
#   bench/run.sh [--sample]
#
# Prints two Markdown tables and leaves every figure in build/bench/*.json.
set -eu

cd "$(dirname "$0")/.."
sample= dash=
case ${1-} in
"") ;;
--sample) sample=--sample dash=-sample ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
here=$PWD/server/clients build=$PWD/build/clients
. server/clients/install.sh
install_python
mkdir -p build/bench
go build -o build/bench/chromad ./cmd/chromad
"$build/python/bin/python" -B bench/load.py $sample --binary build/bench/chromad --json build/bench/http.json
echo
go run ./bench $dash -json build/bench/engine.json
