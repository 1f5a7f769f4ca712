import { openEmbeddedLog } from "../../../src/log/embedded-log.ts";
import { LogHistory } from "../../../src/restore/log-history.ts";
import { parseRestoreTarget } from "../../../src/restore/restore-target.ts";
import { restore } from "../../../src/restore/restore.ts";
import { systemClock } from "../../../src/runtime/clock.ts";

/**
 * One restore in a process of its own, for being killed. Arguments: log directory, target directory, point, `force` or
 * nothing. Prints each phase as it begins and the report at the end.
 */
const [logDirectory = "", directory = "", to = "latest", force] = process.argv.slice(2);
await using log = await openEmbeddedLog({ directory: logDirectory, set: "app", mode: "read" });
let phase = "";
const report = await restore({
  history: new LogHistory(log),
  target: parseRestoreTarget(to),
  directory,
  check: "quick",
  force: force === "force",
  dryRun: false,
  clock: systemClock,
  signal: new AbortController().signal,
  onProgress: (progress) => {
    if (progress.phase !== phase) console.log(progress.phase);
    ({ phase } = progress);
  },
});
console.log(JSON.stringify(report));
