"""Filters and nearest neighbours: where, where_document, query, search."""

import numpy as np
from chromadb import K, Knn, Search
from chromadb.errors import ChromaError

from harness import check, equal, raises

# One record of every kind that a filter distinguishes. The id is the row's letter.
ROWS = {
    "a": ({"n": 1, "s": "x", "b": True, "tags": ["red", "green"]}, "The quick brown fox"),
    "b": ({"n": 2, "s": "y", "b": False, "tags": ["blue"]}, "jumps over 42 lazy dogs"),
    "c": ({"n": 2.5, "s": "X", "nums": [1, 2, 3]}, "The Fox and the grape"),
    "d": ({"n": "2", "s": "", "floats": [0.5, 2.0]}, ""),
    "e": ({"other": 1, "flags": [True]}, "naïve café, 100% new_line\nsecond line"),
    "f": (None, None),
}

WHERE = [
    ({"n": 1}, "a"),
    ({"n": {"$eq": 2}}, "b"),
    ({"n": {"$eq": "2"}}, "d"),
    ({"n": {"$eq": 2.0}}, "b"),
    ({"s": "x"}, "a"),
    ({"s": ""}, "d"),
    ({"b": True}, "a"),
    ({"b": False}, "b"),
    ({"n": True}, ""),
    ({"missing": "x"}, ""),
    ({"n": {"$ne": 2}}, "acdef"),
    ({"s": {"$ne": "x"}}, "bcdef"),
    ({"b": {"$ne": True}}, "bcdef"),
    ({"n": {"$gt": 1}}, "bc"),
    ({"n": {"$gte": 2}}, "bc"),
    ({"n": {"$lte": 2.5}}, "abc"),
    ({"n": {"$lt": -1}}, ""),
    ({"n": {"$in": [1, 2]}}, "ab"),
    ({"s": {"$in": ["x", "X", "?"]}}, "ac"),
    ({"b": {"$in": [False]}}, "b"),
    ({"n": {"$nin": [1, 2]}}, "cdef"),
    ({"s": {"$nin": ["x"]}}, "bcdef"),
    ({"tags": {"$contains": "red"}}, "a"),
    ({"tags": {"$contains": "re"}}, ""),
    ({"nums": {"$contains": 2}}, "c"),
    ({"floats": {"$contains": 0.5}}, "d"),
    ({"flags": {"$contains": True}}, "e"),
    ({"s": {"$contains": "x"}}, ""),
    ({"tags": {"$not_contains": "red"}}, "bcdef"),
    ({"nums": {"$not_contains": 3}}, "abdef"),
    ({"$and": [{"n": {"$gte": 1}}, {"s": {"$in": ["x", "y"]}}]}, "ab"),
    ({"$or": [{"n": 1}, {"s": ""}, {"other": 1}]}, "ade"),
    ({"$and": [{"$or": [{"n": 1}, {"n": 2}]}, {"b": False}]}, "b"),
    ({"$or": [{"$and": [{"n": 1}, {"b": False}]}, {"tags": {"$contains": "blue"}}]}, "b"),
]

# Chroma's own node cuts the fraction off before it compares with stored integers.
FRACTIONS = [
    ({"n": {"$eq": 2.5}}, "c"),
    ({"n": {"$eq": 1.5}}, ""),
    ({"n": {"$lt": 2.5}}, "ab"),
    ({"n": {"$gte": 1.5}}, "bc"),
    ({"n": {"$in": [1.5, 2.5]}}, "c"),
]

DOCUMENTS = [
    ({"$contains": "fox"}, "a"),
    ({"$contains": "The"}, "ac"),
    ({"$contains": "café"}, "e"),
    ({"$contains": "100%"}, "e"),
    ({"$contains": "new_line"}, "e"),
    ({"$contains": "1%0"}, ""),
    ({"$contains": "x"}, "ac"),
    ({"$not_contains": "fox"}, "bcdef"),
    ({"$not_contains": "The"}, "bdef"),
    ({"$regex": "(?i)FOX"}, "ac"),
    ({"$regex": r"\d{2}"}, "be"),
    ({"$regex": r"^The .*(fox|grape)$"}, "ac"),
    ({"$regex": r"na\wve"}, "e"),
    ({"$regex": r"(?m)^second"}, "e"),
    ({"$regex": r"quick|lazy"}, "ab"),
    ({"$not_regex": r"o"}, "df"),
    ({"$and": [{"$contains": "The"}, {"$contains": "quick"}]}, "a"),
    ({"$or": [{"$contains": "quick"}, {"$regex": "l[ai]zy"}]}, "ab"),
    ({"$and": [{"$or": [{"$contains": "quick"}, {"$contains": "grape"}]}, {"$not_contains": "brown"}]}, "c"),
]


async def filled(client):
    collection = await client.create_collection("filters", embedding_function=None)
    for number, (name, (metadata, document)) in enumerate(ROWS.items()):
        given = {"metadatas": metadata, "documents": document}
        given = {field: [value] for field, value in given.items() if value is not None}
        await collection.add(ids=[name], embeddings=[[float(number), 1.0]], **given)
    return collection


async def agree(collection, field, cases):
    """The same answer through get and through query; every failing case is named."""
    wrong = []
    for condition, want in cases:
        got = "".join((await collection.get(**{field: condition}))["ids"])
        near = "".join(sorted((await collection.query(query_embeddings=[[0.0, 1.0]], n_results=10, **{field: condition}))["ids"][0]))
        if (got, near) != (want, want):
            wrong.append(f"{condition}: get {got!r}, query {near!r}, want {want!r}")
    assert not wrong, "; ".join(wrong)


@check
async def where(server, client):
    await agree(await filled(client), "where", WHERE if server.reference else WHERE + FRACTIONS)


@check
async def where_document(server, client):
    await agree(await filled(client), "where_document", DOCUMENTS)


@check
async def filters_together(server, client):
    collection = await filled(client)
    condition = {"where": {"n": {"$gte": 1}}, "where_document": {"$contains": "The"}}
    equal((await collection.get(**condition))["ids"], ["a", "c"])
    equal((await collection.get(ids=["b", "c"], **condition))["ids"], ["c"])
    equal((await collection.query(query_embeddings=[[9.0, 1.0]], **condition))["ids"], [["c", "a"]])
    mixed = {"$and": [{"#document": {"$contains": "The"}}, {"s": "X"}]}
    equal((await collection.get(where=mixed))["ids"], ["c"])
    equal((await collection.delete(**condition))["deleted"], 2)
    equal((await collection.get(include=[]))["ids"], ["b", "d", "e", "f"])


@check
async def bad_filters(server, client):
    collection = await filled(client)
    wrong = (ChromaError, ValueError)
    for condition in (
        {"n": {"$near": 1}}, {"n": {}}, {"n": {"$gt": "a"}}, {"n": {"$in": []}}, {"n": {"$in": [1, "a"]}},
        {"n": {"$gt": 1, "$lt": 2}}, {"$and": {}}, {"$xor": [{"n": 1}]}, {"n": 1, "s": "x"}, {"n": None},
    ):  # fmt: skip
        await raises(wrong, collection.get(where=condition))
        await raises(wrong, collection.query(query_embeddings=[[0.0, 1.0]], where=condition))
        await raises(wrong, collection.delete(where=condition))
    for condition in ({"$contains": 1}, {"$near": "x"}, {"$regex": "("}, {"$regex": r"(?=x)"}, {"$and": "x"}, {"$contains": "a", "$regex": "b"}):
        await raises(wrong, collection.get(where_document=condition))
    equal(await collection.count(), len(ROWS))


def exact(space: str, data: np.ndarray, query: np.ndarray) -> np.ndarray:
    if space == "l2":
        return ((data - query) ** 2).sum(axis=1)
    dots = data @ query
    if space == "cosine":
        dots = dots / np.linalg.norm(data, axis=1) / np.linalg.norm(query)
    return 1 - dots


@check
async def distances(server, client):
    rng = np.random.default_rng(3)
    data, queries = rng.standard_normal((200, 16), np.float32), rng.standard_normal((5, 16), np.float32)
    for space in ("l2", "cosine", "ip"):
        collection = await client.create_collection(f"d-{space}", configuration={"hnsw": {"space": space}}, embedding_function=None)
        await collection.add(ids=[str(i) for i in range(200)], embeddings=data)
        got = await collection.query(query_embeddings=queries, n_results=10)
        for row, query in enumerate(queries):
            want = exact(space, data, query)
            order = np.argsort(want)[:10]
            equal(got["ids"][row], [str(i) for i in order])
            assert np.allclose(got["distances"][row], want[order], rtol=1e-4, atol=1e-5), (space, got["distances"][row], want[order])
    zero = await client.create_collection("zero", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    await zero.add(ids=["z", "o"], embeddings=[[0, 0], [1, 0]])
    got = await zero.query(query_embeddings=[[1, 0]])
    equal(got["ids"], [["o", "z"]])
    assert np.allclose(got["distances"], [[0, 1]], atol=1e-6), got["distances"]


@check
async def query_results(server, client):
    collection = await client.create_collection("query", embedding_function=None)
    empty = await collection.query(query_embeddings=[[1.0, 2.0], [3.0, 4.0]])
    equal((empty["ids"], empty["distances"], empty["documents"]), ([[], []],) * 3)
    await collection.add(
        ids=["a", "b", "c"],
        embeddings=[[0, 0], [1, 0], [5, 0]],
        documents=["da", "db", "dc"],
        metadatas=[{"k": 1}, {"k": 2}, {"k": 1}],
        uris=["ua", "ub", "uc"],
    )
    got = await collection.query(query_embeddings=[[0.0, 0.0], [5.0, 0.0]], n_results=2)
    equal(got["ids"], [["a", "b"], ["c", "b"]])
    equal(got["distances"], [[0.0, 1.0], [0.0, 16.0]])
    equal(got["documents"], [["da", "db"], ["dc", "db"]])
    equal(got["metadatas"], [[{"k": 1}, {"k": 2}], [{"k": 1}, {"k": 2}]])
    equal((got["embeddings"], got["uris"]), (None, None))
    fields = ["embeddings", "documents", "metadatas", "uris", "distances"]
    for field in fields:
        one = await collection.query(query_embeddings=[1.0, 0.0], n_results=1, include=[field])
        equal({name for name in fields if one[name] is not None}, {field})
    full = await collection.query(query_embeddings=np.float32([[1, 0]]), n_results=1, include=fields)
    equal((full["ids"], full["uris"], np.array(full["embeddings"]).tolist()), ([["b"]], [["ub"]], [[[1, 0]]]))
    equal((await collection.query(query_embeddings=[[0, 0]], n_results=99))["ids"], [["a", "b", "c"]])
    equal((await collection.query(query_embeddings=[[0, 0]], where={"k": 1}, n_results=1))["ids"], [["a"]])
    equal((await collection.query(query_embeddings=[[0, 0]], ids=["b", "c"]))["ids"], [["b", "c"]])
    equal((await collection.query(query_embeddings=[[0, 0]], ids=["b", "c"], where={"k": 1}))["ids"], [["c"]])
    await raises((ChromaError, ValueError, TypeError), collection.query(query_embeddings=[[0, 0]], n_results=0))
    await raises((ChromaError, ValueError, TypeError), collection.query(query_embeddings=[[0, 0]], n_results=-1))
    await raises((ChromaError, ValueError), collection.query(query_embeddings=[[0, 0]], include=["nonsense"]))


@check
async def query_sees_every_write(server, client):
    collection = await client.create_collection("fresh", embedding_function=None)
    await collection.add(ids=[str(i) for i in range(50)], embeddings=[[i, 0] for i in range(50)])

    async def nearest(x):
        return (await collection.query(query_embeddings=[[x, 0]], n_results=1))["ids"][0][0]

    equal(await nearest(20), "20")
    await collection.delete(ids=["20"])
    assert await nearest(20.1) == "21" or await nearest(20.1) == "19"
    await collection.update(ids=["40"], embeddings=[[20, 0]])
    equal(await nearest(20), "40")
    await collection.upsert(ids=["new", "40"], embeddings=[[20, 0], [1000, 0]])
    equal((await nearest(20), await nearest(999)), ("new", "40"))


@check
async def many_rows(server, client):
    """More rows than any brute-force threshold is likely to be: neighbours and filters through the index."""
    rng = np.random.default_rng(4)
    data = rng.standard_normal((4000, 24), np.float32)
    collection = await client.create_collection("many", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    for at in range(0, 4000, 1000):
        rows = range(at, at + 1000)
        await collection.add(ids=[str(i) for i in rows], embeddings=data[at : at + 1000], metadatas=[{"mod": i % 10, "i": i} for i in rows])
    queries = data[::400] + rng.standard_normal((10, 24), np.float32) * np.float32(0.1)
    for condition, allowed in (
        (None, np.arange(4000)),
        ({"mod": 3}, np.arange(3, 4000, 10)),
        ({"i": {"$gte": 3990}}, np.arange(3990, 4000)),
        ({"mod": {"$ne": 3}}, np.flatnonzero(np.arange(4000) % 10 != 3)),
    ):
        got = await collection.query(query_embeddings=queries, n_results=10, where=condition, include=["distances"])
        hits = 0
        for row, query in enumerate(queries):
            want = allowed[np.argsort(exact("cosine", data[allowed], query))[:10]]
            equal(len(got["ids"][row]), 10)
            equal(got["distances"][row], sorted(got["distances"][row]))
            hits += len(set(got["ids"][row]) & {str(i) for i in want})
        assert hits >= 95, f"{condition}: {hits} of 100 true neighbours"


@check
async def search(server, client):
    """Chroma's own node validates a search and refuses it; a server that answers must answer right."""
    collection = await filled(client)
    plan = Search().where(K("n") > 1).rank(Knn(query=[0.0, 1.0])).limit(2).select(K.DOCUMENT, K.SCORE)
    try:
        got = await collection.search(plan)
    except Exception as error:
        assert "not implemented" in str(error).lower(), repr(error)
        return
    equal(got["ids"], [["b", "c"]])
    equal(got["scores"], [[1.0, 4.0]])
