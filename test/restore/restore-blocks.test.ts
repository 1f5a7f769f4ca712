import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";

import { FsStore } from "../../src/repository/fs-store.ts";
import type { ByteRange } from "../../src/repository/object-store.ts";
import { Random } from "../support/random.ts";
import { ArchiveBench } from "./support/archive-bench.ts";

const BLOCK_BYTES = 64 * 1024 * 1024;
const random = new Random("restore-blocks");

/** A directory of which it is known what was asked for, and not read in place. */
class WatchedStore extends FsStore {
  readonly asked = { packs: 0, bytes: 0 };

  override async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    const data = await super.get(name, signal, range);
    if (name.startsWith("packs/")) {
      this.asked.packs += 1;
      this.asked.bytes += data.length;
    }
    return data;
  }
}

// A database of three blocks, half of which can be compressed, in two repositories.
let scene: ArchiveBench;
let expected: Uint8Array;
beforeAll(async () => {
  scene = await ArchiveBench.open();
  await scene.commit("app.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  const at = await scene.commit(
    "app.db",
    `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 69)
     INSERT INTO t SELECT i, randomblob(1000000) FROM n UNION ALL SELECT 100 + i, CAST(hex(randomblob(500000)) AS BLOB) FROM n`,
  );
  expected = scene.at(at)?.images.get("app.db") ?? new Uint8Array();
  for (const name of ["first", "second"]) {
    await using repository = await scene.repository("write", new FsStore(scene.directory(name)));
    // The same blobs in both.
    await scene.base(repository, at, new Random("a base", random.seed));
  }
}, 120_000);
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});
beforeEach(() => {
  scene.damaged.length = 0;
  fs.rmSync(scene.directory("copy"), { recursive: true, force: true });
  execFileSync("cp", ["-a", scene.directory("first"), scene.directory("copy")]);
});

/** What was asked for instead of being read in place. */
async function restored(): Promise<WatchedStore["asked"]> {
  const store = new WatchedStore(scene.directory("copy"));
  await using copy = await scene.repository("read", store);
  await using other = await scene.repository("read", new FsStore(scene.directory("second")));
  const { directory } = await scene.restore("latest", { repositories: [copy, other] });
  expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), expected)).toBe(0);
  fs.rmSync(directory, { recursive: true });
  return store.asked;
}

/** The oldest first, which has the beginning of the database. */
function largePacks(): string[] {
  const root = path.join(scene.directory("copy"), "packs");
  const files = fs.readdirSync(root, { recursive: true, encoding: "utf8" }).map((name) => path.join(root, name));
  const packs = files.map((file) => ({ file, stat: fs.statSync(file) })).filter(({ stat }) => stat.isFile());
  return packs
    .filter(({ stat }) => stat.size > 8 * 1024 * 1024)
    .toSorted((one, other) => one.stat.mtimeMs - other.stat.mtimeMs)
    .map(({ file }) => file);
}

test("blocks of a database are read in place, side by side", { timeout: 60_000 }, async () => {
  expect(expected.length).toBeGreaterThan(2 * BLOCK_BYTES);
  // Tables are asked for.
  expect((await restored()).bytes).toBeLessThan(1024 * 1024);
  expect(scene.damaged).toEqual([]);
});

test("of what cannot be read in place the block is fetched again, and nothing else", { timeout: 60_000 }, async () => {
  const [pack = ""] = largePacks();
  fs.rmSync(pack);
  const { bytes } = await restored();
  // What the second repository gives is not counted here.
  expect(bytes).toBeGreaterThan(BLOCK_BYTES / 2);
  expect(bytes).toBeLessThan(BLOCK_BYTES * 1.1);
  expect(scene.damaged.join("\n")).toContain(path.basename(pack));
});

test(
  "of a page that is not what it was the database is fetched again, from where it is sound",
  { timeout: 60_000 },
  async () => {
    const pack = random.pick(largePacks() as [string, ...string[]]);
    const data = fs.readFileSync(pack);
    const at = random.integer(0, data.length / 2);
    data[at] = (data[at] ?? 0) ^ 4;
    fs.writeFileSync(pack, data);
    await restored();
    expect(scene.damaged.join("\n")).toContain(path.basename(pack));
  },
);
