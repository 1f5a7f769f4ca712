import fs from "node:fs";

import { afterEach, beforeEach, expect, test } from "vitest";

import { type Offset, offset } from "../../../src/event/positions.ts";
import type { ReplicaAgent } from "../../../src/replica/replica-agent.ts";
import { TidemarkError } from "../../../src/runtime/errors.ts";
import { ArchiveScene } from "../../support/archive-scene.ts";
import type { ImagedDatabase } from "../../support/database-images.ts";
import { applied, type ReplicaFixture } from "../../support/replica-fixture.ts";
import { waitFor } from "../../support/wait.ts";

let fixture: ReplicaFixture;
let scene: ArchiveScene;
let primary: ImagedDatabase;
let agent: ReplicaAgent;
beforeEach(async () => {
  ({ scene, fixture } = await ArchiveScene.open());
  primary = fixture.source("a.db");
  await commits(5);
  agent = await fixture.ready();
});
afterEach(() => scene[Symbol.asyncDispose]());

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
