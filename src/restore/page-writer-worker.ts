import { parentPort } from "node:worker_threads";

import { errnoOf } from "../runtime/errors.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import type { ToWrite, Written } from "./page-writer.ts";
import { writePages } from "./write-pages.ts";

/** Writes pages and hashes them, beside the thread that fetches them. */
invariant(parentPort, "page-writer-worker runs in a worker thread");
const port = parentPort;

port.on("message", (parts: readonly ToWrite[]) => {
  port.postMessage(written(parts));
  for (const { runs } of parts) for (const { data } of runs) giveBack(data.buffer);
});

function written(parts: readonly ToWrite[]): Written {
  try {
    return { hashes: parts.map(({ target, runs }) => writePages(target, runs)) };
  } catch (error) {
    return { failure: { message: error instanceof Error ? error.message : String(error), code: errnoOf(error) } };
  }
}
