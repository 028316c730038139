"""faiss-cpu: IndexHNSWFlat, or with sq8=1 IndexHNSWSQ of eight bits whose best answers are compared again in float32 (IndexRefineFlat).

One call searches all queries, in C++, on one thread. On vectors of length 1 squared Euclidean distances order as the cosine does.
"""

import faiss
import numpy as np

import serve

REFINED = 3  # times k are compared again


class Faiss(serve.Index):
    def prepare(self):
        faiss.omp_set_num_threads(1)
        if self.options.get("sq8"):
            self.graph = faiss.IndexHNSWSQ(self.dim, faiss.ScalarQuantizer.QT_8bit, 16)
            self.index = faiss.IndexRefineFlat(self.graph)
        else:
            self.graph = self.index = faiss.IndexHNSWFlat(self.dim, 16)
        self.graph.hnsw.efConstruction = 200
        self.selector = None

    def build(self):
        self.index.train(self.base)
        self.index.add(self.base)

    def search(self, queries, ef):
        parameters = faiss.SearchParametersHNSW(efSearch=ef, sel=self.selector)
        if self.index is not self.graph:
            parameters = faiss.IndexRefineSearchParameters(k_factor=REFINED, base_index_params=parameters)
        return self.index.search(queries, serve.K, params=parameters)[1]

    def filtered(self):
        self.selector = None
        if self.column:
            self.bits = np.packbits(self.allowed(), bitorder="little")
            self.selector = faiss.IDSelectorBitmap(self.bits)

    def memory(self):
        hot = len(faiss.serialize_index(self.graph)) if self.index is not self.graph else 0
        return {"bytes": len(faiss.serialize_index(self.index)), "hot": hot, "shares": False}


serve.main(Faiss)
