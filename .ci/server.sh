# Sourced from the top of the repository, by scripts that need a chromad of their
# own and Chroma's clients. The caller sets work to a folder of its own and server
# to "". start_server sets url and port.

here=$PWD/server/clients build=$PWD/build/clients
source server/clients/install.sh

# start_server DIR [FLAG...] starts chromad over DIR on a free port of 127.0.0.1.
start_server() {
  local dir=$1
  shift
  [ -x "$work/chromad" ] || go build -o "$work/chromad" ./cmd/chromad || return 1
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  url=http://127.0.0.1:$port
  case " $* " in *" --tls-cert "*) url=https://localhost:$port ;; esac # SSL_CERT_FILE says whom to trust
  "$work/chromad" run --path "$dir" --port "$port" "$@" >"$work/server.log" 2>&1 &
  server=$!
  wait_for_server "$url" "$server" || { tail -20 "$work/server.log"; return 1; }
}

# stop_server sends SIGTERM and wants exit status 0. "quietly": also when none runs.
stop_server() {
  local status=0 pid=$server
  [ -n "$pid" ] || { [ "${1:-}" = quietly ]; return; }
  server=""
  kill -TERM "$pid" 2>/dev/null || true
  wait "$pid" || status=$?
  [ "$status" -eq 0 ] || { echo "chromad ended with status $status:"; tail -20 "$work/server.log"; }
  return "$status"
}
