import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { epoch } from "../../src/event/positions.ts";
import { readFence } from "../../src/failover/fence-record.ts";
import { readOffer, writeOffer } from "../../src/failover/offer-record.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { askAgent } from "../../src/observe/control-client.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import type { Deployment } from "../support/deployment.ts";
import { FailoverScene, fenceOf, linesOf, refused } from "../support/failover-scene.ts";
import { openWriter } from "../support/log-scene.ts";
import { natsOfFile } from "../support/nats-of-file.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { codeOf } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000, maxConcurrency: 6 });

// The primary offers its place in its last record: whoever's record comes next has it, and nothing is lost either way.

const server = natsOfFile();

/** Without a process for the command line. */
async function handOver(directory: string, more: Record<string, unknown> = {}): Promise<unknown> {
  const body = { timeoutMs: 20_000, ...more };
  return askAgent(directory, { method: "POST", path: "/switchover", body, timeoutMs: 60_000 });
}

async function epochsOf(host: Deployment): Promise<unknown> {
  return (await host.answer("history"))["epochs"];
}

test.concurrent("a busy primary hands over an encrypted log: nothing is lost, it is fenced and stays locked, the standby captures", async () => {
  await using scene = new FailoverScene(server.address);
  const called = path.join(scene.host().directory, "called");
  const { both } = await scene.encryption();
  const { host, app } = await scene.primary(
    `hooks: { onFence: ['echo fenced "$TIDEMARK_REASON" >> ${called}'] }\n${both}`,
    ["{ path: app/uploads, name: uploads }"],
  );
  fs.mkdirSync(host.pathOf("uploads"));
  const standby = scene.host(`hooks: { onPromote: ['echo promoted "$TIDEMARK_REASON" >> ${called}'] }\n${both}`);
  await host.start("capture");
  await standby.start("replica");
  await app.run("PRAGMA busy_timeout=0");
  let written = 0;
  const busy = (async () => {
    for (;;) written = Number(await app.value("INSERT INTO t (body) VALUES (randomblob(200)) RETURNING id"));
  })();
  busy.catch(() => undefined);
  await waitFor("some commits", () => written > 200);
  fs.writeFileSync(path.join(host.pathOf("uploads"), "new"), "new");
  const before = await host.answer("switchover", "--dry-run");
  expect(before).toMatchObject({ ok: true, epoch: 2, dryRun: true, pausedMs: null, to: { behind: 0 } });

  const report = await host.answer("switchover");
  expect(report).toMatchObject({ ok: true, epoch: 2, lost: { offsets: 0, ms: 0 }, captures: true });
  await expect(busy).rejects.toThrow("locked");
  const served = scene.open(standby.standbyDatabase);
  expect(await served.value("SELECT count(*) FROM t")).toBe(written);
  expect(fs.readFileSync(path.join(standby.standbyOf("uploads"), "new"), "utf8")).toBe("new");
  await served.run("INSERT INTO t (body) VALUES ('on the new primary')");
  await standby.answer("sync");

  expect(await fenceOf(host)).toMatchObject({ final: true, locked: 1, code: 5 });
  const { reason = "", offset } = readFence(host.state) ?? {};
  expect([reason.split(":")[0], offset]).toEqual(["switchover", Number(report["offset"]) - 1]);
  expect(readOffer(host.state)).toBeUndefined();
  await waitFor("both hooks", () => linesOf(called).length === 2);
  expect(linesOf(called).toSorted()).toEqual([`fenced ${reason}`, "promoted switchover"]);
  expect(await epochsOf(standby)).toMatchObject([
    { epoch: 1, reason: "start" },
    { epoch: 2, reason: "switchover", offset: report["offset"], lost: 0 },
  ]);
  expect(codeOf(await host.command("switchover"))).toEqual([5, "FENCED"]);
});

test.concurrent("who cannot take over is refused before anything is locked; who does not is too late for ever", async () => {
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary();
  const standby = scene.host();
  await host.start("capture");
  await app.run("PRAGMA busy_timeout=0");
  expect(codeOf(await host.command("switchover"))).toEqual([6, "STANDBY_MISSING"]);
  const replica = await standby.start("replica");
  expect(codeOf(await standby.command("switchover"))).toEqual([3, "AGENT_NOT_RUNNING"]);
  await expect(handOver(host.state, { to: "elsewhere" })).rejects.toMatchObject({ code: "STANDBY_MISSING" });

  await using other = scene.open(host.database);
  await other.run("BEGIN IMMEDIATE");
  await expect(handOver(host.state, { timeoutMs: 1500 })).rejects.toMatchObject({ code: "DATABASE_BUSY" });
  await other.run("COMMIT");
  await app.run("INSERT INTO t (body) VALUES ('the lock was not to be had')");

  replica.child.kill("SIGSTOP");
  await expect(handOver(host.state, { timeoutMs: 1500 })).rejects.toMatchObject({ code: "STANDBY_BEHIND" });
  await app.run("INSERT INTO t (body) VALUES ('refused')");
  await expect(handOver(host.state, { timeoutMs: 2000, force: true })).rejects.toMatchObject({ code: "TIMEOUT" });
  await app.run("INSERT INTO t (body) VALUES ('undone')");
  expect(await fenceOf(host)).toBeUndefined();
  replica.child.kill("SIGCONT");
  const { offset } = await host.sync({ applied: false });
  await waitFor("the standby to follow", async () => ((await standby.status()).standby?.offset ?? 0) >= offset);
  expect(await epochsOf(host)).toHaveLength(1);
  const offers = (await host.events()).filter(({ body }) => body.kind === "heartbeat" && body.successor !== undefined);
  expect(offers).toHaveLength(1);

  // Somebody promotes another one in that moment.
  replica.child.kill("SIGSTOP");
  const asked = handOver(host.state, { force: true, timeoutMs: 2500 });
  asked.catch(() => undefined);
  await waitFor("the offer", () => readOffer(host.state));
  await scene.takeOver();
  await expect(asked).rejects.toMatchObject({ code: "FENCED" });
  expect(await fenceOf(host)).toMatchObject({ final: true });
});

test.concurrent("the offer and whoever takes it back in the same moment: one of the two is in the log", async () => {
  const won = new Set<string>();
  for (let round = 0; round < 12; round += 1) {
    await using scene = new FailoverScene(server.address);
    const options = { config: natsConfig(server.address), set: scene.set, mode: "write" } as const;
    await using primary = await openJetStreamLog(options);
    await using candidate = await openJetStreamLog(options);
    const identity = { writer: "primary", host: "here" };
    await openWriter(primary, { set: scene.set, identity });
    const { head: offeredAt } = await openWriter(primary, { set: scene.set, identity, successor: "standby" });
    const promotion = { from: epoch(1), contains: undefined, offeredAt };
    const takes = openWriter(candidate, { set: scene.set, identity: { writer: "standby", host: "there" }, promotion });
    const takesBack = openWriter(primary, { set: scene.set, identity });
    const [taken, back] = await Promise.allSettled([takes, takesBack]);
    expect([taken.status, back.status].toSorted()).toEqual(["fulfilled", "rejected"]);
    won.add(taken.status === "fulfilled" ? "taken" : "taken back");
    const refusal = [taken, back].find(({ status }) => status === "rejected") as PromiseRejectedResult;
    expect(refusal.reason).toMatchObject({ code: taken.status === "fulfilled" ? "FENCED" : "PROMOTED_ELSEWHERE" });
  }
});

test.concurrent("a primary whose only standby is its own hands over to nobody", async () => {
  await using scene = new FailoverScene(server.address);
  const { host } = await scene.primary();
  await host.start("run");
  expect(codeOf(await host.command("switchover", "--force"))).toEqual([6, "STANDBY_MISSING"]);
});

test.concurrent("killed with the offer out, and the log is away: locked until it says who the primary is, and says so", async () => {
  await using mine = await NatsServer.start();
  await using scene = new FailoverScene(mine.address);
  const { host, app } = await scene.primary();
  await (await host.start("capture")).kill9();
  writeOffer(host.state, { set: scene.set, to: "another host", at: "" });
  await mine.kill();
  host.launch("capture");
  await refused(app);
  expect(await fenceOf(host)).toMatchObject({ final: false, locked: 1, code: 5 });
  expect((await fenceOf(host))?.reason).toMatch(
    /handing over to another host when it ended; the log .* did not answer/,
  );
  await mine.start();
  await app.run("PRAGMA busy_timeout=20000");
  await app.run("INSERT INTO t (body) VALUES ('the log is back')");
  expect(await fenceOf(host)).toBeUndefined();
  expect(readOffer(host.state)).toBeUndefined();
});

test.concurrent("killed at every step on either side: the next start asks the log, and there is one primary", async () => {
  await using scene = new FailoverScene(server.address);
  await using one = new CrashScene({ nats: server.address, set: scene.set, config: "heartbeat: 500ms" });
  await using two = new CrashScene({ nats: server.address, set: scene.set, config: "heartbeat: 500ms" });
  const three = scene.host();
  await one.createDatabase();
  await one.launch("capture").waitReady();
  await two.launch("replica").waitReady();
  const { state } = one.deployment;
  await one.app.run("PRAGMA busy_timeout=0");
  const goesOn = async (): Promise<void> => {
    await one.launch("capture").waitReady();
    await waitFor("the application to write", async () => one.insert(1, 10).then(() => true));
    expect(readOffer(state)).toBeUndefined();
  };
  const [locked, drained, noted, offered, taken] = pointsOf("switchover");
  if (!locked || !drained || !noted || !offered || !taken) throw new Error("points are missing");

  for (const point of [locked, drained, noted]) {
    one.order(point);
    await one.diesOf(point, async () => handOver(state).catch(() => undefined));
    expect(readOffer(state) !== undefined).toBe(point === noted);
    await goesOn();
  }

  // Nobody takes the offer: the start after that takes it back, and may die of it.
  const standby = two.agent;
  standby?.child.kill("SIGSTOP");
  one.order(offered);
  await one.diesOf(offered, async () => handOver(state, { force: true, timeoutMs: 2500 }).catch(() => undefined));
  for (const point of pointsOf("switchover undone")) {
    one.order(point);
    one.launch("capture");
    await one.diesOf(point, async () => undefined);
    expect(readOffer(state)).toBeDefined();
  }
  await goesOn();
  standby?.child.kill("SIGCONT");

  for (const point of pointsOf("switchover of the standby")) {
    two.order(point);
    const asked = handOver(state, { timeoutMs: 2000 });
    asked.catch(() => undefined);
    await two.diesOf(point, async () => undefined);
    await expect(asked).rejects.toMatchObject({ code: "TIMEOUT" });
    await one.insert(1, 10);
    expect(await epochsOf(one.deployment)).toHaveLength(1);
  }

  // The standby is down, the primary dies: the offer stands until somebody's next record.
  one.order(offered);
  await one.diesOf(offered, async () => handOver(state, { force: true, timeoutMs: 2500 }).catch(() => undefined));
  await two.launch("replica").waitReady();
  const promoted = path.join(two.deployment.standby, ".tidemark");
  await waitFor("it to take over", async () => (await two.deployment.command("sync")).code === 0);
  one.launch("capture");
  await waitFor("the first to be fenced", async () => (await fenceOf(one.deployment))?.final);
  await expect(one.insert(1, 10)).rejects.toThrow("locked");
  expect(readOffer(state)).toBeUndefined();

  await three.start("replica");
  two.order(taken);
  await two.diesOf(taken, async () => handOver(promoted).catch(() => undefined));
  two.launch("replica");
  await waitFor("the second to be fenced", async () => (await fenceOf(two.deployment))?.final);
  const served = scene.open(three.standbyDatabase);
  await waitFor("the third to capture", async () => (await three.command("sync")).code === 0);
  await served.run("INSERT INTO t (body) VALUES ('third life')");
  expect(await epochsOf(three)).toMatchObject([
    { reason: "start", lost: 0 },
    { reason: "switchover", lost: 0 },
    { reason: "switchover", lost: 0 },
  ]);
  await one.kill();
  await two.kill();
});
