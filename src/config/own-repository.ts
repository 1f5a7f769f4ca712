import fs from "node:fs";
import path from "node:path";

import type { KeepConfig, LogConfig, RepositoryConfig, StorePlace } from "./config.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
/** What it keeps when nobody wrote rules: nobody asked for it, so it must not grow for ever. */
const KEEP: KeepConfig = { withinMs: DAY_MS, hourly: 168, daily: 30, weekly: 12, monthly: 12, yearly: 7 };

export interface OwnRepositoryOptions {
  /** Tidemark's directory on the standby. */
  readonly standbyState: string;
  readonly log: LogConfig | undefined;
  readonly limits: RepositoryConfig["limits"];
  readonly keep: KeepConfig | undefined;
  /** Whoever only reads takes what is there. */
  readonly agent: boolean;
}

/**
 * The repository under the standby of a set that has an embedded log and names no repository: so that the log can be trimmed.
 * It is begun when the log has outgrown the standby, see RepositoryAgent.
 */
export function ownRepository(options: OwnRepositoryOptions): readonly RepositoryConfig[] {
  const { standbyState, log, limits, keep = KEEP, agent } = options;
  const place: StorePlace = { kind: "directory", directory: path.join(standbyState, "repository") };
  if (log?.kind !== "embedded" || !(agent || isBegun(place))) return [];
  return [{ place, limits, objectLock: undefined, keep, own: true }];
}

/** Whether there is a repository at a place of this host. */
export function isBegun(place: StorePlace): boolean {
  return place.kind === "directory" && fs.existsSync(path.join(place.directory, "config"));
}
