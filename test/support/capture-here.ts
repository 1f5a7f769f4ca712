import { pino } from "pino";

import type { CaptureAgent } from "../../src/capture/capture-agent.ts";
import type { WatchBackend } from "../../src/capture/files/watch-backend.ts";
import { startCapture } from "../../src/capture/start-capture.ts";
import { configOf } from "./config-of.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { Deployment } from "./deployment.ts";
import { within } from "./wait.ts";

/** The capture of a deployment in this process, from its first scan to its end after `work`. */
export async function captureHere(
  { configFile, logDirectory, set }: Deployment,
  work: (agent: CaptureAgent) => Promise<void>,
  { backend }: { readonly backend?: WatchBackend } = {},
): Promise<void> {
  const config = configOf(configFile, "capture");
  const stop = new AbortController();
  await using log = await openEmbeddedLog({ directory: logDirectory, set, mode: "write" });
  const rest = { logger: pino({ enabled: false }), clock: systemClock, signal: stop.signal };
  const agent = await startCapture({ config, log, ...rest, ...(backend && { backend }) });
  try {
    await within("the first scan", 30_000, agent.ready);
    await work(agent);
  } finally {
    stop.abort();
    await within("the capture ends", 20_000, agent.done);
  }
}
