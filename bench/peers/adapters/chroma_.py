"""Chroma in the same process (PersistentClient). One call asks all queries."""

import chromadb

import serve


class Chroma(serve.Index):
    def prepare(self):
        self.where = None
        self.open()

    def open(self):
        self.client = chromadb.PersistentClient(str(self.work / "chroma"), chromadb.Settings(anonymized_telemetry=False))

    def build(self):
        space = "cosine" if self.metric == "cosine" else "l2"
        index = {"space": space, "max_neighbors": 16, "ef_construction": 200, "ef_search": 100, "num_threads": 1, "batch_size": 1000, "sync_threshold": 10_000}
        self.collection = self.client.create_collection("bench", configuration={"hnsw": index}, embedding_function=None)
        self.ef = 100
        batch = min(1000, self.client.get_max_batch_size())
        for at in range(0, self.rows, batch):
            rows = range(at, min(at + batch, self.rows))
            metadata = [{name: int(values[r]) for name, values in self.columns.items()} for r in rows]
            self.collection.add(ids=[str(r) for r in rows], embeddings=self.base[at : rows.stop], metadatas=metadata)

    def search(self, queries, ef):
        if ef != self.ef:
            self.collection.modify(configuration={"hnsw": {"ef_search": ef}})
            self.client._system.stop()  # an index that is loaded keeps the ef that it was loaded with
            chromadb.api.client.SharedSystemClient.clear_system_cache()
            self.open()
            self.collection, self.ef = self.client.get_collection("bench", embedding_function=None), ef
            self.search(queries[:20], ef)  # loads it
        found = []
        for at in range(0, len(queries), 100):
            found += self.collection.query(query_embeddings=queries[at : at + 100], n_results=serve.K, include=["distances"], where=self.where)["ids"]
        return [[int(i) for i in ids] for ids in found]

    def filtered(self):
        self.where = {self.column: {"$lt": self.below}} if self.column else None

    def memory(self):
        return {"bytes": sum(f.stat().st_size for f in self.work.rglob("*") if f.is_file()), "hot": 0, "shares": False}


serve.main(Chroma)
