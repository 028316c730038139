"""LanceDB: IVF_HNSW_SQ, the index its documentation recommends for speed. One call a query; ef is its knob, all else its defaults but for
as many partitions as its documentation names and float32 answers (refine_factor)."""

import os
import warnings

os.environ["LANCE_LOG"] = "error"

import lancedb  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

import serve  # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)  # of arguments that still work

REFINED = 3


class Lance(serve.Index):
    def prepare(self):
        self.db = lancedb.connect(str(self.work / "lance"))
        self.condition = None

    def build(self):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.base.ravel()), self.dim)
        columns = {"row": pa.array(np.arange(self.rows)), "v": vectors, **{name: pa.array(values) for name, values in self.columns.items()}}
        self.table = self.db.create_table("t", pa.table(columns))
        self.type = "cosine" if self.metric == "cosine" else "l2"
        self.table.create_index(metric=self.type, vector_column_name="v", index_type="IVF_HNSW_SQ", num_partitions=max(1, self.rows // 1_048_576), m=16, ef_construction=200)
        for name in self.columns:
            self.table.create_scalar_index(name, index_type="BTREE")

    def search(self, queries, ef):
        out = []
        for q in queries:
            asked = self.table.search(q, vector_column_name="v").distance_type(self.type).ef(ef).refine_factor(REFINED).select(["row", "_distance"]).limit(serve.K)
            if self.condition:
                asked = asked.where(self.condition, prefilter=True)
            out.append(asked.to_arrow()["row"].to_numpy())
        return out

    def filtered(self):
        self.condition = f"{self.column} < {self.below}" if self.column else None

    def memory(self):
        return {"bytes": sum(f.stat().st_size for f in self.work.rglob("*") if f.is_file()), "hot": 0, "shares": False}


serve.main(Lance)
