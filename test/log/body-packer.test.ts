import { randomBytes } from "node:crypto";
import fs from "node:fs";

import { expect, test } from "vitest";

import { looksRandom } from "../../src/event/codec.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { BodyPacker } from "../../src/log/body-packer.ts";
import { shareOut } from "../../src/runtime/give-back.ts";

const chunk = (data: Uint8Array): EventBody => ({ kind: "file.chunk", id: Buffer.alloc(32, 7), data });
const text = fs.readFileSync(import.meta.filename);

test("text among media is compressed, media are not", async () => {
  await using packer = new BodyPacker();
  const media = (): Uint8Array => new Uint8Array(randomBytes(5000));
  const events = [media(), media(), new Uint8Array(text), media(), Buffer.alloc(5000, "base64 of an image ")].map(
    chunk,
  );
  const packed = await packer.pack(events);
  expect(packed.map(({ stored, rawBytes }) => stored.length < rawBytes)).toEqual([false, false, true, false, true]);
});

test("a glance tells random bytes from all that zstd makes smaller", () => {
  for (let i = 0; i < 200; i += 1) expect(looksRandom(randomBytes(512 + i * 40))).toBe(true);
  const image = Buffer.from(randomBytes(6000).toString("base64"));
  const numbers = Buffer.from(Uint32Array.from({ length: 2000 }, (_, i) => i * 3).buffer);
  for (const data of [text, image, numbers, Buffer.alloc(9000), randomBytes(511)])
    expect(looksRandom(data)).toBe(false);
});

test("content in shared memory is freed when all of it is packed", async () => {
  await using packer = new BodyPacker();
  const all = new Uint8Array(randomBytes(256 * 1024));
  shareOut(all.buffer, 2);
  const [first, second] = [all.subarray(0, 5000), all.subarray(5000)];
  await packer.pack([chunk(first)]);
  expect(all.buffer.detached).toBe(false);
  const [packed] = await packer.pack([chunk(second)]);
  expect(packed?.rawBytes).toBeGreaterThan(250_000);
  expect(all.buffer.detached).toBe(true);
});
