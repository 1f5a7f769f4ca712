import fs from "node:fs";

import type { Config } from "../config/config.ts";
import { type Finding, ok, warn } from "./finding.ts";
import type { AgentPart } from "./status-report.ts";

/**
 * Descriptors of one pinned database: two pins with database and WAL each, their common -shm, and raw descriptors on the three
 * files; while the agent checkpoints it two more connections with two files each.
 */
const PINNED = 8 + 4;
/** Of one database on the standby: a connection and raw descriptors, three files each. */
const ON_STANDBY = 6;
/** Of one that stands still while a base is made of it: database and WAL of another connection. */
const STANDING = 2;
/** The process itself: log, state, sockets, the runtime. */
const BASE = 100;

type Needs = Pick<Config, "databases" | "repositories"> & { readonly capture: Pick<Config["capture"], "maxPinned"> };

/** Descriptors that an agent may come to hold at once. */
export function openFilesNeeded(role: AgentPart["role"], { databases, capture, repositories }: Needs): number {
  const pinned = role === "replica" ? 0 : Math.min(databases.length, capture.maxPinned) * PINNED;
  const onStandby = role === "capture" ? 0 : databases.length * (ON_STANDBY + repositories.length * STANDING);
  return BASE + pinned + onStandby;
}

/** Undefined where the system does not tell (other than Linux), or there is no limit. The runtime has raised it as far as it may. */
export function openFilesLimit(): number | undefined {
  try {
    const line = /^Max open files\s+(\d+)/m.exec(fs.readFileSync("/proc/self/limits", "latin1"));
    return line?.[1] === undefined ? undefined : Number(line[1]);
  } catch {
    return undefined;
  }
}

export function checkOpenFiles(role: AgentPart["role"], needs: Needs): Finding[] {
  const limit = openFilesLimit();
  if (limit === undefined) return [];
  const needed = openFilesNeeded(role, needs);
  const { length } = needs.databases;
  const text = `${role} with ${length} ${length === 1 ? "database" : "databases"} may need ${needed} open files; ${limit} are allowed here`;
  if (needed <= limit) return [ok("OPEN_FILES", text)];
  return [
    warn(
      "OPEN_FILES",
      text,
      `Raise the limit (\`ulimit -Hn ${needed}\`, or LimitNOFILE=${needed} in the unit)${role === "replica" ? "" : ", or lower maxPinned"}.`,
    ),
  ];
}
