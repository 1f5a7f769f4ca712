import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { type Moment, restoreAndKill } from "./support/kill-restore.ts";
import { RestoreBench } from "./support/restore-bench.ts";

const NAMES = ["a.db", "deep/b.db"];

let bench: RestoreBench;
let images: Map<string, Uint8Array>;
let target: string;
beforeEach(async () => {
  bench = await RestoreBench.open();
  images = new Map();
  for (const name of NAMES) {
    const source = bench.source(name);
    await bench.commit(source, "CREATE TABLE t (body BLOB)", { name });
    for (let i = 0; i < 60; i += 1) await bench.commit(source, "INSERT INTO t VALUES (randomblob(50000))", { name });
    images.set(name, source.image);
  }
  target = bench.newTarget();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

async function killedAt(moment: Moment, force: boolean): Promise<boolean> {
  return restoreAndKill(moment, path.join(bench.directory, "log"), target, "latest", ...(force ? ["force"] : []));
}

function isRestored(): boolean {
  return NAMES.every((name) => {
    const file = path.join(target, name);
    return fs.existsSync(file) && Buffer.compare(fs.readFileSync(file), images.get(name) ?? Buffer.alloc(0)) === 0;
  });
}

function siblings(): string[] {
  return fs.readdirSync(path.dirname(target)).toSorted();
}

/** Spread over the phases; the hand-over comes a few milliseconds after `verify` began. */
const MOMENTS: readonly Moment[] = (["write", "check", "verify", "verify"] as const).flatMap((phase) =>
  (phase === "check" ? [0, 40, 90] : [0, 4, 8]).map((ms) => ({ phase, afterMs: ms + Math.random() * 10 })),
);

test(
  "killed at any moment a restore leaves nothing or all of it, and the next one clears up",
  { timeout: 120_000 },
  async () => {
    let unfinished = 0;
    for (const moment of MOMENTS) {
      const finished = await killedAt(moment, false);
      if (!finished) unfinished += 1;
      const exists = fs.existsSync(target);
      expect(exists ? isRestored() : !finished, JSON.stringify(moment)).toBe(true);
      for (const name of siblings()) {
        if (name !== path.basename(target)) expect(name).toMatch(/^\.restored-1\.tidemark-restore-\d+-[0-9a-f]{8}$/);
      }
      fs.rmSync(target, { recursive: true, force: true });
      await bench.restore({ target });
      expect(isRestored(), JSON.stringify(moment)).toBe(true);
      expect(siblings()).toEqual([path.basename(target)]);
      fs.rmSync(target, { recursive: true });
    }
    expect(unfinished).toBeGreaterThan(0);
  },
);

test("killed at any moment with --force it leaves the old content or the new", { timeout: 120_000 }, async () => {
  for (const moment of MOMENTS) {
    fs.mkdirSync(target, { recursive: true });
    fs.writeFileSync(path.join(target, "a.db"), "old");
    await killedAt(moment, true);
    const old = fs.readFileSync(path.join(target, "a.db"), "utf8") === "old";
    expect(old || isRestored(), JSON.stringify(moment)).toBe(true);
    const { kept } = await bench.restore({ target, force: true });
    expect(kept).toBeUndefined();
    expect(isRestored()).toBe(true);
    expect(siblings()).toEqual([path.basename(target)]);
    fs.rmSync(target, { recursive: true });
  }
});

/** What a kill between the two renames of an exchange leaves; too short a moment to hit by chance. */
function leaveExchange(state: { newInPlace: boolean; old: Record<string, string> }): void {
  const work = path.join(path.dirname(target), ".restored-1.tidemark-restore-999999-0123abcd");
  fs.mkdirSync(path.join(work, "old"), { recursive: true });
  fs.writeFileSync(path.join(work, "lock"), "");
  if (!state.newInPlace) fs.mkdirSync(path.join(work, "new"));
  for (const [name, text] of Object.entries(state.old)) fs.writeFileSync(path.join(work, "old", name), text);
}

test("old content that was moved away when the kill came is put back", async () => {
  leaveExchange({ newInPlace: false, old: { "a.db": "old" } });
  await expect(bench.restore({ target })).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
  expect(fs.readFileSync(path.join(target, "a.db"), "utf8")).toBe("old");
  expect(siblings()).toEqual([path.basename(target)]);
});

test("after a kill that came when the new content was in place, only replaced files are removed", async () => {
  await bench.restore({ target });
  leaveExchange({ newInPlace: true, old: { "a.db": "old", "a.db-wal": "old" } });
  await bench.restore({ target, force: true });
  expect(siblings()).toEqual([path.basename(target)]);
  leaveExchange({ newInPlace: true, old: { "notes.txt": "mine" } });
  await bench.restore({ target, force: true });
  expect(fs.readFileSync(path.join(`${target}.before-restore`, "notes.txt"), "utf8")).toBe("mine");
});

test("old content is never deleted because somebody made the target anew", async () => {
  leaveExchange({ newInPlace: false, old: { "a.db": "old" } });
  fs.mkdirSync(target);
  await bench.restore({ target });
  expect(fs.readFileSync(path.join(`${target}.before-restore`, "a.db"), "utf8")).toBe("old");
});
