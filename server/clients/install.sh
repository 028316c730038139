# Sourced: installs the pinned clients into $build and waits for servers. Sets nothing but functions; $here is server/clients.

install_python() {
    if ! cmp -s "$here/python/requirements.txt" "$build/python/installed.txt"; then
        echo "installing the Python client into $build/python" >&2
        python3 -m venv --clear "$build/python"
        "$build/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"
        cp "$here/python/requirements.txt" "$build/python/installed.txt"
    fi
}

# Without the optional packages: they are the embedded server's binaries.
install_javascript() {
    if ! cmp -s "$here/javascript/package-lock.json" "$build/javascript/installed.json"; then
        echo "installing the JavaScript client into $build/javascript" >&2
        mkdir -p "$build/javascript"
        cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$build/javascript/"
        (cd "$build/javascript" && npm ci --silent --no-audit --no-fund --omit=optional)
        cp "$here/javascript/package-lock.json" "$build/javascript/installed.json"
    fi
}

# wait_for_server URL PID: true once the server answers, false when it has gone or 15 seconds are over.
wait_for_server() {
    python3 - "$1" "$2" <<'PYTHON'
import os, sys, time, urllib.request

url, pid = sys.argv[1] + "/api/v2/heartbeat", int(sys.argv[2])
for _ in range(150):
    try:
        urllib.request.urlopen(url, timeout=5).read()
        sys.exit(0)
    except OSError:
        time.sleep(0.1)
    try:
        os.kill(pid, 0)
    except OSError:
        break
sys.exit(f"{url} does not answer")
PYTHON
}
