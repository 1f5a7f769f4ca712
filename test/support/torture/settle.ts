import Database from "better-sqlite3";

import { sleep } from "../../../src/runtime/clock.ts";
import { comparePages } from "../compare.ts";
import { differences } from "../random-tree.ts";
import { waitFor } from "../wait.ts";
import { returned } from "./faults.ts";
import type { Host } from "./host.ts";
import { lookAtLedger, missingFiles } from "./ledger.ts";
import type { Copy } from "./verdict.ts";
import type { World } from "./world.ts";

const SETTLE_MS = 60_000;
/** A promotion that ended halfway is told again after this, as the runbook says. */
const ASK_AGAIN_MS = 8000;

/**
 * After the faults: services run, users are where the primary is, who is fenced becomes a standby, and all copies get equal.
 * Nothing is done here that the documentation does not say. @throws when that is not enough
 */
export async function settle(world: World): Promise<void> {
  for (const host of world.hosts) host.startAgent();
  await world.commandsEnded();
  const primary = await onePrimary(world);
  world.tell(`${primary.name} is the primary`);
  world.active = primary;
  primary.startApp();
  await waitFor("all others to be standbys", async () => othersFollow(world), { timeoutMs: SETTLE_MS, everyMs: 150 });
  await sleep(300);
  await primary.stopApp();
  const offset = await waitFor("the last sync", async () => primary.sync(5000), { timeoutMs: SETTLE_MS });
  await waitFor("the standbys to apply it", async () => applied(world, offset), { timeoutMs: SETTLE_MS, everyMs: 100 });
  world.tell(`everybody has offset ${offset}`);
}

async function onePrimary(world: World): Promise<Host> {
  let sinceMs = performance.now();
  return waitFor(
    "one primary",
    async () => {
      const found = await primaries(world);
      const [first, second] = found;
      if (first && !second && (await first.sync(3000)) !== undefined) return first;
      if (!first && performance.now() - sinceMs > ASK_AGAIN_MS) {
        sinceMs = performance.now();
        for (const host of world.standbys) if ((await world.promote(host)) === undefined) break;
      }
      return undefined;
    },
    { timeoutMs: SETTLE_MS, everyMs: 150 },
  );
}

async function primaries(world: World): Promise<Host[]> {
  const statuses = await Promise.all(world.hosts.map(async (host) => ({ host, status: await host.status() })));
  const capturing = statuses.filter(({ status }) => status?.capture && !status.fence);
  const newest = Math.max(...capturing.map(({ status }) => status?.epoch ?? 0));
  return capturing.filter(({ status }) => status?.epoch === newest).map(({ host }) => host);
}

async function othersFollow(world: World): Promise<boolean> {
  const statuses = await Promise.all(
    world.standbys.map(async (host) => {
      void returned(world, host).catch((error: unknown) => world.tell(String(error)));
      return host.status();
    }),
  );
  return statuses.every((status) => status?.standby?.state === "following" && !status.fence);
}

async function applied(world: World, offset: number): Promise<boolean> {
  const statuses = await Promise.all(world.standbys.map(async (host) => host.status()));
  return statuses.every((status) => (status?.standby?.offset ?? 0) >= offset);
}

/** What every host has in the end, the primary first. */
export function finalCopies(world: World): Copy[] {
  const { active } = world;
  const standbys = world.standbys.map((host) => {
    const copy = copyIn(host, host.standbyPlace);
    const pages = comparePages(active.database, host.database);
    const files = differences(active.tree, host.tree);
    const problems = [
      ...copy.problems,
      ...(pages ? [`its pages differ from the primary's: ${JSON.stringify(pages)}`] : []),
      ...(files === "" ? [] : [`its files differ from the primary's: ${files}`]),
    ];
    return { ...copy, problems };
  });
  return [copyIn(active, active.place), ...standbys];
}

function copyIn(host: Host, place: string): Copy {
  return copyOf(place, host.database, host.tree);
}

/** A database and its tree that nobody writes to. */
export function copyOf(place: string, database: string, tree: string): Copy {
  const connection = new Database(database, { readonly: true, fileMustExist: true });
  try {
    const look = lookAtLedger(connection);
    const missing = missingFiles(look, tree).map((name) => `there is no file ${name}`);
    return { place, chain: look.chain, problems: [...look.problems, ...missing] };
  } finally {
    connection.close();
  }
}
