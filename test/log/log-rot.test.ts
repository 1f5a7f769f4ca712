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
    if (!hasCode(error, "LOG_GAP", "LOG_CORRUPT", "LOG_REGRESSED", "RECORD_INVALID", "RECORD_VERSION")) throw error;
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

/** A stopped NATS server that holds EVENTS records, and its file of messages to damage. */
async function filledStore(scene: LogScene): Promise<{ intact: unknown; saved: string; file: string }> {
  const { server } = scene;
  await fill(await scene.openDirect("write"));
  const intact = await allEvents(await scene.openDirect("read"));
  await server.kill("SIGTERM");
  const names = fs.readdirSync(server.storeDirectory, { recursive: true }) as string[];
  const file = join(server.storeDirectory, names.find((name) => name.endsWith(".blk")) ?? "");
  return { intact, saved: server.saveStore(), file };
}

/** Where the server's entry of each record begins: its length (u32, highest bit for "has headers"), sequence, time, subject, headers … */
function entriesOf(file: string): { start: number; end: number }[] {
  const bytes = fs.readFileSync(file);
  const entries: { start: number; end: number }[] = [];
  for (let start = 0; start < bytes.length;) {
    const end = start + (bytes.readUInt32LE(start) & 0x7fffffff);
    entries.push({ start, end });
    start = end;
  }
  return entries;
}
/** Up to the length of the headers, 4 bytes, of a message with the subject "tidemark.app". */
const ENTRY_HEAD_BYTES = 4 + 8 + 8 + 2 + "tidemark.app".length;

test("a bit flipped in the store of a NATS server: the reader names the record that it lost", async () => {
  await using scene = await LogScene.start();
  const random = new Random("rot in a JetStream store");
  const { server } = scene;
  const { intact, saved, file } = await filledStore(scene);
  const entries = entriesOf(file);
  expect(entries).toHaveLength(EVENTS);
  for (let round = 0; round < 4; round += 1) {
    server.restoreStore(saved);
    // Not one of the first two records, nor the last; what the server does about its own numbers is the next test's.
    const { start = 0, end = 0 } = entries[random.integer(2, EVENTS - 2)] ?? {};
    flip(file, random.integer(start + ENTRY_HEAD_BYTES + 4, end - 1));
    await server.start();
    expect(await outcome(await scene.openDirect("read"), intact)).toMatch(/expected offset \d+, got \d+/);
    await server.kill("SIGTERM");
  }
});

test("a bit flipped in the numbers that a NATS server keeps with a record: a reader is told which one, and never that all was read", async () => {
  await using scene = await LogScene.start();
  const { server } = scene;
  const { intact, saved, file } = await filledStore(scene);
  const { start = 0 } = entriesOf(file)[10] ?? {};
  const cut =
    /its head is 1[01], but offset 32 was seen there before|expected offset 11, got 32 as its head and no such/;
  const places = [
    // The length: the server cuts the stream off there, or hands nothing on from there and says that all is well.
    ...[0, 2, 3].map((at) => ({ at, says: cut })),
    { at: 4, says: /expected offset 11, got 12/ },
    // The length of the headers: its own checksum does not cover it, and the record comes with something before it, or too little.
    { at: ENTRY_HEAD_BYTES, says: /offset 11: what is there is no record/ },
    { at: ENTRY_HEAD_BYTES + 1, says: /offset 11: what is there is no record/ },
  ];
  for (const { at, says } of places) {
    server.restoreStore(saved);
    flip(file, start + at);
    await server.start();
    expect(await outcome(await scene.openDirect("read", { barrenMs: 1_000 }), intact), `byte ${at}`).toMatch(says);
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
