// The official JavaScript client against a server with TLS and users. secured.sh writes place.json and says with NODE_EXTRA_CA_CERTS
// whom to trust.
//
//   node check_secured.mjs --modules FOLDER --place place.json [--strangers]
//
// --strangers: nothing of the server's authority is known, and no connection may come about.

import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import path from "node:path";
import { inspect, isDeepStrictEqual, parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: { modules: { type: "string", default: import.meta.dirname }, place: { type: "string" }, strangers: { type: "boolean", default: false } },
});
const require = createRequire(path.join(path.resolve(options.modules), "index.js"));
const chroma = await import(pathToFileURL(require.resolve("chromadb").replace(/cjs[\\/]chromadb\.cjs$/, "chromadb.mjs")));
const place = JSON.parse(readFileSync(options.place, "utf8"));
const address = { host: "localhost", port: place.port, ssl: true };
const inDefault = { tenant: "default_tenant", database: "default_database" };

const connect = (key, more = inDefault) => new chroma.ChromaClient({ ...address, ...more, headers: key ? { "x-chroma-token": key } : {} });
const users = (...args) => execFileSync(place.binary, ["users", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();

function equal(got, want) {
  if (!isDeepStrictEqual(got, want)) throw new Error(`got ${inspect(got)}, want ${inspect(want)}`);
}

// raises awaits the failure of promise, an error of that class and no other.
async function raises(name, promise) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    if (!(error instanceof chroma[name])) throw new Error(`expected a ${name}, got ${error.name}: ${error.message}`);
    return error;
  }
  throw new Error(`expected ${name}, got ${inspect(result)}`);
}

const none = { embeddingFunction: null };

async function works(client) {
  const name = `docs-${randomUUID().slice(0, 12)}`;
  const collection = await client.createCollection({ name, ...none });
  await collection.add({ ids: ["a", "b"], embeddings: [[1, 0], [0, 1]] });
  equal(await collection.count(), 2);
  equal((await collection.query({ queryEmbeddings: [[1, 0.1]], nResults: 1 })).ids, [["a"]]);
  await client.deleteCollection({ name });
}

const checks = {
  "key in a header": () => works(connect(place.admin)),
  "key as bearer": () => works(new chroma.ChromaClient({ ...address, ...inDefault, headers: { Authorization: `Bearer ${place.admin}` } })),
  "key by the auth option": () =>
    works(new chroma.ChromaClient({ ...address, ...inDefault, auth: { provider: "token", credentials: place.admin, tokenHeaderType: "X_CHROMA_TOKEN" } })),
  "password": () => works(new chroma.ChromaClient({ ...address, ...inDefault, headers: { Authorization: `Basic ${btoa(`ada:${place.password}`)}` } })),
  "wrong password": () =>
    raises("ChromaUnauthorizedError", new chroma.ChromaClient({ ...address, ...inDefault, headers: { Authorization: `Basic ${btoa("ada:wrong")}` } }).listCollections()),
  "cloud client": async () => {
    const client = new chroma.CloudClient({ apiKey: place.acme, host: "localhost", port: place.port });
    await works(client);
    equal([client.tenant, client.database], ["acme", "main"]);
  },
  "tenant and database from identity": async () => {
    const client = connect(place.acme, { tenant: undefined, database: undefined });
    client.tenant = client.database = undefined; // the constructor fills in defaults, which are another's here
    await works(client);
    equal([client.tenant, client.database], ["acme", "main"]);
    const { user_id, tenant, databases } = await client.getUserIdentity();
    equal([user_id, tenant, databases], ["acme", "acme", ["main"]]);
  },
  "another tenant": async () => {
    await raises("ChromaForbiddenError", connect(place.acme).listCollections());
    const theirs = await connect(place.admin).getCollection({ name: "docs-kept", ...none });
    const mine = connect(place.acme, { tenant: "acme", database: "main" });
    for (const id of [theirs.id, randomUUID()]) await raises("ChromaNotFoundError", mine.collection(id).count());
  },
  "reader reads": async () => {
    const collection = await connect(place.reader).getCollection({ name: "docs-kept", ...none });
    equal(await collection.count(), 2);
    equal((await collection.get({ ids: ["a"] })).documents, ["first"]);
    equal((await connect(place.reader).listCollections()).map(({ name }) => name).sort(), ["docs-kept", "other"]);
  },
  "reader cannot write": async () => {
    const client = connect(place.reader);
    const collection = await client.getCollection({ name: "docs-kept", ...none });
    for (const promise of [
      () => collection.add({ ids: ["c"], embeddings: [[1, 1]] }),
      () => collection.upsert({ ids: ["a"], embeddings: [[1, 1]] }),
      () => collection.update({ ids: ["a"], metadatas: [{ changed: true }] }),
      () => collection.delete({ ids: ["a"] }),
      () => collection.modify({ name: "docs-renamed" }),
      () => client.createCollection({ name: "docs-new", ...none }),
      () => client.deleteCollection({ name: "docs-kept" }),
      () => client.reset(),
    ]) await raises("ChromaForbiddenError", promise());
    equal((await (await connect(place.admin).getCollection({ name: "docs-kept", ...none })).get()).documents, ["first", "second"]);
  },
  "editor of some": async () => {
    const client = connect(place.editor);
    await works(client);
    equal((await client.listCollections()).map(({ name }) => name), ["docs-kept"]);
    await raises("ChromaNotFoundError", client.getCollection({ name: "other", ...none }));
    await raises("ChromaForbiddenError", client.createCollection({ name: "notes", ...none }));
  },
  "row rules": async () => {
    const ruled = (key) => connect(key, { tenant: "default_tenant", database: "main" }).getCollection({ name: "ruled", ...none });
    const [mine, theirs, whole] = await Promise.all([place.team, place.other, place.admin].map(ruled));
    const ids = async (collection, filter = {}) => (await collection.get(filter)).ids.toSorted();
    equal([await mine.count(), await theirs.count(), await whole.count()], [3, 2, 5]);
    equal(await ids(mine), ["blue", "public", "red"]);
    equal(await ids(theirs), ["green", "public"]);
    equal(await ids(mine, { ids: ["green", "red", "nobody's"] }), ["red"]);
    equal(await ids(mine, { where: { team: "green" } }), ["public"]);
    const near = [1, 0.1]; // green's own
    equal((await mine.query({ queryEmbeddings: [near], nResults: 10 })).ids, [["red", "public", "blue"]]);
    equal((await theirs.query({ queryEmbeddings: [near], nResults: 1 })).ids, [["green"]]);
    for (const promise of [
      () => mine.add({ ids: ["new"], embeddings: [[1, 1]], metadatas: [{ team: "green" }] }),
      () => mine.add({ ids: ["new"], embeddings: [[1, 1]] }),
      () => mine.add({ ids: ["new", "newer"], embeddings: [[1, 1], [1, 1]], metadatas: [{ team: "red" }, { team: "green" }] }),
      () => mine.upsert({ ids: ["green"], embeddings: [[1, 1]], metadatas: [{ team: "red" }] }),
      () => mine.update({ ids: ["red"], metadatas: [{ team: "green" }] }),
    ]) await raises("ChromaForbiddenError", promise());
    await mine.delete({ ids: ["green", "nobody's"] });
    equal(await ids(whole), ["blue", "green", "nobody's", "public", "red"]);
    await mine.add({ ids: ["new"], embeddings: [[1, 1]], metadatas: [{ team: "blue" }] });
    equal([await mine.count(), await theirs.count()], [4, 2]);
    await mine.delete({ ids: ["new"] });
    equal(await whole.count(), 5);
  },
  "missing key": () => raises("ChromaUnauthorizedError", connect().listCollections()),
  "wrong keys": async () => {
    for (const key of ["x", "chromad_", `${place.admin}A`, place.admin.toUpperCase(), "a.b.c"]) {
      await raises("ChromaUnauthorizedError", connect(key).listCollections());
    }
  },
  "expired key": () => raises("ChromaUnauthorizedError", connect(place.expired).listCollections()),
  "revoked key": async () => {
    const key = users("key", place.store, "ada", "--name", "to revoke");
    const client = connect(key);
    await client.countCollections();
    users("revoke", place.store, key.split("_")[1]);
    await raises("ChromaUnauthorizedError", client.countCollections());
  },
};

const strangers = {
  "wrong authority": async () => {
    const error = await raises("ChromaConnectionError", connect(place.admin).listCollections());
    if (error.message.includes(place.admin)) throw new Error("the error repeats the key");
  },
};

console.warn = () => {}; // the auth option is deprecated, and told so
let passed = 0;
let failed = 0;
for (const [name, body] of Object.entries(options.strangers ? strangers : checks)) {
  try {
    await body();
    passed++;
    console.log(`ok    javascript secured ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  javascript secured ${name}\n      ${error.stack}`);
  }
}
console.log(`javascript secured: ${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
