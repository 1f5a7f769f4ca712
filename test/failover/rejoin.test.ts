import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { offset } from "../../src/event/positions.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import type { Deployment } from "../support/deployment.ts";
import { FailoverScene } from "../support/failover-scene.ts";
import { natsOfFile } from "../support/nats-of-file.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { codeOf, lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000, maxConcurrency: 3 });

const server = natsOfFile();

interface Two {
  readonly scene: FailoverScene;
  /** The primary, whose agent was killed. */
  readonly former: Deployment;
  readonly app: SqlSession;
  /** Promoted. */
  readonly promoted: Deployment;
  readonly served: SqlSession;
}

/** The primary's agent dies, `meanwhile` its application goes on, and a standby is promoted. */
async function promotedBeside(
  scene: FailoverScene,
  meanwhile: (app: SqlSession) => Promise<unknown>,
  config = "",
): Promise<Two> {
  const { host: former, app } = await scene.primary(config);
  const promoted = scene.host(config);
  const agent = await former.start("capture");
  await promoted.start("replica");
  await app.run("INSERT INTO t (body) VALUES ('common'), ('to be changed'), ('to be deleted')");
  await former.answer("sync");
  await agent.kill9();
  await meanwhile(app);
  await promoted.answer("promote", "--force");
  const served = scene.open(promoted.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('on the new primary')");
  return { scene, former, app, promoted, served };
}

/** The former primary's standby holds what the primary holds. */
async function follows({ former, promoted }: Pick<Two, "former" | "promoted">): Promise<void> {
  await promoted.answer("sync");
  await former.start("replica");
  await waitFor(
    "the former primary to follow",
    () => comparePages(promoted.standbyDatabase, former.standbyDatabase) === undefined,
  );
}

/** A file of the tree `uploads`, below the application's directory or the standby's. */
function upload(root: string, name: string, content?: string): string {
  const file = path.join(root, "uploads", name);
  if (content !== undefined) fs.writeFileSync(file, content);
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "none";
}

const UPLOADS = ["{ path: app/uploads, name: uploads, exclude: ['*.part'] }"];

test.concurrent("there and back: paused and nothing diverged, then rows and files on a host that was promoted", async () => {
  await using scene = new FailoverScene(server.address);
  const { host: one, app } = await scene.primary("", UPLOADS);
  const two = scene.host("", UPLOADS);
  fs.mkdirSync(one.pathOf("uploads"));
  for (const name of ["kept", "changed", "deleted", "local.part"]) upload(one.databaseDirectory, name, name);
  const capture = await one.start("capture");
  const replica = await two.start("replica");
  await one.answer("sync");
  await app.disconnect();
  capture.child.kill("SIGSTOP");
  await two.answer("promote");
  capture.child.kill("SIGCONT");
  await waitFor("it to be fenced", () => fs.existsSync(path.join(one.state, "fenced.json")));
  const served = scene.open(two.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('second')");
  await two.answer("sync");
  expect(codeOf(await one.command("rejoin"))).toEqual([6, "AGENT_RUNNING"]);
  await capture.kill9();
  const nothing = { ok: true, epoch: 2, diverged: { databases: [], trees: [] }, repaired: { pages: 0, bytes: 0 } };
  expect(await one.answer("rejoin", "--dry-run")).toMatchObject({ ...nothing, dryRun: true, refusal: null });
  expect(await one.answer("rejoin")).toMatchObject({ ...nothing, diverged: { directory: null, databases: [] } });
  expect([fs.existsSync(one.database), upload(one.databaseDirectory, "kept")]).toEqual([false, "none"]);
  expect(upload(one.databaseDirectory, "local.part")).toBe("local.part");
  expect(await one.answer("rejoin")).toMatchObject({ already: true });
  await follows({ former: one, promoted: two });

  await replica.kill9();
  await served.run("INSERT INTO t (body) VALUES ('diverged')");
  await served.disconnect();
  upload(two.standby, "changed", "diverged");
  for (const name of ["fresh", "fresh.part"]) upload(two.standby, name, name);
  fs.rmSync(path.join(two.standbyOf("uploads"), "deleted"));
  await one.answer("promote", "--force");
  const expected = { databases: [{ name: "app.db", pages: 1 }], trees: [{ name: "uploads", files: 2, removed: 1 }] };
  expect(await two.answer("rejoin", "--dry-run")).toMatchObject({ diverged: expected });
  const { diverged, repaired } = await two.answer("rejoin");
  expect(diverged).toMatchObject(expected);
  expect(repaired).toMatchObject({ pages: 1, bytes: 4096 + "changed".length + "deleted".length });
  const saved = (diverged as { directory: string }).directory;
  const files = path.join(saved, "files");
  expect(["changed", "fresh", "kept"].map((name) => upload(files, name))).toEqual(["diverged", "fresh", "none"]);
  expect(fs.readFileSync(path.join(files, "uploads.removed"), "utf8")).toBe("deleted\n");
  expect(fs.readFileSync(path.join(saved, "databases/app.db.sql"), "utf8")).toContain("'diverged'");
  const names = ["kept", "changed", "deleted", "fresh", "fresh.part"];
  expect(names.map((name) => upload(two.standby, name))).toEqual(["kept", "changed", "deleted", "none", "fresh.part"]);
  await follows({ former: two, promoted: one });
  // No copy was sent, and no content a second time.
  const events = await one.events();
  expect(events.filter(({ body }) => "cause" in body && body.cause === "copy")).toHaveLength(1);
  expect(events.filter(({ body }) => body.kind === "file.put" && body.path === "kept" && body.data)).toHaveLength(1);
});

test.concurrent("many commits diverged, and the log is encrypted: what was inserted, updated and deleted is saved, and can be run again", async () => {
  await using scene = new FailoverScene(server.address);
  const diverge = async (app: SqlSession): Promise<void> => {
    await app.run("UPDATE t SET body = 'changed' WHERE body = 'to be changed'");
    await app.run("DELETE FROM t WHERE body = 'to be deleted'");
    for (let i = 0; i < 20; i += 1) await app.run(`INSERT INTO t (id, body) VALUES (${100 + i}, 'diverged ${i}')`);
    await app.run("CREATE VIRTUAL TABLE words USING fts5(word)");
    await app.program.end("SIGKILL");
  };
  const { both } = await scene.encryption();
  const two = await promotedBeside(scene, diverge, both);
  const { former, served } = two;
  const report = await former.answer("rejoin");
  const { diverged } = report as { diverged: { directory: string; databases: { file: string; copy: string }[] } };
  expect(diverged.databases).toMatchObject([
    {
      commits: 23,
      tables: [{ name: "t", inserted: 20, updated: 1, deleted: 1 }],
      uncompared: [expect.stringContaining("words")],
    },
  ]);
  const [saved] = diverged.databases;
  await using standby = new SqlSession(former.standbyDatabase);
  // Before any replica has looked at it.
  expect(await standby.value("SELECT group_concat(body) FROM t")).toBe("first,common,to be changed,to be deleted");
  await standby.disconnect();
  await using whole = new SqlSession(saved?.copy ?? "");
  expect(await whole.value("SELECT count(*) FROM t JOIN words")).toBe(0);
  await follows(two);
  expect(await served.value("SELECT count(*) FROM t WHERE body LIKE 'diverged%'")).toBe(0);
  await served.run(fs.readFileSync(saved?.file ?? "", "utf8"));
  expect(await served.value("SELECT group_concat(DISTINCT substr(body, 1, 8)) FROM t")).toBe(
    "first,common,changed,on the n,diverged",
  );
});

test.concurrent("an application has the database open: refused, and named; this host is the primary: refused", async () => {
  await using scene = new FailoverScene(server.address);
  const two = await promotedBeside(scene, async (app) => app.run("INSERT INTO t (body) VALUES ('diverged')"));
  const refusal = await two.former.command("rejoin");
  expect(codeOf(refusal)).toEqual([6, "APPLICATION_RUNNING"]);
  expect(lastJson(refusal.stderr)["message"]).toMatch(/app\.db is open in process \d+ \(node\)/);
  expect(fs.existsSync(two.former.database)).toBe(true);
  expect(codeOf(await two.promoted.command("rejoin"))).toEqual([6, "AGENT_RUNNING"]);
});

test.concurrent("nothing tells the last common state: refused; forced, killed on the way, the old database is kept whole", async () => {
  await using mine = await NatsServer.start();
  await using scene = new FailoverScene(mine.address);
  await using crash = new CrashScene({ nats: mine.address, set: scene.set });
  const { deployment: former, app } = crash;
  const promoted = await leftBehind(scene, crash, "capture");
  await promoted.answer("sync");
  await using log = await openJetStreamLog({ config: natsConfig(mine.address), set: scene.set, mode: "write" });
  await log.trim(offset((await log.bounds()).last - 1));
  await app.run("PRAGMA user_version");
  await app.disconnect();
  expect(codeOf(await former.command("rejoin"))).toEqual([1, "LOG_GAP"]);
  expect(fs.existsSync(former.database)).toBe(true);
  crash.order("rejoin: kept whole");
  crash.launch("rejoin", "--force");
  await crash.diesOf("rejoin: kept whole", async () => undefined);
  const { anew, diverged } = await former.answer("rejoin");
  const kept = path.join((diverged as { directory: string }).directory, "databases/app.db");
  await using whole = new SqlSession(kept);
  expect([anew, await whole.value("SELECT count(*) FROM t WHERE body = 'diverged'")]).toEqual([true, 1]);
  const left = [former.database, path.join(former.state, "fenced.json")].filter((file) => fs.existsSync(file));
  expect(left).toEqual([]);
});

/** The agent of a host with a tree dies, its application commits once more and ends, and a standby is promoted. */
async function leftBehind(scene: FailoverScene, crash: CrashScene, command: "run" | "capture"): Promise<Deployment> {
  const { deployment: former, app } = crash;
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body)");
  fs.mkdirSync(former.pathOf("uploads"));
  upload(former.databaseDirectory, "common", "common");
  const promoted = scene.host();
  const agent = await former.start(command);
  await promoted.start("replica");
  await former.answer("sync");
  await agent.kill9();
  await app.run("INSERT INTO t (body) VALUES ('diverged')");
  await app.disconnect();
  await promoted.answer("promote", "--force");
  return promoted;
}

test.concurrent("killed at each step, one after the other; it kept a standby itself, on another file system", async () => {
  const trees = UPLOADS;
  const shared = fs.mkdtempSync("/dev/shm/tidemark-rejoin-");
  using scope = new DisposableStack();
  scope.defer(() => fs.rmSync(shared, { recursive: true }));
  await using scene = new FailoverScene(server.address);
  await using crash = new CrashScene({
    nats: server.address,
    set: scene.set,
    trees,
    standby: path.join(shared, "standby"),
  });
  const { deployment: former } = crash;
  const promoted = await leftBehind(scene, crash, "run");
  for (const point of pointsOf("rejoin")) {
    crash.order(point);
    crash.launch("rejoin");
    await crash.diesOf(point, async () => undefined);
    if (point !== "rejoin: database moved") continue;
    expect(codeOf(await former.launch("replica").exited)).toEqual([6, "REJOIN_UNFINISHED"]);
  }
  const { diverged } = await former.answer("rejoin");
  expect(diverged).toMatchObject({ databases: [{ tables: [{ inserted: 1 }] }], trees: [] });
  const served = scene.open(promoted.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('on the new primary')");
  upload(promoted.standby, "new", "new");
  await follows({ former, promoted });
  await waitFor("its files", () => upload(former.standby, "new") === "new");
  expect(upload(former.standby, "common")).toBe("common");
});
