"""Loads WordNet through the HTTP API with the official Python client and measures.

    build/clients/python/bin/python bench/load.py [--sample] [--binary bin/chromad] [--json FILE]

Some rows are held out as queries: real glosses that the collection has not seen. Prints a Markdown table; --json writes every figure.
--command measures another server that speaks the same API: --command 'chroma run --path {path} --port {port}'.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import chromadb  # noqa: E402
import numpy as np  # noqa: E402

from chromad import ROOT, Server, add_server_options, server_command  # noqa: E402

K, DIM = 10, 384

# Name, condition of the API, the same condition in Python.
FILTERS = [
    ("pos = noun", {"where": {"pos": "noun"}}, lambda r: r["metadata"]["pos"] == "noun"),
    ("topic = noun.animal", {"where": {"topic": "noun.animal"}}, lambda r: r["metadata"]["topic"] == "noun.animal"),
    ("pos = adverb", {"where": {"pos": "adverb"}}, lambda r: r["metadata"]["pos"] == "adverb"),
    ("relations >= 20", {"where": {"relations": {"$gte": 20}}}, lambda r: r["metadata"]["relations"] >= 20),
    ("topic = verb.weather", {"where": {"topic": "verb.weather"}}, lambda r: r["metadata"]["topic"] == "verb.weather"),
    ("lemmas contains water", {"where": {"lemmas": {"$contains": "water"}}}, lambda r: "water" in r["metadata"]["lemmas"]),
    ("text contains 'water'", {"where_document": {"$contains": "water"}}, lambda r: "water" in r["document"]),
    (r"text matches \bmusic(al|ian)?\b", {"where_document": {"$regex": r"\bmusic(al|ian)?\b"}}, lambda r: re.search(r"\bmusic(al|ian)?\b", r["document"])),
]


def read(folder: Path) -> tuple[list[dict], np.ndarray]:
    with open(folder / "records.jsonl", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    full, half = folder / "vectors.f32", folder / "vectors.f16"
    flat = np.fromfile(full, "<f4") if full.exists() else np.fromfile(half, "<f2").astype("f4")
    vectors = flat.reshape(len(records), DIM)
    return records, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def progress(done: int, total: int, began: float) -> None:
    if sys.stderr.isatty() or done == total:
        bar = "#" * (40 * done // total)
        print(f"loading [{bar:<40}] {done:,}/{total:,} rows, {done / (time.perf_counter() - began):,.0f} a second", end="\n" if done == total else "\r", file=sys.stderr, flush=True)


def load(collection, records, vectors, rows, batch: int, writers: int) -> float:
    """Seconds to add the rows, in batches, from so many threads."""

    def add(at: int) -> int:
        part = rows[at : at + batch]
        collection.add(
            ids=[records[row]["id"] for row in part],
            embeddings=vectors[part],
            documents=[records[row]["document"] for row in part],
            metadatas=[records[row]["metadata"] for row in part],
        )
        return len(part)

    began = time.perf_counter()
    done = 0
    with ThreadPoolExecutor(writers) as pool:
        for count in pool.map(add, range(0, len(rows), batch)):
            done += count
            progress(done, len(rows), began)
    return time.perf_counter() - began


# Longer than a collection rests before its segments become one (--rest-after).
IDLE = 12.0


def settle(server: Server, limit: float) -> float:
    """Waits until the server has been idle for so long that flushes and merges are over; the seconds it was busy."""
    began = quiet = at = time.monotonic()
    last, busy = cpu_seconds(server), 0.0
    while at - quiet < IDLE and at - began < limit:
        time.sleep(0.25)
        now, since, at = cpu_seconds(server), at, time.monotonic()
        if now - last > 0.02:
            quiet = at
            busy += at - since
        last = now
    return busy


def cpu_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def exact(vectors: np.ndarray, rows: np.ndarray, queries: np.ndarray) -> list[np.ndarray]:
    """For every query the true K nearest of the rows, as row numbers."""
    data, found = vectors[rows], []
    for at in range(0, len(queries), 100):
        scores = queries[at : at + 100] @ data.T
        top = np.argsort(-scores, axis=1, kind="stable")[:, :K] if len(rows) < 4 * K else np.argpartition(-scores, K, axis=1)[:, :K]
        found += [rows[line] for line in top]
    return found


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(float(np.percentile(seconds, p)) * 1000, 3) for p in (50, 99)}


def timed(calls) -> tuple[list, list[float]]:
    results, seconds = [], []
    for call in calls:
        began = time.perf_counter()
        results.append(call())
        seconds.append(time.perf_counter() - began)
    return results, seconds


def ask(collection, records, queries, truth, include=("distances",), **condition) -> dict:
    """Latency and recall of one query at a time."""
    calls = [lambda q=q: collection.query(query_embeddings=[q], n_results=K, include=list(include), **condition) for q in queries]
    for call in calls[:10]:
        call()
    answers, seconds = timed(calls)
    hits = sum(len({records[row]["id"] for row in want} & set(got["ids"][0])) for want, got in zip(truth, answers))
    return {**percentiles(seconds), "recall": round(hits / max(1, sum(map(len, truth))), 4)}


def throughput(collection, queries, threads: int) -> float:
    """Queries a second from so many threads of one client process."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda q: collection.query(query_embeddings=[q], n_results=K, include=["distances"]), queries))
    return round(len(queries) / (time.perf_counter() - began), 1)


def reopen(server: Server, record: dict, vector: np.ndarray) -> dict:
    """Stops and starts; how long until a query gives its right answer."""
    stopped = server.stop()
    began = time.perf_counter()
    ready = server.start()
    collection = chromadb.HttpClient(host="127.0.0.1", port=server.port).get_collection("wordnet")
    found = collection.query(query_embeddings=[vector], n_results=1, include=["distances"])["ids"][0]
    answered = time.perf_counter() - began
    if found != [record["id"]]:
        raise SystemExit(f"after the restart {record['id']} is not nearest to itself: {found}")
    return {"stop_s": round(stopped, 3), "ready_s": round(ready, 3), "first_answer_s": round(answered, 3)}


def measure(server: Server, records, vectors, args) -> dict:
    rng = np.random.default_rng(20)
    held = rng.choice(len(records), args.queries, replace=False)
    rows = np.setdiff1d(np.arange(len(records)), held)
    queries = vectors[held]
    figures: dict = {"rows": len(rows), "queries": len(held), "start_empty_s": round(server.start(), 3)}
    client = chromadb.HttpClient(host="127.0.0.1", port=server.port)
    collection = client.create_collection("wordnet", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    batch = min(args.batch, client.get_max_batch_size())

    seconds = load(collection, records, vectors, rows, batch, args.writers)
    figures["load"] = {"seconds": round(seconds, 2), "rows_per_s": round(len(rows) / seconds), "batch": batch, "writers": args.writers}
    truth = exact(vectors, rows, queries)
    figures["query_right_after_load"] = ask(collection, records, queries[:200], truth[:200])
    figures["settle_s"] = round(settle(server, args.settle), 1)
    figures["memory_after_load"] = server.memory()
    figures["disk_bytes"] = server.disk()
    figures["raw_bytes"] = len(rows) * DIM * 4 + sum(len(json.dumps(records[row], ensure_ascii=False).encode()) for row in rows)

    figures["heartbeat"] = percentiles(timed([client.heartbeat] * 300)[1])
    figures["query"] = ask(collection, records, queries, truth)
    figures["query_with_documents"] = ask(collection, records, queries, truth, include=("distances", "documents", "metadatas"))
    figures["queries_per_s"] = {f"{threads} threads": throughput(collection, queries, threads) for threads in (1, 4)}
    ids = [records[row]["id"] for row in rng.choice(rows, 300)]
    figures["get_by_id"] = percentiles(timed([lambda i=i: collection.get(ids=[i]) for i in ids])[1])
    few = min(200, len(queries))
    figures["filtered"] = {}
    for name, condition, matches in FILTERS:
        allowed = np.array([row for row in rows if matches(records[row])], dtype=int)
        if len(allowed):
            result = ask(collection, records, queries[:few], exact(vectors, allowed, queries[:few]), **condition)
            figures["filtered"][name] = {"rows": len(allowed), **result}

    load(collection, records, vectors, held, batch, 1)
    if collection.count() != len(records):
        raise SystemExit(f"{collection.count()} records after loading {len(records)}")
    figures["reopen"] = reopen(server, records[held[0]], vectors[held[0]])
    figures["memory_after_reopen"] = server.memory()
    return figures


def context(args) -> dict:
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    return {
        "machine": f"{model[1] if model else platform.processor()}, {os.cpu_count()} cores, {platform.system()}",
        "commit": commit,
        "server": args.command or "chromad",
        "data": "sample" if args.sample else "wordnet",
        "date": datetime.date.today().isoformat(),
        "command": "bench/load.py " + shlex.join(sys.argv[1:]),
    }


def table(result: dict) -> str:
    def size(count: int) -> str:
        return f"{count / 2**20:,.1f} MiB"

    def latency(figures: dict) -> str:
        recall = f", recall@{K} {figures['recall']:.4f}" if "recall" in figures else ""
        return f"p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms{recall}"

    lines = [
        ("rows", f"{result['rows']:,} of {DIM} dimensions, {result['queries']:,} queries held out"),
        ("load", f"{result['load']['rows_per_s']:,} rows/s (batches of {result['load']['batch']}, {result['load']['writers']} writers), then busy for {result['settle_s']} s"),
        ("query right after load", latency(result["query_right_after_load"])),
        ("query", latency(result["query"])),
        ("query with documents and metadata", latency(result["query_with_documents"])),
        ("queries a second", ", ".join(f"{rate:,.0f} from {name}" for name, rate in result["queries_per_s"].items())),
        *((f"query where {name} ({figures['rows']:,} rows)", latency(figures)) for name, figures in result["filtered"].items()),
        ("get by id", latency(result["get_by_id"])),
        ("heartbeat (what client and HTTP cost)", latency(result["heartbeat"])),
        ("bytes on disk", f"{size(result['disk_bytes'])} ({result['disk_bytes'] / result['raw_bytes']:.2f} of vectors plus JSON)"),
        ("memory after load", ", ".join(f"{name} {size(count)}" for name, count in result["memory_after_load"].items())),
        ("memory after restart", ", ".join(f"{name} {size(count)}" for name, count in result["memory_after_reopen"].items())),
        ("stop", f"{result['reopen']['stop_s']:.2f} s"),
        ("restart", f"answers in {result['reopen']['ready_s']:.3f} s, first right answer after {result['reopen']['first_answer_s']:.3f} s"),
    ]
    about = f"{result['machine']}; {result['server']} at {result['commit']}; `{result['command']}`; {result['date']}"
    rows = (f"| {name.replace('|', chr(92) + '|')} | {value} |" for name, value in lines)
    return "\n".join([about, "", "| | |", "|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true", help="the 2,000 records of the repository")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "wordnet")
    parser.add_argument("--path", type=Path, help="where the server keeps its data (default: a temporary folder)")
    parser.add_argument("--queries", type=int, default=0, help="rows held out (default 1000, of the sample 100)")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--settle", type=float, default=600, metavar="SECONDS", help="wait at most so long for background work")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    add_server_options(parser)
    args = parser.parse_args()
    args.queries = args.queries or (100 if args.sample else 1000)
    folder = ROOT / "bench" / "data" / "sample" if args.sample else args.data
    if not (folder / "records.jsonl").exists():
        raise SystemExit(f"{folder}: no data; run make data")
    records, vectors = read(folder)
    with tempfile.TemporaryDirectory() as temporary:
        server = Server(server_command(args), args.path or Path(temporary) / "data")
        try:
            result = {**context(args), **measure(server, records, vectors, args)}
        finally:
            server.stop()
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
