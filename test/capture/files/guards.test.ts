import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../../support/apps/sql-session.ts";
import { Deployment } from "../../support/deployment.ts";
import { createFilesTable } from "../../support/file-order.ts";
import { differences } from "../../support/random-tree.ts";
import { waitFor } from "../../support/wait.ts";

const FILES = 30;

function fill(root: string): void {
  fs.mkdirSync(root, { recursive: true });
  for (let number = 0; number < FILES; number += 1) fs.writeFileSync(path.join(root, `${number}`), String(number));
}

test.concurrent("a tree that is suddenly empty halts its files with an alert, and commits go on; --accept-empty says that it is meant", async () => {
  await using deployment = new Deployment({ config: "files: [app/uploads]" });
  const root = deployment.pathOf("uploads");
  const copy = deployment.standbyOf("uploads");
  fill(root);
  await createFilesTable(deployment.database);
  const agent = await deployment.start("run");
  await deployment.sync();
  for (const name of fs.readdirSync(root)) fs.rmSync(path.join(root, name));
  const report = await waitFor("the halt", async () => {
    const now = await deployment.status();
    return now.capture?.files[0]?.state === "halted" && now;
  });
  expect(report.alerts).toContainEqual({
    severity: "critical",
    message: expect.stringMatching(/^files of uploads: (TREE_EMPTIED|MASS_DELETION): /),
  });
  await using app = new SqlSession(deployment.database);
  await app.run("INSERT INTO files VALUES ('row', 1)");
  expect(await deployment.difference()).toBeUndefined();
  expect(fs.readdirSync(copy)).toHaveLength(FILES);
  expect((await agent.stop()).code).toBe(0);
  await deployment.start("run", "--accept-empty");
  await deployment.sync();
  expect(differences(root, copy)).toBe("");
});

test.concurrent("a set of files alone; a tree that is moved away and brought back goes on by itself", async () => {
  await using deployment = new Deployment({ names: [], config: "files: [app/uploads]" });
  const root = deployment.pathOf("uploads");
  fill(root);
  await deployment.start("run");
  await deployment.answer("mark", "full");
  fs.renameSync(root, `${root}-away`);
  const stateNow = async (): Promise<string | undefined> => (await deployment.status()).capture?.files[0]?.state;
  await waitFor("the halt", async () => (await stateNow()) === "halted");
  fs.writeFileSync(path.join(`${root}-away`, "more"), "more");
  fs.renameSync(`${root}-away`, root);
  await waitFor("it goes on", async () => (await stateNow()) === "following");
  await deployment.sync();
  expect(differences(root, deployment.standbyOf("uploads"))).toBe("");
});
