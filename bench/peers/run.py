"""Measures chromad beside other vector indexes on the same data and writes docs/benchmarks.md and docs/img.

    make bench-peers                                    everything
    bench/peers/run.py --sets A,wordnet --peers ours,hnswlib,faiss --rounds 11
    bench/peers/run.py --quick                          20,000 rows, 3 rounds: whether all of it works
    bench/peers/run.py --add --sets A --peers ours,usearch   keeps what was measured of A, and adds usearch
    bench/peers/run.py --report                         tables and plots of what was measured before

One process for each peer, pinned to one core; the driver is on another. Indexes stay built while rounds go A, B, C, A, B, C; ratios are medians
of those of each round, of processor time. Results are kept in build/peers/results, a file for each set.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent.parent / "build" / "peers" / "python" / "bin" / "python"


def alone() -> None:
    """Only one run at a time, until this process ends: two would measure each other."""
    build = PYTHON.parent.parent.parent
    build.mkdir(parents=True, exist_ok=True)
    lock = os.open(build / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("another run is under way") from None
    os.set_inheritable(lock, True)  # what this process becomes keeps it; adapters do not get it
    shutil.rmtree(build / "work", ignore_errors=True)  # of runs that were killed


def bootstrap() -> None:
    """Installs what is missing, with whatever Python there is, and goes on with the one that has numpy."""
    if os.environ.get("PEERS_READY") == "1":
        return
    words = sys.argv[1:]
    if not {"--report", "-h", "--help"} & set(words):
        alone()
    if "--report" not in words and "--no-install" not in words and not {"-h", "--help"} & set(words):
        subprocess.run([sys.executable, "-B", str(HERE / "install.py")], check=True)
    if PYTHON.exists():
        os.execve(PYTHON, [str(PYTHON), "-B", str(Path(__file__).resolve()), *words], {**os.environ, "PEERS_READY": "1"})


bootstrap()

import http_  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from peers import BUILD, CODES, EXACT, PEERS, ROOT  # noqa: E402
from sets import SETS, make  # noqa: E402

QUICK_ROWS, LARGE = 20_000, 300_000


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sets", help=f"of {', '.join(SETS)} and names of --file; default all that are there")
    p.add_argument("--peers", help=f"of {', '.join(peer.name for peer in PEERS)}, http; default all")
    p.add_argument("--rounds", type=int, default=11)
    p.add_argument("--builds", type=int, default=1, help="how often what builds within a minute is built; medians count")
    p.add_argument("--budget", type=float, default=600, metavar="MINUTES", help="what is not begun by then is left out")
    p.add_argument("--build-limit", type=float, default=30, metavar="MINUTES", help="a peer that builds longer is left out")
    p.add_argument("--rows", type=int, default=0, help="at most so many rows of each set")
    p.add_argument("--core", type=int, default=(os.cpu_count() or 2) - 1, help="core of the peers")
    p.add_argument("--mnist", type=Path, help="t10k-images-idx3-ubyte.gz")
    p.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="an fvecs, npy or ann-benchmarks HDF5 file as a set")
    p.add_argument("--filters", default="A,lsa384", metavar="SETS", help="sets that are asked with filters too (default A,lsa384)")
    p.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows, 3 rounds")
    p.add_argument("--add", action="store_true", help="keep the results that are there, and add the peers that they lack; ratios are to the chromad of a peer's own run")
    p.add_argument("--report", action="store_true", help="only tables and plots, of the results that are there")
    p.add_argument("--no-report", action="store_true", help="only results; docs stay as they are")
    p.add_argument("--no-install", action="store_true")
    p.add_argument("--results", type=Path, help="folder of the results (default build/peers/results, with --quick results-quick)")
    args = p.parse_args()
    if args.quick:
        args.rows, args.rounds = args.rows or QUICK_ROWS, min(args.rounds, 3)
    args.results = args.results or BUILD / ("results-quick" if args.quick else "results")
    args.paths = dict(item.split("=", 1) for item in args.file)
    args.paths = {name: Path(path) for name, path in args.paths.items()}
    if args.mnist:
        args.paths["mnist"] = args.mnist
    return args


def chosen(text: str | None, all_of: list[str]) -> list[str]:
    names = text.split(",") if text else all_of
    for name in names:
        if name not in all_of:
            raise SystemExit(f"{name}: not among {', '.join(all_of)}")
    return names


def wanted(peer, rows: int) -> bool:
    """On large sets the variants and what compares every row tell nothing new."""
    return rows <= LARGE or peer.group not in (EXACT,) and peer.name not in ("ours-avx2", "hnswlib-thp", "lancedb", "chroma", "qdrant", "coder")


def one(name: str, peers: list, args, limits: measure.Limits) -> dict:
    measure.say(f"{name}: making the data")
    s = make(name, BUILD / "data", args.rows, args.paths)
    for file, digest in s.sums.items():
        print(f"{digest}  {s.folder.name}/{file}", flush=True)
    run = measure.Run(s, limits, args.core)
    run.out["begun"] = time.strftime("%Y-%m-%d %H:%M")
    run.out["load_before"] = os.getloadavg()
    try:
        for peer in peers:
            if wanted(peer, s.rows):
                run.start(peer)
                if args.builds > 1 and peer.name in run.adapters and run.out["peers"][peer.name]["build"]["cpu"] < 60:
                    run.rebuild(peer, args.builds - 1)
        measure.searches(run)
        measure.inside(run)
        if name in args.filters.split(","):
            measure.filters(run, {peer.name for peer in peers if peer.group != CODES and not peer.name.endswith(("-avx2", "-thp"))})
        if s.dim == 128 and s.rows <= LARGE:
            measure.merge(run)
    finally:
        run.close()
    return run.out


def added(old: dict, new: dict) -> dict:
    """Results of a set with what they lack of a later run: peers, or all that was asked with filters."""
    if old["sums"] != new["sums"]:
        raise SystemExit(f"{new['set']}: the data are others than those of the results that are there; move them away first")
    lacking = {name: peer for name, peer in new["peers"].items() if "error" in old["peers"].get(name, {"error": ""})}
    at = f" at {new['context']['commit']}" if new["context"]["commit"] != old["context"]["commit"] else ""
    out = {**new, **old, "peers": {**old["peers"], **lacking}}
    if taken := [*lacking, *(["filters"] if "filtered" in new and "filtered" not in old else [])]:
        out["command"] = f"{old['command']} and, for {', '.join(taken)}, {new['command']}{at}"
    return out


def save(args, name: str, out: dict) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    out["context"] = report.context()
    out["command"] = " ".join(["bench/peers/run.py", *(w for w in sys.argv[1:] if w not in ("--no-report", "--no-install"))])
    path = args.results / f"{name}.json"
    if args.add and "peers" in out and path.exists():
        out = added(json.loads(path.read_text()), out)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(out, indent=1))
    os.replace(temporary, path)
    measure.say(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} written")


def order(sets: list[str], http: bool) -> list[str]:
    """HTTP before the sets that take hours."""
    large = [name for name in sets if SETS.get(name, (0,))[0] > LARGE]
    return [name for name in sets if name not in large] + ["http"] * http + large


def main() -> None:
    args = arguments()
    others = os.sched_getaffinity(0) - {args.core}
    if others:
        os.sched_setaffinity(0, others)
    names = [peer.name for peer in PEERS] + ["http"]
    asked = chosen(args.peers, names)
    if not args.report:
        limits = measure.Limits(args.rounds, time.monotonic() + 60 * args.budget, 60 * args.build_limit, args.quick)
        peers = [peer for peer in PEERS if peer.name in asked]
        faults = []
        for name in order(chosen(args.sets, list(SETS) + [n for n in args.paths if n not in SETS]), "http" in asked):
            if limits.left() < 0:
                measure.say(f"{name}: left out, the time is over")
                continue
            try:
                out = http_.measure_http(args, limits) if name == "http" else one(name, peers, args, limits)
                faults += out.get("faults", [])
                save(args, name, out)
            except FileNotFoundError as e:
                measure.say(f"{name}: left out: {e}")
    if not args.no_report:
        report.write(args.results, ROOT, draft=args.results != BUILD / "results")
    if not args.report and faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
