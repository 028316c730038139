"""sqlite-vec: a table of vectors that every query compares itself with. SQL runs once a query; comparing is in C."""

import apsw
import sqlite_vec

import serve


class SQLite(serve.Index):
    def prepare(self):
        self.db = apsw.Connection(str(self.work / "vec.db"))
        self.db.enable_load_extension(True)
        self.db.load_extension(sqlite_vec.loadable_path())
        metric = "distance_metric=cosine" if self.metric == "cosine" else ""
        self.db.execute(f"create virtual table t using vec0(v float[{self.dim}] {metric}, random integer, correlated integer)")

    def build(self):
        with self.db:
            rows = zip(range(self.rows), (v.tobytes() for v in self.base), self.columns["random"].tolist(), self.columns["correlated"].tolist())
            self.db.executemany("insert into t(rowid, v, random, correlated) values (?, ?, ?, ?)", rows)

    def search(self, queries, ef):
        condition = f"and {self.column} < {self.below}" if self.column else ""
        sql = f"select rowid from t where v match ? and k = {serve.K} {condition}"
        return [[row for row, in self.db.execute(sql, (q.tobytes(),))] for q in queries]

    def filtered(self):
        pass

    def memory(self):
        return {"bytes": sum(f.stat().st_size for f in self.work.iterdir()), "hot": 0, "shares": False}

    def close(self):
        self.db.close()


serve.main(SQLite)
