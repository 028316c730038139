"""Embeds records.jsonl into vectors.f32, a chunk at a time, and goes on where it stopped.

    python embed.py data/wordnet [--workers 2]

Texts are grouped by their number of tokens, so a batch needs no padding; the groups are cut into chunks, always the same ones.
`vectors.f32.part` starts as zeros, and every finished row is a unit vector: so the file itself says what is left to do, after a power
cut too. When nothing is left it gets its name and meta.json is written. On one machine the result is the same bytes every time;
another BLAS may differ in the last bits.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

CHUNK_TOKENS = 8192

# One thread each, set before numpy is loaded: processes share the cores better than threads of one small matrix product do.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

import minilm  # noqa: E402

encoder: minilm.Encoder


def start_worker() -> None:
    global encoder
    encoder = minilm.Encoder()


def work(job: tuple[list[int], list[list[int]]]) -> tuple[list[int], np.ndarray]:
    rows, tokens = job
    return rows, encoder.encode_tokens(np.array(tokens))


def check_encoder() -> None:
    """The model card's own example; a wrong layer shows at once, not after the whole run."""
    vectors = minilm.Encoder().encode(["That is a happy person", "That is a happy dog", "Today is a sunny day"])
    got = vectors[0] @ vectors[1:].T
    if not np.allclose(got, [0.695, 0.257], atol=2e-3):
        raise SystemExit(f"the encoder is wrong: similarities {got}, expected 0.695 and 0.257")


def chunks_of(tokens: list[list[int]]) -> list[list[int]]:
    """Rows of equal length, about CHUNK_TOKENS tokens each, longest first so that the estimate of the time left is never too rosy."""
    lengths = np.array([len(ids) for ids in tokens])
    chunks = []
    for length in np.unique(lengths)[::-1]:
        rows = np.flatnonzero(lengths == length)
        size = max(1, CHUNK_TOKENS // int(length))
        chunks += [rows[at : at + size].tolist() for at in range(0, len(rows), size)]
    return chunks


def show(done: int, total: int, began: float, first: int) -> None:
    rate = (done - first) / max(time.monotonic() - began, 1e-9)
    left = (total - done) / rate if rate else 0
    bar = "#" * (40 * done // total)
    end = "\r" if sys.stderr.isatty() and done < total else "\n"
    print(f"embedding [{bar:<40}] {done:,}/{total:,} rows, {rate:,.0f} a second, {left:,.0f} s left ", end=end, file=sys.stderr, flush=True)


def open_part(folder: Path, rows: int, source: str) -> np.ndarray:
    """The unfinished result; started anew if it belongs to other records."""
    part, stamp = folder / "vectors.f32.part", folder / "vectors.f32.part.source"
    fits = part.exists() and stamp.exists() and stamp.read_text() == source and part.stat().st_size == rows * minilm.DIM * 4
    vectors = np.memmap(part, "<f4", "r+" if fits else "w+", shape=(rows, minilm.DIM))
    stamp.write_text(source)
    return vectors


def finished(vectors: np.ndarray) -> np.ndarray:
    """Which rows are there: those of length 1."""
    norms = np.concatenate([np.linalg.norm(vectors[at : at + 4096], axis=1) for at in range(0, len(vectors), 4096)])
    return np.abs(norms - 1) < 1e-4


def embed(folder: Path, workers: int) -> None:
    raw = (folder / "records.jsonl").read_bytes()
    source = hashlib.sha256(raw).hexdigest()
    documents = [json.loads(line)["document"] for line in raw.splitlines()]
    final = folder / "vectors.f32"
    if final.exists() and (folder / "meta.json").exists():
        if json.loads((folder / "meta.json").read_text())["records_sha256"] == source:
            print(f"{final}: complete", file=sys.stderr)
            return
    check_encoder()
    tokens = minilm.Encoder().tokenize(documents)
    chunks = chunks_of(tokens)
    vectors = open_part(folder, len(documents), source)
    there = finished(vectors)
    todo = [rows for rows in chunks if not there[rows].all()]
    done = first = len(documents) - sum(map(len, todo))

    jobs = ((rows, [tokens[row] for row in rows]) for rows in todo)
    began = shown = time.monotonic()
    interval = 0.5 if sys.stderr.isatty() else 15
    with multiprocessing.get_context("spawn").Pool(workers, start_worker) as pool:
        for rows, result in pool.imap_unordered(work, jobs):
            vectors[rows] = result
            done += len(rows)
            if time.monotonic() - shown > interval:
                shown = time.monotonic()
                show(done, len(documents), began, first)
    vectors.flush()
    show(done, len(documents), began, first)
    finish(folder, vectors, source)


def finish(folder: Path, vectors: np.ndarray, source: str) -> None:
    if not finished(vectors).all():
        raise SystemExit(f"{folder}: rows are missing; start again")
    rows, dim = vectors.shape
    meta = {
        "rows": rows,
        "dim": dim,
        "metric": "cosine",
        "model": "all-MiniLM-L6-v2",
        "records_sha256": source,
        "vectors_sha256": hashlib.sha256(vectors).hexdigest(),
    }
    (folder / "vectors.f32.part").replace(folder / "vectors.f32")
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    (folder / "vectors.f32.part.source").unlink()
    print(f"{folder / 'vectors.f32'}: {rows:,} rows of {dim}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    embed(args.folder, args.workers)
