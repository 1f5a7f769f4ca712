import fs from "node:fs";
import path from "node:path";

import { LogHistory } from "../../src/restore/log-history.ts";
import type { RestorePreview, RestoreReport } from "../../src/restore/report.ts";
import { restore } from "../../src/restore/restore.ts";
import type { RestoreTarget } from "../../src/restore/restore-target.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { Deployment } from "./deployment.ts";

/** What `restore` does with the log alone, without a process for it: `look` gets the database, which is gone afterwards. */
export async function restoreHere<T>(
  deployment: Deployment,
  target: RestoreTarget,
  look: (database: string, report: RestorePreview | RestoreReport) => T,
): Promise<T> {
  const directory = path.join(deployment.directory, "restored-here");
  await using log = await deployment.openLog();
  const { signal } = new AbortController();
  const history = new LogHistory(log);
  const how = { check: "full", force: false, dryRun: false, clock: systemClock, signal } as const;
  const report = await restore({ history, target, directory, ...how });
  const found = look(path.join(directory, path.basename(deployment.database)), report);
  fs.rmSync(directory, { recursive: true });
  return found;
}
