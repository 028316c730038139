"""The official Python client against a server with TLS and users: every way in that it has, and every way that must be shut.

    python check_secured.py --place place.json

place.json, which secured.sh writes, has the port, the authority's certificate, another one, the store, the binary, and a credential of each user.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import traceback
import uuid

import chromadb
from chromadb.auth.token_authn import TokenTransportHeader
from chromadb.config import Settings
from chromadb.errors import ChromaAuthError, ChromaError, AuthorizationError, NotFoundError

TOKEN = "chromadb.auth.token_authn.TokenAuthClientProvider"
BASIC = "chromadb.auth.basic_authn.BasicAuthClientProvider"


class Place:
    """The server, and what its users show of themselves."""

    def __init__(self, path: str):
        with open(path) as file:
            self.__dict__.update(json.load(file))

    def settings(self, **more) -> Settings:
        return Settings(**{"anonymized_telemetry": False, "chroma_server_ssl_verify": self.ca, **more})

    def client(self, key=None, settings=None, **more):
        headers = {"x-chroma-token": key} if key else None
        return chromadb.HttpClient(host="localhost", port=self.port, ssl=True, headers=headers, settings=settings or self.settings(), **more)

    def users(self, *arguments: str) -> str:
        return subprocess.run([self.binary, "users", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def works(client) -> None:
    """Makes a collection, writes, reads, and deletes it."""
    collection = client.create_collection(f"docs-{uuid.uuid4().hex[:12]}", embedding_function=None)
    collection.add(ids=["a", "b"], embeddings=[[1, 0], [0, 1]])
    assert collection.count() == 2
    assert collection.query(query_embeddings=[[1, 0.1]], n_results=1)["ids"] == [["a"]]
    client.delete_collection(collection.name)


def refused(do, *kinds) -> Exception:
    """do ends with an error of one of these classes, and with no subclass of something broader."""
    try:
        result = do()
    except kinds as error:
        return error
    raise AssertionError(f"expected {kinds}, got {result!r}")


def key_in_a_header(place):
    works(place.client(place.admin))


def key_as_bearer(place):
    works(chromadb.HttpClient(host="localhost", port=place.port, ssl=True, headers={"Authorization": f"Bearer {place.admin}"}, settings=place.settings()))


def key_by_token_settings(place):
    for header in (None, TokenTransportHeader.AUTHORIZATION.value, TokenTransportHeader.X_CHROMA_TOKEN.value):
        works(place.client(settings=place.settings(chroma_client_auth_provider=TOKEN, chroma_client_auth_credentials=place.admin, chroma_auth_token_transport_header=header)))


def password_by_basic_settings(place):
    works(place.client(settings=place.settings(chroma_client_auth_provider=BASIC, chroma_client_auth_credentials=f"ada:{place.password}")))


def wrong_password(place):
    settings = place.settings(chroma_client_auth_provider=BASIC, chroma_client_auth_credentials="ada:not the password")
    refused(lambda: place.client(settings=settings), AuthorizationError)


def asynchronous_client(place):
    async def go():
        client = await chromadb.AsyncHttpClient(host="localhost", port=place.port, ssl=True, headers={"x-chroma-token": place.reader}, settings=place.settings())
        collection = await client.get_collection("docs-kept", embedding_function=None)
        assert await collection.count() == 2
        try:
            await collection.delete(ids=["a"])
        except AuthorizationError:
            return
        raise AssertionError("a reader deleted")

    asyncio.run(go())


def cloud_client(place):
    """The client of Chroma's cloud finds tenant and database by itself, from /auth/identity."""
    client = chromadb.CloudClient(api_key=place.acme, settings=place.settings(), cloud_host="localhost", cloud_port=place.port)
    assert (client.tenant, client.database) == ("acme", "main"), (client.tenant, client.database)
    works(client)


def tenant_from_identity(place):
    settings = place.settings(chroma_overwrite_singleton_tenant_database_access_from_auth=True)
    client = place.client(place.acme, settings)
    assert (client.tenant, client.database) == ("acme", "main"), (client.tenant, client.database)
    identity = client.get_user_identity()
    assert identity.user_id == "acme" and identity.databases == ["main"], identity


def another_tenant(place):
    refused(lambda: place.client(place.acme, tenant="default_tenant", database="default_database"), AuthorizationError, ChromaAuthError, ValueError)
    mine = place.client(place.acme, tenant="acme", database="main")
    theirs = place.client(place.admin).get_collection("docs-kept", embedding_function=None)
    for path in (f"/tenants/acme/databases/main/collections/{theirs.id}/count", f"/tenants/acme/databases/main/collections/{uuid.uuid4()}/count"):
        refused(lambda: mine._server._make_request("get", path), NotFoundError)


def reader_reads(place):
    client = place.client(place.reader)
    collection = client.get_collection("docs-kept", embedding_function=None)
    assert sorted(c.name for c in client.list_collections()) == ["docs-kept", "other"], client.list_collections()
    assert collection.count() == 2
    assert collection.get(ids=["a"])["documents"] == ["first"]
    assert collection.query(query_embeddings=[[1, 0.1]], n_results=1)["ids"] == [["a"]]


def reader_cannot_write(place):
    client = place.client(place.reader)
    collection = client.get_collection("docs-kept", embedding_function=None)
    for do in (
        lambda: collection.add(ids=["c"], embeddings=[[1, 1]]),
        lambda: collection.upsert(ids=["a"], embeddings=[[1, 1]]),
        lambda: collection.update(ids=["a"], metadatas=[{"changed": True}]),
        lambda: collection.delete(ids=["a"]),
        lambda: collection.modify(name="docs-renamed"),
        lambda: client.create_collection("docs-new"),
        lambda: client.delete_collection("docs-kept"),
        lambda: client.reset(),
    ):
        error = refused(do, AuthorizationError)
        assert "is not granted here" in str(error), error
    kept = place.client(place.admin).get_collection("docs-kept", embedding_function=None).get()
    assert kept["documents"] == ["first", "second"], kept


def editor_of_some(place):
    """An editor of docs-* may do all there, and the rest is not there."""
    client = place.client(place.editor)
    works(client)
    client.get_collection("docs-kept", embedding_function=None).upsert(ids=["a"], embeddings=[[1, 0]], documents=["first"])
    assert [c.name for c in client.list_collections()] == ["docs-kept"], client.list_collections()
    assert client.count_collections() == 1
    refused(lambda: client.get_collection("other"), NotFoundError)
    refused(lambda: client.delete_collection("other"), NotFoundError, AuthorizationError)
    refused(lambda: client.create_collection("notes"), AuthorizationError)


def row_rules(place):
    """Two users with one role, whose rule asks for an attribute of theirs, meet different records of one collection."""

    def ruled(key):
        return place.client(key, tenant="default_tenant", database="main").get_collection("ruled", embedding_function=None)

    mine, theirs, whole = ruled(place.team), ruled(place.other), ruled(place.admin)
    assert (mine.count(), theirs.count(), whole.count()) == (3, 2, 5)
    assert sorted(mine.get()["ids"]) == ["blue", "public", "red"], mine.get()
    assert sorted(theirs.get()["ids"]) == ["green", "public"], theirs.get()
    assert mine.get(ids=["green", "red", "nobody's"])["ids"] == ["red"]
    assert mine.get(where={"team": "green"})["ids"] == ["public"]
    assert mine.get(limit=1, offset=2)["ids"] and not mine.get(limit=1, offset=3)["ids"]
    near = [1, 0.1]  # green's own
    assert mine.query(query_embeddings=[near], n_results=10)["ids"] == [["red", "public", "blue"]]
    assert theirs.query(query_embeddings=[near], n_results=1)["ids"] == [["green"]]
    for do in (
        lambda: mine.add(ids=["new"], embeddings=[[1, 1]], metadatas=[{"team": "green"}]),
        lambda: mine.add(ids=["new"], embeddings=[[1, 1]]),
        lambda: mine.add(ids=["new", "newer"], embeddings=[[1, 1], [1, 1]], metadatas=[{"team": "red"}, {"team": "green"}]),
        lambda: mine.upsert(ids=["green"], embeddings=[[1, 1]], metadatas=[{"team": "red"}]),
        lambda: mine.update(ids=["red"], metadatas=[{"team": "green"}]),
    ):
        refused(do, AuthorizationError)
    mine.delete(ids=["green", "nobody's"])
    assert sorted(whole.get()["ids"]) == ["blue", "green", "nobody's", "public", "red"], whole.get()
    mine.add(ids=["new"], embeddings=[[1, 1]], metadatas=[{"team": "blue"}])
    assert (mine.count(), theirs.count()) == (4, 2)
    mine.delete(ids=["new"])
    assert whole.count() == 5


def missing_key(place):
    assert "Unauthorized" in str(refused(place.client, AuthorizationError))


def wrong_keys(place):
    last = "A" if place.admin[-1] != "A" else "E"
    for key in ("x", "chromad_", place.admin[:-1] + last, place.admin + "A", place.admin.upper(), "a.b.c"):
        refused(lambda: place.client(key), AuthorizationError)


def expired_key(place):
    refused(lambda: place.client(place.expired), AuthorizationError)


def two_credentials(place):
    refused(
        lambda: chromadb.HttpClient(host="localhost", port=place.port, ssl=True, settings=place.settings(),
                                    headers={"x-chroma-token": place.admin, "Authorization": f"Bearer {place.admin}"}),
        AuthorizationError, ChromaError, ValueError)  # fmt: skip


def revoked_key(place):
    key = place.users("key", place.store, "ada", "--name", "to revoke")
    client = place.client(key)
    assert client.count_collections() >= 2
    place.users("revoke", place.store, key.split("_")[1])
    refused(client.count_collections, AuthorizationError)
    refused(lambda: place.client(key), AuthorizationError)


def disabled_user(place):
    client = place.client(place.reader)
    place.users("disable", place.store, "bob")
    try:
        refused(client.list_collections, AuthorizationError)
    finally:
        place.users("enable", place.store, "bob")
    client.list_collections()


def wrong_authority(place):
    for verify in (place.other_ca, True):
        error = refused(lambda: place.client(place.admin, place.settings(chroma_server_ssl_verify=verify)), ValueError)
        causes = [str(error)]
        while error := error.__cause__ or error.__context__:
            causes.append(str(error))
        assert any("CERTIFICATE_VERIFY_FAILED" in cause for cause in causes), causes


def in_the_clear(place):
    error = refused(lambda: chromadb.HttpClient(host="localhost", port=place.port, headers={"x-chroma-token": place.admin}), Exception)
    assert place.admin not in str(error), "the error repeats the key"


CHECKS = [
    key_in_a_header, key_as_bearer, key_by_token_settings, password_by_basic_settings, wrong_password, asynchronous_client, cloud_client,
    tenant_from_identity, another_tenant, reader_reads, reader_cannot_write, editor_of_some, row_rules, missing_key, wrong_keys, expired_key,
    two_credentials, revoked_key, disabled_user, wrong_authority, in_the_clear,
]  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", required=True)
    place, failed = Place(parser.parse_args().place), 0
    for check in CHECKS:
        name = f"python secured {check.__name__.replace('_', ' ')}"
        try:
            check(place)
            print(f"ok    {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  {name}\n{traceback.format_exc()}", flush=True)
    print(f"python secured: {len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
