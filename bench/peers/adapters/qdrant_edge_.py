"""Qdrant Edge, Qdrant's engine as a library: one optimised segment, or with sq8=1 scalar quantisation of eight bits, kept in memory and compared
again in float32. One call asks a hundred queries; one search thread. Filters use ACORN, and indexes on the columns."""

import numpy as np
import qdrant_edge as q

import serve

OVERSAMPLING = 2.0


class Qdrant(serve.Index):
    def prepare(self):
        path = self.work / "edge"
        path.mkdir()
        distance = q.Distance.Cosine if self.metric == "cosine" else q.Distance.Euclid
        graph = q.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10_000, max_indexing_threads=1, memory=q.Memory.Pinned)
        small = q.ScalarQuantizationConfig(q.ScalarType.Int8, memory=q.Memory.Pinned) if self.options.get("sq8") else None
        vectors = q.EdgeVectorParams(size=self.dim, distance=distance, hnsw_config=graph, quantization_config=small, memory=q.Memory.Cached)
        optimizers = q.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=1 << 40, indexing_threshold=1)
        self.shard = q.EdgeShard.create(str(path), q.EdgeConfig(vectors=vectors, hnsw_config=graph, optimizers=optimizers, max_search_threads=1))
        self.filter = None

    def build(self):
        for name in self.columns:
            self.shard.update(q.UpdateOperation.create_field_index(name, q.PayloadSchemaType.Integer))
        for at in range(0, self.rows, 1000):
            rows = range(at, min(at + 1000, self.rows))
            points = [q.Point(r, self.base[r].tolist(), {name: int(values[r]) for name, values in self.columns.items()}) for r in rows]
            self.shard.update(q.UpdateOperation.upsert_points(points))
        while self.shard.optimize():
            pass

    def search(self, queries, ef):
        small = q.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING) if self.options.get("sq8") else None
        acorn = q.AcornSearchParams(enable=True) if self.filter else None
        params = q.SearchParams(hnsw_ef=ef, quantization=small, acorn=acorn)
        found = []
        for at in range(0, len(queries), 100):
            asked = [q.QueryRequest(limit=serve.K, query=q.Query.Nearest(x.tolist()), filter=self.filter, params=params) for x in queries[at : at + 100]]
            found += self.shard.query_batch(q.QueryBatchRequest(asked))
        return [[p.id for p in points] for points in found]

    def filtered(self):
        condition = q.FieldCondition(self.column, range=q.RangeFloat(lt=self.below)) if self.column else None
        self.filter = q.Filter(must=[condition]) if condition else None

    def memory(self):
        files = [f for f in self.work.rglob("*") if f.is_file() and "wal" not in f.parts]
        return {"bytes": sum(512 * f.stat().st_blocks for f in files), "hot": 0, "shares": False}

    def close(self):
        self.shard.close()


serve.main(Qdrant)
