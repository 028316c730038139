#!/bin/sh
# Builds data/wordnet once: records.jsonl, vectors.f32 (little-endian float32, row by row, 384 a row) and meta.json.
#
#   bench/data/build.sh [folder]        WORDNET=/usr/share/wordnet uses an installed copy instead of the Debian package
#
# Stopped half-way it goes on where it was. Needs python3; and apt-get with dpkg-deb, or WORDNET.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${1:-$root/data/wordnet}
build=$root/build/wordnet
package=wordnet-base=1:3.0-37
sha256=61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752
mkdir -p "$target" "$build"

if [ ! -s "$target/records.jsonl" ]; then
    wordnet=${WORDNET:-$build/package/usr/share/wordnet}
    if [ ! -s "$wordnet/data.noun" ]; then
        echo "fetching $package" >&2
        (cd "$build" && apt-get download "$package" >/dev/null)
        echo "$sha256  $(ls "$build"/wordnet-base_*.deb)" | sha256sum --check --quiet
        dpkg-deb -x "$build"/wordnet-base_*.deb "$build/package"
    fi
    python3 "$here/wordnet.py" "$wordnet" "$target/records.jsonl"
fi

if ! cmp -s "$here/requirements.txt" "$build/venv/installed.txt"; then
    echo "installing the model into $build/venv" >&2
    python3 -m venv --clear "$build/venv"
    "$build/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$build/venv/installed.txt"
fi
exec nice "$build/venv/bin/python" "$here/embed.py" "$target"
