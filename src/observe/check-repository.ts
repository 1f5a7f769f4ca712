import fs from "node:fs";
import path from "node:path";

import type { RepositoryConfig, StorePlace } from "../config/config.ts";
import { readConfig, requireSet } from "../repository/open-repository.ts";
import { CONFIG_OBJECT } from "../repository/object-store.ts";
import { openStore } from "../repository/open-store.ts";
import { probeStore } from "../repository/probe-store.ts";
import { storeLocation } from "../repository/store-location.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { checkWritable } from "./check-places.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

/** Repetitions included. */
const ANSWER_MS = 30_000;
/** Locks of repositories are compared by their times, and services refuse requests from another hour. */
const CLOCK_MS = 60_000;

export interface RepositoryCheck {
  readonly set: string | undefined;
  readonly clock: Clock;
}

/** Whether it answers, is this set's, and lets us do what archiving and expiring do. */
export async function checkRepository(config: RepositoryConfig, { set, clock }: RepositoryCheck): Promise<Finding[]> {
  const { place } = config;
  const location = storeLocation(place);
  if (place.kind === "directory" && isNew(place)) return [checkWritable("REPOSITORY", "the repository", location)];
  const signal = AbortSignal.timeout(ANSWER_MS);
  try {
    await using store = (await openStore(config, clock)).store;
    const found = await readConfig(store, signal);
    if (found) requireSet(found, { set, store });
    const aheadMs = await probeStore(store, { clock, signal });
    const begun = found ? "" : "; there is none yet, the first start makes it";
    const well = ok("REPOSITORY", `the repository ${location} can be written, read, listed and cleared${begun}`);
    return [well, ...clockFinding(location, aheadMs ?? 0)];
  } catch (error) {
    return [fail(signal.aborted ? tooSlow(location) : error)];
  }
}

/** Then nothing is made by looking. */
function isNew({ directory }: Extract<StorePlace, { kind: "directory" }>): boolean {
  return !fs.existsSync(path.join(directory, CONFIG_OBJECT));
}

function clockFinding(location: string, aheadMs: number): Finding[] {
  if (Math.abs(aheadMs) < CLOCK_MS) return [];
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const message = `the clock of ${location} is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} this host's`;
  return [warn("REPOSITORY_CLOCK", message, "Let both keep time by NTP.")];
}

function tooSlow(location: string): TidemarkError {
  return new TidemarkError("STORE_UNREACHABLE", `${location} did not answer within ${ANSWER_MS / 1000} s`, {
    hint: "Check host, port, network and firewalls.",
  });
}
