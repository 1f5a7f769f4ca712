import { parentPort } from "node:worker_threads";

import { RecordProblem } from "../event/record-error.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import { openEnvelope } from "./envelope.ts";
import type { Opened, ToOpen } from "./envelope-threads.ts";

/** Opens envelopes, so that the thread that writes what is in them need not. */
invariant(parentPort, "envelope-worker runs in a worker thread");
const port = parentPort;

port.on("message", ({ id, as, stored, opened }: ToOpen) => {
  try {
    const raw = own(openEnvelope(as, stored, opened));
    if (raw.buffer !== stored.buffer) giveBack(stored.buffer);
    port.postMessage({ id, raw } satisfies Opened, [raw.buffer]);
  } catch (error) {
    if (!(error instanceof RecordProblem)) throw error;
    port.postMessage({ id, problem: error.message } satisfies Opened);
  }
});

/** Small results may lie in a pool. */
function own(raw: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = raw;
  const isPooled = !(buffer instanceof ArrayBuffer) || buffer.byteLength > 2 * raw.length + Buffer.poolSize;
  return isPooled ? new Uint8Array(raw) : new Uint8Array(buffer, raw.byteOffset, raw.length);
}
