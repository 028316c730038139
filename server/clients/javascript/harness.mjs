// Runs every check in a database of its own.
//
// The client is imported from wherever npm put it (--modules), so that nothing is installed into the source tree.

import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";
import path from "node:path";
import { isDeepStrictEqual, inspect, parseArgs } from "node:util";

export const { values: options } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8000" },
    modules: { type: "string", default: import.meta.dirname },
    only: { type: "string", default: "" },
    reset: { type: "boolean", default: false },
    reference: { type: "boolean", default: false },
  },
});

const require = createRequire(path.join(path.resolve(options.modules), "index.js"));
export const chroma = await import(pathToFileURL(require.resolve("chromadb").replace(/cjs[\\/]chromadb\.cjs$/, "chromadb.mjs")));

const place = { host: options.host, port: Number(options.port), ssl: false };
export const connect = (args = {}) => new chroma.ChromaClient({ ...place, tenant: "default_tenant", ...args });
export const admin = () => new chroma.AdminClient(place);

export const checks = [];
export const check = (name, body) => checks.push([name, body]);

export function equal(got, want) {
  if (!isDeepStrictEqual(got, want)) {
    throw new Error(`got ${inspect(got, { depth: 9 })}, want ${inspect(want, { depth: 9 })}`);
  }
}

export function assert(holds, text) {
  if (!holds) throw new Error(text ?? "does not hold");
}

// raises awaits the failure of promise: an error of the class named (null: any), with the text in its message.
export async function raises(name, promise, text = "") {
  let result;
  try {
    result = await promise;
  } catch (error) {
    assert(!name || error.name === name, `expected a ${name}, got ${error.name}: ${error.message}`);
    assert(error.message.includes(text), `${JSON.stringify(text)} is not in ${error.message}`);
    return;
  }
  throw new Error(`expected ${name ?? "an error"}, got ${inspect(result)}`);
}

// empty deletes a database's records first: the reference server leaks array metadata of dropped collections.
async function empty(client) {
  for (const { id } of await client.listCollections()) {
    const collection = client.collection(id);
    const { ids } = await collection.get({ include: [] });
    for (let at = 0; at < ids.length; at += 1000) await collection.delete({ ids: ids.slice(at, at + 1000) });
  }
}

async function runOne(body) {
  const database = `check-${randomUUID().slice(0, 12)}`;
  await admin().createDatabase({ name: database, tenant: "default_tenant" });
  const client = connect({ database });
  try {
    await body(client);
  } catch (error) {
    const frame = error.stack?.split("\n").find((line) => /check_\w+\.mjs/.test(line)) ?? "";
    return `      ${frame.trim()}\n      ${error.name}: ${error.message}`;
  } finally {
    const databases = await admin().listDatabases({ tenant: "default_tenant", limit: 1000 });
    if (databases.some(({ name }) => name === database)) {
      await empty(client);
      await admin().deleteDatabase({ name: database, tenant: "default_tenant" });
    }
  }
  return null;
}

export async function run() {
  let passed = 0;
  let failed = 0;
  console.warn = () => {}; // the client's advice about embedding functions
  for (const [name, body] of checks) {
    if (!name.includes(options.only) || (name === "reset" && !options.reset)) continue;
    const wrong = await runOne(body);
    if (wrong === null) passed++;
    else failed++;
    console.log(wrong === null ? `ok    javascript ${name}` : `FAIL  javascript ${name}\n${wrong}`);
  }
  console.log(`javascript: ${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0;
}
