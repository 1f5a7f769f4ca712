import { pino } from "pino";

import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { startReplica } from "../../src/replica/start-replica.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { onCrashPoint } from "../../src/runtime/crash-point.ts";
import { REPLICA_CONFIG } from "./replica-config.ts";

/**
 * A replica as a process of its own: `replica-program.ts LOG STANDBY [CRASH_POINT COUNT]`. Prints `ready`, and kills
 * itself with SIGKILL when it passes the crash point for the COUNTth time.
 */
const [logDirectory = "", standby = "", crashAt, count = "1"] = process.argv.slice(2);
let left = Number(count);
onCrashPoint((point) => {
  if (point !== crashAt) return;
  left -= 1;
  if (left === 0) process.kill(process.pid, "SIGKILL");
});
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());

const log = await openEmbeddedLog({ directory: logDirectory, set: "app", mode: "read" });
const agent = await startReplica({
  set: "app",
  directory: standby,
  config: { ...REPLICA_CONFIG, checkpointBytes: 1024 * 1024, walMaxBytes: 16 * 1024 * 1024 },
  log,
  logger: pino({ enabled: false }),
  clock: systemClock,
  signal: stop.signal,
});
agent.ready.then(
  () => process.stdout.write("ready\n"),
  () => undefined,
);
try {
  await agent.done;
} finally {
  await log[Symbol.asyncDispose]();
}
