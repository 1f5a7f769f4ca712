import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import type { Repository } from "../../src/repository/repository.ts";
import { encodeExpired } from "../../src/repository/notes.ts";
import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";

const random = new Random("blobs");
let fixture: RepositoryFixture;
beforeEach(() => (fixture = new RepositoryFixture()));
afterEach(async () => fixture[Symbol.asyncDispose]());

/** Ids of these contents, finished. */
async function store(repository: Repository, given: readonly Uint8Array[]): Promise<Uint8Array[]> {
  await using writer = repository.blobs.writer(fixture.signal);
  const ids: Uint8Array[] = [];
  for (const data of given) ids.push(await writer.add("extent", data));
  await writer.finish(fixture.signal);
  return ids;
}

async function readAll(repository: Repository, ids: readonly Uint8Array[]): Promise<Buffer[]> {
  const found: Buffer[] = [];
  for await (const data of repository.blobs.readMany(ids, fixture.signal)) found.push(Buffer.from(data));
  return found;
}

function contents(count: number, bytes: number): Buffer[] {
  return Array.from({ length: count }, () => random.bytes(random.integer(1, bytes)));
}

test("what was stored is read again, in any order, in one process and in another that knows nothing", async () => {
  const given = [...contents(300, 40_000), Buffer.alloc(5_000_000), Buffer.alloc(0)];
  const ids = await store(await fixture.open(), given);
  expect(fixture.names("packs/")).toHaveLength(1);
  for (const fresh of [false, true]) {
    if (fresh) fixture.forgetCache();
    const repository = await fixture.open({ mode: "read" });
    const order = given.map((_, index) => index).sort(() => random.next() - 0.5);
    order.push(...order.slice(0, 5));
    const found = await readAll(
      repository,
      order.map((index) => ids[index] ?? Buffer.alloc(0)),
    );
    expect(found.length).toBe(order.length);
    order.forEach((index, at) => expect(found[at]?.equals(given[index] ?? Buffer.alloc(0))).toBe(true));
  }
});

test("large contents fill packs of about 16 MiB, neighbours come with one request", async () => {
  const repository = await fixture.open();
  // Large random contents are for size only; what is in them is not drawn from the seed.
  const given = Array.from({ length: 100 }, () => randomBytes(256 * 1024));
  const ids = await store(repository, given);
  const sizes = fixture.names("packs/").map((name) => fixture.bytesOf(name).length);
  expect(sizes.length).toBeGreaterThan(1);
  for (const size of sizes) expect(size).toBeLessThan(17 * 1024 * 1024);
  fixture.store.calls.length = 0;
  const found = await readAll(repository, ids);
  expect(found.every((data, index) => data.equals(given[index] ?? data))).toBe(true);
  const gets = fixture.store.calls.filter((call) => call.startsWith("get packs/"));
  expect(gets.length).toBeLessThan(ids.length / 4);
});

test("nothing is stored twice, and a name that others gave is kept", async () => {
  const repository = await fixture.open();
  const [one, other] = [random.bytes(100), random.bytes(100)];
  const given = random.bytes(32);
  await using writer = repository.blobs.writer(fixture.signal);
  const id = await writer.add("extent", one);
  expect(await writer.add("extent", one)).toEqual(id);
  expect(Buffer.from(await writer.add("chunk", other, given))).toEqual(given);
  expect(repository.blobs.has(id)).toBe(false);
  expect((await writer.finish(fixture.signal)).blobs).toBe(2);
  expect(repository.blobs.has(id)).toBe(true);
  await writer.add("extent", one);
  expect(await writer.finish(fixture.signal)).toEqual({ blobs: 0, bytes: 0 });
  expect(Buffer.from(await repository.blobs.read(given, fixture.signal))).toEqual(other);
  expect(repository.blobs.figures()).toMatchObject({ packs: 1, blobs: 2 });
});

test("two writers at once do not harm each other, one repository open twice neither", async () => {
  const [first, second] = [await fixture.open(), await fixture.open({ cacheDirectory: `${fixture.cache}-other` })];
  const shared = contents(50, 2000);
  const own = [contents(50, 2000), contents(50, 2000), contents(50, 2000)] as const;
  const ids = await Promise.all([
    store(first, [...shared, ...own[0]]),
    store(first, [...own[1], ...shared]),
    store(second, [...shared, ...own[2]]),
  ]);
  const all = [...shared, ...own[0], ...own[1], ...shared, ...shared, ...own[2]];
  for (const repository of [first, second]) {
    await repository.blobs.refresh(fixture.signal);
    expect(await readAll(repository, ids.flat())).toEqual(all);
  }
  fs.rmSync(`${fixture.cache}-other`, { recursive: true });
});

test("a put that fails is told, and nothing that was added is lost", async () => {
  const repository = await fixture.open();
  await using writer = repository.blobs.writer(fixture.signal);
  const id = await writer.add("extent", random.bytes(1000));
  fixture.store.on({ call: "put", name: /^packs/, times: 1, fault: { kind: "fail", code: "STORE_UNREACHABLE" } });
  fixture.store.on({ call: "put", name: /^index/, times: 1, fault: { kind: "forget", code: "STORE_UNREACHABLE" } });
  await expect(writer.finish(fixture.signal)).rejects.toMatchObject({ code: "STORE_UNREACHABLE" });
  expect(repository.blobs.has(id)).toBe(false);
  await expect(writer.finish(fixture.signal)).rejects.toMatchObject({ code: "STORE_UNREACHABLE" });
  // Whether the index object is there nobody knows: nothing may refer to what it lists.
  expect(repository.blobs.has(id)).toBe(false);
  await writer.finish(fixture.signal);
  expect(repository.blobs.has(id)).toBe(true);
  expect((await repository.blobs.read(id, fixture.signal)).length).toBe(1000);
});

test("what was given up with one signal is finished with another", async () => {
  const repository = await fixture.open();
  const stop = new AbortController();
  await using writer = repository.blobs.writer(stop.signal);
  fixture.store.on({ call: "put", name: /^packs/, times: 1, fault: { kind: "hang" } });
  const big = Array.from({ length: 20 }, () => randomBytes(1_000_000));
  const ids: Uint8Array[] = [];
  for (const data of big) ids.push(await writer.add("extent", data));
  stop.abort();
  await writer.finish(fixture.signal);
  const found = await readAll(repository, ids);
  expect(found.map((data, index) => data.equals(big[index] ?? data))).toEqual(big.map(() => true));
});

/** Each is found, named, and never handed out. */
test.each(["flipped", "truncated", "removed", "swapped"] as const)(
  "a pack that is %s: another copy is taken, or the pack is named",
  async (damage) => {
    const repository = await fixture.open();
    const given = contents(40, 3000);
    const ids = await store(repository, given);
    const pack = fixture.only("packs/");
    const sound = fixture.bytesOf(pack);
    await store(repository, contents(40, 3000));
    const [other] = fixture.names("packs/").filter((name) => name !== pack);
    const spoilt = {
      flipped: flipped(sound, 20),
      truncated: sound.subarray(0, 30),
      swapped: fixture.bytesOf(other ?? ""),
    };
    if (damage === "removed") fixture.remove(pack);
    else fixture.replace(pack, spoilt[damage]);
    const code = damage === "removed" ? "OBJECT_MISSING" : "OBJECT_CORRUPT";
    const message = expect.stringContaining(pack) as string;
    await expect(repository.blobs.read(ids[0] ?? sound, fixture.signal)).rejects.toMatchObject({ code, message });
    await expect(readAll(repository, ids)).rejects.toMatchObject({ code, message });
    // Another writer, who knew nothing of it, stored the same.
    fixture.remove(fixture.names("index/")[0] ?? "");
    for (const name of fixture.names("index/")) fixture.remove(name);
    await using fresh = await fixture.open({ cacheDirectory: `${fixture.cache}-other` });
    await store(fresh, given);
    expect(await readAll(fresh, ids)).toEqual(given);
    expect(await readAll(repository, ids)).toEqual(given);
    fs.rmSync(`${fixture.cache}-other`, { recursive: true });
  },
);

test.each(["damaged", "lost"])(
  "a %s index object: what it listed is found in the packs, and not referred to any more",
  async (how) => {
    const given = contents(20, 3000);
    const ids = await store(await fixture.open(), given);
    const index = fixture.only("index/");
    if (how === "lost") fixture.remove(index);
    else fixture.replace(index, flipped(fixture.bytesOf(index), -40));
    fixture.forgetCache();
    const repository = await fixture.open();
    expect(await readAll(repository, ids)).toEqual(given);
    expect(ids.some((id) => repository.blobs.has(id))).toBe(false);
    await store(repository, given);
    expect(ids.every((id) => repository.blobs.has(id))).toBe(true);
  },
);

test("a damaged cache is made anew", async () => {
  const given = contents(200, 3000);
  const repository = await fixture.open();
  const ids = await store(repository, given);
  const { id } = repository.config;
  await repository[Symbol.asyncDispose]();
  const file = path.join(fixture.cache, `${id}.db`);
  for (const bytes of [random.bytes(8192), flipped(fs.readFileSync(file), 4096 + 3), Buffer.alloc(0)]) {
    fs.writeFileSync(file, bytes);
    const again = await fixture.open().catch(async () => fixture.open());
    const read = async (): Promise<Buffer[]> => readAll(again, ids);
    const found = await read().catch(async () => {
      await again.blobs.refresh(fixture.signal);
      return read();
    });
    expect(found).toEqual(given);
    await again[Symbol.asyncDispose]();
  }
});

test("what is in packs that are marked for deletion is read, and stored again when it is needed", async () => {
  const repository = await fixture.open();
  const given = contents(5, 3000);
  const ids = await store(repository, given);
  const note = encodeExpired({ atMs: 5, names: [fixture.only("packs/")] });
  await repository.objects.put({ kind: "expired", name: "expired/one" }, note, fixture.signal);
  await repository.blobs.refresh(fixture.signal);
  expect(ids.some((id) => repository.blobs.has(id))).toBe(false);
  expect(await readAll(repository, ids)).toEqual(given);
  await store(repository, given);
  expect(ids.every((id) => repository.blobs.has(id))).toBe(true);
  for (const name of [...fixture.names("expired/"), fixture.names("packs/")[0] ?? ""]) fixture.remove(name);
  expect(await readAll(await fixture.open(), ids)).toEqual(given);
});

test("a damaged mark may be of anything: all is read, nothing is referred to", async () => {
  const repository = await fixture.open();
  const given = contents(5, 3000);
  const ids = await store(repository, given);
  const note = encodeExpired({ atMs: 5, names: ["packs/none"] });
  await repository.objects.put({ kind: "expired", name: "expired/one" }, note, fixture.signal);
  fixture.replace("expired/one", flipped(fixture.bytesOf("expired/one"), 20));
  await repository.blobs.refresh(fixture.signal);
  expect(ids.some((id) => repository.blobs.has(id))).toBe(false);
  expect(await readAll(repository, ids)).toEqual(given);
  fixture.remove("expired/one");
  await repository.blobs.refresh(fixture.signal);
  expect(ids.every((id) => repository.blobs.has(id))).toBe(true);
});

test("a blob that is nowhere is said to be nowhere, after one more look", async () => {
  const repository = await fixture.open();
  const error = { code: "OBJECT_MISSING", message: expect.stringContaining("ab".repeat(32)) as string };
  await expect(repository.blobs.read(Buffer.alloc(32, 0xab), fixture.signal)).rejects.toMatchObject(error);
  await expect(readAll(repository, [Buffer.alloc(32, 0xab)])).rejects.toMatchObject(error);
});

function flipped(bytes: Uint8Array, at: number): Buffer {
  const copy = Buffer.from(bytes);
  const index = at < 0 ? copy.length + at : at;
  copy[index] = (copy[index] ?? 0) ^ 4;
  return copy;
}
