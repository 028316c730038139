// Records: writing, reading, filters, nearest neighbours.

import { assert, check, chroma, equal, raises } from "./harness.mjs";

const make = (client, name = "records", rest = {}) => client.createCollection({ name, embeddingFunction: null, ...rest });
const everything = ["embeddings", "metadatas", "documents", "uris"];
const range = (n, of = (i) => i) => Array.from({ length: n }, (_, i) => of(i));

check("add and get", async (client) => {
  const collection = await make(client);
  await collection.add({
    ids: ["a", "b", "ç/%2F 🎈"],
    embeddings: [[1, 2], [0.5, -1e-10], [3e38, 0]],
    documents: ["first", "", "grüße 🎈"],
    metadatas: [{ k: 1 }, { n: null, s: "x" }, { ключ: "значение" }],
    uris: ["file:///a", "u", "http://ü"],
  });
  const got = await collection.get({ include: everything });
  equal(got.ids, ["a", "b", "ç/%2F 🎈"]);
  equal(got.documents, ["first", "", "grüße 🎈"]);
  equal(got.uris, ["file:///a", "u", "http://ü"]);
  equal(got.metadatas, [{ k: 1 }, { s: "x" }, { ключ: "значение" }]);
  equal(got.embeddings.map((row) => row.map(Math.fround)), [[1, 2], [0.5, -1e-10], [3e38, 0]].map((row) => row.map(Math.fround)));
  equal(got.rows()[0], { id: "a", document: "first", embedding: [1, 2], metadata: { k: 1 }, uri: "file:///a" });
  equal(await collection.count(), 3);
  for (const readLevel of Object.values(chroma.ReadLevel)) equal(await collection.count({ readLevel }), 3);
});

check("add leaves existing ids", async (client) => {
  const collection = await make(client);
  await collection.add({ ids: ["a"], embeddings: [[1, 1]], documents: ["old"] });
  await collection.add({ ids: ["a", "b"], embeddings: [[2, 2], [3, 3]], documents: ["new", "b"] });
  const got = await collection.get({ include: ["documents", "embeddings"] });
  equal([got.ids, got.documents, got.embeddings], [["a", "b"], ["old", "b"], [[1, 1], [3, 3]]]);
});

check("upsert and update", async (client) => {
  const collection = await make(client);
  await collection.add({ ids: ["a"], embeddings: [[1, 1]], documents: ["old"], metadatas: [{ keep: 1, change: 1 }], uris: ["u"] });
  await collection.upsert({ ids: ["a", "b"], embeddings: [[2, 2], [3, 3]], metadatas: [{ change: "two" }, { fresh: true }] });
  await collection.update({ ids: ["b", "unknown"], documents: ["changed", "x"], embeddings: [[9, 9], [8, 8]] });
  await collection.update({ ids: ["a"], metadatas: [{ more: 2.5 }] });
  const got = await collection.get({ include: everything });
  equal(got.ids, ["a", "b"]);
  equal(got.documents, ["old", "changed"]);
  equal(got.metadatas, [{ keep: 1, change: "two", more: 2.5 }, { fresh: true }]);
  equal(got.embeddings, [[2, 2], [9, 9]]);
  equal(got.uris, ["u", null]);
});

check("metadata values", async (client) => {
  const collection = await make(client);
  const metadatas = [
    { s: "", long: "x".repeat(100_000), quote: "\"\\\n\t\u2028" },
    { zero: 0, negative: -1, max: Number.MAX_SAFE_INTEGER, half: 0.5, whole: 2.0, tiny: 5e-324 },
    { yes: true, no: false },
    { strings: ["a", "ü"], ints: [1, -2], floats: [0.5, 2.5], bools: [true, false] },
  ];
  const ids = metadatas.map((_, i) => String(i));
  await collection.add({ ids, embeddings: ids.map(() => [1]), metadatas });
  equal((await collection.get()).metadatas, metadatas);
  for (const metadata of [{ nested: { a: 1 } }, { "#reserved": 1 }, { mixed: [1, "a"] }]) {
    await raises(null, collection.add({ ids: ["x"], embeddings: [[1]], metadatas: [metadata] }));
  }
  equal(await collection.count(), metadatas.length);
});

check("get selects and includes", async (client) => {
  const collection = await make(client);
  const ids = range(30, (i) => `id${String(i).padStart(2, "0")}`);
  await collection.add({ ids, embeddings: range(30, (i) => [i]), documents: range(30, (i) => `doc ${i}`), metadatas: range(30, (i) => ({ i })) });
  const got = async (args) => (await collection.get(args)).ids;
  equal(await got(), ids);
  equal(await got({ ids: ["id07", "none", "id02"] }), ["id02", "id07"]);
  equal(await got({ limit: 5, offset: 27 }), ids.slice(27));
  equal(await got({ limit: 5 }), ids.slice(0, 5));
  equal(await got({ offset: 99 }), []);
  equal(await got({ where: { i: { $gte: 10 } }, limit: 3, offset: 2 }), ids.slice(12, 15));
  equal(await got({ ids: ids.slice(0, 12), where: { i: { $gte: 10 } } }), ids.slice(10, 12));
  equal(await got({ where: { i: { $lt: 10 } }, whereDocument: { $contains: "7" } }), ["id07"]);
  const few = await collection.get({ ids: ["id01"], include: ["embeddings"] });
  equal([few.embeddings, few.documents, few.include], [[[1]], [], ["embeddings"]]);
  equal((await collection.peek({ limit: 3 })).ids, ids.slice(0, 3));
  equal((await collection.peek({})).ids, ids.slice(0, 10));
  await raises(null, collection.get({ include: ["nonsense"] }));
});

const rows = [
  ["a", { n: 1, s: "x", b: true, tags: ["red", "green"] }, "The quick brown fox"],
  ["b", { n: 2, s: "y", b: false, tags: ["blue"] }, "jumps over 42 lazy dogs"],
  ["c", { n: 2.5, s: "X", nums: [1, 2, 3] }, "The Fox and the grape"],
  ["d", { n: "2", s: "" }, "naïve café, 100% new_line\nsecond line"],
];
const wheres = [
  [{ n: 1 }, "a"], [{ n: { $eq: 2 } }, "b"], [{ n: { $eq: "2" } }, "d"], [{ b: false }, "b"], [{ s: { $ne: "x" } }, "bcd"],
  [{ n: { $gt: 1 } }, "bc"], [{ n: { $gte: 2 } }, "bc"], [{ n: { $lt: 2 } }, "a"], [{ n: { $lte: 2 } }, "ab"],
  [{ n: { $in: [1, 2] } }, "ab"], [{ s: { $nin: ["x", "y"] } }, "cd"],
  [{ tags: { $contains: "red" } }, "a"], [{ nums: { $contains: 2 } }, "c"], [{ tags: { $not_contains: "red" } }, "bcd"],
  [{ $and: [{ n: { $gte: 1 } }, { s: { $in: ["x", "y"] } }] }, "ab"], [{ $or: [{ n: 1 }, { s: "" }] }, "ad"],
  [{ $and: [{ $or: [{ n: 1 }, { n: 2 }] }, { b: false }] }, "b"],
]; // prettier-ignore
const documents = [
  [{ $contains: "fox" }, "a"], [{ $contains: "The" }, "ac"], [{ $contains: "100%" }, "d"], [{ $not_contains: "The" }, "bd"],
  [{ $regex: "(?i)FOX" }, "ac"], [{ $regex: "\\d{2}" }, "bd"], [{ $regex: "na\\wve" }, "d"], [{ $not_regex: "^The" }, "bd"],
  [{ $and: [{ $contains: "The" }, { $contains: "quick" }] }, "a"], [{ $or: [{ $contains: "quick" }, { $regex: "l[ai]zy" }] }, "ab"],
]; // prettier-ignore

async function filled(client) {
  const collection = await make(client, "filters");
  const [ids, metadatas, texts] = [0, 1, 2].map((column) => rows.map((row) => row[column]));
  await collection.add({ ids, metadatas, documents: texts, embeddings: range(rows.length, (i) => [i, 1]) });
  return collection;
}

for (const [field, cases] of [["where", wheres], ["whereDocument", documents]]) {
  check(`filters: ${field}`, async (client) => {
    const collection = await filled(client);
    for (const [condition, want] of cases) {
      const got = (await collection.get({ [field]: condition })).ids.join("");
      const near = (await collection.query({ queryEmbeddings: [[0, 1]], [field]: condition })).ids[0].toSorted().join("");
      assert(got === want && near === want, `${JSON.stringify(condition)}: get ${got}, query ${near}, want ${want}`);
    }
  });
}

check("bad filters", async (client) => {
  const collection = await filled(client);
  for (const where of [{ n: { $near: 1 } }, { n: { $gt: "a" } }, { n: { $in: [] } }, { n: { $gt: 1, $lt: 2 } }, { n: 1, s: "x" }]) {
    await raises(null, collection.get({ where }));
    await raises(null, collection.delete({ where }));
  }
  await raises("ChromaClientError", collection.get({ whereDocument: { $regex: "(" } }));
  equal(await collection.count(), rows.length);
});

check("delete", async (client) => {
  const collection = await make(client);
  const ids = range(20, String);
  await collection.add({ ids, embeddings: range(20, (i) => [i]), metadatas: range(20, (i) => ({ i })), documents: range(20, (i) => `d${i}`) });
  equal((await collection.delete({ ids: ["3", "4"] })).deleted, 2);
  equal((await collection.delete({ where: { i: { $gte: 15 } } })).deleted, 5);
  equal((await collection.delete({ whereDocument: { $contains: "d1" } })).deleted, 6);
  equal((await collection.delete({ ids: ["0", "2"], where: { i: 2 } })).deleted, 1);
  equal((await collection.delete({ where: { i: { $gte: 5 } }, limit: 2 })).deleted, 2);
  equal((await collection.get()).ids, ["0", "7", "8", "9"]);
  equal((await collection.query({ queryEmbeddings: [[5]], nResults: 10 })).ids, [["7", "8", "9", "0"]]);
});

check("distances", async (client) => {
  const data = range(60, (i) => range(8, (d) => Math.fround(Math.sin(i * 8 + d + 1))));
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const distance = {
    l2: (a, b) => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0),
    ip: (a, b) => 1 - dot(a, b),
    cosine: (a, b) => 1 - dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)),
  };
  const query = range(8, (d) => Math.fround(Math.cos(d)));
  for (const space of ["l2", "cosine", "ip"]) {
    const collection = await make(client, `d-${space}`, { configuration: { hnsw: { space } } });
    await collection.add({ ids: data.map((_, i) => String(i)), embeddings: data });
    const want = data.map((row, i) => [distance[space](row, query), String(i)]).sort((a, b) => a[0] - b[0]).slice(0, 5);
    const got = await collection.query({ queryEmbeddings: [query], nResults: 5 });
    equal(got.ids[0], want.map(([, id]) => id));
    got.distances[0].forEach((d, i) => assert(Math.abs(d - want[i][0]) < 1e-4, `${space}: ${d} instead of ${want[i][0]}`));
  }
});

check("query results", async (client) => {
  const collection = await make(client);
  equal((await collection.query({ queryEmbeddings: [[1, 2], [3, 4]] })).ids, [[], []]);
  await collection.add({
    ids: ["a", "b", "c"], embeddings: [[0, 0], [1, 0], [5, 0]], documents: ["da", "db", "dc"],
    metadatas: [{ k: 1 }, { k: 2 }, { k: 1 }], uris: ["ua", "ub", "uc"],
  }); // prettier-ignore
  const got = await collection.query({ queryEmbeddings: [[0, 0], [5, 0]], nResults: 2 });
  equal(got.ids, [["a", "b"], ["c", "b"]]);
  equal(got.distances, [[0, 1], [0, 16]]);
  equal(got.documents, [["da", "db"], ["dc", "db"]]);
  equal(got.metadatas, [[{ k: 1 }, { k: 2 }], [{ k: 1 }, { k: 2 }]]);
  const full = await collection.query({ queryEmbeddings: [[1, 0]], nResults: 1, include: [...everything, "distances"] });
  equal(full.rows(), [[{ id: "b", document: "db", embedding: [1, 0], metadata: { k: 2 }, uri: "ub", distance: 0 }]]);
  equal((await collection.query({ queryEmbeddings: [[0, 0]], where: { k: 1 }, nResults: 9 })).ids, [["a", "c"]]);
  equal((await collection.query({ queryEmbeddings: [[0, 0]], ids: ["b", "c"] })).ids, [["b", "c"]]);
  await raises("ChromaClientError", collection.query({ queryEmbeddings: [[1, 2, 3]] }), "expecting embedding with dimension of 2, got 3");
});

check("bad records", async (client) => {
  const collection = await make(client);
  await raises(null, collection.add({ ids: [""], embeddings: [[1, 2]] }));
  await raises(null, collection.add({ ids: ["a", "b"], embeddings: [[1, 2]] }));
  await raises(null, collection.add({ ids: ["a"], embeddings: [[Number.NaN, 1]] }));
  await raises(null, collection.add({ ids: ["a", "b"], embeddings: [[1, 2], [1, 2, 3]] }));
  await raises(null, collection.add({ ids: ["x", "x"], embeddings: [[1, 2], [3, 4]] }));
  equal(await collection.count(), 0);
  await collection.add({ ids: ["a"], embeddings: [[1, 2]] });
  await raises("ChromaClientError", collection.upsert({ ids: ["a"], embeddings: [[1, 2, 3]] }), "dimension of 2, got 3");
});

check("deleted collection", async (client) => {
  const collection = await make(client, "gone");
  await collection.add({ ids: ["a"], embeddings: [[1]] });
  await client.deleteCollection({ name: "gone" });
  for (const call of [
    () => collection.count(), () => collection.get(), () => collection.peek({}), () => collection.add({ ids: ["b"], embeddings: [[1]] }),
    () => collection.upsert({ ids: ["b"], embeddings: [[1]] }), () => collection.update({ ids: ["b"], embeddings: [[1]] }),
    () => collection.delete({ ids: ["a"] }), () => collection.query({ queryEmbeddings: [[1]] }), () => collection.modify({ name: "other" }),
  ]) await raises("ChromaNotFoundError", call()); // prettier-ignore
});

check("batches", async (client) => {
  const collection = await make(client);
  const limit = await client.getMaxBatchSize();
  const ids = range(limit + 100, (i) => `r${i}`);
  const embeddings = range(ids.length, (i) => [Math.sin(i), Math.cos(i), i]);
  await raises(null, collection.add({ ids, embeddings }), "batch size");
  await collection.add({ ids: ids.slice(0, limit), embeddings: embeddings.slice(0, limit) });
  await collection.add({ ids: ids.slice(limit), embeddings: embeddings.slice(limit) });
  equal(await collection.count(), ids.length);
  equal((await collection.query({ queryEmbeddings: [embeddings[limit + 7]], nResults: 1 })).ids, [[`r${limit + 7}`]]);
});

check("concurrent writers", async (client) => {
  const collection = await make(client);
  await Promise.all(range(8, (w) => collection.add({ ids: range(20, (i) => `${w}-${i}`), embeddings: range(20, (i) => [w, i]) })));
  equal(await collection.count(), 160);
});

// Chroma's own node validates a search and refuses it; a server that answers must answer right.
check("search", async (client) => {
  const collection = await filled(client);
  const { K, Knn, Search } = chroma;
  const plan = new Search().where(K("n").gt(1)).rank(Knn({ query: [0, 1] })).limit(2).select(K.DOCUMENT, K.SCORE);
  let got;
  try {
    got = await collection.search(plan);
  } catch (error) {
    assert(/not implemented/i.test(error.message), error.message);
    return;
  }
  equal([got.ids, got.scores], [[["b", "c"]], [[1, 4]]]);
});
