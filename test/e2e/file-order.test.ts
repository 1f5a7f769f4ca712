import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { Deployment } from "../support/deployment.ts";
import { checkRestored, createFilesTable, runFileWriters } from "../support/file-order.ts";
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
  const { offset: first } = await deployment.sync({ applied: false });
  const writers = [0, 1, 2].map((writer) => ({ database, root, writer, commits: 150, delayMs: 2, deleteAge: 30 }));
  await runFileWriters(writers, 60_000);
  const { offset: last } = await deployment.sync({ applied: false });
  let rows = 0;
  for (let looked = 0; looked < OFFSETS; looked += 1) {
    const at = looked === 0 ? last : random.integer(first, last);
    const restored = await deployment.restore(String(at));
    const checked = checkRestored(restored.database, path.join(path.dirname(restored.database), "uploads"));
    expect(checked.wrong, `at ${at}`).toEqual([]);
    rows += checked.rows;
  }
  expect(rows).toBeGreaterThan(OFFSETS);
});
