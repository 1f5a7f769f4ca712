import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { Program } from "../support/apps/program.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { Random } from "../support/random.ts";
import { lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

const WRITER = path.join(import.meta.dirname, "../support/apps/many-writer.ts");

/** Made by a connection that is closed again: no -wal, no -shm. */
function makeDatabase(file: string, rows = 3): void {
  const database = new Database(file);
  database.pragma("journal_mode=WAL");
  database.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  for (let row = 0; row < rows; row += 1) database.exec("INSERT INTO t (body) VALUES (randomblob(1000))");
  database.close();
}

function removeDatabase(file: string): void {
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(file + suffix, { force: true });
}

async function shows(deployment: Deployment, name: string): Promise<void> {
  await waitFor(`the standby shows ${name}`, async () => {
    return fs.existsSync(deployment.standbyOf(name)) && (await deployment.differing([name])).length === 0;
  });
}

async function states(deployment: Deployment, wanted: Record<string, string>): Promise<void> {
  await waitFor(`status shows ${JSON.stringify(wanted)}`, async () => {
    const found = await deployment.captureStates();
    return Object.entries(wanted).every(([name, state]) => found[name] === state);
  });
}

test("databases that appear under a pattern, become ready, vanish and come back", async () => {
  await using deployment = new Deployment({ patterns: ["*.db", "second/*.db"] });
  fs.mkdirSync(deployment.pathOf("second"));
  makeDatabase(deployment.pathOf("a.db"));
  const agent = await deployment.start("run");

  makeDatabase(deployment.pathOf("b.db"));
  fs.writeFileSync(deployment.pathOf("c.db"), "");
  makeDatabase(deployment.pathOf("second/a.db"), 50);
  await shows(deployment, "b.db");
  await states(deployment, { "a.db": "following", "b.db": "following", "c.db": "waiting" });
  expect(agent.output.stderr.match(/c\.db is an empty file/g)?.length).toBe(1);
  expect(agent.output.stderr).toContain(`${deployment.pathOf("second/a.db")} is not captured`);
  const { alerts } = await deployment.status();
  expect(JSON.stringify(alerts)).toContain("c.db is an empty file");
  expect(JSON.stringify(alerts)).toContain("second/a.db is not captured");
  const synced = await deployment.sync({ applied: false });
  expect(synced["without"]).toEqual(["c.db"]);

  await using app = new SqlSession(deployment.pathOf("c.db"));
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value)");
  await app.run("INSERT INTO t VALUES (randomblob(3000))");
  await shows(deployment, "c.db");

  removeDatabase(deployment.pathOf("b.db"));
  await states(deployment, { "b.db": "vanished", "c.db": "following" });
  expect((await deployment.answer("mark", "without-b"))["without"]).toBeUndefined();
  expect(fs.existsSync(deployment.standbyOf("b.db"))).toBe(true);

  await agent.kill9();
  removeDatabase(deployment.pathOf("a.db"));
  await deployment.start("run");
  await states(deployment, { "a.db": "vanished", "b.db": "vanished", "c.db": "following" });
  // The names stay with their paths: what has the name elsewhere does not get its history.
  expect(fs.statSync(deployment.standbyOf("a.db")).size).toBeLessThan(20_000);

  makeDatabase(deployment.pathOf("b.db"), 7);
  await shows(deployment, "b.db");
  const causes = (await deployment.commits()).filter(({ database }) => database === "b.db").map(({ cause }) => cause);
  expect(causes).toEqual(["copy", "repair"]);
});

test("the first start refuses patterns that lead nowhere, and a bad database that nobody has captured", async () => {
  await using astray = new Deployment({ patterns: ["tenants/*.db"] });
  const { code, stderr } = await astray.command("run");
  expect(code).toBe(2);
  expect(lastJson(stderr)).toMatchObject({ code: "CONFIG", message: expect.stringContaining("nothing matches") });
  expect(fs.existsSync(astray.state)).toBe(false);

  await using deployment = new Deployment({ names: ["a.db", "b.db"] });
  makeDatabase(deployment.pathOf("a.db"));
  const missing = await deployment.command("run");
  expect(missing.code).toBe(2);
  expect(lastJson(missing.stderr)).toMatchObject({ code: "DATABASE_MISSING" });
});

test("at a later start a bad database waits, and the others are protected", async () => {
  const names = ["a.db", "b.db", "c.db"];
  await using deployment = new Deployment({ names });
  for (const name of names) makeDatabase(deployment.pathOf(name));
  await (await deployment.start("run")).stop();

  const { database: a } = deployment;
  const kept = fs.readFileSync(a);
  fs.writeFileSync(a, "no database, but long enough to have a header of a hundred bytes".repeat(5));
  removeDatabase(deployment.pathOf("b.db"));
  const agent = await deployment.start("run");
  await using app = new SqlSession(deployment.pathOf("c.db"));
  await app.run("INSERT INTO t (body) VALUES (randomblob(5000))");
  expect(await deployment.differing(["c.db"])).toEqual([]);
  expect(await deployment.captureStates()).toEqual({ "a.db": "waiting", "b.db": "waiting", "c.db": "following" });
  expect(agent.output.stderr.match(/DATABASE_NOT_SQLITE/g)?.length).toBe(1);
  const { rpo, alerts } = await deployment.status();
  expect(rpo.ok).toBe(false);
  expect(alerts.length).toBe(2);

  fs.writeFileSync(a, kept);
  makeDatabase(deployment.pathOf("b.db"), 9);
  await states(deployment, { "a.db": "following", "b.db": "following" });
  expect(await deployment.differing(names)).toEqual([]);
});

test("maxPinned: more databases than may be held open are written in turn, and lose nothing", async () => {
  const names = Array.from({ length: 6 }, (_, i) => `db-${i}.db`);
  await using deployment = new Deployment({ patterns: ["*.db"], config: "maxPinned: 2" });
  for (const name of names) makeDatabase(deployment.pathOf(name));
  const agent = await deployment.start("run");
  const apps = names.map((name) => new SqlSession(deployment.pathOf(name)));
  try {
    const insert = async (i: number, rows = 1): Promise<void> => {
      for (let row = 0; row < rows; row += 1) await apps[i]?.run("INSERT INTO t (body) VALUES (randomblob(2000))");
    };
    for (let round = 0; round < 3; round += 1) for (const i of apps.keys()) await insert(i, 2);
    expect(await deployment.differing(names)).toEqual([]);
    const held = Object.values(await deployment.captureStates()).filter((state) => state === "following");
    expect(held.length).toBe(2);
    expect(openFiles(agent.child.pid ?? 0, names.map(deployment.pathOf.bind(deployment)))).toBe(2);

    // The WAL begins anew while its database rests: nothing but the pages says what was in it.
    await insert(0);
    await insert(1);
    for (const i of [2, 3, 4, 5]) {
      await insert(i);
      await apps[i]?.run("PRAGMA wal_checkpoint(TRUNCATE)");
      await insert(i);
    }
    expect(await deployment.differing(names)).toEqual([]);

    // Killed while some rest, written meanwhile.
    await agent.kill9();
    for (const i of [1, 3, 5]) await insert(i, 3);
    await apps[3]?.run("PRAGMA wal_checkpoint(TRUNCATE)");
    await apps[4]?.disconnect();
    await deployment.start("run");
    for (const i of [0, 4]) await insert(i);
    expect(await deployment.differing(names)).toEqual([]);

    // One that rests is deleted and made anew.
    await waitFor("the first one rests", async () => {
      await insert(4);
      await insert(5);
      return (await deployment.captureStates())["db-0.db"] === "resting";
    });
    await apps[0]?.disconnect();
    removeDatabase(deployment.pathOf("db-0.db"));
    await states(deployment, { "db-0.db": "vanished" });
    makeDatabase(deployment.pathOf("db-0.db"), 5);
    await shows(deployment, "db-0.db");
  } finally {
    for (const app of apps) await app[Symbol.asyncDispose]();
  }
});

/** How many of these databases a process holds open. */
function openFiles(pid: number, files: readonly string[]): number {
  const open = new Set(fs.readdirSync(`/proc/${pid}/fd`).map((fd) => readLink(`/proc/${pid}/fd/${fd}`)));
  return files.filter((file) => open.has(file)).length;
}

function readLink(link: string): string {
  try {
    return fs.readlinkSync(link);
  } catch {
    return "";
  }
}

test("sixty databases, most of them resting, written at random by two applications; the agent is killed twice", async () => {
  const count = 60;
  const random = new Random("sixty databases");
  await using deployment = new Deployment({ patterns: ["db-*.db"], config: "maxPinned: 20" });
  makeDatabase(deployment.pathOf("db-0.db"));
  const writer = (): Program => {
    const args = ["500", String(random.integer(0, 2 ** 31)), deployment.databaseDirectory, String(count)];
    return new Program([process.execPath, WRITER, ...args]);
  };
  await using first = writer();
  const agent = await deployment.start("run");
  await using second = writer();
  await second.line("it writes", (line) => line === "writing");
  await agent.kill9();
  const again = await deployment.start("run");
  await Promise.all([first.exited, second.exited]);
  expect([first.errors, second.errors]).toEqual(["", ""]);
  await again.kill9();
  await deployment.start("run");
  const names = fs.readdirSync(deployment.databaseDirectory).filter((name) => name.endsWith(".db"));
  expect(names.length).toBeGreaterThan(55);
  expect(await deployment.differing(names)).toEqual([]);
});

test("what is stored of a quiet database grows no older than the log, of one that was written it does not", async () => {
  const names = ["written.db", "busy.db", "quiet.db"];
  await using deployment = new Deployment({ names, config: "heartbeat: 100ms\ngranularity: commit" });
  for (const name of names) makeDatabase(deployment.pathOf(name));
  const agent = await deployment.start("run");
  await using written = new SqlSession(deployment.pathOf("written.db"));
  await using busy = new SqlSession(deployment.pathOf("busy.db"));
  // Stored every five seconds: this one is not, yet.
  await written.run("UPDATE t SET body = randomblob(900) WHERE id = 1");
  const many = "INSERT INTO t (body) VALUES (1);".repeat(1100);
  await busy.run(many);
  await waitFor("the quiet one is raised", () => (storedOffsets(deployment)["quiet.db"] ?? 0) > 1000);
  await agent.kill9();
  expect(storedOffsets(deployment)["quiet.db"]).toBeGreaterThan(1000);
  await deployment.start("run");
  await written.run("UPDATE t SET body = randomblob(900) WHERE id = 1");
  expect(await deployment.differing(names)).toEqual([]);
});

/** As of which offset the agent's state holds each database. From a copy: the agent lets nobody in. */
function storedOffsets(deployment: Deployment): Record<string, number> {
  const copy = fs.mkdtempSync(path.join(deployment.directory, "state-copy-"));
  for (const suffix of ["", "-wal"]) {
    fs.copyFileSync(path.join(deployment.state, `capture.db${suffix}`), path.join(copy, `capture.db${suffix}`));
  }
  const database = new Database(path.join(copy, "capture.db"));
  try {
    const rows = database.prepare<[], { name: string; offset: number }>("SELECT name, offset FROM page_index").all();
    return Object.fromEntries(rows.map(({ name, offset }) => [name, offset]));
  } finally {
    database.close();
  }
}

test("a directory that cannot be looked into harms nobody else, and is captured again when it can", async () => {
  const shop = (name: string): string => path.join("shops", name, "app.db");
  await using deployment = new Deployment({
    names: ["other.db"],
    patterns: ["shops/*/*.db", "tenants/*.db"],
    config: "maxPinned: 1",
  });
  for (const directory of ["shops/one", "tenants"]) fs.mkdirSync(deployment.pathOf(directory), { recursive: true });
  for (const file of ["other.db", shop("one"), "tenants/two.db"]) makeDatabase(deployment.pathOf(file));
  const agent = await deployment.start("run");
  await using app = new SqlSession(deployment.pathOf("other.db"));
  const write = async (): Promise<void> => void (await app.run("INSERT INTO t (body) VALUES (randomblob(2000))"));
  await write();
  await states(deployment, { "app.db": "resting", "two.db": "resting" });

  // A loop of links: like a directory without rights, also for root.
  for (const directory of ["shops/one", "tenants"].map((name) => deployment.pathOf(name))) {
    fs.renameSync(directory, `${directory}-away`);
    fs.symlinkSync(path.basename(directory), directory);
  }
  fs.symlinkSync("loop.db", deployment.pathOf("shops/one-away/loop.db"));
  const missed = ["shops/one/app.db", "tenants/two.db"].map((file) => `${deployment.pathOf(file)} cannot be read`);
  await waitFor("both are missed", () => missed.every((text) => agent.output.stderr.includes(text)));
  await write();
  expect(await deployment.differing(["other.db"])).toEqual([]);
  for (const directory of ["shops/one", "tenants"].map((name) => deployment.pathOf(name))) {
    fs.rmSync(directory);
    fs.renameSync(`${directory}-away`, directory);
  }
  await using again = new SqlSession(deployment.pathOf("tenants/two.db"));
  await again.run("INSERT INTO t (body) VALUES (randomblob(2000))");
  await waitFor("the new row is on the standby", async () => {
    await using standby = new SqlSession(deployment.standbyOf("two.db"));
    return (await standby.value("SELECT count(*) FROM t")) === 4;
  });
  expect(agent.output.stderr).not.toContain("retryInMs");
});
