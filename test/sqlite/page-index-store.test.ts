import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import { PageIndexStore } from "../../src/sqlite/page-index-store.ts";
import { PageIndex } from "../../src/sqlite/page-index.ts";

const SEED = 0xfeed_0000_0000_0001n;

function page(content: number): Uint8Array {
  return new Uint8Array(512).fill(content);
}

function save(database: Database.Database, store: PageIndexStore, index: PageIndex, at: number): void {
  database.transaction(() => store.save("app.db", index, offset(at)))();
}

test("an index comes back exactly as it was saved, over several saves", () => {
  const database = new Database(":memory:");
  const store = new PageIndexStore(database);
  const index = new PageIndex(512, SEED);
  for (let n = 1; n <= 1500; n += 1) index.set(n, page(n % 251));
  save(database, store, index, 7);
  index.set(1400, page(99));
  index.resize(1450);
  save(database, store, index, 8);
  const loaded = new PageIndexStore(database).load("app.db", SEED);
  expect(loaded?.offset).toBe(8);
  expect(loaded?.index.sizePages).toBe(1450);
  expect(loaded?.index.checksum).toBe(index.checksum);
  expect(loaded?.index.hashOf(1400)).toBe(index.hashOf(1400));
});

test("a shrunk index that grows again over its old blocks is the same after loading", () => {
  const database = new Database(":memory:");
  const store = new PageIndexStore(database);
  const index = new PageIndex(512, SEED);
  for (let n = 1; n <= 2000; n += 1) index.set(n, page(n % 251));
  save(database, store, index, 1);
  index.resize(3);
  save(database, store, index, 2);
  index.resize(1999);
  save(database, store, index, 3);
  const loaded = new PageIndexStore(database).load("app.db", SEED);
  expect(loaded?.index.checksum).toBe(index.checksum);
  expect(loaded?.index.hashOf(1000)).toBe(0n);
});

test("a new index instance replaces every block of the old one", () => {
  const database = new Database(":memory:");
  const store = new PageIndexStore(database);
  const old = new PageIndex(512, SEED);
  for (let n = 1; n <= 2000; n += 1) old.set(n, page(1));
  save(database, store, old, 1);
  const copy = new PageIndex(512, SEED);
  copy.resize(1800);
  copy.set(1, page(2));
  save(database, store, copy, 2);
  const loaded = new PageIndexStore(database).load("app.db", SEED);
  expect(loaded?.index.checksum).toBe(copy.checksum);
  expect(loaded?.index.hashOf(1700)).toBe(0n);
});

test("an index of another seed does not count, a damaged block is named", () => {
  const database = new Database(":memory:");
  const store = new PageIndexStore(database);
  const index = new PageIndex(512, SEED);
  index.set(1, page(1));
  save(database, store, index, 1);
  expect(store.load("app.db", SEED + 1n)).toBeUndefined();
  expect(store.load("other.db", SEED)).toBeUndefined();
  database.exec("UPDATE page_index_block SET hashes = zeroblob(length(hashes))");
  expect(() => store.load("app.db", SEED)).toThrow(/app\.db.*checksum/);
});

test("a save that found no room in the middle of its blocks is made up for by the next one", () => {
  const database = new Database(":memory:");
  const store = new PageIndexStore(database);
  const index = new PageIndex(512, SEED);
  for (let n = 1; n <= 20_000; n += 1) index.set(n, page(n % 251));
  const pages = Number(database.pragma("page_count", { simple: true }));
  database.pragma(`max_page_count = ${pages + 10}`);
  expect(() => save(database, store, index, 1)).toThrow("full");
  store.rolledBack();
  database.pragma("max_page_count = 100000");
  index.set(1, page(99));
  save(database, store, index, 2);
  expect(new PageIndexStore(database).load("app.db", SEED)?.index.checksum).toBe(index.checksum);
});
