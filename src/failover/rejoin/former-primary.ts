import fs from "node:fs";
import path from "node:path";

import type { Config } from "../../config/config.ts";
import { standbyState } from "../../config/load-config.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { promotedState, readRole } from "../standby-role.ts";

/** What this host was as a primary. */
export interface FormerPrimary {
  /** Directory of its capture's state. */
  readonly state: string;
  /** It was a standby before, and its databases are where a standby has them. */
  readonly isPromoted: boolean;
}

/** @throws NOT_FENCED when nothing was captured on this host */
export function formerPrimary({ standby = "", state }: Pick<Config, "standby" | "state">): FormerPrimary {
  if (readRole(standby)) return { state: promotedState(standby), isPromoted: true };
  const own = [state, standbyState(standby)].find((directory) => fs.existsSync(path.join(directory, "capture.db")));
  if (own !== undefined) return { state: own, isPromoted: false };
  throw new TidemarkError("NOT_FENCED", `this host was no primary: there is no state of a capture in ${state}`, {
    hint: "Give the state directory of the former primary with --state, or state: in its configuration. A standby needs `tidemark replica` only.",
  });
}
