"""Writing records and reading them back: add, upsert, update, delete, get, peek, count."""

import asyncio

import numpy as np
from chromadb.api.types import ReadLevel
from chromadb.errors import ChromaError, DuplicateIDError, InvalidArgumentError, NotFoundError
from chromadb.utils.batch_utils import create_batches

from harness import check, equal, raises

EVERYTHING = ["embeddings", "metadatas", "documents", "uris"]


async def make(client, name="records", **kwargs):
    return await client.create_collection(name, embedding_function=None, **kwargs)


@check
async def add_and_get(server, client):
    collection = await make(client)
    await collection.add(
        ids=["a", "b", "ç/%2F\u0301 🎈"],
        embeddings=[[1, 2], [0.1, -1e-10], [3e38, 1e-40]],
        documents=["first", "", "grüße 🎈"],
        metadatas=[{"k": 1}, None, {"ключ": "значение"}],
        uris=["file:///a", "u", "http://ü"],
    )
    got = await collection.get(include=EVERYTHING)
    equal(got["ids"], ["a", "b", "ç/%2F\u0301 🎈"])
    equal(got["documents"], ["first", "", "grüße 🎈"])
    equal(got["uris"], ["file:///a", "u", "http://ü"])
    equal(got["metadatas"][0::2], [{"k": 1}, {"ключ": "значение"}])
    assert not got["metadatas"][1], got["metadatas"][1]
    equal(got["embeddings"].dtype.kind, "f")
    assert np.array_equal(np.float32(got["embeddings"]), np.float32([[1, 2], [0.1, -1e-10], [3e38, 1e-40]])), got["embeddings"]
    equal(await collection.count(), 3)
    for level in ReadLevel:
        equal(await collection.count(read_level=level), 3)


@check
async def embeddings_of_every_shape(server, client):
    collection = await make(client)
    await collection.add(ids="one", embeddings=[1, 2, 3], documents="single", metadatas={"a": 1})
    await collection.add(ids=["f32"], embeddings=np.float32([[4, 5, 6]]))
    await collection.add(ids=["f64"], embeddings=[np.float64([0.1, 0.2, 0.3])])
    await collection.add(ids=["i32"], embeddings=[np.int32([7, 8, 9])])
    await collection.add(ids=["ints"], embeddings=[[10, 11, 12]])
    got = await collection.get(include=["embeddings"])
    want = np.float32([[1, 2, 3], [4, 5, 6], [0.1, 0.2, 0.3], [7, 8, 9], [10, 11, 12]])
    assert np.array_equal(np.float32(got["embeddings"]), want), got["embeddings"]
    noise = np.random.default_rng(1).standard_normal((50, 3), np.float32)
    await collection.add(ids=[str(i) for i in range(50)], embeddings=noise)
    back = await collection.get(ids=[str(i) for i in range(50)], include=["embeddings"])
    assert np.array_equal(np.float32(back["embeddings"]), noise)


@check
async def add_leaves_existing_ids(server, client):
    collection = await make(client)
    await collection.add(ids=["a"], embeddings=[[1, 1]], documents=["old"], metadatas=[{"v": 1}])
    await collection.add(ids=["a", "b"], embeddings=[[2, 2], [3, 3]], documents=["new", "b"])
    got = await collection.get(include=EVERYTHING)
    equal((got["ids"], got["documents"], got["metadatas"]), (["a", "b"], ["old", "b"], [{"v": 1}, None]))
    equal(got["embeddings"].tolist(), [[1, 1], [3, 3]])
    await raises(DuplicateIDError, collection.add(ids=["x", "x"], embeddings=[[1, 1], [2, 2]]))
    equal(await collection.count(), 2)


@check
async def upsert(server, client):
    collection = await make(client)
    await collection.add(ids=["a"], embeddings=[[1, 1]], documents=["old"], metadatas=[{"keep": 1, "change": 1}], uris=["u"])
    await collection.upsert(ids=["a", "b"], embeddings=[[2, 2], [3, 3]], metadatas=[{"change": "two"}, {"new": True}])
    got = await collection.get(include=EVERYTHING)
    equal((got["ids"], got["documents"], got["uris"]), (["a", "b"], ["old", None], ["u", None]))
    equal(got["metadatas"], [{"keep": 1, "change": "two"}, {"new": True}])
    equal(got["embeddings"].tolist(), [[2, 2], [3, 3]])


@check
async def update(server, client):
    collection = await make(client)
    await collection.add(ids=["a", "b"], embeddings=[[1, 1], [2, 2]], documents=["da", "db"], metadatas=[{"x": 1, "y": 2}, {"x": 3}])
    await collection.update(ids=["a"], metadatas=[{"x": None, "z": "new"}])
    await collection.update(ids=["b"], embeddings=[[9, 9]])
    await collection.update(ids=["b"], documents=["changed"], embeddings=[[8, 8]], uris=["u"])
    await collection.update(ids=["unknown"], embeddings=[[7, 7]])
    got = await collection.get(include=EVERYTHING)
    equal((got["ids"], got["documents"], got["uris"]), (["a", "b"], ["da", "changed"], [None, "u"]))
    equal(got["metadatas"], [{"y": 2, "z": "new"}, {"x": 3}])
    equal(got["embeddings"].tolist(), [[1, 1], [8, 8]])


@check
async def metadata_values(server, client):
    collection = await make(client)
    values = [
        {"s": "", "long": "x" * 100_000, "quote": "\"\\\n\t\u0000\u2028"},
        {"zero": 0, "negative": -1, "max": 2**63 - 1, "min": -(2**63)},
        {"half": 0.5, "whole": 2.0, "tiny": 5e-324, "huge": 1.7e308},
        {"true": True, "false": False},
        {"strings": ["a", "", "ü"], "ints": [1, -2], "floats": [0.5, 2.0], "bools": [True, False]},
        {"a b": 1, "ü": 2, "a.b[0]": 3},
    ]
    ids = [str(i) for i in range(len(values))]
    await collection.add(ids=ids, embeddings=[[1.0]] * len(values), metadatas=values)
    got = (await collection.get())["metadatas"]
    for one, want in zip(got, values):
        equal(one, want)
        equal({key: type(value) for key, value in one.items()}, {key: type(value) for key, value in want.items()})
    await raises((ChromaError, ValueError), collection.add(ids=["x"], embeddings=[[1.0]], metadatas=[{"nested": {"a": 1}}]))
    await raises((ChromaError, ValueError), collection.add(ids=["x"], embeddings=[[1.0]], metadatas=[{"#reserved": 1}]))
    await raises((ChromaError, ValueError), collection.add(ids=["x"], embeddings=[[1.0]], metadatas=[{"mixed": [1, "a"]}]))
    equal(await collection.count(), len(values))


@check
async def array_updates(server, client):
    collection = await make(client)
    await collection.add(ids=["a"], embeddings=[[1.0]], metadatas=[{"tags": ["x", "y"], "n": [1, 2]}])
    await collection.update(ids=["a"], metadatas=[{"tags": ["z"]}])
    equal((await collection.get())["metadatas"], [{"tags": ["z"], "n": [1, 2]}])
    equal((await collection.get(where={"tags": {"$contains": "x"}}))["ids"], [])
    equal((await collection.get(where={"tags": {"$contains": "z"}}))["ids"], ["a"])
    await collection.update(ids=["a"], metadatas=[{"n": "scalar", "tags": None}])
    equal((await collection.get())["metadatas"], [{"n": "scalar"}])


@check
async def get_selects(server, client):
    collection = await make(client)
    ids = [f"id{i:02}" for i in range(30)]
    await collection.add(
        ids=ids, embeddings=[[float(i)] for i in range(30)], documents=[f"doc {i}" for i in range(30)], metadatas=[{"i": i} for i in range(30)]
    )
    equal((await collection.get())["ids"], ids)
    equal((await collection.get(ids="id03"))["ids"], ["id03"])
    equal((await collection.get(ids=["id07", "none", "id02"]))["ids"], ["id02", "id07"])
    equal((await collection.get(limit=5))["ids"], ids[:5])
    equal((await collection.get(limit=5, offset=27))["ids"], ids[27:])
    equal((await collection.get(offset=25))["ids"], ids[25:])
    equal((await collection.get(offset=99))["ids"], [])
    equal((await collection.get(limit=0))["ids"], [])
    equal((await collection.get(where={"i": {"$gte": 10}}, limit=3, offset=2))["ids"], ids[12:15])
    equal((await collection.get(ids=ids[:12], where={"i": {"$gte": 10}}))["ids"], ids[10:12])
    both = await collection.get(where={"i": {"$lt": 10}}, where_document={"$contains": "7"})
    equal(both["ids"], ["id07"])


@check
async def get_includes(server, client):
    collection = await make(client)
    await collection.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], documents=["d", "e"], metadatas=[{"k": 1}, {"k": 2}])
    default = await collection.get()
    equal((default["embeddings"], default["documents"], default["uris"]), (None, ["d", "e"], None))
    nothing = await collection.get(include=[])
    equal([nothing[key] for key in ("ids", *EVERYTHING)], [["a", "b"], None, None, None, None])
    for field in EVERYTHING:
        got = await collection.get(include=[field])
        equal({key for key in EVERYTHING if got[key] is not None}, {field})
        equal(list(got["included"]), [field])
    await raises((ChromaError, ValueError), collection.get(include=["nonsense"]))
    await raises((ChromaError, ValueError), collection.get(include=["distances"]))


@check
async def peek(server, client):
    collection = await make(client)
    equal((await collection.peek())["ids"], [])
    await collection.add(ids=[str(i) for i in range(12)], embeddings=[[i, i] for i in range(12)])
    equal((await collection.peek())["ids"], [str(i) for i in range(10)])
    few = await collection.peek(limit=2)
    equal((few["ids"], few["embeddings"].tolist()), (["0", "1"], [[0, 0], [1, 1]]))


@check
async def delete(server, client):
    collection = await make(client)
    ids = [str(i) for i in range(20)]

    async def fill():
        await collection.upsert(ids=ids, embeddings=[[i] for i in range(20)], metadatas=[{"i": i} for i in range(20)], documents=[f"d{i}" for i in range(20)])

    async def left():
        return sorted(int(i) for i in (await collection.get(include=[]))["ids"])

    await fill()
    equal((await collection.delete(ids=["3", "4"]))["deleted"], 2)
    await collection.delete(ids=["3", "none"])
    equal(await left(), [i for i in range(20) if i not in (3, 4)])
    equal((await collection.delete(where={"i": {"$gte": 15}}))["deleted"], 5)
    equal((await collection.delete(where_document={"$contains": "d1"}))["deleted"], 6)
    equal(await left(), [0, 2, 5, 6, 7, 8, 9])
    equal((await collection.delete(ids=["0", "2"], where={"i": 2}))["deleted"], 1)
    equal((await collection.delete(where={"i": {"$gte": 5}}, limit=2))["deleted"], 2)
    equal(await left(), [0, 7, 8, 9])
    await raises((ChromaError, ValueError, TypeError), collection.delete())
    await raises((ChromaError, ValueError), collection.delete(ids=["0"], limit=1))
    await collection.delete(ids=[str(i) for i in await left()])
    equal(await collection.count(), 0)
    await fill()
    equal((await collection.get(include=[]))["ids"], ids)


@check
async def dimension_is_fixed(server, client):
    collection = await make(client)
    await collection.add(ids=["a"], embeddings=[[1, 2, 3]])
    text = "Collection expecting embedding with dimension of 3, got 2"
    await raises(InvalidArgumentError, collection.add(ids=["b"], embeddings=[[1, 2]]), text)
    await raises(InvalidArgumentError, collection.upsert(ids=["a"], embeddings=[[1, 2]]), text)
    await raises(InvalidArgumentError, collection.update(ids=["a"], embeddings=[[1, 2]]), text)
    await raises(InvalidArgumentError, collection.query(query_embeddings=[[1, 2]]), text)
    await collection.delete(ids=["a"])
    await raises(InvalidArgumentError, collection.add(ids=["b"], embeddings=[[1, 2]]), text)
    equal(await collection.count(), 0)


@check
async def bad_records(server, client):
    collection = await make(client)
    wrong = (ChromaError, ValueError, TypeError)
    await raises(wrong, collection.add(ids=[""], embeddings=[[1, 2]]))
    await raises(wrong, collection.add(ids=["a", "b"], embeddings=[[1, 2]]))
    await raises(wrong, collection.add(ids=["a"], embeddings=[[1, 2]], documents=["x", "y"]))
    await raises(wrong, collection.add(ids=["a"], embeddings=[[float("nan"), 1]]))
    await raises(wrong, collection.add(ids=["a"], embeddings=[[float("inf"), 1]]))
    await raises(wrong, collection.add(ids=["a", "b"], embeddings=[[1, 2], [1, 2, 3]]))
    await raises(wrong, collection.add(ids=["a"]))
    equal(await collection.count(), 0)
    if not server.reference:  # there a refused first add fixes the dimension
        await collection.add(ids=["a"], embeddings=[[1, 2, 3, 4]])


@check
async def deleted_collection(server, client):
    collection = await make(client, "gone")
    await collection.add(ids=["a"], embeddings=[[1]])
    await client.delete_collection("gone")
    for call in (
        lambda: collection.count(),
        lambda: collection.get(),
        lambda: collection.add(ids=["b"], embeddings=[[1]]),
        lambda: collection.upsert(ids=["b"], embeddings=[[1]]),
        lambda: collection.update(ids=["b"], embeddings=[[1]]),
        lambda: collection.delete(ids=["a"]),
        lambda: collection.query(query_embeddings=[[1]]),
        lambda: collection.modify(name="other"),
    ):
        await raises(NotFoundError, call(), str(collection.id))
    again = await make(client, "gone")
    equal((await again.count(), again.id == collection.id), (0, False))


@check
async def large_batches(server, client):
    collection = await make(client)
    limit = await client.get_max_batch_size()
    total = limit + 500
    vectors = np.random.default_rng(2).standard_normal((total, 8), np.float32)
    ids = [f"r{i}" for i in range(total)]
    await raises((ChromaError, ValueError), collection.add(ids=ids, embeddings=vectors), "batch size")
    batcher = type("Batcher", (), {"get_max_batch_size": lambda self: limit})()
    batches = list(create_batches(batcher, ids=ids, embeddings=vectors.tolist(), metadatas=[{"i": i} for i in range(total)]))
    equal([len(batch[0]) for batch in batches], [limit, 500])
    for batch in batches:
        await collection.add(ids=batch[0], embeddings=batch[1], metadatas=batch[2])
    equal(await collection.count(), total)
    got = await collection.get(include=["embeddings"], offset=limit - 1, limit=2)
    assert np.array_equal(np.float32(got["embeddings"]), vectors[limit - 1 : limit + 1])
    hit = await collection.query(query_embeddings=vectors[total - 1], n_results=1)
    equal(hit["ids"], [[f"r{total - 1}"]])
    equal((await collection.delete(where={"i": {"$gte": 10}}))["deleted"], total - 10)
    equal(await collection.count(), 10)


@check
async def concurrent_writers(server, client):
    collection = await make(client)
    await asyncio.gather(
        *(collection.add(ids=[f"{writer}-{i}" for i in range(20)], embeddings=[[writer, i] for i in range(20)]) for writer in range(8))
    )
    equal(await collection.count(), 160)
    got = (await collection.get(include=[]))["ids"]
    for writer in range(8):
        own = [name for name in got if name.startswith(f"{writer}-")]
        equal(own, [f"{writer}-{i}" for i in range(20)])
