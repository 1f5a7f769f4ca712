import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import { encodeRecord, NO_PREVIOUS_HASH, recordHash } from "../../src/event/codec.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import { byteString, type TreePath } from "../../src/event/tree-path.ts";
import type { Repository } from "../../src/repository/repository.ts";
import type { ArchivedRecord } from "../../src/repository/segment.ts";
import { encodeTableBlock } from "../../src/repository/table-block.ts";
import { TreeListCutter } from "../../src/repository/tree-list.ts";
import { type VerifyOptions, verifyRepository } from "../../src/repository/verify.ts";
import type { VerifyReport } from "../../src/repository/verify-report.ts";
import { hasCode } from "../../src/runtime/errors.ts";
import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";

const LOG = "3f0c2c9e-8a7b-4e53-9d5e-0a6b1c2d3e4f";
const random = new Random("verify");
const file = random.bytes(50_000);
const fileId = createHash("sha256").update(file).digest();

let fixture: RepositoryFixture;
beforeEach(async () => {
  fixture = new RepositoryFixture();
  await fill(await fixture.open());
});
afterEach(async () => fixture[Symbol.asyncDispose]());

const bodies: readonly EventBody[] = [
  { kind: "genesis", set: "shop", logId: LOG, checksumSeed: 5n, createdBy: "test" },
  { kind: "file.chunk", id: fileId, data: file },
  ...Array.from({ length: 7 }, (_, index): EventBody => ({ kind: "mark", name: `mark ${index}` })),
];

/** The log's records from 1 on, of which the hashes lead from one to the next. */
function records(): ArchivedRecord[] {
  let previousHash = NO_PREVIOUS_HASH;
  return bodies.map((body, index) => {
    const position = { offset: offset(index + 1), timeMs: 1_767_225_600_000 + index * 1000, epoch: epoch(1) };
    const data = encodeRecord({ ...position, previousHash, body });
    previousHash = recordHash(data);
    return { stored: { data }, event: { ...position, bytes: data.length, body } };
  });
}

/** Three segments of three events, two bases, four packs. */
async function fill(repository: Repository): Promise<void> {
  const { signal } = fixture;
  await using writer = repository.blobs.writer(signal);
  await writer.add("chunk", file, fileId);
  await writer.finish(signal);
  const log = records();
  for (const at of [0, 3, 6]) await repository.segments.write({ logId: LOG, records: log.slice(at, at + 3) }, signal);
  for (const at of [4, 8]) {
    const extent = await writer.add("extent", random.bytes(200_000));
    const table = await writer.add("table", encodeTableBlock({ extents: [extent, undefined], patches: [] }));
    const lists = [await writer.add("list", treeList())];
    await writer.finish(signal);
    const database = {
      name: "app.db",
      pageSize: 4096,
      sizePages: 50,
      checksum: 1n,
      offset: offset(at),
      tables: [table],
    };
    await repository.bases.write(
      {
        offset: offset(at),
        timeMs: 1_767_225_600_000,
        epoch: epoch(1),
        logId: LOG,
        hash: recordHash(log[at - 1]?.stored.data ?? Buffer.alloc(0)),
        checksumSeed: 5n,
        databases: [database],
        trees: [{ name: "uploads", lists, count: 1, bytes: file.length }],
        bytesNew: 1,
        bytesAll: 1,
        createdMs: 1_767_225_600_000,
        createdBy: "test",
      },
      signal,
    );
  }
}

function treeList(): Uint8Array {
  const cutter = new TreeListCutter();
  const metadata = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n };
  const chunkList = encodeChunks([{ id: byteString(fileId), size: file.length }]);
  cutter.add({
    kind: "file",
    tree: "uploads",
    path: byteString(Buffer.from("a")) as TreePath,
    offset: offset(2),
    metadata,
    size: file.length,
    hash: fileId,
    group: undefined,
    chunkList,
  });
  return cutter.end() ?? Buffer.alloc(0);
}

async function verify(options: Partial<VerifyOptions> = {}): Promise<VerifyReport> {
  fixture.forgetCache();
  const repository = await fixture.open({ mode: "read" });
  return verifyRepository(repository, {
    share: 1,
    random: () => random.next(),
    signal: fixture.signal,
    onProgress: () => undefined,
    ...options,
  });
}

/** Objects that are told to be wrong. One of index/ or expired/ that seems to be of a later version stops whoever opens the repository. */
async function named(): Promise<string[]> {
  try {
    return (await verify()).problems.map(({ object }) => object);
  } catch (error) {
    if (!hasCode(error, "REPOSITORY_VERSION")) throw error;
    return [/(index|expired)\/[^:]+/.exec(error.message)?.[0] ?? ""];
  }
}

function flip(name: string, at = random.integer(0, fixture.bytesOf(name).length - 1)): number {
  const bytes = fixture.bytesOf(name);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.integer(0, 7));
  fixture.replace(name, bytes);
  return at;
}

test("a sound repository: everything is read once, nothing is found", async () => {
  const report = await verify();
  expect(report).toMatchObject({ problems: [], warnings: [], bases: 2, segments: 3, objects: fixture.names().length });
  const read = [...fixture.names("packs/"), ...fixture.names("segments/")];
  expect(report.checkedBytes).toBe(read.reduce((sum, name) => sum + fixture.bytesOf(name).length, 0));
});

test("a flipped bit in any object but a lock is found, and the object is named", async () => {
  const objects = fixture.names().filter((name) => name !== "config" && !/^(locks|verified)\//.test(name));
  expect(objects.length).toBeGreaterThan(10);
  for (const name of objects) {
    const saved = fixture.bytesOf(name);
    for (let round = 0; round < 6; round += 1) {
      const at = flip(name);
      expect(await named(), `${name}, byte ${at} of ${saved.length}`).toContain(name);
      fixture.replace(name, saved);
    }
  }
});

test("a truncated, a missing, a swapped and a stale object are found too, with what depends on them", async () => {
  for (const name of fixture.names("packs/")) {
    const saved = fixture.bytesOf(name);
    fixture.replace(name, saved.subarray(0, -1));
    expect((await verify({ share: 0 })).problems).toMatchObject([
      { object: name, problem: expect.stringMatching(/bytes, index\/ says/) as string },
    ]);
    fixture.remove(name);
    const [problem] = (await verify({ share: 0 })).problems;
    expect(problem).toMatchObject({ object: name, problem: "it is not there, and index/ names it" });
    expect(problem?.affects.join()).toMatch(/(database app\.db|tree uploads) in the base at offset [48]/);
    fixture.replace(name, saved);
  }
  const [one = "", other = ""] = fixture.names("bases/");
  const [first, second] = [fixture.bytesOf(one), fixture.bytesOf(other)];
  fixture.replace(one, second);
  fixture.replace(other, first);
  expect((await verify({ share: 0 })).problems).toMatchObject([
    { object: one, affects: ["the base at offset 4"] },
    { object: other, affects: ["the base at offset 8"] },
  ]);
});

test("a segment that is gone, or of another log, breaks the chain; a later base bridges it", async () => {
  const [, middle = "", last = ""] = fixture.names("segments/");
  const saved = fixture.bytesOf(last);
  fixture.remove(last);
  // The base at offset 8 is beyond what is archived now, and bridges it.
  expect(await verify()).toMatchObject({
    problems: [],
    warnings: [expect.stringMatching(/^events 7 to 8 are in no readable segment/)],
  });
  fixture.replace(last, saved);
  fixture.remove(middle);
  const { problems, warnings } = await verify();
  expect([problems, warnings]).toMatchObject([[], [expect.stringMatching(/^events 4 to 6 are in no/)]]);
  for (const base of fixture.names("bases/")) fixture.remove(base);
  expect((await verify()).problems).toMatchObject([
    { problem: expect.stringContaining("events 4 to 6 are in no") as string },
  ]);
});

test("content that a file's event needs and no pack holds is missed when events are read", async () => {
  const [pack = ""] = fixture
    .names("packs/")
    .filter((name) => fixture.bytesOf(name).length < 60_000 && fixture.bytesOf(name).includes(file.subarray(0, 64)));
  expect(pack).not.toBe("");
  fixture.remove(pack);
  const { problems } = await verify();
  expect(problems).toHaveLength(1);
  expect(problems[0]?.affects).toEqual(
    expect.arrayContaining(["events 1 to 3", "tree uploads in the base at offset 4"]),
  );
});

test("what an interrupted run has proved is not read again, a sample reads a part", async () => {
  const done = new Set<string>();
  const stop = new AbortController();
  const journal = { has: (name: string) => done.has(name), add: (name: string) => void done.add(name) };
  const onProgress = (): void => {
    if (done.size === 3) stop.abort();
  };
  await expect(verify({ journal, onProgress, signal: stop.signal })).rejects.toThrow(/abort/i);
  expect(done.size).toBe(3);
  await verify({ journal });
  const all = [...fixture.names("packs/"), ...fixture.names("segments/")];
  expect([...done].toSorted()).toEqual(all.toSorted());

  let drawn = 0;
  const every = (): number => ((drawn += 1) % 2 === 0 ? 0.9 : 0.05);
  const { checkedBytes } = await verify({ share: 0.1, random: every });
  expect(checkedBytes).toBeGreaterThan(0);
  expect(checkedBytes).toBeLessThan(all.reduce((sum, name) => sum + fixture.bytesOf(name).length, 0));
});
