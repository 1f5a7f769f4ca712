import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { FILE_INDEX } from "../../../src/capture/files/file-index.ts";
import { IndexStoring } from "../../../src/capture/files/index-storing.ts";
import { offset } from "../../../src/event/positions.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { Waker } from "../../../src/runtime/waker.ts";
import { TreeScene } from "../../support/tree-scene.ts";
import { waitFor } from "../../support/wait.ts";

/** What an agent that is killed would find. */
function storedIn(directory: string): { offset: unknown; files: unknown; contents: unknown } {
  const db = new Database(path.join(directory, "state", FILE_INDEX));
  const valueOf = (sql: string): unknown => db.prepare(sql).pluck().get();
  const stored = {
    offset: valueOf("SELECT value FROM meta WHERE key = 'offset'"),
    files: valueOf("SELECT count(*) FROM entry WHERE kind = 0 AND stamp <> ''"),
    contents: valueOf("SELECT count(*) FROM content"),
  };
  db.close();
  return stored;
}

test("what the log has is stored by itself, in steps, and again when more is sent", async () => {
  await using scene = await TreeScene.open();
  scene.storing = false;
  const ended = new AbortController();
  const failures: string[] = [];
  const storing = new IndexStoring({
    captures: [scene.tree],
    feed: scene.captureFeed,
    files: scene.feed,
    clock: systemClock,
    onFailure: () => failures.push("it could not be stored"),
  });
  const run = storing.run(ended.signal);
  const captured = async (name: string, files: number): Promise<void> => {
    for (let i = 0; i < files; i += 1) fs.writeFileSync(scene.at(`${name}-${i}`), `${name} ${i}`);
    await scene.scan();
    await waitFor(`${name} is stored`, () => !scene.feed.unstored);
  };
  await captured("one of many", 1500);
  await captured("a late one", 1);
  ended.abort();
  await run;
  storing.throwIfFailed();
  await scene.stop({ store: false });
  expect(storedIn(scene.directory)).toEqual({ offset: scene.known?.offset, files: 1501, contents: 1501 });
  expect(failures).toEqual([]);
  await scene.start();
  await scene.expectSame();
});

class CountedWaits extends Waker {
  waits = 0;

  override async wait(ms: number): Promise<boolean> {
    this.waits += 1;
    return super.wait(ms);
  }
}

test("a store that takes long puts the next one off, but not beyond so many records", async () => {
  const files = { sent: new CountedWaits(), unstored: true };
  const writer = {
    acknowledged: { offset: offset(1000), hash: new Uint8Array(32), timeMs: 0 },
    head: offset(1_000_000),
  };
  let nowMs = 0;
  const stored: number[] = [];
  const storing = new IndexStoring({
    captures: [
      {
        storing: (acknowledged) => {
          stored.push(acknowledged);
          nowMs += 100_000;
          return [];
        },
      },
    ],
    feed: { writer },
    files,
    clock: { ...systemClock, monotonic: () => nowMs },
    onFailure: () => undefined,
  });
  const ended = new AbortController();
  const run = storing.run(ended.signal);
  const reaches = (records: number): void => {
    writer.acknowledged = { ...writer.acknowledged, offset: offset(records) };
    files.sent.wake();
  };
  await waitFor("the first store, and waiting for the next", () => stored.length === 1 && files.sent.waits > 0);
  const { waits } = files.sent;
  reaches(25_999);
  await waitFor("it was looked at", () => files.sent.waits > waits);
  expect(stored).toEqual([1000]);
  reaches(26_000);
  await waitFor("the second store", () => stored.length === 2);
  expect(stored).toEqual([1000, 26_000]);
  ended.abort();
  await run;
});
