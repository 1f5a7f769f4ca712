import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { Checkpointer } from "../../src/capture/sqlite/checkpointer.ts";
import { copyDatabase } from "../../src/capture/sqlite/copy.ts";
import { Follower } from "../../src/capture/sqlite/follower.ts";
import { Shipper } from "../../src/capture/sqlite/shipper.ts";
import { SourceDatabase } from "../../src/capture/sqlite/source-database.ts";
import { pagesPerRecord } from "../../src/event/codec.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { type CrashPoint, onCrashPoint } from "../../src/runtime/crash-point.ts";
import { Waker } from "../../src/runtime/waker.ts";
import { waitFor, within } from "../support/wait.ts";

// What other processes do between two steps of capture. Capture runs in this process, and stands still at every point that
// it passes with its pins and locks until they are done.

let directory: string;
let database: string;
let checkpointer: Checkpointer;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-pins-"));
  database = path.join(directory, "app.db");
  checkpointer = new Checkpointer();
  const application = new Database(database);
  application.exec("PRAGMA journal_mode=WAL; CREATE TABLE t (body BLOB)");
  application.close();
});
afterEach(async () => {
  onCrashPoint(() => undefined);
  await checkpointer[Symbol.asyncDispose]();
  fs.rmSync(directory, { recursive: true });
});

const RESTART = "PRAGMA wal_checkpoint(RESTART);";
const insert = (pages = 1): string => `INSERT INTO t VALUES (zeroblob(${pages * 4096}));`;

/** Another process, which waits for nobody: undefined when it would have to. */
function stranger(sql: string): string | undefined {
  try {
    const input = `PRAGMA wal_autocheckpoint=0;\n${sql}`;
    return execFileSync("sqlite3", ["-bail", database], { input, encoding: "utf8", stdio: "pipe" }).trim();
  } catch (error) {
    if (/locked|busy/.test(String((error as { stderr?: unknown }).stderr))) return undefined;
    throw error;
  }
}

const rows = (): number => Number(stranger("SELECT count(*) FROM t;")?.split("\n").at(-1));

/** Calls `others` wherever capture passes from now on; gives the points. */
function atEveryPoint(others: (point: CrashPoint) => void): Set<CrashPoint> {
  const passed = new Set<CrashPoint>();
  onCrashPoint((point) => {
    passed.add(point);
    others(point);
  });
  return passed;
}

/** The capture of the database, and a log that takes everything until it goes away. */
class Capture implements Disposable {
  readonly source = new SourceDatabase(database);
  readonly follower: Follower;
  readonly #shipper: Shipper;
  hasSlack = true;
  #room = Promise.resolve();

  constructor({ sealBytes }: { sealBytes: number }) {
    this.#shipper = new Shipper(
      {
        database: "app.db",
        seed: 1n,
        send: () => undefined,
        room: async () => this.#room,
        pagesPerRecord,
        nextOffset: () => 1,
      },
      undefined,
    );
    this.follower = new Follower({
      source: this.source,
      shipper: this.#shipper,
      checkpointer,
      clock: systemClock,
      waker: new Waker(),
      granularity: "commit",
      sealBytes,
      keepsUp: () => true,
      hasSlack: () => this.hasSlack,
      mayCheckpoint: () => true,
    });
  }

  /** Ships what there is. */
  async begin(): Promise<void> {
    const nothing = (): Promise<void> => Promise.resolve();
    const { changeCounter } = await copyDatabase({
      source: this.source,
      shipper: this.#shipper,
      gapSinceMs: 0,
      sliceBytes: 1_000_000,
      progress: () => undefined,
      room: nothing,
      sealIfLong: nothing,
      afterSlice: nothing,
    });
    this.follower.startAt(changeCounter);
  }

  /** Looks until there is nothing left to do. @throws WAL_GAP when commits passed unseen */
  async settle(): Promise<void> {
    const { follower } = this;
    await waitFor("rest", async () => !(await follower.look()) && follower.atRest, { everyMs: 1 });
  }

  logGoesAway(): void {
    this.#room = new Promise(() => undefined);
    this.hasSlack = false;
  }

  [Symbol.dispose](): void {
    this.source.close();
  }
}

test("between any two steps of handing a pin on others checkpoint and commit: nothing that is not captured is written over", async () => {
  using capture = new Capture({ sealBytes: Infinity });
  await capture.begin();
  const passed = atEveryPoint(() => void stranger(RESTART + insert()));
  for (let round = 0; round < 4; round += 1) {
    stranger(insert());
    await capture.follower.look();
  }
  onCrashPoint(() => undefined);
  expect(passed).toEqual(
    new Set(["pin: next taken", "ship: commit sent", "pin: captured under both", "pin: handed over"]),
  );
  await capture.settle();
  // On read lock 0: the WAL begins anew once, and then no more.
  for (let round = 0; round < 4; round += 1) stranger(RESTART + insert());
  await capture.settle();
  expect(capture.follower.counters.commits).toBe(rows());
});

test("between any two steps of a seal others checkpoint and commit, or are locked out: nothing passes unseen", async () => {
  using capture = new Capture({ sealBytes: 1 });
  await capture.begin();
  const lockedOut = new Set<CrashPoint>();
  const passed = atEveryPoint((point) => {
    if (stranger(RESTART + insert()) === undefined) lockedOut.add(point);
  });
  stranger(insert());
  await capture.follower.look();
  onCrashPoint(() => undefined);
  expect(passed).toContain("seal: unlocked");
  expect(lockedOut).toContain("seal: let go");
  await capture.settle();
  expect(capture.follower.counters).toMatchObject({ seals: 1, commits: rows() });
});

test("a log that is away is not waited for under the write lock, and while it has no room none is taken", async () => {
  using capture = new Capture({ sealBytes: 1 });
  await capture.begin();
  capture.hasSlack = false;
  const passed = atEveryPoint(() => undefined);
  stranger(insert());
  await capture.follower.look();
  expect([...passed].filter((point) => point.startsWith("seal:"))).toEqual([]);

  capture.hasSlack = true;
  onCrashPoint((point) => {
    if (point !== "seal: captured first") return;
    // More than is shipped between two looks at the log's room.
    stranger(insert(600));
    capture.logGoesAway();
  });
  stranger(insert());
  await within("the seal", 5000, capture.follower.look());
  expect(capture.follower.counters).toMatchObject({ seals: 1, commits: 3 });
});

test("one at a time has the checkpoint worker: nothing of another database's stands before the release of a write lock", async () => {
  const order: string[] = [];
  const sealing = checkpointer.exclusively(async (worker) => {
    expect(await worker.lock(database, 100)).toBe(true);
    await worker.passive(database);
    await worker.unlock(database);
    order.push("unlocked");
  });
  const other = checkpointer.passive(database).then(() => order.push("another checkpoint"));
  await Promise.all([sealing, other]);
  expect(order).toEqual(["unlocked", "another checkpoint"]);
});
