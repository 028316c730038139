"""chromad against Chroma's own server over HTTP: the same client for both, which costs next to nothing (bench/http_test.go), the servers on
one core and the client on another, asked in turn."""

import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
from peers import BUILD, HERE, ROOT

sys.path.insert(0, str(HERE.parent))
from chromad import Server  # noqa: E402

SERVERS = {
    "chromad": f"{shlex.quote(str(BUILD / 'bin' / 'chromad'))} run --path {{path}} --port {{port}}",
    "chroma": f"{shlex.quote(str(BUILD / 'python' / 'bin' / 'chroma'))} run --path {{path}} --port {{port}}",
}
WHAT = "^BenchmarkHTTP$/^(add|query|filtered)$/^(base64|clients=[18])$"
ADDS = 20_000  # rows of one measurement of writes
LINE = re.compile(r"^BenchmarkHTTP/([\w/]+)/clients=(\d)\S*\s.*?([\d.]+) (rows/s|queries/s)", re.MULTILINE)


def ask(server: Server, data: Path, rows: int, client: int) -> dict[str, float]:
    """One measurement of everything: rows a second in, and then queries out of a collection of so many rows."""
    words = ["taskset", "-c", str(client), str(BUILD / "bin" / "http"), "-test.run", "^$", "-test.bench", WHAT, "-test.benchtime", "1x"]
    words += ["-http.address", f"127.0.0.1:{server.port}", "-http.data", str(data), "-http.rows", str(rows), "-http.adds", str(min(rows, ADDS))]
    said = subprocess.run(words, capture_output=True, text=True, cwd=ROOT / "bench", timeout=3600)
    if said.returncode:
        raise RuntimeError((said.stdout + said.stderr)[-600:])
    return {f"{name}, {clients} client{'s' * (clients != '1')}": float(value) for name, clients, value, _ in LINE.findall(said.stdout)}


def once(server: str, core: int, client: int, data: Path, rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=BUILD / "work") as folder:
        s = Server(f"taskset -c {core} {SERVERS[server]}", Path(folder) / "store")
        s.start()
        try:
            return ask(s, data, rows, client)
        finally:
            s.stop()


def measure_all(core: int, client: int, data: Path, rows: int, rounds: int, limits) -> dict:
    times: dict[str, list[dict]] = {name: [] for name in SERVERS}
    for n in range(rounds):
        if n and limits.left() < 0:
            break
        for name in SERVERS:
            times[name].append(once(name, core, client, data, rows))
        measure.say("http: " + ", ".join(f"{key} {times['chromad'][-1][key] / value:.1f} x" for key, value in times["chroma"][-1].items()))
    figures = {}
    for key in times["chroma"][0]:
        ours, theirs = [[t[key] for t in times[name]] for name in ("chromad", "chroma")]
        figures[key] = {"chromad": statistics.median(ours), "chroma": statistics.median(theirs), "ratio": statistics.median(a / b for a, b in zip(ours, theirs))}
    return {"rows": rows, "rounds": len(times["chroma"]), "data": data.name, "figures": figures}


def measure_http(args, limits) -> dict:
    data = ROOT / "data" / "wordnet"
    if args.quick or not (data / "vectors.f32").exists():
        data = HERE.parent / "data" / "sample"
    rows = 2000 if args.quick else 100_000
    others = [c for c in range(os.cpu_count() or 1) if c != args.core]
    (BUILD / "work").mkdir(parents=True, exist_ok=True)
    return measure_all(args.core, others[0] if others else args.core, data, rows, 2 if args.quick else 3, limits)
