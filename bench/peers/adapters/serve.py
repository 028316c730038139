"""The half of a Python peer's adapter that is the same for every library: the protocol of bench/peers/go/serve.

What a library can do for many queries in one call is given all of them, so that Python's cost is not in its figure.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import numpy as np

K = 10
MISSING = 0xFFFFFFFF


class Skip(Exception):
    """What the peer cannot do."""


class Index:
    """One peer. `column` and `below` are the filter of the moment: rows whose number in that column is below it; column "" is none."""

    column, below = "", 0

    def __init__(self, folder: Path, rows: int, dim: int, metric: str, work: Path, options: dict[str, str]):
        self.rows, self.dim, self.metric, self.work, self.options = rows, dim, metric, work, options
        self.base = np.fromfile(folder / "base.f32", "<f4").reshape(rows, dim)
        self.queries = np.fromfile(folder / "queries.f32", "<f4").reshape(-1, dim)
        self.columns = {name: np.fromfile(folder / f"{name}.u16", "<u2") for name in ("random", "correlated")}
        self.prepare()

    def prepare(self) -> None:
        """What a user does once, before there is data."""

    def build(self) -> None:
        raise NotImplementedError

    def search(self, queries: np.ndarray, ef: int):
        """Rows of the K nearest of every query: an array, or lists that may be shorter."""
        raise NotImplementedError

    def filtered(self) -> None:
        """Called when the filter has changed."""
        raise Skip

    def memory(self) -> dict:
        return {"bytes": 0, "hot": 0, "shares": False}

    def close(self) -> None:
        """Called at the end."""

    def allowed(self) -> np.ndarray:
        return self.columns[self.column] < self.below


def padded(found, count: int) -> np.ndarray:
    if isinstance(found, np.ndarray) and found.shape == (count, K):
        return np.where(found < 0, MISSING, found).astype("<u4") if found.dtype.kind == "i" else found.astype("<u4")
    out = np.full((count, K), MISSING, "<u4")
    for line, rows in zip(out, found):
        line[: len(rows)] = rows
    return out


def search(index: Index, ef: int, count: int, passes: int, file: str) -> dict:
    queries = index.queries[:count]
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(passes):
        found = index.search(queries, ef)
    took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    padded(found, len(queries)).tofile(file)
    return took


def do(index: Index, words: list[str]) -> dict:
    match words:
        case ["build"]:
            cpu, wall = time.process_time(), time.perf_counter()
            index.build()
            return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        case ["search", ef, count, passes, file]:
            return search(index, int(ef), int(count), int(passes), file)
        case ["filter", column, below]:
            before = index.column
            index.column, index.below = column.strip("-"), int(below)
            if index.column or before:
                try:
                    index.filtered()
                except Skip:
                    index.column = ""
                    raise
            return {}
        case ["memory"]:
            ctypes.CDLL(None).malloc_trim(0)
            return index.memory()
    raise Skip


def main(kind: type[Index]) -> None:
    folder, rows, dim, metric, work, *options = sys.argv[1:]
    index = kind(Path(folder), int(rows), int(dim), metric, Path(work), dict(o.split("=", 1) for o in options))
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        if line.split()[:1] == ["quit"]:
            break
        try:
            answer = do(index, line.split())
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"[:500], "skip": isinstance(e, Skip)}
        print(json.dumps(answer), file=answers, flush=True)
    index.close()
