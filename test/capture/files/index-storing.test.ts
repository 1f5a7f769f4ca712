import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { FILE_INDEX } from "../../../src/capture/files/file-index.ts";
import { IndexStoring } from "../../../src/capture/files/index-storing.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
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
