import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { chunksOf, contentName } from "../../../src/event/chunk-list.ts";
import type { ByteString } from "../../../src/event/tree-path.ts";
import { Deployment } from "../../support/deployment.ts";

const FILES = 80;

test("trees that hold the same contents are scanned at once: each content is in the log before the first file that refers to it", async () => {
  await using deployment = new Deployment({ trees: ["app/one", "app/two", "app/three"] });
  new Database(deployment.database).exec("PRAGMA journal_mode=WAL; CREATE TABLE t (a)").close();
  for (const tree of ["one", "two", "three"]) {
    fs.mkdirSync(deployment.pathOf(tree));
    // Some are in a record of their own, some in that of their first file.
    for (let file = 0; file < FILES; file += 1)
      fs.writeFileSync(
        path.join(deployment.pathOf(tree), String(file)),
        `${file}`.repeat(file % 20 === 0 ? 60_000 : 1),
      );
  }
  await deployment.start("run");
  await deployment.sync();
  const known = new Set<ByteString>();
  const early: string[] = [];
  for (const { offset, body } of await deployment.events()) {
    if (body.kind !== "file.chunk" && body.kind !== "file.put") continue;
    if (body.data && body.data.length > 0) known.add(contentName(body));
    if (body.kind === "file.put" && [...chunksOf(body.chunks)].some(({ id }) => !known.has(id)))
      early.push(`${offset} ${body.tree}/${body.path}`);
  }
  expect(early).toEqual([]);
  for (const tree of ["one", "two", "three"]) expect(await deployment.treeDifference(tree)).toBe("");
});
