import fs from "node:fs";
import path from "node:path";

import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";

import { type Offset, offset } from "../../../src/event/positions.ts";
import type { ChangeLog } from "../../../src/log/change-log.ts";
import { openJetStreamLog } from "../../../src/log/jetstream-log.ts";
import type { ReplicaAgent } from "../../../src/replica/replica-agent.ts";
import { startReplica, type StartReplicaOptions } from "../../../src/replica/start-replica.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { TidemarkError } from "../../../src/runtime/errors.ts";
import { ArchiveScene } from "../../support/archive-scene.ts";
import type { ImagedDatabase } from "../../support/database-images.ts";
import { natsConfig, NatsServer } from "../../support/nats-server.ts";
import { REPLICA_CONFIG } from "../../support/replica-config.ts";
import { applied, type ReplicaFixture } from "../../support/replica-fixture.ts";
import { waitFor } from "../../support/wait.ts";

let fixture: ReplicaFixture;
let scene: ArchiveScene;
let primary: ImagedDatabase;
let agent: ReplicaAgent;
let server: NatsServer | undefined;
beforeEach(() => begin());
afterEach(async () => {
  await scene[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  server = undefined;
});

async function begin(log?: ChangeLog): Promise<void> {
  ({ scene, fixture } = await ArchiveScene.open(log));
  primary = fixture.source("a.db");
  await commits(5);
  agent = await fixture.ready();
}

const ALWAYS = { aboveBytes: 1, keepMs: 1 };
const HOUR_MS = 60 * 60_000;

async function commits(count: number): Promise<Offset> {
  for (let i = 0; i < count; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(20000))");
    await fixture.log.ship("a.db", primary);
  }
  return fixture.log.writer.head;
}

async function firstOfLog(): Promise<number> {
  return (await fixture.log.log.bounds()).first;
}

/** Commits and bases, until the log begins with the newest event of a base: that one outlives every trim. */
async function trims(): Promise<void> {
  await applied(agent, await commits(3));
  await waitFor("a trim", async () => (await firstOfLog()) === (await scene.base()).offset);
}

/** Another standby of the log. */
function says(at: number, atMs = Date.now()): Promise<void> {
  return fixture.log.log.register({ id: "other", host: "elsewhere", standby: "/srv/it", offset: offset(at), atMs });
}

/** In those repositories that are there. */
async function bases(): Promise<void> {
  await scene.agent.createBases(AbortSignal.timeout(300)).catch(() => undefined);
}

/** Commits and bases, until the log is held up by what this says. Returns the first offset of the log. */
async function heldBy(text: string): Promise<number> {
  await applied(agent, await commits(3));
  await waitFor(`"${text}" holds the log up`, async () => {
    await bases();
    return scene.agent.trim().heldBy?.includes(text);
  });
  return firstOfLog();
}

test("the log is trimmed up to a verified base and goes on; another standby holds it up until it was not heard of for long", async () => {
  scene.start(agent, undefined, { trim: { ...ALWAYS, forgetMs: HOUR_MS } });
  await trims();
  const first = await firstOfLog();
  await says(first + 1);
  expect(await heldBy("the standby elsewhere:/srv/it")).toBe(first + 2);
  await says(first + 1, Date.now() - 2 * HOUR_MS);
  await trims();
  expect(scene.agent.trim()).toMatchObject({ heldBy: undefined, forgotten: [{ id: "other" }] });
  const [own] = (await fixture.log.log.replicas()).filter(({ id }) => id !== "other");
  expect(own).toMatchObject({ id: agent.recorded().id, standby: fixture.standby });
  primary.connection.exec("DELETE FROM t WHERE id % 2");
  await applied(agent, await fixture.log.ship("a.db", primary));
  expect(agent.status()).toMatchObject({ state: "following", verified: true });
});

test("the newest events stay for as long as asked for, and nothing goes while the log is small", async () => {
  scene.start(agent, undefined, { trim: { ...ALWAYS, keepMs: HOUR_MS } });
  await applied(agent, await commits(3));
  for (let i = 0; i < 3; i += 1) await scene.base();
  await scene.stop();
  expect(await firstOfLog()).toBe(1);
  scene.start(agent, undefined, { trim: { ...ALWAYS, aboveBytes: 2 ** 30 } });
  await waitFor("the archive", () => scene.agent.status()[0]?.base);
  for (let i = 0; i < 3; i += 1) await scene.base();
  await scene.stop();
  expect(await firstOfLog()).toBe(1);
});

test("a repository that is away holds the log up, unless fewer are asked for", async () => {
  const away = scene.repository("away", () =>
    Promise.reject(new TidemarkError("STORE_UNREACHABLE", "nobody there", { hint: "Wait." })),
  );
  scene.start(agent, [scene.repository(), away], { trim: ALWAYS });
  expect(await heldBy(`the repository ${away.location} has no verified base`)).toBe(1);
  expect(scene.agent.status()[1]?.problem).toContain("nobody there");
  await scene.stop();
  scene.start(agent, [scene.repository(), away], { trim: { ...ALWAYS, verifiedIn: 1 } });
  await waitFor("a trim", async () => {
    await bases();
    return (await firstOfLog()) > 1;
  });
});

test("a repository that nobody named is not begun while the log is small, and begun by whoever asks for a base", async () => {
  scene.start(agent, [{ ...scene.repository(), isWanted: () => false }], { trim: ALWAYS });
  await applied(agent, await commits(3));
  expect(scene.agent.status()).toEqual([]);
  expect(fs.existsSync(scene.directory())).toBe(false);
  await scene.stop();
  expect(fs.existsSync(scene.directory())).toBe(false);
  scene.start(agent, [{ ...scene.repository(), isWanted: () => false }], { trim: ALWAYS });
  await trims();
  expect(scene.agent.status()).toHaveLength(1);
});

/** A standby on another host, with a connection of its own: what `work` does with it while it runs. */
async function elsewhere(
  log: ChangeLog,
  work: (other: ReplicaAgent) => Promise<void>,
  repositories: StartReplicaOptions["repositories"] = [],
): Promise<void> {
  const stop = new AbortController();
  const other = await startReplica({
    set: "app",
    directory: path.join(fixture.directory, "other"),
    config: REPLICA_CONFIG,
    log,
    repositories,
    logger: pino({ enabled: false }),
    clock: systemClock,
    signal: stop.signal,
  });
  try {
    await Promise.race([work(other), other.done]);
  } finally {
    stop.abort();
    await other.done.catch(() => undefined);
  }
}

test("over NATS a second standby that lags holds the log up; it goes on; away for long it is forgotten, and builds on the repository", async () => {
  await scene[Symbol.asyncDispose]();
  server = await NatsServer.start();
  const connection = { config: natsConfig(server.address), set: "app" };
  await begin(await openJetStreamLog({ ...connection, mode: "write" }));
  await using log = await openJetStreamLog({ ...connection, mode: "read" });
  const atHead = (other: ReplicaAgent): Promise<void> => applied(other, fixture.log.writer.head);
  await elsewhere(log, atHead);
  const place = path.join(fixture.directory, "other");
  const behind = (await fixture.log.log.replicas()).find(({ standby }) => standby === place)?.offset ?? 0;
  scene.start(agent, undefined, { trim: { ...ALWAYS, forgetMs: HOUR_MS } });
  expect(await heldBy(`${place}, last heard of`)).toBe(behind + 1);
  await elsewhere(log, atHead);
  await waitFor("the next trim", async () => {
    await bases();
    return (await firstOfLog()) > behind + 1;
  });
  await scene.stop();
  scene.start(agent, undefined, { trim: { ...ALWAYS, forgetMs: 1 } });
  await trims();
  expect(scene.agent.trim().forgotten.map(({ standby }) => standby)).toContain(place);
  await scene.stop();
  await expect(elsewhere(log, atHead)).rejects.toMatchObject({ code: "LOG_GAP" });
  await elsewhere(log, atHead, [scene.repository()]);
  expect(Buffer.compare(fs.readFileSync(path.join(place, "a.db")), primary.image)).toBe(0);
});
