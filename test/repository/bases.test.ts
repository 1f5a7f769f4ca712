import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import { RecordProblem } from "../../src/event/record-error.ts";
import { byteString, type TreePath } from "../../src/event/tree-path.ts";
import { decodeBase, encodeBase } from "../../src/repository/base-codec.ts";
import type { BaseManifest, TableBlock } from "../../src/repository/base.ts";
import { decodeTableBlock, encodeTableBlock } from "../../src/repository/table-block.ts";
import { readTree, TreeListCutter, TreeListReader } from "../../src/repository/tree-list.ts";
import { hasCode } from "../../src/runtime/errors.ts";
import type { FileEntry, TreeEntry } from "../../src/tree/tree-index.ts";
import { plain } from "../support/plain.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";

let fixture: RepositoryFixture;
beforeEach(() => (fixture = new RepositoryFixture()));
afterEach(async () => fixture[Symbol.asyncDispose]());

const safe = fc.maxSafeNat();
const id = fc.uint8Array({ minLength: 32, maxLength: 32 });
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const name = fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 40 });
const time = fc.nat({ max: 8_640_000_000_000_000 });

const manifests: fc.Arbitrary<BaseManifest> = fc.record({
  offset: safe.map(offset),
  timeMs: time,
  epoch: fc.integer({ min: 1, max: 0xffffffff }).map(epoch),
  logId: name,
  hash: id,
  checksumSeed: u64,
  databases: fc.array(
    fc.record({
      name,
      pageSize: fc.constantFrom(512, 4096, 65_536),
      sizePages: fc.nat({ max: 0xfffffffe }),
      checksum: u64,
      offset: safe.map(offset),
      tables: fc.array(id),
    }),
  ),
  trees: fc.array(fc.record({ name, lists: fc.array(id), count: safe, bytes: safe })),
  bytesNew: safe,
  bytesAll: safe,
  createdMs: time,
  createdBy: name,
});

const tables: fc.Arbitrary<TableBlock> = fc.record({
  extents: fc.array(fc.option(id, { nil: undefined }), { maxLength: 256 }),
  patches: fc.array(fc.record({ id, pages: fc.array(fc.nat({ max: 0xfffffffe }), { maxLength: 64 }) })),
});

test("manifests and table blocks come back as they were", () => {
  const same = (one: unknown, other: unknown): void => {
    expect(plain(one)).toEqual(plain(other));
  };
  fc.assert(fc.property(manifests, (manifest) => same(decodeBase(encodeBase(manifest)), manifest)));
  fc.assert(fc.property(tables, (table) => same(decodeTableBlock(encodeTableBlock(table)), table)));
});

test("hostile manifests, table blocks and lists are refused", () => {
  const [manifest] = fc.sample(manifests, 1);
  const [table] = fc.sample(tables, 1);
  const samples = [manifest && encodeBase(manifest), table && encodeTableBlock(table), listOf([directory("a")])];
  const spoilt = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(fc.constantFrom(...samples), fc.nat(), fc.nat({ max: 255 })).map(([sample, at, byte]) => {
      const bytes = Uint8Array.from(sample ?? []);
      bytes[at % bytes.length] = byte;
      return bytes;
    }),
  );
  const refusesOrReads = (work: () => unknown): void => {
    try {
      work();
    } catch (error) {
      expect(error instanceof RecordProblem || hasCode(error, "OBJECT_CORRUPT")).toBe(true);
    }
  };
  fc.assert(
    fc.property(spoilt, (bytes) => {
      refusesOrReads(() => decodeBase(bytes));
      refusesOrReads(() => decodeTableBlock(bytes));
      refusesOrReads(() => [...new TreeListReader("t").entries(bytes)]);
    }),
    { numRuns: 2000 },
  );
});

function directory(path: string): TreeEntry {
  const metadata = { mode: 0o755, uid: 1, gid: 2, mtimeNs: -5n };
  return { tree: "t", path: path as TreePath, offset: offset(3), kind: "dir", metadata };
}

function file(path: string, chunks: number, fields: Partial<FileEntry> = {}): FileEntry {
  const list = Array.from({ length: chunks }, (_, at) => ({ id: byteString(Buffer.alloc(32, at)), size: 1 + at }));
  const metadata = { mode: 0o644, uid: 1, gid: 2, mtimeNs: 1_767_225_600_123_456_789n };
  return {
    tree: "t",
    path: path as TreePath,
    offset: offset(9),
    kind: "file",
    metadata,
    size: 77,
    group: undefined,
    hash: Buffer.alloc(32, 1),
    chunkList: encodeChunks(list),
    ...fields,
  };
}

function listsOf(entries: Iterable<TreeEntry>): Uint8Array[] {
  const cutter = new TreeListCutter();
  const lists: Uint8Array[] = [];
  for (const entry of entries) lists.push(...cutter.add(entry));
  const last = cutter.end();
  return last ? [...lists, last] : lists;
}

function listOf(entries: Iterable<TreeEntry>): Uint8Array {
  return Buffer.concat(listsOf(entries));
}

function entriesOf(lists: readonly Uint8Array[]): TreeEntry[] {
  const reader = new TreeListReader("t");
  const entries = lists.flatMap((list) => [...reader.entries(list)]);
  reader.end();
  return entries;
}

test("entries of every kind come back as they were, also a chunk list that no blob could hold", () => {
  const metadata = { mode: 0o4755, uid: 0, gid: 0, mtimeNs: 0n, xattrs: new Map([["user.x", Buffer.from([0, 255])]]) };
  const given: TreeEntry[] = [
    directory(""),
    file("a", 3, { group: 5, metadata }),
    file("b\xff\xfe", 700_000),
    file("c", 0, { size: 0 }),
    {
      tree: "t",
      path: "d" as TreePath,
      offset: offset(2),
      kind: "link",
      uid: 1,
      gid: 1,
      mtimeNs: 7n,
      target: byteString(Buffer.from("../\xfe")),
    },
  ];
  const lists = listsOf(given);
  expect(lists.length).toBeGreaterThan(5);
  for (const list of lists) expect(list.length).toBeLessThan(5_000_000);
  const found = entriesOf(lists);
  expect(found.map(({ kind, path }) => [kind, path])).toEqual(given.map(({ kind, path }) => [kind, path]));
  expect(Buffer.from((found[2] as FileEntry).chunkList).equals((given[2] as FileEntry).chunkList)).toBe(true);
  expect(plain(found.toSpliced(2, 1))).toEqual(plain(given.toSpliced(2, 1)));
  expect(() => entriesOf(lists.slice(0, 2))).toThrow(RecordProblem);
  expect(() => entriesOf(lists.slice(1))).toThrow(RecordProblem);
});

test("what did not change is the same list again, whatever came before it", () => {
  const paths = Array.from({ length: 20_000 }, (_, at) => `d/${String(at).padStart(6, "0")}`);
  const before = listsOf(paths.map((path) => file(path, 1)));
  const after = listsOf(
    ["d/000000-new", ...paths.slice(0, 10_000), ...paths.slice(10_001)].toSorted().map((path) => file(path, 1)),
  );
  const known = new Set(before.map((list) => Buffer.from(list).toString("latin1")));
  const fresh = after.filter((list) => !known.has(Buffer.from(list).toString("latin1")));
  expect(before.length).toBeGreaterThan(8);
  expect(before.length).toBeLessThan(60);
  expect(fresh.length).toBeLessThanOrEqual(3);
});

test("a base is found, read, and marked as verified; a tree of it is read", async () => {
  const repository = await fixture.open();
  const entries = [
    directory(""),
    ...Array.from({ length: 3000 }, (_, at) => file(`f${String(at).padStart(5, "0")}`, 1)),
  ];
  await using writer = repository.blobs.writer(fixture.signal);
  const lists: Uint8Array[] = [];
  for (const list of listsOf(entries)) lists.push(await writer.add("list", list));
  await writer.finish(fixture.signal);
  const tree = { name: "t", lists, count: entries.length, bytes: 5 };
  const [sample] = fc.sample(manifests, 1);
  if (!sample) throw new Error("no sample");
  const later = await repository.bases.write({ ...sample, offset: offset(12), trees: [tree] }, fixture.signal);
  const earlier = await repository.bases.write({ ...sample, offset: offset(7) }, fixture.signal);
  expect(await repository.bases.list(fixture.signal)).toEqual([earlier, later]);
  const manifest = await repository.bases.read(later, fixture.signal);
  expect(plain(manifest)).toEqual(plain({ ...sample, offset: 12, trees: [tree] }));
  expect(plain(await Array.fromAsync(readTree(repository.blobs, manifest.trees[0] ?? tree, fixture.signal)))).toEqual(
    plain(entries),
  );
  const wrong = readTree(repository.blobs, { ...tree, count: 2 }, fixture.signal);
  await expect(Array.fromAsync(wrong)).rejects.toMatchObject({ code: "OBJECT_CORRUPT" });
  const note = { base: later.uuid, atMs: 5, how: "full" as const, host: "h" };
  await repository.bases.markVerified(note, fixture.signal);
  await repository.bases.markVerified({ ...note, atMs: 9, how: "sample" }, fixture.signal);
  expect(await repository.bases.verified(fixture.signal)).toEqual(
    new Map([[later.uuid, { ...note, atMs: 9, how: "sample" }]]),
  );
  fixture.replace(earlier.name, fixture.bytesOf(later.name));
  const named = { code: "OBJECT_CORRUPT", message: expect.stringContaining(earlier.name) as string };
  await expect(repository.bases.read(earlier, fixture.signal)).rejects.toMatchObject(named);
});
