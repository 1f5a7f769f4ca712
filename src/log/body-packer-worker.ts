import { parentPort } from "node:worker_threads";

import { compressBody, looksRandom } from "../event/codec.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import type { RawBodies } from "./body-packer.ts";

/** Compresses bodies, so that the thread that chains them to a log need not. */
invariant(parentPort, "body-packer-worker runs in a worker thread");
const port = parentPort;
/** The last body did not become smaller: of media and archives, most likely all do not. */
let isDoubtful = false;

port.on("message", ({ id, bytes, ends }: RawBodies) => {
  const raw = new Uint8Array(bytes);
  const packed = ends.map((end, index) => {
    const body = raw.subarray(ends[index - 1] ?? 0, end);
    const smaller = isDoubtful && looksRandom(body) ? undefined : compressBody(body);
    isDoubtful = smaller === undefined;
    return smaller ?? body;
  });
  const all = new Uint8Array(packed.reduce((sum, body) => sum + body.length, 0));
  let at = 0;
  const packedEnds = packed.map((body) => {
    all.set(body, at);
    return (at += body.length);
  });
  giveBack(bytes);
  port.postMessage({ id, bytes: all.buffer, ends: packedEnds } satisfies RawBodies, [all.buffer]);
});
