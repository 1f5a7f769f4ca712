import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { freePort, NatsServer } from "../support/nats-server.ts";
import type { RunningTidemark } from "../support/tidemark-cli.ts";

// P10: nothing changes for a while, with the application still there: over both logs, once with heartbeats that come in this
// while and once without, so that everything else that is written shows.

/** Longer than what an agent does every second or every five. */
const IDLE_MS = 5_500;
/** What is stored now and then after the last commit is stored by then. */
const SETTLED_MS = 8_000;
const HEARTBEAT_MS = 1_000;
/** The while in parts. */
const PARTS = 5;
/**
 * Some eight seconds after the last work V8 tidies up, and wakes its thread for it up to 1,400 times, each of which counts as
 * a read (of an eventfd). That comes once, in one part or two; whoever polls does it in all of them.
 */
const PARTS_OF_TIDYING = 2;

interface Cost {
  readonly cpuMs: number;
  readonly readCalls: number;
  readonly diskBytes: number;
}

/** What a process has used so far, from proc(5). */
function costOf({ child }: RunningTidemark): Cost {
  const read = (name: string): string => fs.readFileSync(`/proc/${child.pid}/${name}`, "utf8");
  const io = Object.fromEntries(
    read("io")
      .trim()
      .split("\n")
      .map((line) => line.split(": ")),
  ) as Record<string, string>;
  const [, afterName = ""] = read("stat").split(") ");
  const fields = afterName.split(" ");
  // utime and stime, in ticks of 10 ms.
  const cpuMs = (Number(fields[11]) + Number(fields[12])) * 10;
  return { cpuMs, readCalls: Number(io["syscr"]), diskBytes: Number(io["write_bytes"]) };
}

class IdleScene implements AsyncDisposable {
  readonly deployment: Deployment;
  readonly #app: SqlSession;
  readonly #agents: [string, RunningTidemark][] = [];

  constructor(options: ConstructorParameters<typeof Deployment>[0]) {
    this.deployment = new Deployment(options);
    this.#app = new SqlSession(this.deployment.database);
  }

  async begin(roles: readonly ("run" | "capture" | "replica")[]): Promise<void> {
    await this.#app.run("PRAGMA journal_mode=WAL");
    await this.#app.run("CREATE TABLE t (value INTEGER, body BLOB); INSERT INTO t VALUES (1, randomblob(50000))");
    for (const role of roles) this.#agents.push([role, await this.deployment.start(role)]);
    await this.#app.run("INSERT INTO t VALUES (2, randomblob(50000))");
    expect(await this.deployment.difference()).toBeUndefined();
  }

  costs(): Map<string, Cost> {
    return new Map(this.#agents.map(([role, agent]) => [role, costOf(agent)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.deployment[Symbol.asyncDispose]();
    await this.#app[Symbol.asyncDispose]();
  }
}

/** What each has used from the first look to the last; read calls as if all parts were like those with the fewest. */
function usedBetween(looks: readonly ReadonlyMap<string, Cost>[]): (Cost & { readonly who: string })[] {
  const [first] = looks;
  if (!first) throw new Error("nobody looked");
  return [...first].map(([who, before]) => {
    const costs = looks.map((look) => look.get(who) ?? before);
    const after = costs.at(-1) ?? before;
    const reads = costs.slice(1).map(({ readCalls }, index) => readCalls - (costs[index]?.readCalls ?? 0));
    const steady = reads.toSorted((a, b) => a - b).slice(0, PARTS - PARTS_OF_TIDYING);
    const readCalls = Math.round((steady.reduce((sum, calls) => sum + calls, 0) / steady.length) * PARTS);
    return { who, cpuMs: after.cpuMs - before.cpuMs, readCalls, diskBytes: after.diskBytes - before.diskBytes };
  });
}

test("nothing changes: only heartbeats in the log, nothing else on any disk, next to no requests and no work", async () => {
  const monitor = await freePort();
  await using server = await NatsServer.start({ config: `http: "127.0.0.1:${monitor}"` });
  const messages = async (): Promise<number> => {
    const answer = (await (await fetch(`http://127.0.0.1:${monitor}/varz`)).json()) as Record<string, number>;
    return (answer["in_msgs"] ?? 0) + (answer["out_msgs"] ?? 0);
  };
  await using silent = new IdleScene({ config: "heartbeat: 1h" });
  await using silentNats = new IdleScene({ nats: server.address, config: "heartbeat: 1h" });
  await using beating = new IdleScene({ config: `heartbeat: ${HEARTBEAT_MS}ms` });
  const two = ["capture", "replica"] as const;
  await Promise.all([silent.begin(["run"]), silentNats.begin(two), beating.begin(["run"])]);
  await sleep(SETTLED_MS);

  const scenes = { embedded: silent, nats: silentNats, beating };
  const costs = (): Map<string, Cost> =>
    new Map(
      Object.entries(scenes).flatMap(([name, scene]) =>
        [...scene.costs()].map(([role, cost]) => [`${name} ${role}`, cost] as const),
      ),
    );
  const looks = [costs()];
  const eventsBefore = (await beating.deployment.events()).length;
  const messagesBefore = await messages();
  for (let part = 0; part < PARTS; part += 1) {
    await sleep(IDLE_MS / PARTS);
    looks.push(costs());
  }
  const messagesAfter = await messages();
  const used = usedBetween(looks);
  process.stdout.write(`${JSON.stringify(used)}, ${messagesAfter - messagesBefore} messages\n`);

  const kinds = (await beating.deployment.events()).slice(eventsBefore).map(({ body }) => body.kind);
  expect(new Set(kinds)).toEqual(new Set(["heartbeat"]));
  expect(kinds.length).toBeLessThanOrEqual(IDLE_MS / HEARTBEAT_MS + 2);
  // The reader's signs of life, one in two seconds, and a look or two of somebody's client.
  expect(messagesAfter - messagesBefore).toBeLessThan(30);
  for (const { who, cpuMs, readCalls, diskBytes } of used) {
    // A heartbeat, and the standby's position that it moves, are a few pages.
    const beats = who.startsWith("beating") ? kinds.length : 0;
    expect({ who, wrote: diskBytes > beats * 128 * 1024 }).toEqual({ who, wrote: false });
    // 0.2 % of a core was measured, some six read calls a second, and some thirty around each heartbeat.
    expect({ who, worked: cpuMs > 0.04 * IDLE_MS }).toEqual({ who, worked: false });
    expect({ who, polled: readCalls > 0.05 * IDLE_MS + 100 * beats }).toEqual({ who, polled: false });
  }
});
