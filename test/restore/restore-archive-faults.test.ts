import fs from "node:fs";
import path from "node:path";

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import { CountingStore } from "../../src/repository/counting-store.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import type { ObjectStore } from "../../src/repository/object-store.ts";
import { restorePoints } from "../../src/restore/restore-points.ts";
import { FaultyStore } from "../support/faulty-store.ts";
import { Random } from "../support/random.ts";
import { ArchiveBench } from "./support/archive-bench.ts";

// One history in two repositories; each test spoils copies of them.
let scene: ArchiveBench;
beforeAll(async () => {
  scene = await ArchiveBench.open();
  await archived("first", "second");
}, 60_000);
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});
beforeEach(() => {
  scene.damaged.length = 0;
  for (const [from, to] of [
    ["first", "one"],
    ["second", "two"],
  ] as const) {
    fs.rmSync(scene.directory(to), { recursive: true, force: true });
    fs.cpSync(scene.directory(from), scene.directory(to), { recursive: true, preserveTimestamps: true });
  }
});

const TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)";
const INSERT = "INSERT INTO t (body) VALUES (randomblob(60000))";

/** Twenty commits and files, bases in the middle, in one repository or in two. */
async function archived(...names: readonly string[]): Promise<void> {
  await scene.commit("app.db", TABLE);
  for (let n = 0; n < 10; n += 1) await scene.commit("app.db", INSERT);
  await scene.change("echo one > one; head -c 500000 /dev/urandom > large");
  for (let n = 0; n < 10; n += 1) await scene.commit("app.db", INSERT);
  for (const name of names) {
    await using repository = await scene.repository("write", new FsStore(scene.directory(name)));
    await scene.archive(repository, { perSegment: 5 });
    for (const at of [8, 20]) await scene.base(repository, offset(at), new Random("a base"));
  }
}

function objects(name: string, prefix: string): string[] {
  const root = path.join(scene.directory(name), prefix);
  const found = fs.readdirSync(root, { recursive: true, encoding: "utf8" }).map((one) => path.join(root, one));
  return found.filter((one) => fs.statSync(one).isFile()).toSorted();
}

const DAMAGES: readonly [string, (file: string) => void][] = [
  [
    "a flipped bit",
    (file) => {
      const data = fs.readFileSync(file);
      const at = Math.floor(data.length / 3);
      data[at] = (data[at] ?? 0) ^ 4;
      fs.writeFileSync(file, data);
    },
  ],
  ["truncated", (file) => fs.truncateSync(file, Math.floor(fs.statSync(file).size / 3))],
  ["missing", (file) => fs.rmSync(file)],
];

const storeOf = (name: string): FaultyStore => new FaultyStore(new FsStore(scene.directory(name)));

/** Repositories by name are read in place, and then once more as if they were elsewhere. */
async function restored(places: readonly (string | FaultyStore)[], to: number | string = "latest"): Promise<void> {
  const named = places.filter((place) => typeof place === "string");
  if (named.length === places.length)
    await restoredFrom(
      named.map((name) => new FsStore(scene.directory(name))),
      to,
    );
  await restoredFrom(
    places.map((place) => (typeof place === "string" ? storeOf(place) : place)),
    to,
  );
}

async function restoredFrom(stores: readonly ObjectStore[], to: number | string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const repositories = [];
  for (const store of stores) repositories.push(stack.use(await scene.repository("read", store)));
  const { directory, offset: at } = await scene.restore(to, { repositories });
  const image = scene.at(at)?.images.get("app.db") ?? Buffer.alloc(0);
  expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), image)).toBe(0);
  fs.rmSync(directory, { recursive: true });
}

test.each(["packs", "segments", "bases"])(
  "%s: another repository's copy is taken, and the damage named",
  async (kind) => {
    for (const [what, damage] of DAMAGES) {
      for (const file of objects("one", kind)) damage(file);
      await restored(["one", "two"]);
      // What is not there is not missed in a list.
      const isMissed = what !== "missing" || kind === "packs";
      expect(scene.damaged.join("\n"), what).toMatch(isMissed ? new RegExp(`${kind}/`) : /^$/);
      scene.damaged.length = 0;
      fs.cpSync(scene.directory("first"), scene.directory("one"), { recursive: true });
    }
  },
);

test.each(["segments/…", "bases/…", "packs/", "segments/", "bases/"])(
  "%s: a repository that goes away there is left out, and said to be",
  async (where) => {
    const call = where.endsWith("…") ? "list" : "get";
    const name = new RegExp(`^${where.replace("…", "")}`);
    for (const [skip, to] of [
      [0, "latest"],
      [1, 18],
      [2, 22],
    ] as const) {
      const away = (): FaultyStore =>
        storeOf("one").on({ call, name, skip, fault: { kind: "fail", code: "STORE_UNREACHABLE" } });
      await restored([away(), "two"], to);
      if (skip === 0) expect(scene.damaged).toContain(`${scene.directory("one")}: the store has a bad day`);
      // Events from the first one on lead there without a base, too.
      await restored([away()], to).catch((error: unknown) =>
        expect(error).toMatchObject({ code: "STORE_UNREACHABLE" }),
      );
      scene.damaged.length = 0;
    }
  },
);

test("contents of files that are damaged where the base is come from the other repository", async () => {
  const byAge = objects("one", "packs").toSorted((one, other) => fs.statSync(one).mtimeMs - fs.statSync(other).mtimeMs);
  fs.rmSync(byAge[0] ?? "");
  fs.rmSync(path.join(scene.directory("two"), "bases"), { recursive: true });
  await restored(["one", "two"]);
  expect(scene.damaged.join("\n")).toContain("packs/");
});

test.each(DAMAGES)("%s: without another copy it is named, and nothing is handed over", async (what, damage) => {
  const left = scene.bench.leftInTargets();
  const [segment = ""] = objects("one", "segments").slice(-2);
  damage(segment);
  await expect(restored(["one"])).rejects.toMatchObject(
    what === "missing"
      ? { code: "OFFSET_NOT_FOUND", message: expect.stringMatching(/cannot be restored; the nearest that can: \d+$/) }
      : { code: "OBJECT_CORRUPT", message: expect.stringContaining(path.basename(segment)) },
  );
  for (const file of objects("one", "packs")) damage(file);
  const message = expect.stringMatching(/packs\/|blob/) as string;
  await expect(restored(["one"], 20)).rejects.toMatchObject({
    code: what === "missing" ? "OBJECT_MISSING" : "OBJECT_CORRUPT",
    message,
  });
  expect(scene.bench.leftInTargets()).toEqual(left);
});

test("objects that were swapped are found", async () => {
  const [first = "", second = ""] = objects("one", "segments");
  const bytes = fs.readFileSync(first);
  fs.copyFileSync(second, first);
  fs.writeFileSync(second, bytes);
  await restored(["one"], 8);
  await expect(restored(["one"], 6)).rejects.toMatchObject({
    code: "OBJECT_CORRUPT",
    message: expect.stringContaining(path.basename(second)),
  });
});

test("pages of the newest base are damaged: an older one is begun with", async () => {
  const packs = objects("one", "packs");
  // Each base was made by a writer of its own, whose packs the later ones are.
  fs.rmSync(packs.toSorted((one, other) => fs.statSync(one).mtimeMs - fs.statSync(other).mtimeMs).at(-1) ?? "");
  await restored(["one"]);
  expect(scene.damaged).toHaveLength(2);
});

test("what lies between ranges cannot be restored, and the nearest that can is named; the list shows them", async () => {
  const segments = objects("one", "segments");
  for (const file of segments.slice(0, 3)) fs.rmSync(file);
  await using repository = await scene.repository("read", new FsStore(scene.directory("one")));
  const restore = (to: string): ReturnType<typeof scene.restore> => scene.restore(to, { repositories: [repository] });
  const { openArchive } = await import("../../src/restore/archive.ts");
  const { signal } = new AbortController();
  const archive = await openArchive({ repositories: [repository], log: undefined, onDamage: () => undefined, signal });
  const { ranges } = await restorePoints(archive.history, archive);
  const last = scene.recorded.at(-1)?.offset;
  expect(ranges).toMatchObject([
    { first: { offset: 8 }, last: { offset: 8 } },
    { first: { offset: 20 }, last: { offset: last } },
  ]);
  await restore("8");
  await restore(ranges[0]?.first.at ?? "");
  const between = new Date(Date.parse(ranges[0]?.first.at ?? "") + 1500).toISOString();
  await expect(restore(between)).rejects.toMatchObject({
    code: "TIME_OUT_OF_RANGE",
    message: expect.stringMatching(/offset 8, the next .*offset 20$/),
  });
  await expect(restore("12")).rejects.toMatchObject({
    code: "OFFSET_NOT_FOUND",
    message: expect.stringContaining("8 and 20"),
  });
  await expect(restore("1")).rejects.toMatchObject({ code: "OFFSET_NOT_FOUND" });
  const early = new Date(Date.parse(ranges[0]?.first.at ?? "") - 500).toISOString();
  await expect(restore(early)).rejects.toMatchObject({
    code: "TIME_OUT_OF_RANGE",
    message: expect.stringContaining("offset 8"),
  });
});

test("commits are fetched once: a plan needs no more than the heads of their segments", async () => {
  await using alone = await ArchiveBench.open();
  await alone.commit("app.db", TABLE);
  const base = await alone.commit("app.db", INSERT);
  for (let n = 0; n < 12; n += 1) await alone.commit("app.db", INSERT);
  await using writing = await alone.repository("write");
  await alone.archive(writing, { after: base, perSegment: 4 });
  await alone.base(writing, base, new Random("a base"));
  const counting = new CountingStore(new FsStore(alone.directory()));
  await using repository = await alone.repository("read", counting);
  const { directory } = await alone.restore("latest", { repositories: [repository] });
  const image = alone.recorded.at(-1)?.images.get("app.db") ?? Buffer.alloc(0);
  expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), image)).toBe(0);
  const all = fs.readdirSync(alone.directory(), { recursive: true, withFileTypes: true }).filter((one) => one.isFile());
  const stored = all.reduce((sum, one) => sum + fs.statSync(path.join(one.parentPath, one.name)).size, 0);
  expect(counting.counts.bytesDown).toBeLessThan(stored * 1.2);
});
