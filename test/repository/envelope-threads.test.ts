import { randomBytes } from "node:crypto";
import { afterAll, expect, test } from "vitest";

import { RecordProblem } from "../../src/event/record-error.ts";
import { decodeEnvelopeHead, encodeEnvelope, type OpenedWith, openEnvelope } from "../../src/repository/envelope.ts";
import { EnvelopeThreads } from "../../src/repository/envelope-threads.ts";
import { Random } from "../support/random.ts";

const random = new Random("envelopes");
const AS = { kind: "extent", name: "a" } as const;
const KEY = { id: randomBytes(16), dataKey: randomBytes(32), nonce: randomBytes(12) };

const thread = new EnvelopeThreads();
afterAll(async () => thread[Symbol.asyncDispose]());

/** A copy, which the thread may have. */
function ownMemory(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

async function inThread(
  pack: Uint8Array,
  bytes: number,
  opened: OpenedWith,
): Promise<{ memory: Uint8Array; raw: Uint8Array | RecordProblem | undefined }> {
  const { memory, raws } = await thread.open(ownMemory(pack), [{ as: AS, start: 77, bytes, opened }]);
  return { memory: new Uint8Array(memory), raw: raws[0] };
}

test("a thread opens what the sealer opens, compressed or not, encrypted or not, and tells the same problems", async () => {
  // Some of what comes of small ones lies in Node's pool, which cannot be handed on.
  const small = [300, 3000, 8000, 30_000].map((bytes) => Buffer.alloc(bytes, "abc"));
  const contents = [Buffer.alloc(0), random.bytes(9), ...small, Buffer.alloc(300_000, "abc"), random.bytes(300_000)];
  for (const raw of contents) {
    for (const key of [undefined, KEY]) {
      const stored = encodeEnvelope(AS, raw, key);
      // As blobs lie in a pack: what lies beside it stays as it is.
      const pack = Buffer.concat([Buffer.alloc(77, 1), stored, Buffer.alloc(77, 2)]);
      const opened = { head: decodeEnvelopeHead(stored, AS), dataKey: key?.dataKey };
      const sound = await inThread(pack, stored.length, opened);
      expect(Buffer.compare(sound.raw as Uint8Array, raw)).toBe(0);
      expect(pack.equals(sound.memory)).toBe(true);
      const at = 77 + random.integer(opened.head.bytes - opened.head.bodyBytes - 16, stored.length - 1);
      pack[at] = (pack[at] ?? 0) ^ 1;
      const here = new Error("it was opened");
      const problem = await Promise.resolve()
        .then(() => openEnvelope(AS, pack.subarray(77, 77 + stored.length), opened))
        .then(
          () => here,
          (error: unknown) => error,
        );
      const damaged = await inThread(pack, stored.length, opened);
      expect(damaged.raw).toEqual(new RecordProblem((problem as Error).message));
    }
  }
});

test("the beginning of an envelope is that of the whole, and a change behind it is noticed all the same", async () => {
  const raw = Buffer.from(Array.from({ length: 40_000 }, (_, n) => `${n * n} `).join(""));
  for (const key of [undefined, KEY]) {
    const stored = Buffer.from(encodeEnvelope(AS, raw, key));
    const opened = { head: decodeEnvelopeHead(stored, AS), dataKey: key?.dataKey };
    for (const atLeast of [1, 1000, 131_073, raw.length - 1, raw.length]) {
      const start = openEnvelope(AS, stored, { ...opened, atLeast });
      expect(start.length).toBeGreaterThanOrEqual(atLeast);
      expect(Buffer.compare(start, raw.subarray(0, start.length))).toBe(0);
    }
    expect(openEnvelope(AS, stored, { ...opened, atLeast: 1 }).length).toBeLessThan(raw.length);
    const at = stored.length - 20;
    stored[at] = (stored[at] ?? 0) ^ 1;
    expect(() => openEnvelope(AS, stored, { ...opened, atLeast: 1 })).toThrow(RecordProblem);
  }
});

test("what was waited for when it is closed fails", async () => {
  const closed = new EnvelopeThreads();
  const stored = encodeEnvelope(AS, random.bytes(1000));
  const opened = { head: decodeEnvelopeHead(stored, AS), dataKey: undefined };
  const waiting = closed.open(ownMemory(stored), [{ as: AS, start: 0, bytes: stored.length, opened }]);
  await Promise.all([
    closed[Symbol.asyncDispose](),
    expect(waiting).rejects.toThrow("a thread that opens objects ended"),
  ]);
});
