import { isMarkedAsUntransferable, parentPort } from "node:worker_threads";

import { RecordProblem } from "../event/record-error.ts";
import { invariant } from "../runtime/invariant.ts";
import { openEnvelope } from "./envelope.ts";
import type { EnvelopeToOpen, Opened, OpenedEnvelope, ToOpen } from "./envelope-threads.ts";

/** Opens envelopes, so that the thread that writes what is in them need not. */
invariant(parentPort, "envelope-worker runs in a worker thread");
const port = parentPort;

port.on("message", ({ id, memory, envelopes }: ToOpen) => {
  const results = envelopes.map((envelope) => open(memory, envelope));
  const besides = results.flatMap((result) => ("raw" in result ? [result.raw.buffer] : []));
  port.postMessage({ id, memory, results } satisfies Opened, [memory, ...besides]);
});

function open(memory: ArrayBuffer, { as, start, bytes, opened }: EnvelopeToOpen): OpenedEnvelope {
  try {
    const raw = openEnvelope(as, new Uint8Array(memory, start, bytes), opened);
    if (raw.buffer === memory) return { start: raw.byteOffset, bytes: raw.length };
    return { raw: own(raw) };
  } catch (error) {
    if (!(error instanceof RecordProblem)) throw error;
    return { problem: error.message };
  }
}

/** Small results may lie in Node's pool, which many share and which cannot be handed on. */
function own(raw: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = raw;
  const isLarger = !(buffer instanceof ArrayBuffer) || buffer.byteLength > 2 * raw.length + Buffer.poolSize;
  return isLarger || isMarkedAsUntransferable(buffer)
    ? new Uint8Array(raw)
    : new Uint8Array(buffer, raw.byteOffset, raw.length);
}
