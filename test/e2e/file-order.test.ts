import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { versionOf } from "../support/apps/file-writer.ts";
import { Deployment } from "../support/deployment.ts";
import { createFilesTable, runFileWriters } from "../support/file-order.ts";
import { Random } from "../support/random.ts";

const OFFSETS = 10;

test("at any offset that is restored, every row's file is there, in the row's version or a later one", async () => {
  await using deployment = new Deployment({ trees: ["{ path: app/uploads, maxDelete: 100% }"] });
  const { database } = deployment;
  const root = deployment.pathOf("uploads");
  const random = new Random("offsets to restore");
  fs.mkdirSync(root);
  await createFilesTable(database);
  await deployment.start("capture");
  const { offset: first } = await deployment.answer("sync");
  const writers = [0, 1, 2].map((writer) => ({ database, root, writer, commits: 150, delayMs: 2, deleteAge: 30 }));
  await runFileWriters(writers, 60_000);
  const { offset: last } = await deployment.answer("sync");
  let rows = 0;
  for (let looked = 0; looked < OFFSETS; looked += 1) {
    const at = looked === 0 ? Number(last) : random.integer(Number(first), Number(last));
    const restored = await deployment.restore(String(at));
    const named = rowsOf(restored.database);
    rows += named.length;
    for (const { name, version } of named) {
      const file = path.join(path.dirname(restored.database), "uploads", name);
      expect(versionOf(fs.readFileSync(file), name), `${name} at ${at}`).toBeGreaterThanOrEqual(version);
    }
  }
  expect(rows).toBeGreaterThan(OFFSETS);
});

function rowsOf(file: string): { name: string; version: number }[] {
  const database = new Database(file, { readonly: true });
  try {
    return database.prepare<[], { name: string; version: number }>("SELECT name, version FROM files").all();
  } finally {
    database.close();
  }
}
