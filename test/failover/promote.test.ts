import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import type { LogEvent } from "../../src/event/kinds.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import type { LogWriter } from "../../src/log/log-writer.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { comparePages } from "../support/compare.ts";
import { Deployment } from "../support/deployment.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { FailoverScene, fenceOf, linesOf, refused } from "../support/failover-scene.ts";
import { openWriter } from "../support/log-scene.ts";
import { NatsCluster } from "../support/nats-cluster.ts";
import { natsOfFile } from "../support/nats-of-file.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { codeOf, lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000, maxConcurrency: 3 });

const server = natsOfFile();

/** Until another standby of the set holds the same pages as the one that was promoted. */
async function follows(other: Deployment, promoted: Deployment): Promise<void> {
  await waitFor(
    "the other standby to follow",
    () => comparePages(promoted.standbyDatabase, other.standbyDatabase) === undefined,
  );
}

async function readAll(log: ChangeLog): Promise<LogEvent[]> {
  const { first } = await log.bounds();
  const events: LogEvent[] = [];
  const { signal } = new AbortController();
  for await (const batch of readEvents(log, { after: offset(first - 1), follow: false, signal })) events.push(...batch);
  return events;
}

test.concurrent("it captures, stays it after a restart, another standby follows, the paused primary is fenced", async () => {
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary("", ["{ path: app/uploads, name: uploads }"]);
  fs.mkdirSync(host.pathOf("uploads"));
  fs.writeFileSync(path.join(host.pathOf("uploads"), "old"), "old");
  const called = path.join(host.directory, "called");
  const hook = `hooks: { onPromote: ['echo "$TIDEMARK_SET $TIDEMARK_EPOCH" > ${called}'] }`;
  const [standby, other] = [scene.host(hook), scene.host()];
  const primary = await host.start("capture");
  const agent = await standby.start("replica");
  await other.start("replica");
  await app.run("INSERT INTO t (body) VALUES ('before')");
  await host.answer("sync");

  primary.child.kill("SIGSTOP");
  expect(await standby.answer("promote", "--dry-run")).toMatchObject({ ok: true, epoch: 2, dryRun: true });
  const report = await standby.answer("promote");
  expect(report).toMatchObject({ ok: true, epoch: 2, lost: { offsets: 0, ms: 0 }, hooks: [{ ok: true }] });
  expect(linesOf(called)).toEqual([`${scene.set} 2`]);
  expect(codeOf(await other.command("promote"))).toEqual([6, "PROMOTED_ELSEWHERE"]);
  const served = scene.open(standby.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('written on the promoted one')");
  expect(await served.value("SELECT group_concat(body) FROM t")).toBe("first,before,written on the promoted one");
  fs.writeFileSync(path.join(standby.standbyOf("uploads"), "new"), "new");
  expect(await standby.answer("sync")).toMatchObject({ ok: true });
  await follows(other, standby);
  await waitFor("its files too", () => fs.existsSync(path.join(other.standbyOf("uploads"), "new")));
  expect(await standby.answer("promote")).toMatchObject({ epoch: 2, already: true });

  primary.child.kill("SIGCONT");
  await refused(app);
  expect(await fenceOf(host)).toMatchObject({ final: true, locked: 1 });
  // It has no standby: what would be promoted is an empty directory.
  expect(codeOf(await host.command("promote", "--force"))).toEqual([6, "STANDBY_BEHIND"]);
  expect(fs.existsSync(host.standby)).toBe(false);

  await agent.stop();
  await served.run("INSERT INTO t (body) VALUES ('while no agent ran')");
  expect(codeOf(await standby.launch("replica", "--reseed").exited)).toEqual([2, "STANDBY_FOREIGN"]);
  await standby.start("replica");
  await served.run("INSERT INTO t (body) VALUES ('captured again')");
  await standby.answer("sync");
  await follows(other, standby);
  const { epochs } = await other.answer("history");
  expect(epochs).toMatchObject([
    { epoch: 1, reason: "start", lost: 0 },
    { epoch: 2, reason: "promotion", offset: report["offset"], lost: 0 },
  ]);
  const events = await other.events();
  // No page and no content was sent again.
  const sent = events.filter(({ body }) => "cause" in body && body.cause === "copy");
  const contents = events.filter(({ body }) => body.kind === "file.put" && body.path === "old" && body.data);
  expect([sent.length, contents.length]).toEqual([1, 1]);
});

test.concurrent("two standbys at once: one wins, the other says so and goes on as a standby", async () => {
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary();
  const standbys = [scene.host(), scene.host()] as const;
  const primary = await host.start("capture");
  for (const standby of standbys) await standby.start("replica");
  await primary.kill9();
  const results = await Promise.all(standbys.map(async (standby) => standby.command("promote")));
  const winner = results.findIndex(({ code }) => code === 0);
  const [won, lost] = [standbys[winner], standbys[1 - winner]];
  const refusedOne = results[1 - winner];
  if (!won || !lost || !refusedOne) throw new Error(JSON.stringify(results));
  expect(codeOf(refusedOne)).toEqual([6, "PROMOTED_ELSEWHERE"]);
  await app.disconnect();
  const served = scene.open(won.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('second life')");
  await won.answer("sync");
  await follows(lost, won);
  expect((await lost.answer("history"))["epochs"]).toHaveLength(2);
});

test.concurrent("of candidates that append in the same moment exactly one begins the epoch", async () => {
  await using scene = new FailoverScene(server.address);
  const options = { config: natsConfig(server.address), set: scene.set, mode: "write" } as const;
  await using first = await openJetStreamLog(options);
  await openWriter(first, { set: scene.set });
  const candidates = [1, 2, 3, 4].map(async (number) => {
    await using log = await openJetStreamLog(options);
    const identity = { writer: `candidate-${number}`, host: "here" };
    const { head } = await openWriter(log, {
      set: scene.set,
      identity,
      promotion: { from: epoch(1), contains: undefined },
    });
    return head;
  });
  const ended = await Promise.allSettled(candidates);
  expect(ended.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  const refusals = ended.flatMap((one) => (one.status === "rejected" ? [(one.reason as { code: string }).code] : []));
  expect(refusals).toEqual(Array(3).fill("PROMOTED_ELSEWHERE"));
  // Nor does the host before come back by itself, however long the promoted one is silent.
  await using late = await openJetStreamLog(options);
  const back = openWriter(late, { set: scene.set, foreignWriterGraceMs: 0 });
  await expect(back).rejects.toMatchObject({ code: "LOG_FOREIGN_WRITER" });
});

/** A candidate whose tries each meet a record of the primary that was a moment faster, at most so often. */
async function candidateBehind(
  scene: FailoverScene,
  { faster, withinMs }: { readonly faster: number; readonly withinMs: number },
): Promise<{ readonly tries: number; readonly outcome: PromiseSettledResult<LogWriter> }> {
  const options = { config: natsConfig(server.address), set: scene.set, mode: "write" } as const;
  await using log = await openJetStreamLog(options);
  await using another = await openJetStreamLog(options);
  const primary = await openWriter(log, { set: scene.set });
  const heartbeat = (): Promise<unknown> =>
    primary.append([{ kind: "heartbeat", writer: "primary", host: "there" }]).acknowledged;
  let tries = 0;
  const late = new Proxy(another, {
    get(target, name) {
      if (name === "append") {
        return async (...args: Parameters<typeof target.append>) => {
          tries += 1;
          if (tries <= faster) await heartbeat();
          return target.append(...args);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const promotion = { from: epoch(1), contains: undefined, untilMs: systemClock.monotonic() + withinMs };
  const identity = { writer: "candidate", host: "here" };
  const [outcome] = await Promise.allSettled([openWriter(late, { set: scene.set, identity, promotion })]);
  if (outcome.status === "rejected") await heartbeat();
  return { tries, outcome };
}

test.concurrent("a primary that is faster each time: the promotion is given up when its time is over, and nothing has changed", async () => {
  await using scene = new FailoverScene(server.address);
  const { tries, outcome } = await candidateBehind(scene, { faster: Infinity, withinMs: 200 });
  expect(outcome).toMatchObject({ status: "rejected", reason: { code: "TIMEOUT" } });
  expect(tries).toBeGreaterThan(1);
});

test.concurrent("a primary that is faster many times in a row: the tries do not become rarer", async () => {
  await using scene = new FailoverScene(server.address);
  // Pauses that doubled made it 47 s.
  const { tries, outcome } = await candidateBehind(scene, { faster: 15, withinMs: 20_000 });
  expect([tries, outcome]).toMatchObject([16, { status: "fulfilled", value: { epoch: 2 } }]);
});

test.concurrent("a primary that is alive and busy: it is fenced, and nothing of the log is lost", async () => {
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary();
  const standby = scene.host();
  await host.start("capture");
  await standby.start("replica");
  await app.run("PRAGMA busy_timeout=0");
  let written = 0;
  const busy = (async () => {
    for (;;) written = Number(await app.value("INSERT INTO t (body) VALUES (randomblob(200)) RETURNING id"));
  })();
  busy.catch(() => undefined);
  await waitFor("some commits", () => written > 200);
  expect(await standby.answer("promote")).toMatchObject({ epoch: 2, lost: { offsets: 0, ms: 0 } });
  await expect(busy).rejects.toThrow("locked");
  expect(await fenceOf(host)).toMatchObject({ final: true, locked: 1 });
  const served = scene.open(standby.standbyDatabase);
  const count = Number(await served.value("SELECT count(*) FROM t"));
  expect(await served.value("SELECT max(id) FROM t")).toBe(count);
  expect(count).toBeGreaterThan(200);
});

test.concurrent("behind the log: refused with what would be lost; forced, the others take it back without a new copy", async () => {
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary();
  const [standby, other] = [scene.host(), scene.host()];
  const primary = await host.start("capture");
  await standby.start("replica");
  await other.start("replica");
  await using stranger = new SqlSession(standby.standbyDatabase);
  await stranger.run("BEGIN IMMEDIATE");
  await app.run("INSERT INTO t (body) VALUES ('lost')");
  await host.answer("sync");
  await primary.kill9();
  const before = (await standby.events()).length;
  const refusal = await standby.command("promote", "--timeout", "300ms");
  expect(codeOf(refusal)).toEqual([6, "STANDBY_BEHIND"]);
  expect(lastJson(refusal.stderr)["message"]).toMatch(/would be lost/);
  expect(await standby.events()).toHaveLength(before);
  await waitFor("the other one", async () => comparePages(host.database, other.standbyDatabase) === undefined);
  const report = await standby.answer("promote", "--timeout", "300ms", "--force");
  const { offsets } = report["lost"] as { offsets: number };
  expect(offsets).toBeGreaterThan(0);
  await stranger.run("ROLLBACK");
  await stranger.run("INSERT INTO t (body) VALUES ('instead')");
  await standby.answer("sync");
  await follows(other, standby);
  const { epochs } = await standby.answer("history");
  expect(epochs).toMatchObject([{ lost: 0 }, { epoch: 2, lost: offsets }]);
  expect((await standby.commits()).map(({ cause }) => cause)).toEqual(["copy", "commit", "repair", "commit"]);
});

test.concurrent("what the standby needs was removed from the log: refused, forced with a new copy; and the log away", async () => {
  await using mine = await NatsServer.start();
  await using scene = new FailoverScene(mine.address);
  const { host, app } = await scene.primary();
  const standby = scene.host();
  const primary = await host.start("capture");
  await (await standby.start("replica")).stop();
  await app.run("INSERT INTO t (body) VALUES ('never seen there')");
  await host.answer("mark", "after");
  await primary.kill9();
  await using log = await openJetStreamLog({ config: natsConfig(mine.address), set: scene.set, mode: "write" });
  await log.trim(offset((await log.bounds()).last - 1));
  expect(codeOf(await standby.command("promote"))).toEqual([6, "STANDBY_UNVERIFIED"]);
  expect(await standby.answer("promote", "--force")).toMatchObject({ ok: true, epoch: 2 });
  await standby.start("replica");
  await standby.answer("sync");
  const commits = (await readAll(log)).filter(({ body }) => body.kind === "sqlite.commit");
  expect(commits.map(({ body }) => "cause" in body && body.cause)).toEqual(["copy"]);
  const third = scene.host();
  await mine.kill();
  const away = await third.command("promote", "--force", "--timeout", "1s");
  expect(codeOf(away)).toEqual([3, "LOG_UNREACHABLE"]);
  expect(lastJson(away.stderr)["hint"]).toMatch(/gone for good/);
});

test.concurrent("three servers, of which the leader dies in that moment: promoted all the same, and nothing is lost", async () => {
  await using cluster = await NatsCluster.start();
  await using scene = new FailoverScene(cluster.addresses.join(","));
  const config = "nats: { replicas: 3 }";
  const { host, app } = await scene.primary(config);
  const [standby, other] = [scene.host(config), scene.host(config)];
  const primary = await host.start("capture");
  await standby.start("replica");
  await other.start("replica");
  await app.run("INSERT INTO t (body) VALUES ('confirmed')");
  await host.answer("sync");
  const stream = `TIDEMARK_${scene.set}`;
  const leader = await waitFor("three copies", async () => (await cluster.isWhole(stream)) && cluster.leaderOf(stream));
  await primary.kill9();
  const promoted = standby.answer("promote");
  await leader.kill();
  expect(await promoted).toMatchObject({ ok: true, epoch: 2, lost: { offsets: 0 } });
  const served = scene.open(standby.standbyDatabase);
  expect(await served.value("SELECT group_concat(body) FROM t")).toBe("first,confirmed");
  await served.run("INSERT INTO t (body) VALUES ('second life')");
  await standby.answer("sync");
  await follows(other, standby);
});

test.concurrent("an encrypted log is not gone on with in the clear", async () => {
  await using scene = new FailoverScene(server.address);
  const { recipients, identity } = await scene.encryption();
  const { host } = await scene.primary(recipients);
  const standby = scene.host(identity);
  const primary = await host.start("capture");
  await standby.start("replica");
  await primary.kill9();
  expect(codeOf(await standby.command("promote"))).toEqual([2, "CONFIG"]);
});

test.concurrent("an embedded log, and no agent: the command does it, and `replica` captures from then on", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body)");
  const agent = await deployment.start("run");
  await app.run("INSERT INTO t (body) VALUES ('first')");
  await deployment.answer("sync");
  expect(codeOf(await deployment.command("promote"))).toEqual([2, "USAGE"]);
  expect(codeOf(await deployment.command("switchover"))).toEqual([2, "USAGE"]);
  await agent.kill9();
  expect(await deployment.answer("promote")).toMatchObject({ ok: true, epoch: 2, lost: { offsets: 0 } });
  await using served = new SqlSession(deployment.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('second')");
  await deployment.start("replica");
  await deployment.answer("sync");
  expect((await deployment.restore("latest")).report).toMatchObject({ ok: true });
  expect(await deployment.launch("run").exited).toMatchObject({ code: 6 });
});

for (const point of pointsOf("promote")) {
  test.concurrent(`${point}: killed there, the next start of the agent goes on with it`, async () => {
    await using scene = new FailoverScene(server.address);
    await using crash = new CrashScene({ nats: server.address, set: scene.set });
    const { host } = await scene.primary();
    const primary = await host.start("capture");
    await crash.launch("replica").waitReady();
    await primary.kill9();
    crash.order(point);
    const { deployment } = crash;
    await crash.diesOf(point, async () => deployment.command("promote"));
    const served = scene.open(deployment.standbyDatabase);
    // Once the replica has ended nothing takes back what an application writes that was sent here too soon.
    const soon = point !== "promote: epoch begun";
    if (soon) await served.run("INSERT INTO t (body) VALUES ('too soon')");
    await crash.launch("replica").waitReady();
    await waitFor("it to capture", async () => (await deployment.command("sync")).code === 0);
    await served.run("INSERT INTO t (body) VALUES ('second life')");
    const bodies = await served.value("SELECT group_concat(body) FROM t");
    expect(bodies).toBe(["first", ...(soon ? ["too soon"] : []), "second life"].join(","));
    await deployment.answer("sync");
    expect((await deployment.answer("history"))["epochs"]).toMatchObject([{ epoch: 1 }, { reason: "promotion" }]);
    expect((await deployment.commits()).map(({ cause }) => cause)).toEqual(
      soon ? ["copy", "repair", "commit"] : ["copy", "commit"],
    );
  });
}
