// Server, tenants, databases, collections, their configuration and schema.

import { randomUUID } from "node:crypto";
import { admin, assert, check, chroma, connect, equal, options, raises } from "./harness.mjs";

const bare = { embeddingFunction: null };

// Counts letters: an embedding function that needs no model and survives a round trip through the server.
class Letters {
  constructor({ alphabet = "abc" } = {}) {
    this.name = "js-letters";
    this.alphabet = alphabet;
  }
  async generate(texts) {
    return texts.map((text) => [...this.alphabet].map((letter) => text.split(letter).length - 0.5));
  }
  getConfig() {
    return { alphabet: this.alphabet };
  }
  defaultSpace() {
    return "l2";
  }
  supportedSpaces() {
    return ["l2", "cosine", "ip"];
  }
  static buildFromConfig(config) {
    return new Letters(config);
  }
}
chroma.registerEmbeddingFunction("js-letters", Letters);

check("heartbeat, version, identity, limits", async (client) => {
  assert(Math.abs((await client.heartbeat()) / 1e6 - Date.now()) < 3600_000);
  assert(/^\d+\.\d+\.\d+$/.test(await client.version()));
  assert((await client.getMaxBatchSize()) >= 1000);
  equal(await client.supportsBase64Encoding(), true);
  equal((await client.getPreflightChecks()).supports_base64_encoding, true);
  const identity = await client.getUserIdentity();
  equal([identity.tenant, identity.databases], ["default_tenant", ["default_database"]]);
});

check("tenant and database from the identity", async () => {
  const client = new chroma.ChromaClient({ host: options.host, port: Number(options.port), headers: { "x-chroma-token": "any" } });
  await client.listCollections();
  equal([client.tenant, client.database], ["default_tenant", "default_database"]);
});

check("no server", async () => {
  await raises("ChromaConnectionError", new chroma.ChromaClient({ host: "127.0.0.1", port: 1 }).heartbeat());
});

check("tenants", async () => {
  const name = `tenant ${randomUUID()} ü`;
  await admin().createTenant({ name });
  const got = await admin().getTenant({ name });
  equal(got?.name ?? got, name);
  await raises("ChromaUniqueError", admin().createTenant({ name }));
  await raises("ChromaNotFoundError", admin().getTenant({ name: "no-such-tenant" }));
});

check("databases", async () => {
  const tenant = `tenant-${randomUUID()}`;
  await admin().createTenant({ name: tenant });
  for (const name of ["bbb", "aaa", "ccc"]) await admin().createDatabase({ name, tenant });
  const got = await admin().getDatabase({ name: "aaa", tenant });
  equal([got.name, got.tenant], ["aaa", tenant]);
  const names = async (page) => (await admin().listDatabases({ tenant, ...page })).map(({ name }) => name);
  equal(await names({}), ["aaa", "bbb", "ccc"]);
  equal(await names({ limit: 1, offset: 1 }), ["bbb"]);
  await raises("ChromaUniqueError", admin().createDatabase({ name: "aaa", tenant }));
  await raises("ChromaClientError", admin().createDatabase({ name: "no spaces", tenant }), "Expected a name");
  const [one, two] = [connect({ tenant, database: "aaa" }), connect({ tenant, database: "bbb" })];
  const inOne = await one.createCollection({ name: "same", ...bare });
  const inTwo = await two.createCollection({ name: "same", ...bare });
  assert(inOne.id !== inTwo.id);
  await admin().deleteDatabase({ name: "aaa", tenant });
  await raises("ChromaNotFoundError", admin().getDatabase({ name: "aaa", tenant }));
  await raises("ChromaNotFoundError", admin().deleteDatabase({ name: "aaa", tenant }));
  await raises("ChromaNotFoundError", inOne.count());
  equal(await inTwo.count(), 0);
});

check("collections", async (client) => {
  const one = await client.createCollection({ name: "one", metadata: { s: "x", i: 1, f: 1.5, b: true }, ...bare });
  equal([one.name, one.metadata], ["one", { s: "x", i: 1, f: 1.5, b: true }]);
  equal([one.tenant, one.database], ["default_tenant", client.database]);
  await client.createCollection({ name: "two", ...bare });
  const got = await client.getCollection({ name: "one" });
  equal([got.id, got.metadata], [one.id, one.metadata]);
  equal((await client.getCollectionById(one.id)).name, "one");
  const same = await client.getOrCreateCollection({ name: "one", metadata: { other: 1 }, ...bare });
  equal([same.id, same.metadata], [one.id, one.metadata]);
  await client.getOrCreateCollection({ name: "three", metadata: { n: 3 }, ...bare });
  equal(await client.countCollections(), 3);
  const listed = (await client.listCollections()).map(({ name }) => name);
  equal([...listed].sort(), ["one", "three", "two"]);
  equal((await client.listCollections({ limit: 1, offset: 1 })).map(({ name }) => name), listed.slice(1, 2));
  equal((await client.getCollections(["two", "one"])).map(({ name }) => name), ["two", "one"]);
  equal(await client.collection(one.id).count(), 0);
  await client.deleteCollection({ name: "two" });
  equal(await client.countCollections(), 2);
});

check("collection errors", async (client) => {
  await client.createCollection({ name: "taken", ...bare });
  await raises("ChromaUniqueError", client.createCollection({ name: "taken", ...bare }));
  for (const name of ["ab", "has space", "-dash", "a..b", "127.0.0.1", "x".repeat(513)]) {
    await raises("ChromaClientError", client.createCollection({ name, ...bare }));
  }
  await raises("ChromaNotFoundError", client.getCollection({ name: "missing" }));
  await raises("ChromaNotFoundError", client.getCollectionById(randomUUID()));
  await raises("ChromaNotFoundError", client.deleteCollection({ name: "missing" }));
  equal(await client.countCollections(), 1);
});

check("modify", async (client) => {
  const collection = await client.createCollection({ name: "before", metadata: { a: 1 }, ...bare });
  await collection.add({ ids: ["x"], embeddings: [[1, 2, 3]] });
  await collection.modify({ name: "after" });
  await collection.modify({ metadata: { b: "two" } });
  await collection.modify({ configuration: { hnsw: { ef_search: 77 } } });
  const got = await client.getCollection({ name: "after" });
  equal([got.id, got.metadata, await got.count()], [collection.id, { b: "two" }, 1]);
  equal([got.configuration.hnsw.ef_search, got.configuration.hnsw.space], [77, "l2"]);
  await raises("ChromaNotFoundError", client.getCollection({ name: "before" }));
  await client.createCollection({ name: "taken", ...bare });
  await raises(null, client.collection(collection.id).modify({ name: "taken" }));
  equal((await client.getCollectionById(collection.id)).name, "after");
});

check("configuration", async (client) => {
  const plain = await client.createCollection({ name: "plain", ...bare });
  equal(plain.configuration.hnsw, {
    space: "l2", ef_construction: 100, ef_search: 100, max_neighbors: 16, resize_factor: 1.2, sync_threshold: 1000,
  });
  for (const space of ["l2", "cosine", "ip"]) {
    const hnsw = { space, ef_construction: 120, ef_search: 60, max_neighbors: 24 };
    await client.createCollection({ name: `c-${space}`, configuration: { hnsw }, ...bare });
    const got = (await client.getCollection({ name: `c-${space}` })).configuration.hnsw;
    equal(Object.fromEntries(Object.keys(hnsw).map((key) => [key, got[key]])), hnsw);
  }
  const legacy = await client.createCollection({ name: "legacy", metadata: { "hnsw:space": "cosine" }, ...bare });
  equal(legacy.configuration.hnsw.space, "cosine");
  await raises(null, client.createCollection({ name: "bad", configuration: { hnsw: { space: "mars" } }, ...bare }));
});

check("embedding function", async (client) => {
  const made = await client.createCollection({ name: "letters", embeddingFunction: new Letters({ alphabet: "xyz" }) });
  await made.add({ ids: ["x", "y", "z"], documents: ["xxxx", "yyyy", "zzzz"] });
  const got = await client.getCollection({ name: "letters" }); // the client builds the function from what the server kept
  equal((await got.query({ queryTexts: ["zz", "xx"], nResults: 1 })).ids, [["z"], ["x"]]);
  await got.update({ ids: ["x"], documents: ["zzzzzz"] });
  await got.upsert({ ids: ["n"], documents: ["yyyyyyyy"] });
  equal((await got.query({ queryTexts: ["zzzzzz", "yyyyyyyy"], nResults: 1 })).ids, [["x"], ["n"]]);
});

check("schema", async (client) => {
  const schema = new chroma.Schema();
  schema.createIndex(new chroma.VectorIndexConfig({ space: "cosine" }));
  schema.deleteIndex(new chroma.StringInvertedIndexConfig(), "silent");
  await client.createCollection({ name: "schema", schema, ...bare });
  const got = await client.getCollection({ name: "schema" });
  equal(got.schema.keys["#embedding"].floatList.vectorIndex.config.space, "cosine");
  equal(got.schema.keys.silent.string.stringInvertedIndex.enabled, false);
  equal(got.schema.keys["#document"].string.ftsIndex.enabled, true);
  await got.add({ ids: ["a"], embeddings: [[1, 0]], metadatas: [{ silent: "s", loud: "s" }] });
  equal((await got.get({ where: { loud: "s" } })).ids, ["a"]);
  await raises("ChromaClientError", got.get({ where: { silent: "s" } }), "indexing is disabled");
});

// What Chroma's own single node refuses must fail cleanly, or work.
check("refused on one node", async (client) => {
  const collection = await client.createCollection({ name: "source", ...bare });
  await collection.add({ ids: ["a"], embeddings: [[1, 2]] });
  for (const call of [() => collection.fork({ name: "copy" }), () => collection.forkCount(), () => collection.getIndexingStatus()]) {
    await call().catch((error) => assert(error.name.startsWith("Chroma") && error.message, `${error.name}: ${error.message}`));
  }
  equal(await collection.count(), 1);
});

check("reset", async (client) => {
  await client.createCollection({ name: "gone", ...bare });
  await client.reset();
  equal((await admin().listDatabases({ tenant: "default_tenant" })).map(({ name }) => name), ["default_database"]);
  equal(await connect({ database: "default_database" }).listCollections(), []);
});
