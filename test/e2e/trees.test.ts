import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { versionOf } from "../support/apps/file-writer.ts";
import { Deployment } from "../support/deployment.ts";
import { createFilesTable, runFileWriters } from "../support/file-order.ts";
import { Random } from "../support/random.ts";
import { differences, RandomTree } from "../support/random-tree.ts";

const CONFIG = "files: [{ path: app/uploads, maxDelete: 100% }, { path: app/.env, name: settings/.env }]";

test("killed again and again under all kinds of changes, the standby is the primary in the end", async () => {
  await using deployment = new Deployment({ config: CONFIG });
  const random = new Random("trees killed, end to end");
  const uploads = deployment.pathOf("uploads");
  const env = deployment.pathOf(".env");
  const tree = new RandomTree(uploads, random);
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  fs.writeFileSync(env, "A=0\n");
  tree.change(200);
  for (let round = 1; round <= 4; round += 1) {
    const agent = await deployment.start("run");
    for (let step = 0; step < random.integer(5, 15); step += 1) {
      tree.change(random.integer(1, 30));
      await app.run("INSERT INTO t (body) VALUES (randomblob(3000))");
      await sleep(random.integer(0, 40));
    }
    fs.writeFileSync(env, `A=${round}\n`);
    await agent.kill9();
    tree.change(30);
  }
  const agent = await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  expect(differences(uploads, deployment.standbyOf("uploads"))).toBe("");
  expect(differences(env, deployment.standbyOf("settings/.env"))).toBe("");
  const ended = await agent.stop();
  expect(ended.code, ended.stderr).toBe(0);
});

test("on the living standby no row ever points at a file that is not there, or at an older one", async () => {
  await using deployment = new Deployment({ config: "files: [{ path: app/uploads, maxDelete: 100% }]" });
  const { database, standbyDatabase } = deployment;
  const root = deployment.pathOf("uploads");
  fs.mkdirSync(root);
  await createFilesTable(database);
  await deployment.start("run");
  let writing = true;
  const writers = [0, 1].map((writer) => ({ database, root, writer, commits: 500, delayMs: 3, deleteAge: 30 }));
  // On a busy machine much of it is shown after the last write.
  const ended = runFileWriters(writers, 60_000)
    .then(async () => deployment.sync())
    .finally(() => (writing = false));
  const reader = new Database(standbyDatabase, { readonly: true });
  try {
    const rows = reader.prepare<[], { name: string; version: number }>("SELECT name, version FROM files");
    const one = reader.prepare<[string], { version: number }>("SELECT version FROM files WHERE name = ?");
    const wrong: string[] = [];
    let looked = 0;
    for (let isLast = false; !isLast;) {
      isLast = !writing;
      for (const { name, version } of rows.all()) {
        const found = readVersion(path.join(deployment.standbyOf("uploads"), name), name);
        looked += 1;
        // A row that is gone by now took its file along.
        if ((found === undefined || found < version) && (one.get(name)?.version ?? 0) >= version) {
          wrong.push(`${name} is to be ${version} and is ${found ?? "not there"}`);
        }
      }
      await sleep(1);
    }
    await ended;
    expect(wrong).toEqual([]);
    expect(looked).toBeGreaterThan(500);
  } finally {
    reader.close();
  }
  expect(await deployment.difference()).toBeUndefined();
  expect(differences(root, deployment.standbyOf("uploads"))).toBe("");
});

function readVersion(file: string, name: string): number | undefined {
  try {
    return versionOf(fs.readFileSync(file), name);
  } catch {
    return undefined;
  }
}
