import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { afterAll, beforeAll, expect, test } from "vitest";

import { Program } from "../support/apps/program.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { flipBits } from "../support/bit-rot.ts";
import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { waitFor } from "../support/wait.ts";

// The crash points that only come about when something happens; the others are in crash-points.test.ts.

const PAGE = 4096;
const TRIM = path.join(import.meta.dirname, "../support/crash/trim-log.ts");
const nothing = async (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 50));

let scene: CrashScene;
/** One whose application is closed at once: it takes five seconds until its WAL is emptied. */
let lonely: CrashScene;
beforeAll(async () => {
  lonely = new CrashScene();
  await lonely.createDatabase();
  await lonely.launch().waitReady();
  for (const point of pointsOf("alone")) lonely.order(point);
  await lonely.insert(1, 100);
  await lonely.closeApp();
  scene = new CrashScene({ config: "scrub: 300ms" });
  await scene.createDatabase();
  await scene.launch().waitReady();
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  await lonely[Symbol.asyncDispose]();
});

for (const point of pointsOf("hurry")) {
  test(`${point}: commits at full speed`, async () => {
    await scene.runs();
    scene.order(point);
    await scene.diesOf(point, async () => scene.insert(1, 8000), 0);
    await scene.goesOn();
  });
}

for (const point of pointsOf("blocked")) {
  test(`${point}: an application's checkpoint waits for its own reader`, async () => {
    await using reader = new SqlSession(scene.deployment.database);
    await reader.run("BEGIN");
    await reader.value("SELECT count(*) FROM t");
    await scene.insert(1, 100);
    await scene.runs();
    scene.order(point);
    const checkpoint = scene.app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    await scene.diesOf(point, nothing);
    await reader.run("COMMIT");
    await checkpoint;
    await scene.goesOn();
  });
}

for (const point of pointsOf("reseed")) {
  test(`${point}: a standby is built anew`, async () => {
    await scene.kill();
    scene.order(point);
    scene.launch("replica", "--reseed");
    await scene.diesOf(point, nothing);
    await scene.goesOn();
    await asideIsGone();
  });
}

async function asideIsGone(): Promise<void> {
  const aside = path.join(scene.deployment.standby, ".tidemark", "aside");
  await waitFor("what was moved aside is gone", () => !fs.existsSync(aside));
}

const DAMAGE: Record<"rot on the standby" | "index damaged" | "standby's file gone", () => void> = {
  "rot on the standby": () => flipBits(scene.deployment.standbyDatabase, [20 * PAGE + 1000, 30 * PAGE + 5]),
  "index damaged": () => {
    const state = new Database(path.join(scene.deployment.standby, ".tidemark", "state.db"));
    state.exec("UPDATE page_index SET checksum = '0123456789abcdef'");
    state.close();
  },
  "standby's file gone": () => fs.rmSync(scene.deployment.standbyDatabase),
};

for (const [name, damage] of Object.entries(DAMAGE)) {
  for (const point of pointsOf(name as keyof typeof DAMAGE)) {
    test(`${point}: ${name}`, async () => {
      await scene.runs();
      await scene.stop();
      damage();
      scene.order(point);
      scene.launch();
      await scene.diesOf(point, nothing);
      await scene.goesOn();
      await asideIsGone();
    });
  }
}

for (const point of pointsOf("trim")) {
  test(`${point}: the log is trimmed beside its writer`, async () => {
    const { logDirectory, set } = scene.deployment;
    const before = await scene.deployment.events();
    scene.order(point);
    await using trim = new Program([process.execPath, TRIM, logDirectory, set, String(before.length - 5)], scene.env);
    expect((await trim.exited).signal).toBe("SIGKILL");
    await scene.insert(2, 100);
    await scene.kill();
    await scene.goesOn();
  });
}

for (const point of pointsOf("rot")) {
  test(`${point}: bits rot in the primary's file`, async () => {
    await scene.runs();
    await scene.app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    scene.order(point);
    flipBits(scene.deployment.database, [25 * PAGE + 1000]);
    await scene.diesOf(point, nothing);
    await scene.launch().waitReady();
    const { database, standbyDatabase } = scene.deployment;
    await waitFor("the repair", () => comparePages(database, standbyDatabase) === undefined);
    await scene.goesOn();
  });
}

for (const point of pointsOf("replaced")) {
  test(`${point}: another file takes the database's place`, async () => {
    const { database } = scene.deployment;
    const other = `${database}.new`;
    await scene.runs();
    await scene.insert(1, 100);
    await scene.app.run(`VACUUM INTO '${other}'`);
    await scene.closeApp();
    const changed = new Database(other);
    changed.exec("PRAGMA journal_mode=WAL; UPDATE t SET body = x'' WHERE id = 7");
    changed.close();
    scene.order(point);
    for (const suffix of ["-wal", "-shm"]) fs.rmSync(database + suffix, { force: true });
    fs.renameSync(other, database);
    await scene.diesOf(point, nothing);
    await scene.goesOn();
  });
}

for (const point of pointsOf("alone")) {
  test(`${point}: everybody else has closed the database`, async () => {
    await lonely.diesOf(point, nothing);
    expect(fs.statSync(`${lonely.deployment.database}-wal`).size).toBe(0);
    await lonely.goesOn();
    expect(await lonely.deployment.repairs()).toBe(0);
  });
}
