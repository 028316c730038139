"""chromad beside Chroma's own server over HTTP: the same Python client, in one process and in eight, the servers asked in turn.

    build/clients/python/bin/python bench/compare.py [--rounds 3] [--rows 10000] [--peer 'chroma run --path {path} --port {port}']

Prints medians and the median of the ratios of the rounds. On a machine with few cores the clients take more of them than the servers;
what the servers do without is in http_test.go, which asks the same of any server (-http.address).
"""

import argparse
import functools
import multiprocessing
import shlex
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import chromadb
import numpy as np

from chromad import ROOT, Server, add_server_options, server_command
from load import exact, read, settle

K = 10


@functools.cache
def connect(port: int, name: str):
    """A collection, once in a process: making a client takes longer than hundreds of requests."""
    return chromadb.HttpClient(host="127.0.0.1", port=port).get_collection(name, embedding_function=None)


def write(port: int, name: str, batches: list) -> None:
    collection = connect(port, name)
    for batch in batches:
        collection.add(**batch)


def ask(port: int, name: str, queries: np.ndarray, condition: dict) -> list:
    collection = connect(port, name)
    return [collection.query(query_embeddings=[q], n_results=K, include=["distances"], **condition)["ids"][0] for q in queries]


def warm(port: int, name: str) -> None:
    connect(port, name).count()


class Clients:
    """Processes that work at the same time, each with a client that is connected before the clock starts."""

    def __init__(self, count: int):
        self.pools = [ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) for _ in range(count)]

    def each(self, work, parts: list, port: int, name: str, *more) -> tuple[float, list]:
        for f in [pool.submit(warm, port, name) for pool in self.pools]:
            f.result()
        began = time.perf_counter()
        out = [f.result() for f in [pool.submit(work, port, name, part, *more) for pool, part in zip(self.pools, parts)]]
        return time.perf_counter() - began, out


def measure(server: Server, records, vectors, rows, held, clients: dict[int, Clients], settle_s: float) -> dict[str, float]:
    server.start()
    figures, client = {}, chromadb.HttpClient(host="127.0.0.1", port=server.port)
    step = min(500, client.get_max_batch_size())
    batches = [
        {
            "ids": [records[row]["id"] for row in part],
            "embeddings": vectors[part],
            "documents": [records[row]["document"] for row in part],
            "metadatas": [{**records[row]["metadata"], "lot": int(row) % 100} for row in part],
        }
        for part in (rows[at : at + step] for at in range(0, len(rows), step))
    ]
    for batch in batches:  # lists of texts are Chroma's newest kind of metadata, and not what is compared
        for m in batch["metadatas"]:
            m.pop("lemmas", None)
    for count, group in clients.items():
        name = f"words{count}"
        client.create_collection(name, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
        seconds, _ = group.each(write, [batches[i::count] for i in range(count)], server.port, name)
        figures[f"rows/s in, {count} clients"] = len(rows) / seconds
        if connect(server.port, name).count() != len(rows):
            raise SystemExit(f"{server.command}: rows are missing")
    settle(server, settle_s)
    lot = rows[rows % 100 == 7]
    for what, condition, allowed in (("queries/s", {}, rows), ("filtered 1%, queries/s", {"where": {"lot": 7}}, lot)):
        truth = [{records[row]["id"] for row in near} for near in exact(vectors, allowed, vectors[held])]
        ask(server.port, "words1", vectors[held[:100]], condition)
        for count, group in clients.items():
            parts = [vectors[held[i::count]] for i in range(count)]
            seconds, found = group.each(ask, parts, server.port, "words1", condition)
            figures[f"{what}, {count} clients"] = len(held) / seconds
            hits = sum(len(truth[i + n * count] & set(ids)) for i, part in enumerate(found) for n, ids in enumerate(part))
            figures[f"recall, {what}, {count} clients"] = hits / sum(map(len, truth))
    server.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "wordnet")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settle", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--peer", default="chroma run --path {path} --port {port}")
    add_server_options(parser)
    args = parser.parse_args()
    records, vectors = read(args.data)
    order = np.random.default_rng(20).permutation(len(records))
    rows, held = np.sort(order[: args.rows]), order[args.rows : args.rows + args.queries]
    clients = {1: Clients(1), 8: Clients(8)}
    commands, rounds = [server_command(args), args.peer], []
    for _ in range(args.rounds):
        both = []
        for command in commands:
            with tempfile.TemporaryDirectory() as folder:
                server = Server(command, Path(folder) / "data")
                try:
                    both.append(measure(server, records, vectors, rows, held, clients, args.settle))
                    print(shlex.split(command)[0], {key: round(value, 3) for key, value in both[-1].items()}, file=sys.stderr, flush=True)
                finally:
                    server.stop()
        rounds.append(both)
    print("| | chromad | peer | ratio |\n|---|---|---|---|")
    for key in rounds[0][0]:
        ours, theirs = ([r[i][key] for r in rounds] for i in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        form = ".3f" if key.startswith("recall") else ",.0f"
        print(f"| {key} | {statistics.median(ours):{form}} | {statistics.median(theirs):{form}} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
