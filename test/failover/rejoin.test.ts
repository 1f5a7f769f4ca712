import fs from "node:fs";
import path from "node:path";

import { afterAll, beforeAll, expect, test, vi } from "vitest";

import type { SqlSession } from "../support/apps/sql-session.ts";
import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import type { Deployment } from "../support/deployment.ts";
import { FailoverScene } from "../support/failover-scene.ts";
import { NatsServer } from "../support/nats-server.ts";
import { type CliResult, lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000, maxConcurrency: 3 });

let server: NatsServer;
beforeAll(async () => {
  server = await NatsServer.start();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const codeOf = ({ code, stderr }: CliResult): unknown[] => [code, lastJson(stderr)["code"]];

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
  trees: readonly string[] = [],
): Promise<Two> {
  const { host: former, app } = await scene.primary("", trees);
  const promoted = scene.host();
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

test.concurrent("nothing diverged: it follows, nothing is saved, and the application's path is empty", async () => {
  await using scene = new FailoverScene(server.address);
  const two = await promotedBeside(scene, async (app) => app.disconnect());
  const report = await two.former.answer("rejoin");
  expect(report).toMatchObject({
    ok: true,
    epoch: 2,
    diverged: { directory: null, databases: [] },
    repaired: { pages: 0 },
  });
  expect(fs.existsSync(two.former.database)).toBe(false);
  await follows(two);
  expect((await two.promoted.commits()).filter(({ cause }) => cause === "copy")).toHaveLength(1);
});

test.concurrent("many commits diverged: what was inserted, updated and deleted is saved, and can be run again", async () => {
  await using scene = new FailoverScene(server.address);
  const two = await promotedBeside(scene, async (app) => {
    await app.run("UPDATE t SET body = 'changed' WHERE body = 'to be changed'");
    await app.run("DELETE FROM t WHERE body = 'to be deleted'");
    for (let i = 0; i < 20; i += 1) await app.run(`INSERT INTO t (id, body) VALUES (${100 + i}, 'diverged ${i}')`);
    await app.disconnect();
  });
  const { former, served } = two;
  const report = await former.answer("rejoin");
  const { diverged } = report as { diverged: { directory: string; databases: { file: string }[] } };
  expect(diverged.databases).toMatchObject([
    { tables: [{ name: "t", inserted: 20, updated: 1, deleted: 1 }], copy: null },
  ]);
  const sql = fs.readFileSync(diverged.databases[0]?.file ?? "", "utf8");
  await follows(two);
  expect(await served.value("SELECT count(*) FROM t WHERE body LIKE 'diverged%'")).toBe(0);
  await served.run(sql);
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

test.concurrent("killed at each step, one after the other, the next call goes on", async () => {
  const trees = ["{ path: app/uploads, name: uploads }"];
  await using scene = new FailoverScene(server.address);
  await using crash = new CrashScene({ nats: server.address, set: scene.set, trees });
  const { deployment: former, app } = crash;
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body)");
  fs.mkdirSync(former.pathOf("uploads"));
  fs.writeFileSync(path.join(former.pathOf("uploads"), "common"), "common");
  const promoted = scene.host("", trees);
  const agent = await former.start("capture");
  await promoted.start("replica");
  await former.answer("sync");
  await agent.kill9();
  await app.run("INSERT INTO t (body) VALUES ('diverged')");
  await app.disconnect();
  await promoted.answer("promote", "--force");
  for (const point of pointsOf("rejoin")) {
    crash.order(point);
    crash.launch("rejoin");
    await crash.diesOf(point, async () => undefined);
    if (point === "rejoin: fence lifted") continue;
    expect(codeOf(await former.launch("replica").exited)[0], point).not.toBe(0);
  }
  expect(await former.answer("rejoin")).toMatchObject({
    ok: true,
    diverged: { databases: [{ tables: [{ inserted: 1 }] }] },
  });
  await using served = scene.open(promoted.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('on the new primary')");
  fs.writeFileSync(path.join(promoted.standbyOf("uploads"), "new"), "new");
  await follows({ former, promoted });
  await waitFor("its files", () => fs.existsSync(path.join(former.standbyOf("uploads"), "new")));
  expect(fs.readFileSync(path.join(former.standbyOf("uploads"), "common"), "utf8")).toBe("common");
});
