import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";

import { expect, test } from "vitest";

import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { hasCode } from "../../src/runtime/errors.ts";
import { allEvents, bulk, LogScene, openWriter } from "../support/log-scene.ts";
import { codeOf } from "../support/log-records.ts";
import { Random } from "../support/random.ts";

const EVENTS = 32;

async function fill(log: ChangeLog): Promise<void> {
  const writer = await openWriter(log);
  for (let i = 3; i <= EVENTS; i += 1) writer.append([bulk(i, 20_000)]);
  await writer.flush();
}

/** Nobody has the file open. */
function flip(file: string, position: number): void {
  const bytes = fs.readFileSync(file);
  bytes[position] = (bytes[position] ?? 0) ^ 0x10;
  fs.writeFileSync(file, bytes);
}

/** What a reader gets: all of it, or the error. */
async function outcome(log: ChangeLog, intact: unknown): Promise<string> {
  try {
    expect(await allEvents(log)).toEqual(intact);
    return "intact";
  } catch (error) {
    if (!hasCode(error, "LOG_GAP", "LOG_CORRUPT", "RECORD_INVALID", "RECORD_VERSION")) throw error;
    return error.message;
  }
}

test("a bit flipped anywhere in the file of an embedded log: a reader gets all that was written, or an error that names it", async () => {
  const random = new Random("rot in an embedded log");
  const root = fs.mkdtempSync(join(os.tmpdir(), "tidemark-rot-"));
  const directory = join(root, "log");
  const file = join(directory, "log.db");
  {
    await using log = await openEmbeddedLog({ directory, set: "app", mode: "write" });
    await fill(log);
  }
  const saved = fs.readFileSync(file);
  let intact: unknown;
  let found = 0;
  for (let round = 0; round <= 30; round += 1) {
    fs.writeFileSync(file, saved);
    const position = random.integer(4096, saved.length - 1);
    if (round > 0) flip(file, position);
    await using log = await openEmbeddedLog({ directory, set: "app", mode: "read" });
    intact ??= await allEvents(log);
    const what = await outcome(log, intact);
    if (what === "intact") continue;
    found += 1;
    expect(what, `position ${position}`).toMatch(/offset \d+|damaged|malformed/);
  }
  process.stdout.write(`${found} of 30 flips met a record\n`);
  expect(found).toBeGreaterThan(15);
  fs.rmSync(root, { recursive: true });
});

test("a bit flipped in the store of a NATS server: the reader names the record that it lost", async () => {
  await using scene = await LogScene.start();
  const random = new Random("rot in a JetStream store");
  const { server } = scene;
  await fill(await scene.openDirect("write"));
  const intact = await allEvents(await scene.openDirect("read"));
  await server.kill("SIGTERM");
  const saved = server.saveStore();
  const names = fs.readdirSync(server.storeDirectory, { recursive: true }) as string[];
  const file = join(server.storeDirectory, names.find((name) => name.endsWith(".blk")) ?? "");
  const { size } = fs.statSync(file);
  for (let round = 0; round < 4; round += 1) {
    server.restoreStore(saved);
    // Not within the first two records, nor the last.
    flip(file, random.integer(2000, size - 25_000));
    await server.start();
    expect(await outcome(await scene.openDirect("read"), intact)).toMatch(/expected offset \d+, got \d+/);
    await server.kill("SIGTERM");
  }
});

test("a bit flipped in the newest record of a NATS server: its writer knows that there was one", async () => {
  await using scene = await LogScene.start();
  const { server } = scene;
  const writer = await openWriter(await scene.openDirect("write"));
  for (let i = 3; i <= EVENTS; i += 1) writer.append([bulk(i, 20_000)]);
  await writer.flush();
  const { offset, hash } = writer.acknowledged;
  await server.kill("SIGTERM");
  const names = fs.readdirSync(server.storeDirectory, { recursive: true }) as string[];
  const file = join(server.storeDirectory, names.find((name) => name.endsWith(".blk")) ?? "");
  flip(file, fs.statSync(file).size - 5000);
  await server.start();
  const known = { logId: writer.logId, offset, hash };
  expect(await codeOf(openWriter(await scene.openDirect("write"), { known }))).toMatch(/^LOG_(REGRESSED|GAP|CORRUPT)$/);
});
