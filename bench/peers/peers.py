"""The peers: how each is started, what its knob is, and what a reader has to know about its figures."""

import os
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "peers"
PYTHON = BUILD / "python" / "bin" / "python"

FLOAT, CODES, STORE, EXACT = "float32", "quantised", "database", "exact"


@dataclass
class Peer:
    name: str
    title: str
    group: str  # which table: FLOAT, CODES (with quantisation), STORE (a database in the process), EXACT (compares all)
    command: list[str]
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    ours: bool = False
    knob: tuple[int, int] = (10, 4096)  # least and most of ef
    note: str = ""

    def line(self) -> list[str]:
        return [str(PYTHON), "-B", str(HERE / "adapters" / self.command[0])] if self.command[0].endswith(".py") else [str(BUILD / "bin" / self.command[0])]

    def variables(self) -> dict[str, str]:
        """One thread everywhere; nothing that a caller's environment says may differ between peers."""
        one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "GOMAXPROCS", "LANCE_CPU_THREADS")}
        return {**os.environ, **one, "PYTHONPATH": str(HERE / "adapters"), **self.environment}


OURS, BASELINE = "ours", "hnswlib"

PEERS = [
    Peer(OURS, "chromad, package hnsw", FLOAT, ["ours"], ours=True, note="codes walked, float32 compared again; defaults; of a filter, codes lie together, as the engine has them when a condition comes again"),
    Peer("ours-avx2", "chromad, AVX2 kernels", FLOAT, ["ours"], environment={"CHROMAD_KERNEL": "avx2"}, ours=True, note="the same with CHROMAD_KERNEL=avx2"),
    Peer("hnswlib", "hnswlib", FLOAT, ["hnswlib"], note="C++ adapter against its header, g++ -O3 -march=native"),
    Peer("hnswlib-thp", "hnswlib, huge pages", FLOAT, ["hnswlib"], environment={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, note="the same with GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
    Peer("faiss", "faiss HNSWFlat", FLOAT, ["faiss_.py"], note="one call searches all queries in C++"),
    Peer("usearch", "usearch f32", FLOAT, ["usearch_.py"], note="one call searches all queries in C++; no filter in its Python package"),
    Peer("weaviate", "Weaviate's index", FLOAT, ["weaviate"], note="its Go package, without the database around it; ACORN filters"),
    Peer("coder", "coder/hnsw", FLOAT, ["coder"], note="Go; no efConstruction, EfSearch 200 while it inserts; no filter"),
    Peer("faiss-sq8", "faiss HNSW-SQ8", CODES, ["faiss_.py"], ["sq8=1"], note="8 bits, 3 k answers compared again in float32"),
    Peer("usearch-i8", "usearch i8", CODES, ["usearch_.py"], ["dtype=i8"], note="8 bits, 30 answers compared again in float32 by the adapter in numpy"),
    Peer("weaviate-rq", "Weaviate RQ", CODES, ["weaviate"], ["rq=8"], note="8 bits, 20 answers compared again in float32"),
    Peer("qdrant-sq8", "Qdrant Edge SQ8", CODES, ["qdrant_edge_.py"], ["sq8=1"], note="8 bits, 2 k answers compared again in float32; Python makes each request and reads each answer"),
    Peer("ours-engine", "chromad, engine", STORE, ["ours"], ["engine=1"], ours=True, note="a collection of an embedded store: log, flush, merge, ids"),
    Peer("chroma", "Chroma, embedded", STORE, ["chroma_.py"], note="PersistentClient, a hundred queries a call"),
    Peer("qdrant", "Qdrant Edge", STORE, ["qdrant_edge_.py"], note="a hundred queries a call; Python makes each request and reads each answer"),
    Peer("lancedb", "LanceDB", STORE, ["lancedb_.py"], knob=(30, 4096), note="IVF_HNSW_SQ with refine_factor 3; one Python call a query"),
    Peer("sqlite-vec", "sqlite-vec", EXACT, ["sqlite_vec_.py"], knob=(10, 10), note="one SQL statement a query"),
    Peer("chromem", "chromem-go", EXACT, ["chromem"], knob=(10, 10), note="cosine only"),
]
