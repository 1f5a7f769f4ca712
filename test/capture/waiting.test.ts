import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { CaptureFeed } from "../../src/capture/capture-feed.ts";
import { CaptureState } from "../../src/capture/capture-state.ts";
import { LogRoom } from "../../src/capture/sqlite/log-room.ts";
import { SyncRequests } from "../../src/capture/sqlite/sync-requests.ts";
import { offset } from "../../src/event/positions.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";
import { PageIndexStore } from "../../src/sqlite/page-index-store.ts";
import { PageIndex } from "../../src/sqlite/page-index.ts";
import { LogScene, mark, openWriter } from "../support/log-scene.ts";

test("a sync is answered by the next look that succeeds, not by one that fails", async () => {
  const requests = new SyncRequests();
  let answered = false;
  const asked = requests.ask().then(() => (answered = true));
  await expect(requests.answerWith(() => Promise.reject(new Error("a gap")))).rejects.toThrow("a gap");
  expect(answered).toBe(false);
  await requests.answerWith(() => Promise.resolve());
  await asked;
});

test("a sync that no look answered is refused when the agent ends, and later ones say why it ended", async () => {
  const requests = new SyncRequests();
  const asked = requests.ask();
  const reason = new TidemarkError("INTERRUPTED", "the copy was not finished", { hint: "" });
  requests.end(reason);
  await expect(asked).rejects.toBe(reason);
  await expect(requests.ask()).rejects.toBe(reason);
});

test("a log that has room, or is merely slow, is not taken for one that is away", async () => {
  let nowMs = 0;
  let acknowledged = 0;
  const room = Promise.withResolvers<void>();
  const clock = { ...systemClock, monotonic: () => (nowMs += 2500) };
  const waiting = new LogRoom({
    keepsUp: () => false,
    room: () => room.promise,
    acknowledged: () => (acknowledged += 1),
    clock,
  });
  const done = waiting.wait(() => {
    throw new Error("away");
  });
  setTimeout(() => room.resolve(), 2500);
  await done;
});

test("a log that acknowledges nothing is away", async () => {
  let nowMs = 0;
  const clock = { ...systemClock, monotonic: () => (nowMs += 2500) };
  const never = new Promise<void>(() => undefined);
  const waiting = new LogRoom({ keepsUp: () => false, room: () => never, acknowledged: () => 7, clock });
  const away = waiting.wait(() => {
    throw new Error("away");
  });
  await expect(away).rejects.toThrow("away");
});

test("a gap that no start came to close is as old as the first of them", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-doubts-"));
  try {
    using state = new CaptureState(directory, "app");
    expect([...state.doubt(["a.db", "b.db"], 100)]).toEqual([
      ["a.db", 100],
      ["b.db", 100],
    ]);
    state.trust("b.db");
    expect([...state.doubt(["a.db", "b.db"], 200)]).toEqual([
      ["a.db", 100],
      ["b.db", 200],
    ]);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

test("an index whose store was rolled back is stored whole the next time", () => {
  const database = new Database(":memory:");
  const store = new PageIndexStore(database);
  const index = new PageIndex(512, 1n);
  for (let page = 1; page <= 2000; page += 1) index.set(page, new Uint8Array(512).fill(page % 251));
  const save = (at: number, fault?: string): void =>
    database.transaction(() => {
      store.save("app.db", index, offset(at));
      if (fault) throw new Error(fault);
    })();
  save(1);
  index.set(1500, new Uint8Array(512).fill(7));
  expect(() => save(2, "disk full")).toThrow("disk full");
  store.rolledBack();
  save(3);
  expect(new PageIndexStore(database).load("app.db", 1n)?.index.checksum).toBe(index.checksum);
});

test("who waits in vain for a log that is away is waited for once: nothing gathers while it stays away", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  const feed = new CaptureFeed({
    writer,
    writerId: "writer-a",
    clock: systemClock,
    heartbeatMs: 1000,
    onFailure: () => undefined,
  });
  await scene.server.kill();
  feed.send([mark("one")]);
  expect(await feed.flushedWithin(20)).toBe(false);
  const started = performance.now();
  for (let i = 0; i < 1000; i += 1) expect(await feed.flushedWithin(60_000)).toBe(false);
  expect(performance.now() - started).toBeLessThan(10_000);
  await scene.server.start();
  await feed.flush();
  expect(await feed.flushedWithin(20)).toBe(true);
  feed.send([mark("two")]);
  expect(await feed.flushedWithin(10_000)).toBe(true);
});
