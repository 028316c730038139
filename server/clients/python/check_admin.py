"""Server, tenants, databases, collections, their configuration and schema."""

import time
import uuid

import numpy as np
from chromadb import Schema
from chromadb.api.types import EmbeddingFunction, FtsIndexConfig, IntInvertedIndexConfig, StringInvertedIndexConfig, VectorIndexConfig
from chromadb.config import Settings
from chromadb.errors import ChromaError, NotFoundError
from chromadb.utils.embedding_functions import register_embedding_function

from harness import check, equal, raises


@register_embedding_function
class Letters(EmbeddingFunction):
    """Counts letters: an embedding function that needs no model and survives a round trip through the server."""

    def __init__(self, alphabet: str = "abc"):
        self.alphabet = alphabet

    def __call__(self, input):
        return [np.array([text.count(letter) + 0.5 for letter in self.alphabet], np.float32) for text in input]

    @staticmethod
    def name():
        return "letters"

    def get_config(self):
        return {"alphabet": self.alphabet}

    @staticmethod
    def build_from_config(config):
        return Letters(config["alphabet"])

    def default_space(self):
        return "l2"

    def supported_spaces(self):
        return ["l2", "cosine", "ip"]


@check
async def heartbeat_version_batch_size(server, client):
    assert abs(await client.heartbeat() - time.time_ns()) < 3600 * 10**9
    assert (await client.get_version()).count(".") == 2
    assert await client.get_max_batch_size() >= 1000
    equal(client.get_settings().chroma_server_http_port, server.port)
    identity = await client.get_user_identity()
    equal((identity.tenant, identity.databases), ("default_tenant", ["default_database"]))


@check
async def connecting(server, client):
    await server.client(headers={"x-chroma-token": "any", "Authorization": "Bearer any"})
    await raises((ChromaError, ValueError), server.client(tenant="no-such-tenant"))
    await raises((ChromaError, ValueError), server.client(database="no-such-database"))


@check
async def tenants(server, client):
    admin = await server.admin()
    name = f"tenant {uuid.uuid4().hex} ü"
    await admin.create_tenant(name)
    equal((await admin.get_tenant(name))["name"], name)
    await raises(ChromaError, admin.create_tenant(name), "already exists")
    await raises(NotFoundError, admin.get_tenant("no-such-tenant"), "no-such-tenant")


@check
async def databases(server, client):
    admin = await server.admin()
    tenant = f"tenant-{uuid.uuid4().hex}"
    await admin.create_tenant(tenant)
    for name in ("bbb", "aaa", "ccc"):
        await admin.create_database(name, tenant)
    got = await admin.get_database("aaa", tenant)
    equal((got["name"], got["tenant"]), ("aaa", tenant))
    uuid.UUID(str(got["id"]))
    equal([d["name"] for d in await admin.list_databases(tenant=tenant)], ["aaa", "bbb", "ccc"])
    equal([d["name"] for d in await admin.list_databases(limit=1, offset=1, tenant=tenant)], ["bbb"])
    await raises(ChromaError, admin.create_database("aaa", tenant), "already exists")
    await raises(ChromaError, admin.create_database("no spaces", tenant))
    await raises(NotFoundError, admin.get_database("ddd", tenant), "ddd")
    await admin.delete_database("aaa", tenant)
    await raises(NotFoundError, admin.get_database("aaa", tenant))
    await raises(NotFoundError, admin.delete_database("aaa", tenant))


@check
async def databases_are_separate(server, client):
    admin = await server.admin()
    tenant = f"tenant-{uuid.uuid4().hex}"
    await admin.create_tenant(tenant)
    await admin.create_database("one", tenant)
    await admin.create_database("two", tenant)
    moving = await server.client(tenant=tenant, database="one")
    one = await moving.create_collection("same")
    await one.add(ids=["a"], embeddings=[[1, 2]])
    await moving.set_database("two")
    equal(await moving.count_collections(), 0)
    two = await moving.create_collection("same")
    assert one.id != two.id
    equal(await two.count(), 0)
    await moving.set_tenant(tenant, "one")
    equal((await moving.get_collection("same")).id, one.id)
    await raises((ChromaError, ValueError), moving.set_tenant("no-such-tenant"))
    await admin.delete_database("one", tenant)
    await raises(NotFoundError, one.count())
    equal(await two.count(), 0)


@check
async def collections(server, client):
    one = await client.create_collection("one", metadata={"s": "x", "i": 1, "f": 1.5, "b": True})
    equal((one.name, one.metadata), ("one", {"s": "x", "i": 1, "f": 1.5, "b": True}))
    equal((one.tenant, one.database), (client.tenant, client.database))
    two = await client.create_collection("two")
    equal(two.metadata, None)
    got = await client.get_collection("one")
    equal((got.id, got.metadata), (one.id, one.metadata))
    equal((await client.get_collection_by_id(one.id)).name, "one")
    same = await client.get_or_create_collection("one", metadata={"other": 1})
    equal((same.id, same.metadata), (one.id, one.metadata))
    three = await client.get_or_create_collection("three", metadata={"n": 3})
    equal(three.metadata, {"n": 3})
    equal(await client.count_collections(), 3)
    listed = await client.list_collections()
    equal({c.name for c in listed}, {"one", "two", "three"})
    pages = [(await client.list_collections(limit=1, offset=at))[0].name for at in range(3)]
    equal(pages, [c.name for c in listed])
    equal(await client.list_collections(offset=3), [])
    await client.delete_collection("two")
    equal({c.name for c in await client.list_collections()}, {"one", "three"})


@check
async def collection_errors(server, client):
    await client.create_collection("taken")
    await raises(ChromaError, client.create_collection("taken"), "[taken]", "already exists")
    for name in ("ab", "has space", "-dash", "dot.", "a..b", "127.0.0.1", "x" * 513, "ümlaut"):
        await raises((ChromaError, ValueError), client.create_collection(name))
    await raises(NotFoundError, client.get_collection("missing"), "missing")
    await raises(NotFoundError, client.delete_collection("missing"), "missing")
    await raises(NotFoundError, client.get_collection_by_id(uuid.uuid4()))
    await raises((ChromaError, ValueError), client.create_collection("meta", metadata={"#no": 1}))
    await raises((ChromaError, ValueError), client.create_collection("meta", metadata={}))
    equal(await client.count_collections(), 1)


@check
async def modify(server, client):
    collection = await client.create_collection("before", metadata={"a": 1}, configuration={"hnsw": {"ef_search": 50}})
    await collection.add(ids=["x"], embeddings=[[1, 2, 3]])
    await collection.modify(name="after")
    equal(collection.name, "after")
    await collection.modify(metadata={"b": "two"})
    await collection.modify(configuration={"hnsw": {"ef_search": 77}})
    got = await client.get_collection("after")
    equal((got.id, got.metadata), (collection.id, {"b": "two"}))
    hnsw = got.configuration_json["hnsw"]
    equal((hnsw["ef_search"], hnsw["space"], hnsw["max_neighbors"]), (77, "l2", 16))
    equal(await got.count(), 1)
    await raises(NotFoundError, client.get_collection("before"))
    await client.create_collection("taken")
    await raises(ChromaError, collection.modify(name="taken"))
    await raises(ChromaError, collection.modify(name="no"))
    equal((await client.get_collection_by_id(collection.id)).name, "after")


@check
async def configuration(server, client):
    plain = await client.create_collection("plain", embedding_function=None)
    equal(
        plain.configuration_json["hnsw"],
        {"space": "l2", "ef_construction": 100, "ef_search": 100, "max_neighbors": 16, "resize_factor": 1.2, "sync_threshold": 1000},
    )
    for space in ("l2", "cosine", "ip"):
        wanted = {"space": space, "ef_construction": 120, "ef_search": 60, "max_neighbors": 24, "num_threads": 2}
        made = await client.create_collection(f"c-{space}", configuration={"hnsw": wanted}, embedding_function=None)
        got = (await client.get_collection(f"c-{space}", embedding_function=None)).configuration_json
        equal(made.configuration_json, got)
        del wanted["num_threads"]
        equal({key: got["hnsw"][key] for key in wanted}, wanted)
        equal(got["spann"], None)
    old = await client.create_collection("legacy", metadata={"hnsw:space": "cosine", "hnsw:M": 8}, embedding_function=None)
    equal((old.configuration_json["hnsw"]["space"], old.configuration_json["hnsw"]["max_neighbors"]), ("cosine", 8))
    equal(old.metadata, {"hnsw:space": "cosine", "hnsw:M": 8})
    await raises((ChromaError, ValueError), client.create_collection("bad", configuration={"hnsw": {"space": "mars"}}))


@check
async def embedding_function(server, client):
    made = await client.create_collection("letters", embedding_function=Letters("xyz"))
    await made.add(ids=["x", "y", "z"], documents=["xxxx", "yyyy", "zzzz"])
    got = await client.get_collection("letters")  # the client builds the function from what the server kept
    equal(got.configuration_json["embedding_function"], {"type": "known", "name": "letters", "config": {"alphabet": "xyz"}})
    found = await got.query(query_texts=["zz", "xx"], n_results=1)
    equal(found["ids"], [["z"], ["x"]])
    equal((await got.get(ids=["y"], include=["embeddings"]))["embeddings"].tolist(), [[0.5, 4.5, 0.5]])
    await got.update(ids=["x"], documents=["zzzzzz"])
    await got.upsert(ids=["n"], documents=["yyyyyyyy"])
    equal((await got.query(query_texts=["zzzzzz", "yyyyyyyy"], n_results=1))["ids"], [["x"], ["n"]])
    await raises(ValueError, client.get_collection("letters", embedding_function=Other()))


class Other(Letters):
    @staticmethod
    def name():
        return "other"


@check
async def schema(server, client):
    schema = Schema()
    schema.create_index(config=VectorIndexConfig(space="cosine"))
    schema.delete_index(key="silent", config=StringInvertedIndexConfig())
    schema.delete_index(config=IntInvertedIndexConfig())
    made = await client.create_collection("schema", schema=schema, embedding_function=None)
    got = await client.get_collection("schema", embedding_function=None)
    equal(got.configuration_json["hnsw"]["space"], "cosine")
    for collection in (made, got):
        keys = collection.schema.keys
        equal(keys["#embedding"].float_list.vector_index.config.space, "cosine")
        equal(keys["silent"].string.string_inverted_index.enabled, False)
        equal(collection.schema.defaults.int_value.int_inverted_index.enabled, False)
        equal(keys["#document"].string.fts_index.enabled, True)
    await got.add(ids=["a"], embeddings=[[1, 0]], metadatas=[{"silent": "s", "loud": "s", "n": 1}], documents=["text"])
    equal((await got.get(where={"loud": "s"}))["ids"], ["a"])
    await raises(ChromaError, got.get(where={"silent": "s"}), "indexing is disabled")
    await raises(ChromaError, got.get(where={"n": {"$gt": 0}}), "indexing is disabled")
    await raises(ChromaError, got.query(query_embeddings=[[1, 0]], where={"silent": "s"}), "indexing is disabled")
    equal((await got.get(where_document={"$contains": "text"}))["ids"], ["a"])
    equal((await got.get())["metadatas"], [{"silent": "s", "loud": "s", "n": 1}])
    mute = Schema().delete_index(key="#document", config=FtsIndexConfig()) if allows_no_fts() else None
    if mute is not None:
        no_text = await client.create_collection("no-text", schema=mute, embedding_function=None)
        await raises(ChromaError, no_text.get(where_document={"$contains": "x"}), "FTS indexing is disabled")
    learnt = (await client.get_collection("schema", embedding_function=None)).schema.keys
    assert "loud" in learnt and "n" in learnt, sorted(learnt)


def allows_no_fts() -> bool:
    """Some versions of the client refuse to build a schema without text search."""
    try:
        Schema().delete_index(key="#document", config=FtsIndexConfig())
    except ValueError:
        return False
    return True


@check
async def refused_on_one_node(server, client):
    """What Chroma's own single node refuses must fail cleanly, or work."""
    collection = await client.create_collection("source", embedding_function=None)
    await collection.add(ids=["a"], embeddings=[[1, 2]])
    for name, call in (
        ("fork", lambda: collection.fork("copy")),
        ("fork_count", collection.fork_count),
        ("indexing_status", collection.get_indexing_status),
        ("get_attached_function", lambda: collection.get_attached_function("none")),
        ("detach_function", lambda: collection.detach_function("none")),
    ):
        try:
            await call()
        except Exception as error:
            assert "JSON" not in str(error) and str(error), f"{name}: {error!r}"
    equal(await collection.count(), 1)


@check
async def reset(server, client):
    await client.create_collection("gone")
    allowed = await server.client(settings=Settings(allow_reset=True))
    equal(await allowed.reset(), True)
    admin = await server.admin()
    equal([d["name"] for d in await admin.list_databases()], ["default_database"])
    equal(await (await server.client()).list_collections(), [])
