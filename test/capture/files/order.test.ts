import fs from "node:fs";

import { expect, test } from "vitest";

import { Deployment } from "../../support/deployment.ts";
import { checkOrder, createFilesTable, runFileWriters } from "../../support/file-order.ts";
import { filesBelow, LogFold } from "../../support/log-fold.ts";
import { Random } from "../../support/random.ts";

const OFFSETS = 300;

async function orderOf(delayMs: number, commits: number): Promise<ReturnType<typeof checkOrder>> {
  await using deployment = new Deployment({ config: "files: [{ path: app/uploads, maxDelete: 100% }]" });
  const root = deployment.pathOf("uploads");
  fs.mkdirSync(root);
  const random = new Random("order");
  const { database } = deployment;
  await createFilesTable(database);
  await deployment.start("capture");
  const writers = [0, 1].map((writer) => ({ database, root, writer, commits, delayMs, deleteAge: 50 }));
  await runFileWriters(writers, 60_000);
  await deployment.sync({ applied: false });
  const events = await deployment.events();
  const last = new LogFold();
  for (const event of events) last.apply(event);
  expect(last.files).toEqual(filesBelow(root));
  return checkOrder(events, random, OFFSETS);
}

test("a file that was complete before a commit is before it in the log, a removal after it", async () => {
  const figures = await orderOf(2, 250);
  expect(figures.wrong).toEqual([]);
  expect(figures.consistent).toBeGreaterThan(0);
});

test("also at full speed, with both cores busy", async () => {
  const figures = await orderOf(0, 800);
  expect(figures.wrong).toEqual([]);
  expect(figures.consistent).toBeGreaterThan(0);
});
