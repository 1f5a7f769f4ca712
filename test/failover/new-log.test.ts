import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import type { Deployment } from "../support/deployment.ts";
import { FailoverScene, fenceOf, refused } from "../support/failover-scene.ts";
import { NatsServer } from "../support/nats-server.ts";
import { codeOf } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, maxConcurrency: 2 });

async function follows(other: Deployment, promoted: Deployment): Promise<void> {
  await waitFor(
    "the other standby to follow",
    () => comparePages(promoted.standbyDatabase, other.standbyDatabase) === undefined,
  );
}

/** Until a standby has applied all that its primary captured. */
async function caughtUp(standby: Deployment, primary: Deployment): Promise<number> {
  const { offset } = await primary.sync({ applied: false });
  await waitFor("the standby to have it", async () => ((await standby.status()).standby?.offset ?? 0) >= offset);
  return offset;
}

test.concurrent("the servers' disks are lost: a standby goes on as it is, another follows, one that is ahead says so, the old primary is fenced", async () => {
  await using server = await NatsServer.start();
  await using scene = new FailoverScene(server.address);
  const trees = ["{ path: app/uploads, name: uploads }"];
  const { host, app } = await scene.primary("", trees);
  fs.mkdirSync(host.pathOf("uploads"));
  fs.writeFileSync(path.join(host.pathOf("uploads"), "old"), "old");
  const [standby, other, ahead] = [scene.host(), scene.host(), scene.host()];
  const primary = await host.start("capture");
  const agents = await Promise.all([standby, other, ahead].map(async (one) => one.start("replica")));
  await app.run("INSERT INTO t (body) VALUES ('known')");
  for (const one of [standby, other, ahead]) await caughtUp(one, host);
  // Behind by a heartbeat or more, which nobody has any more.
  await agents[1]?.stop();
  await caughtUp(standby, host);
  expect(codeOf(await standby.command("promote", "--new-log"))).toEqual([6, "AGENT_RUNNING"]);
  await agents[0]?.stop();
  expect(codeOf(await standby.command("promote", "--new-log"))).toEqual([6, "LOG_EXISTS"]);
  await app.run("INSERT INTO t (body) VALUES ('on one standby only')");
  const last = await caughtUp(ahead, host);
  await agents[2]?.stop();
  await primary.stop();

  await server.loseStore();
  // An agent that starts meanwhile makes a stream that holds nothing.
  expect(codeOf(await host.launch("capture").exited)).toEqual([1, "LOG_RECREATED"]);
  expect(codeOf(await standby.command("promote", "--timeout", "1s"))).toEqual([1, "LOG_EMPTY"]);
  const would = await standby.answer("promote", "--new-log", "--dry-run");
  const { after } = would["newLog"] as { after: number };
  expect(would).toMatchObject({ epoch: 1000, offset: after + 1, lost: { offsets: null, ms: null }, dryRun: true });
  expect(after).toBeLessThan(last);
  const report = await standby.answer("promote", "--new-log");
  const newLog = { after, source: standby.standby };
  expect(report).toMatchObject({ epoch: 1000, offset: after + 1, lost: { offsets: null }, newLog });
  await standby.start("replica");
  const served = scene.open(standby.standbyDatabase);
  expect(await served.value("SELECT group_concat(body) FROM t")).toBe("first,known");
  await served.run("INSERT INTO t (body) VALUES ('second life')");
  await standby.answer("sync");

  await other.start("replica");
  await follows(other, standby);
  const newcomer = scene.host();
  await newcomer.start("replica");
  await follows(newcomer, standby);
  expect(fs.readFileSync(path.join(newcomer.standbyOf("uploads"), "old"), "utf8")).toBe("old");
  expect(codeOf(await ahead.launch("replica").exited)).toEqual([1, "LOG_DIVERGED"]);
  await ahead.start("replica", "--reseed");
  await follows(ahead, standby);
  const { epochs } = await other.answer("history");
  expect(epochs).toMatchObject([{ epoch: 1000, reason: "new-log", offset: after + 1, lost: null }]);

  host.launch("capture");
  await waitFor("the old primary to be fenced", async () => (await fenceOf(host))?.final === true);
  await refused(app);
});

test.concurrent("all that is left is a repository: an empty standby is built from its newest point and goes on, and so does its repository", async () => {
  await using server = await NatsServer.start();
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary("", ["{ path: app/uploads, name: uploads }"]);
  fs.mkdirSync(host.pathOf("uploads"));
  fs.writeFileSync(path.join(host.pathOf("uploads"), "old"), "old");
  const repository = `repository: ${path.join(host.directory, "repository")}`;
  const [archiving, fresh] = [scene.host(repository), scene.host(repository)];
  expect(codeOf(await fresh.command("promote", "--from-repository"))).toEqual([1, "REPOSITORY_EMPTY"]);
  await host.start("capture");
  const archive = await archiving.start("replica");
  await app.run("INSERT INTO t (body) VALUES ('in the base')");
  await caughtUp(archiving, host);
  await archiving.answer("base", "create");
  await app.run("INSERT INTO t (body) VALUES ('in a segment')");
  await caughtUp(archiving, host);
  // Stores what it has gathered.
  await archive.stop();

  await server.loseStore();
  expect(codeOf(await fresh.command("promote", "--new-log"))).toEqual([2, "STANDBY_FOREIGN"]);
  const report = await fresh.answer("promote", "--from-repository");
  expect(report).toMatchObject({
    ok: true,
    epoch: 1000,
    lost: { offsets: null },
    newLog: { source: expect.stringContaining("repository") },
  });
  await fresh.start("replica");
  const served = scene.open(fresh.standbyDatabase);
  expect(await served.value("SELECT group_concat(body) FROM t")).toBe("first,in the base,in a segment");
  expect(fs.readFileSync(path.join(fresh.standbyOf("uploads"), "old"), "utf8")).toBe("old");
  await served.run("INSERT INTO t (body) VALUES ('second life')");
  await fresh.answer("sync");
  // Its repository goes on with the new log.
  await archiving.start("replica");
  await follows(archiving, fresh);
  await archiving.answer("base", "create");
  const { bases } = (await archiving.answer("bases")) as { bases: { offset: number }[] };
  const { after } = report["newLog"] as { after: number };
  expect(bases.map(({ offset }) => offset > after)).toEqual([false, false, true]);
});

for (const point of pointsOf("promote with a new log")) {
  test.concurrent(`${point}: killed there, the command given again goes on`, async () => {
    await using server = await NatsServer.start();
    await using scene = new FailoverScene(server.address);
    await using crash = new CrashScene({ nats: server.address, set: scene.set });
    const { host } = await scene.primary();
    const primary = await host.start("capture");
    const { deployment } = crash;
    const replica = await deployment.start("replica");
    await replica.stop();
    await primary.kill9();
    await server.loseStore();
    crash.order(point);
    await crash.launch("promote", "--new-log").exited;
    expect(codeOf(await deployment.command("promote"))).toEqual([1, "LOG_EMPTY"]);
    expect(await deployment.answer("promote", "--new-log")).toMatchObject({ epoch: 1000 });
    await deployment.start("replica");
    const served = scene.open(deployment.standbyDatabase);
    await served.run("INSERT INTO t (body) VALUES ('second life')");
    await deployment.answer("sync");
    expect((await deployment.commits()).map(({ cause }) => cause)).toEqual(["copy", "commit"]);
  });
}
