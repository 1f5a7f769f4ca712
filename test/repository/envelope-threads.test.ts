import { randomBytes } from "node:crypto";
import { afterAll, expect, test } from "vitest";

import { decodeEnvelopeHead, encodeEnvelope, openEnvelope } from "../../src/repository/envelope.ts";
import { EnvelopeThreads } from "../../src/repository/envelope-threads.ts";
import { Random } from "../support/random.ts";

const random = new Random("envelopes");
const AS = { kind: "extent", name: "a" } as const;
const KEY = { id: randomBytes(16), dataKey: randomBytes(32), nonce: randomBytes(12) };

const thread = new EnvelopeThreads();
afterAll(async () => thread[Symbol.asyncDispose]());

test("a thread opens what the sealer opens, compressed or not, encrypted or not, and tells the same problems", async () => {
  const contents = [Buffer.alloc(0), random.bytes(9), Buffer.alloc(300_000, "abc"), random.bytes(300_000)];
  for (const raw of contents) {
    for (const key of [undefined, KEY]) {
      const stored = encodeEnvelope(AS, raw, key);
      // As blobs lie in a pack: what lies beside it stays as it is.
      const pack = Buffer.concat([Buffer.alloc(77, 1), stored, Buffer.alloc(77, 2)]);
      const opened = { head: decodeEnvelopeHead(stored, AS), dataKey: key?.dataKey };
      const view = pack.subarray(77, 77 + stored.length);
      expect(Buffer.compare(await thread.open(AS, view, opened), raw)).toBe(0);
      expect(pack.equals(Buffer.concat([Buffer.alloc(77, 1), stored, Buffer.alloc(77, 2)]))).toBe(true);
      const at = 77 + random.integer(opened.head.bytes - opened.head.bodyBytes - 16, stored.length - 1);
      pack[at] = (pack[at] ?? 0) ^ 1;
      const here = new Error("it was opened");
      const problem = await Promise.resolve()
        .then(() => openEnvelope(AS, view, opened))
        .then(
          () => here,
          (error: unknown) => error,
        );
      await expect(thread.open(AS, view, opened)).rejects.toThrow((problem as Error).message);
    }
  }
});

test("what was waited for when it is closed fails", async () => {
  const closed = new EnvelopeThreads();
  const stored = encodeEnvelope(AS, random.bytes(1000));
  const waiting = closed.open(AS, stored, { head: decodeEnvelopeHead(stored, AS), dataKey: undefined });
  await Promise.all([
    closed[Symbol.asyncDispose](),
    expect(waiting).rejects.toThrow("a thread that opens objects ended"),
  ]);
});
