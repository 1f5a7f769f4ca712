import fs from "node:fs";
import path from "node:path";

import { sleep } from "../../../src/runtime/clock.ts";
import type { Random } from "../random.ts";
import type { Host } from "./host.ts";
import type { World } from "./world.ts";

/** One thing that goes wrong, or that an operator does. */
export interface Action {
  readonly fault: FaultName;
  /** After the beginning. */
  readonly atMs: number;
  readonly forMs: number;
  /** Whose: 0 is the host with the users, 1 and 2 the others; of servers and writers modulo how many there are. */
  readonly whom: number;
  /** What else there is to choose, 0 to 1. */
  readonly variant: number;
}

interface Fault {
  readonly summary: string;
  /** How often it is drawn. */
  readonly weight: number;
  readonly run: (world: World, action: Action) => Promise<void>;
}

/** Everything that a fault does to processes, networks and disks it undoes itself. */
export const FAULTS = {
  "kill-agent": {
    summary: "kill -9 of an agent",
    weight: 3,
    run: async (world, action) => void (await hostOf(world, action).agent?.kill9()),
  },
  "pause-agent": {
    summary: "an agent is stopped (SIGSTOP) and goes on later",
    weight: 3,
    run: async (world, action) => paused(hostOf(world, action), action),
  },
  "kill-app": {
    summary: "kill -9 of a process of the application",
    weight: 2,
    run: async (world, { variant }) => void one(world.active.writers, variant)?.child.kill("SIGKILL"),
  },
  "pause-app": {
    summary: "a process of the application is stopped, maybe in a transaction, and goes on later",
    weight: 1,
    run: async (world, { variant, forMs }) => {
      const writer = one(world.active.writers, variant);
      writer?.child.kill("SIGSTOP");
      await sleep(forMs);
      writer?.child.kill("SIGCONT");
    },
  },
  "kill-server": {
    summary: "kill -9 of a NATS server, started again later",
    weight: 2,
    run: async (world, action) => stoppedServer(world, action, "SIGKILL"),
  },
  "restart-server": {
    summary: "a NATS server is ended in order and started again later",
    weight: 1,
    run: async (world, action) => stoppedServer(world, action, "SIGTERM"),
  },
  "pause-server": {
    summary: "a NATS server is stopped (SIGSTOP) and goes on later",
    weight: 1,
    run: async (world, { whom, forMs }) => {
      const server = world.servers[whom % world.servers.length];
      await alone(world, server, async () => {
        server?.pause();
        await sleep(forMs);
        server?.resume();
      });
    },
  },
  cut: {
    summary: "a host loses its connections to the log, and gets none for a while",
    weight: 2,
    run: async (world, action) => cut(hostOf(world, action), action.forMs),
  },
  silence: {
    summary: "what a host sends arrives, the answers do not",
    weight: 2,
    run: async (world, action) => {
      const { proxies } = hostOf(world, action);
      for (const proxy of proxies) proxy.swallowAnswers = true;
      await sleep(action.forMs);
      for (const proxy of proxies) {
        proxy.swallowAnswers = false;
        proxy.cut();
      }
    },
  },
  hold: {
    summary: "what a host sends arrives late, after its connections were cut",
    weight: 2,
    run: async (world, action) => {
      const { proxies } = hostOf(world, action);
      for (const proxy of proxies) proxy.holdUploads = true;
      await sleep(action.forMs / 2);
      for (const proxy of proxies) proxy.cutClients();
      await sleep(action.forMs / 2);
      for (const proxy of proxies) {
        proxy.holdUploads = false;
        // Of a connection that has lost its other end only pings tell, after up to a minute.
        proxy.cut();
      }
    },
  },
  disk: {
    summary: "a host's file system is full for a while",
    weight: 1,
    run: async (world, action) => fullDisk(world, hostOf(world, action), action.forMs),
  },
  clock: {
    summary: "a host's wall clock is set, by up to two minutes in either direction",
    weight: 1,
    run: async (world, action) => {
      const { clockFile } = hostOf(world, action);
      fs.writeFileSync(clockFile, String(Math.round((action.variant * 2 - 1) * 120_000)));
    },
  },
  crash: {
    summary: "the host of the primary is gone, and comes back later with its application",
    weight: 1,
    run: async (world, { forMs }) => crashed(world, world.active, async () => sleep(forMs)),
  },
  promote: {
    summary: "a standby is promoted while the primary lives, is stopped, is cut off or is dead",
    weight: 5,
    run: async (world, action) => {
      const [old, standby] = [world.active, hostOf(world, { ...action, whom: 1 + (action.whom % 2) })];
      const promotion = async (): Promise<void> => promoted(world, standby);
      const ways = [
        promotion,
        async () => Promise.all([promotion(), paused(old, action)]),
        async () => Promise.all([promotion(), cut(old, action.forMs)]),
        async () => (world.busy.has(old) ? promotion() : crashed(world, old, promotion)),
      ];
      await one(ways, action.variant)?.();
    },
  },
  "promote-twice": {
    summary: "the same standby is promoted twice at once",
    weight: 1,
    run: async (world, action) => {
      const standby = hostOf(world, { ...action, whom: 1 });
      await Promise.all([promoted(world, standby), promoted(world, standby)]);
    },
  },
  "promote-both": {
    summary: "both standbys are promoted at once",
    weight: 1,
    run: async (world) => {
      await Promise.all(world.standbys.map(async (standby) => promoted(world, standby)));
    },
  },
  switchover: {
    summary: "the primary hands its place over",
    weight: 3,
    run: async (world) => world.switchOver(),
  },
  rejoin: {
    summary: "whoever is fenced becomes a standby again; the command may be killed once",
    weight: 3,
    run: async (world, { variant, forMs }) => {
      for (const host of world.standbys) await returned(world, host, variant < 0.4 ? forMs : undefined);
    },
  },
} as const satisfies Record<string, Fault>;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

export interface DrawOptions {
  readonly random: Random;
  readonly only: readonly FaultName[];
  readonly actions: number;
  readonly spanMs: number;
}

/** At random moments, in their order. Decides nothing that depends on what happens. */
export function drawSchedule({ random, only, actions, spanMs }: DrawOptions): Action[] {
  const bag = only.flatMap((fault) => Array.from({ length: FAULTS[fault].weight }, () => fault));
  const [first, ...rest] = bag;
  if (first === undefined) throw new Error("no faults to draw from");
  return Array.from({ length: actions }, () => ({
    fault: random.pick([first, ...rest]),
    atMs: random.integer(0, spanMs),
    forMs: random.integer(200, 2000),
    whom: random.integer(0, 2),
    variant: random.next(),
  })).toSorted((a, b) => a.atMs - b.atMs);
}

export async function runFault(world: World, action: Action): Promise<void> {
  const { fault, whom, forMs, variant } = action;
  world.tell(`fault ${fault} (${whom}, ${forMs} ms, ${variant.toFixed(2)})`);
  await (FAULTS[fault] as Fault).run(world, action);
  world.tell(`end of ${fault}`);
}

/** Whoever is fenced comes back as the runbook says. */
export async function returned(world: World, host: Host, killMs?: number): Promise<void> {
  await alone(world, host, async () => {
    if ((await host.status())?.fence?.final !== true) return;
    world.tell(`${host.name}: becomes a standby again`);
    await host.becomeStandby(killMs);
  });
}

/** As an operator does it: without force, and with it when the answer is that somebody was promoted just before. */
async function promoted(world: World, standby: Host): Promise<void> {
  if ((await world.promote(standby)) === "PROMOTED_ELSEWHERE") await world.promote(standby, "--force");
}

async function crashed(world: World, host: Host, meanwhile: () => Promise<void>): Promise<void> {
  await alone(world, host, async () => {
    await Promise.all([host.stopAgent("SIGKILL"), host.stopApp("SIGKILL")]);
    await meanwhile();
    host.startApp();
    host.startAgent();
  });
}

async function paused(host: Host, { forMs }: Action): Promise<void> {
  const { agent } = host;
  agent?.child.kill("SIGSTOP");
  await sleep(forMs);
  agent?.child.kill("SIGCONT");
}

async function cut({ proxies }: Host, forMs: number): Promise<void> {
  for (const proxy of proxies) {
    proxy.refuse = true;
    proxy.cut();
  }
  await sleep(forMs);
  for (const proxy of proxies) proxy.refuse = false;
}

async function fullDisk(world: World, host: Host, forMs: number): Promise<void> {
  const { disk } = host;
  if (!disk) throw new Error(`${host.name} has no file system of its own`);
  await alone(world, disk, async () => {
    const filler = path.join(disk.path, "filler");
    host.diskIsFull = true;
    fill(filler);
    await sleep(forMs);
    fs.rmSync(filler);
    await sleep(100);
    host.diskIsFull = false;
  });
}

/** To the last byte, whoever else writes meanwhile. */
function fill(filler: string): void {
  const file = fs.openSync(filler, "w");
  try {
    for (const some = Buffer.alloc(2 ** 20); ;) fs.writeSync(file, some);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    fs.closeSync(file);
  }
}

async function stoppedServer(world: World, { whom, forMs }: Action, signal: "SIGKILL" | "SIGTERM"): Promise<void> {
  const server = world.servers[whom % world.servers.length];
  await alone(world, server, async () => {
    await server?.kill(signal);
    await sleep(forMs);
    await server?.start();
  });
}

/** Not while another fault has the same thing in hand. */
async function alone(world: World, thing: unknown, work: () => Promise<void>): Promise<void> {
  if (world.busy.has(thing)) return;
  world.busy.add(thing);
  try {
    await work();
  } finally {
    world.busy.delete(thing);
  }
}

function hostOf(world: World, { whom }: Action): Host {
  return [world.active, ...world.standbys][whom] ?? world.active;
}

function one<T>(things: readonly T[], variant: number): T | undefined {
  return things[Math.floor(variant * things.length)];
}
