"""Data sets of the peers' benchmark: made or read once, kept under build/peers/data as plain arrays.

A set is a folder: base.f32 and queries.f32 (little-endian float32, row by row), random.u16 and correlated.u16 (a number from 0 to 9,999 of every
row; a filter is "below N") and set.json. Everything random has a fixed seed. The 1,000 queries are held out: none of them is in the base.
"""

import gzip
import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
HELD = 1000
SCALE = 10_000  # values of the columns that filters look at
K = 10


@dataclass
class Set:
    name: str
    folder: Path
    rows: int
    dim: int
    metric: str  # l2 or cosine; rows of a cosine set have length 1
    about: str
    sums: dict[str, str]

    def array(self, name: str) -> np.ndarray:
        if name in ("base", "queries"):
            return np.memmap(self.folder / f"{name}.f32", "<f4", "r").reshape(-1, self.dim)
        return np.memmap(self.folder / f"{name}.u16", "<u2", "r")

    def arguments(self, work: Path) -> list[str]:
        """What every adapter is started with."""
        return [str(self.folder), str(self.rows), str(self.dim), self.metric, str(work)]


def normalised(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("<f4")


def held_out(x: np.ndarray, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many rows and the queries, drawn without a row twice."""
    held = min(HELD, len(x) // 10)
    order = np.random.default_rng(seed).permutation(len(x))[: rows + held]
    return x[np.sort(order[held:])], x[order[:held]]


def clustered(rows: int, dim: int, seed: int) -> np.ndarray:
    """Points near a curved surface of 40 dimensions, in clusters of very unequal size and width that overlap. Along the axes of a cluster they
    spread less and less, as embeddings do: at 200,000 rows hnswlib finds 0.95 and 0.99 of the neighbours with an ef of 58 and 142."""
    latent, clusters = 40, 1000
    rng = np.random.default_rng(seed)
    weight = rng.pareto(1.2, clusters) + 0.05
    centre = rng.standard_normal((clusters, latent)) * 0.7
    width = np.exp(rng.normal(-0.4, 0.5, clusters))
    shape = 2 / np.sqrt(1 + np.arange(latent)) * rng.gamma(4.0, 0.25, (clusters, latent))
    straight = rng.standard_normal((latent, dim)) / np.sqrt(latent)
    inner = rng.standard_normal((latent, 2 * dim)) / np.sqrt(latent)
    outer = rng.standard_normal((2 * dim, dim)) / np.sqrt(2 * dim)
    out = np.empty((rows, dim), "<f4")
    for at in range(0, rows, 50_000):
        n = min(50_000, rows - at)
        c = rng.choice(clusters, n, p=weight / weight.sum())
        tail = 1 / np.sqrt(rng.chisquare(6, n) / 6)
        z = centre[c] + rng.standard_normal((n, latent)) * shape[c] * (width[c] * tail)[:, None]
        out[at : at + n] = z @ straight + 1.5 * np.tanh(z @ inner) @ outer + 0.03 * rng.standard_normal((n, dim))
    return out


def chunks(limit: int | None) -> list[str]:
    """Pieces of 14 lines of Go's own sources, in the order of their paths, none twice."""
    root = Path(subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()) / "src"
    out: dict[str, None] = {}
    for path in sorted(p for p in root.rglob("*.go") if p.is_file()):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for at in range(0, len(lines), 14):
            out.setdefault("\n".join(lines[at : at + 14]))
        if limit and len(out) > limit:
            break
    return list(out)


def semantic(dim: int, limit: int | None) -> np.ndarray:
    """Latent semantic analysis: words hashed to 65,536 columns, tf-idf, the leading singular vectors (Halko, Martinsson and Tropp,
    arXiv 0909.4061, algorithm 4.4), weighted by the square root of their singular values, every row of length 1."""
    import zlib

    from scipy import linalg, sparse

    buckets = 1 << 16
    at, column, value = [], [], []
    row = 0
    for text in chunks(limit):
        counts: dict[int, int] = {}
        for word in re.findall(r"[A-Za-z]{2,}", text):
            bucket = zlib.crc32(word.lower().encode()) % buckets
            counts[bucket] = counts.get(bucket, 0) + 1
        if len(counts) < 8:
            continue  # too little to say anything about
        at += [row] * len(counts)
        column += counts
        value += counts.values()
        row += 1
    x = sparse.csr_matrix((1 + np.log(np.array(value, "f4")), (at, column)), (row, buckets), dtype="f4")
    idf = np.log(row / (1 + np.bincount(column, minlength=buckets))).clip(0).astype("f4")
    x = x @ sparse.diags(idf, dtype="f4")
    x = sparse.diags(1 / np.sqrt(np.asarray(x.multiply(x).sum(1)).ravel()).clip(1e-6), dtype="f4") @ x
    rng = np.random.default_rng(384)
    q = x @ rng.standard_normal((buckets, min(dim + 16, row // 2)), dtype="f4")
    for _ in range(2):
        q, _ = linalg.qr(q, mode="economic", overwrite_a=True)
        q, _ = linalg.qr(x.T @ q, mode="economic", overwrite_a=True)
        q = x @ q
    u, s, _ = linalg.svd(q, full_matrices=False, overwrite_a=True)
    return normalised(u[:, :dim] * np.sqrt(s[:dim]))


def wordnet() -> np.ndarray:
    path = ROOT / "data" / "wordnet" / "vectors.f32"
    if not path.exists():
        raise FileNotFoundError(f"{path.relative_to(ROOT)}: make data builds it")
    return normalised(np.fromfile(path, "<f4").reshape(-1, 384))


def mnist(path: Path) -> np.ndarray:
    raw = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    rows = int.from_bytes(raw[4:8], "big")
    return np.frombuffer(raw, "u1", offset=16).reshape(rows, -1).astype("<f4")


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None, str]:
    """A file of vectors: .fvecs, .npy, or .hdf5 as ann-benchmarks writes it; with its queries and metric where it holds them."""
    if path.suffix in (".hdf5", ".h5"):
        import h5py

        with h5py.File(path) as f:
            metric = {"angular": "cosine"}.get(str(f.attrs.get("distance", "euclidean")), "l2")
            return f["train"][:].astype("<f4"), f["test"][:].astype("<f4"), metric
    if path.suffix == ".npy":
        return np.load(path).astype("<f4"), None, "l2"
    raw = np.fromfile(path, "<i4")
    return raw.reshape(-1, raw[0] + 1)[:, 1:].view("<f4"), None, "l2"


# Name: rows, dimensions, metric, what it is. Rows and dimensions of 0 are those of the source.
SETS = {
    "A": (200_000, 128, "l2", "clustered synthetic, 40-d latent surface"),
    "wordnet": (0, 384, "cosine", "WordNet glosses, all-MiniLM-L6-v2 (make data)"),
    "lsa384": (100_000, 384, "cosine", "LSA of Go's sources"),
    "lsa768": (100_000, 768, "cosine", "LSA of Go's sources"),
    "mnist": (0, 784, "l2", "MNIST test images (--mnist PATH)"),
    "E600k": (600_000, 128, "l2", "clustered synthetic, 40-d latent surface"),
    "E1M": (1_000_000, 128, "l2", "clustered synthetic, 40-d latent surface"),
}


def source(name: str, rows: int, paths: dict[str, Path]) -> tuple[np.ndarray, np.ndarray, str, str]:
    """Base, queries, metric and description; rows bounds the base where it is not 0."""
    if name in paths and name != "mnist":
        x, queries, metric = read(paths[name])
        if metric == "cosine":
            x, queries = normalised(x), normalised(queries) if queries is not None else None
        about = paths[name].name
    else:
        full, dim, metric, about = SETS[name]
        queries = None
        rows = min(rows or full, full or rows)
        if name.startswith("lsa"):
            x = semantic(dim, rows and rows < full and 2 * rows or None)
        elif name == "wordnet":
            x = wordnet()
        elif name == "mnist":
            if name not in paths:
                raise FileNotFoundError("the test images are not in the repository: name them with --mnist PATH")
            x = mnist(paths[name])
        else:
            x = clustered(rows + HELD, dim, 40)
    if queries is None:
        base, queries = held_out(x, rows or len(x), 7)
    else:
        base, queries = x[: rows or len(x)], queries[:HELD]
    return base, queries, metric, about


def columns(base: np.ndarray) -> dict[str, np.ndarray]:
    """What filters look at: a number without meaning, and one that follows a direction in space, so that rows that match lie together,
    mostly far from the query."""
    rng = np.random.default_rng(99)
    n = len(base)
    direction = rng.random(base.shape[1], dtype="f4") - 0.5
    out = {}
    for name, order in (("random", rng.permutation(n)), ("correlated", np.argsort(base @ direction, kind="stable"))):
        rank = np.empty(n, "<u2")
        rank[order] = np.arange(n) * SCALE // n
        out[name] = rank
    return out


def make(name: str, folder: Path, rows: int = 0, paths: dict[str, Path] | None = None) -> Set:
    """The set, made now if it is not there; rows > 0 asks for a smaller one."""
    folder = folder / (f"{name}-{rows}" if rows else name)
    described = folder / "set.json"
    if not described.exists():
        base, queries, metric, about = source(name, rows, paths or {})
        folder.mkdir(parents=True, exist_ok=True)
        np.ascontiguousarray(base, "<f4").tofile(folder / "base.f32")
        np.ascontiguousarray(queries, "<f4").tofile(folder / "queries.f32")
        for column, values in columns(base).items():
            values.tofile(folder / f"{column}.u16")
        sums = {f.name: hashlib.file_digest(open(f, "rb"), "sha256").hexdigest() for f in sorted(folder.glob("*.[fu]*"))}
        text = {"rows": len(base), "dim": base.shape[1], "metric": metric, "about": about, "sums": sums}
        temporary = described.with_suffix(".new")
        temporary.write_text(json.dumps(text, indent=1))
        os.replace(temporary, described)
    return Set(name=name, folder=folder, **json.loads(described.read_text()))


class Truth:
    """Exact answers: of every query the distance of its 10th nearest row, in general or among those that a filter lets through.

    An answer counts when its row is allowed and no farther than that, so that any of several rows at the same distance will do. Distances
    are squared Euclidean ones in float64 of the float32 vectors; on rows of length 1 they order as the cosine does."""

    def __init__(self, s: Set):
        self.base, self.queries = s.array("base"), s.array("queries")
        self.columns = {name: s.array(name) for name in ("random", "correlated")}
        self.norms = np.concatenate([np.einsum("ij,ij->i", b, b, dtype="f8") for b in np.array_split(self.base, max(1, s.rows // 50_000))])
        self.known: dict = {}

    def exact(self, query: int, rows: np.ndarray) -> np.ndarray:
        difference = self.base[rows].astype("f8") - self.queries[query].astype("f8")
        return np.einsum("ij,ij->i", difference, difference)

    def limits(self, column: str | None, below: int, count: int) -> tuple[np.ndarray, int]:
        """The 10th distance of the first queries, and how many rows are wanted of each."""
        key = (column, below)
        if key not in self.known or len(self.known[key][0]) < count:
            rows = np.flatnonzero(self.columns[column] < below) if column else np.arange(len(self.base))
            wanted = min(K, len(rows))
            margin = min(len(rows), 64)
            out = np.empty(count)
            data = self.base[rows] if column else self.base
            for at in range(0, count, 50):
                some = range(at, min(at + 50, count))
                rough = self.norms[rows] - 2 * (self.queries[at : some.stop] @ data.T).astype("f8")
                near = np.argpartition(rough, margin - 1, axis=1)[:, :margin]
                for i, q in enumerate(some):
                    out[q] = np.sort(self.exact(q, rows[near[i]]))[wanted - 1]
            self.known[key] = out, wanted
        limits, wanted = self.known[key]
        return limits[:count], wanted

    def recall(self, found: np.ndarray, column: str | None = None, below: int = 0) -> float:
        """Of answers (queries x 10 rows, 4294967295 for none), the share of the true neighbours among them."""
        limits, wanted = self.limits(column, below, len(found))
        hits = 0
        for q, line in enumerate(found):
            rows = np.unique(line[line < len(self.base)]).astype(np.int64)
            if column:
                rows = rows[self.columns[column][rows] < below]
            slack = 1e-6 * (limits[q] + self.norms[rows])
            hits += min(wanted, int((self.exact(q, rows) <= limits[q] + slack).sum()))
        return hits / (wanted * len(found)) if wanted else 1.0
