"""usearch: float32, or with dtype=i8 eight bits, whose best 30 answers are compared again in float32 here (the library has no such step).

One call searches all queries, in C++, on one thread. The Python package has no filter.
"""

import numpy as np
from usearch.index import Index as Graph

import serve

REFINED = 30


class USearch(serve.Index):
    def prepare(self):
        self.dtype = self.options.get("dtype", "f32")
        metric = "l2sq" if self.metric == "l2" else "cos"
        self.graph = Graph(ndim=self.dim, metric=metric, dtype=self.dtype, connectivity=16, expansion_add=200, enable_key_lookups=False)
        # Eight bits of a cosine are of a vector of length 1; of others the numbers have to fit -128 to 127.
        self.scale = 127 / float(np.abs(self.base).max()) if self.dtype == "i8" and self.metric == "l2" else 1

    def coded(self, x):
        return np.rint(x * self.scale).clip(-127, 127).astype("i1") if self.scale != 1 else x

    def build(self):
        keys = np.arange(self.rows, dtype="u8")
        for at in range(0, self.rows, 10_000):
            self.graph.add(keys[at : at + 10_000], self.coded(self.base[at : at + 10_000]), threads=1, copy=True)

    def search(self, queries, ef):
        self.graph.expansion_search = ef
        count = serve.K if self.dtype == "f32" else REFINED
        found = self.graph.search(self.coded(queries), count, threads=1).keys.astype("i8")
        if self.dtype == "f32":
            return found
        out = np.empty((len(queries), serve.K), "i8")
        for q, rows in enumerate(found):
            difference = self.base[rows] - queries[q]
            near = np.einsum("ij,ij->i", difference, difference)
            out[q] = rows[np.argpartition(near, serve.K)[: serve.K]]
        return out

    def memory(self):
        return {"bytes": self.graph.serialized_length + (self.base.nbytes if self.dtype != "f32" else 0), "hot": self.graph.serialized_length, "shares": False}


serve.main(USearch)
