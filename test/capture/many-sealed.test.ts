import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { Checkpointer } from "../../src/capture/sqlite/checkpointer.ts";
import { seal } from "../../src/capture/sqlite/seal.ts";
import { SourceDatabase } from "../../src/capture/sqlite/source-database.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor, within } from "../support/wait.ts";

const NAMES = Array.from({ length: 8 }, (_, index) => `db-${index}.db`);
const ROUNDS_AT_ONCE = 50;
const SEALS = 5;
const PAUSE_MS = 12;
const ROW_BYTES = 16_000;

test("many databases that are never idle and never checkpoint are sealed one by one; no write waits for the other's seal", async () => {
  await using deployment = new Deployment({ names: NAMES, config: "wal: { seal: 256KiB }" });
  const writers = NAMES.map((name) => {
    const database = new Database(deployment.pathOf(name), { timeout: 5000 });
    database.pragma("journal_mode=WAL");
    database.pragma("synchronous=NORMAL");
    database.pragma("wal_autocheckpoint=0");
    database.exec("CREATE TABLE t (value INTEGER, body BLOB)");
    return { name, database, insert: database.prepare(`INSERT INTO t VALUES (?, randomblob(${ROW_BYTES}))`) };
  });
  await deployment.start("run");
  let worstMs = 0;
  let rounds = 0;
  const writeSome = async (): Promise<void> => {
    for (let round = 0; round < ROUNDS_AT_ONCE; round += 1, rounds += 1) {
      for (const { insert } of writers) {
        const started = performance.now();
        insert.run(round);
        worstMs = Math.max(worstMs, performance.now() - started);
      }
      await sleep(PAUSE_MS);
    }
  };
  const sealed = async (): Promise<readonly { name: string; seals: number; repairs: number }[]> =>
    (await deployment.status()).capture?.databases ?? [];
  // A busy machine seals more rarely, not less.
  await waitFor("seals of all", async () => {
    await writeSome();
    const databases = await sealed();
    return databases.length === NAMES.length && databases.every(({ seals }) => seals >= SEALS);
  });
  const walBytes = NAMES.map((name) => fs.statSync(`${deployment.pathOf(name)}-wal`).size);
  expect(await deployment.differing(NAMES)).toEqual([]);
  const databases = await sealed();
  process.stdout.write(
    `${rounds} rounds, seals ${databases.map(({ seals }) => seals).join(" ")}, worst ${Math.round(worstMs)} ms, WALs ${walBytes.join(" ")}\n`,
  );
  expect(databases.map(({ name, repairs }) => [name, repairs])).toEqual(NAMES.map((name) => [name, 0]));
  // None makes a checkpoint of its own; what waits for another database's seals waits for many.
  expect(Math.max(...walBytes)).toBeLessThan((rounds * ROW_BYTES * 3) / 4);
  expect(worstMs).toBeLessThan(1500);
  for (const { database } of writers) database.close();
});

test("a seal that waits for a log that is away keeps no other database from its checkpoints", async () => {
  await using deployment = new Deployment({ names: ["a.db", "b.db"] });
  const writers = ["a.db", "b.db"].map((name) => {
    const database = new Database(deployment.pathOf(name));
    database.pragma("journal_mode=WAL");
    database.exec("CREATE TABLE t (value INTEGER)");
    return database;
  });
  const source = new SourceDatabase(deployment.pathOf("a.db"));
  const log = Promise.withResolvers<void>();
  const waits = Promise.withResolvers<void>();
  {
    await using checkpointer = new Checkpointer();
    const sealed = seal({
      source,
      checkpointer,
      clock: systemClock,
      behind: () => 0,
      capture: async () => undefined,
      captureFirst: async () => {
        waits.resolve();
        await log.promise;
      },
    });
    await waits.promise;
    await within("the other one's checkpoint", 5000, checkpointer.passive(deployment.pathOf("b.db")));
    log.resolve();
    expect(await sealed).toBeDefined();
    for (const name of ["a.db", "b.db"]) await checkpointer.close(deployment.pathOf(name));
  }
  source.close();
  for (const writer of writers) writer.close();
});
