"""Runs every check twice, with the synchronous and with the asynchronous client, each in a database of its own.

The checks are written once, as coroutines; Awaited gives the synchronous client's methods the same face.
"""

import asyncio
import traceback
import uuid
from pathlib import Path

import chromadb
from chromadb.api.async_client import AsyncAdminClient
from chromadb.api.client import AdminClient
from chromadb.api.models.Collection import Collection

CHECKS = []


def check(body):
    CHECKS.append(body)
    return body


class Awaited:
    """A synchronous client or collection whose methods can be awaited."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        value = getattr(self.inner, name)
        if not callable(value) or name == "get_settings":
            return value

        async def call(*args, **kwargs):
            return wrap(await asyncio.to_thread(value, *args, **kwargs))

        return call


def wrap(result):
    if isinstance(result, Collection):
        return Awaited(result)
    if isinstance(result, list):
        return [wrap(item) for item in result]
    return result


class Server:
    """Makes clients of one kind ("sync" or "async") for one server.

    reference: it is Chroma's own node, whose known bugs are not held against it.
    """

    def __init__(self, kind: str, host: str, port: int, reference: bool):
        self.kind, self.host, self.port, self.reference = kind, host, port, reference

    async def client(self, **kwargs):
        kwargs = {"host": self.host, "port": self.port, **kwargs}
        if self.kind == "sync":
            return Awaited(await asyncio.to_thread(lambda: chromadb.HttpClient(**kwargs)))
        return await chromadb.AsyncHttpClient(**kwargs)

    async def admin(self):
        client = await self.client()
        if self.kind == "sync":
            return Awaited(AdminClient.from_system(client.inner._system))
        return AsyncAdminClient.from_system(client._system)


async def raises(kind, awaitable, *texts: str):
    """The exception, which must be of this kind and hold these texts."""
    try:
        result = await awaitable
    except kind as error:
        for text in texts:
            assert text in str(error), f"{text!r} is not in {str(error)!r}"
        return error
    raise AssertionError(f"expected {kind}, got {result!r}")


def equal(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


async def run_one(server: Server, body) -> str | None:
    """None, or what went wrong."""
    admin = await server.admin()
    database = f"check-{uuid.uuid4().hex[:12]}"
    await admin.create_database(database)
    try:
        await body(server, await server.client(database=database))
    except Exception as error:
        here = Path(__file__).parent
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == here]
        frame = [frame for frame in ours if frame.name == body.__name__ or not frame.filename.endswith("harness.py")][-1]
        return f"      {Path(frame.filename).name}:{frame.lineno}: {frame.line}\n      {error!r}"
    finally:
        names = [entry["name"] for entry in await admin.list_databases()]
        if database in names:
            await empty(await server.client(database=database))
            await admin.delete_database(database)
    return None


async def empty(client):
    """Empties collections before they go: the reference server leaks array metadata of dropped ones."""
    for collection in await client.list_collections():
        ids = (await collection.get(include=[]))["ids"]
        for at in range(0, len(ids), 1000):
            await collection.delete(ids=ids[at : at + 1000])


async def run(host: str, port: int, reference: bool, skip: set[str], only: str) -> tuple[int, int]:
    passed = failed = 0
    for kind in ("sync", "async"):
        server = Server(kind, host, port, reference)
        for body in CHECKS:
            if body.__name__ in skip or only not in body.__name__:
                continue
            wrong = await run_one(server, body)
            name = f"python {kind:5} {body.__name__.replace('_', ' ')}"
            if wrong is None:
                passed += 1
                print(f"ok    {name}", flush=True)
            else:
                failed += 1
                print(f"FAIL  {name}\n{wrong}", flush=True)
    return passed, failed
