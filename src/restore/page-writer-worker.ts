import { parentPort } from "node:worker_threads";

import { errnoOf } from "../runtime/errors.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import type { Written } from "./page-writer.ts";
import { type PageBlob, PageBlobs } from "./write-pages.ts";

/** Writes pages and hashes them, beside the thread that finds or fetches them. */
invariant(parentPort, "page-writer-worker runs in a worker thread");
const port = parentPort;
const pages = new PageBlobs();

port.on("message", (blobs: readonly PageBlob[]) => {
  port.postMessage(written(blobs));
  for (const { blob } of blobs) if (blob instanceof Uint8Array) giveBack(blob.buffer);
});

function written(blobs: readonly PageBlob[]): Written {
  try {
    return { hashes: pages.write(blobs) };
  } catch (error) {
    return { failure: { message: error instanceof Error ? error.message : String(error), code: errnoOf(error) } };
  }
}
