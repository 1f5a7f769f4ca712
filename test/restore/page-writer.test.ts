import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { PageWriter } from "../../src/restore/page-writer.ts";
import { type PageRun, writePages } from "../../src/restore/write-pages.ts";
import { shareOut } from "../../src/runtime/give-back.ts";
import { Random } from "../support/random.ts";

const PAGE = 4096;
const ALL_BYTES = 48 * 1024 * 1024;
const random = new Random("page-writer");
let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-pages-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

/** Blobs as a repository hands them out: several in one buffer, one in a buffer of its own, or in a piece of Node's pool. */
function* blobs(): Generator<Buffer> {
  for (let bytes = 0; bytes < ALL_BYTES;) {
    const sizes = Array.from({ length: random.integer(1, 12) }, () => random.integer(1, 64) * PAGE);
    const share = random.pick([0, 0.5, 1]);
    const places = sizes.map((size) => ({ size, isShared: random.next() < share }));
    const memory = Buffer.allocUnsafeSlow(sizes.reduce((sum, size) => sum + size, 0) + 100);
    shareOut(memory.buffer, places.filter(({ isShared }) => isShared).length);
    let at = 0;
    for (const { size, isShared } of places) {
      const blob = isShared ? memory.subarray(at, at + size) : Buffer.allocUnsafe(size);
      random.bytes(64).copy(blob);
      blob.fill(random.bytes(61), 64);
      yield blob;
      at += size;
      bytes += size;
    }
  }
}

test.each([ALL_BYTES, 0])(
  "pages are written in their order, each hash is told, and what comes after is called after them (%i bytes announced)",
  async (announced) => {
    const [file, expected] = ["written", "expected"].map((name) => fs.openSync(path.join(directory, name), "w+")) as [
      number,
      number,
    ];
    const target = { pageSize: PAGE, seed: 7n };
    const wanted: bigint[] = [];
    const found: bigint[] = [];
    const called: number[] = [];
    {
      await using writer = new PageWriter(announced);
      for (const blob of blobs()) {
        // Some pages come again, and the last image counts.
        const runs: PageRun[] = [{ firstPage: random.integer(1, 10_000), data: blob }];
        if (random.next() < 0.3) runs.push({ firstPage: random.integer(1, 10_000), data: blob.subarray(0, PAGE) });
        wanted.push(...writePages({ ...target, fd: expected }, runs));
        writer.write(blob, { target: { ...target, fd: file }, runs }, (hashes) => found.push(...hashes));
        if (random.next() < 0.1) {
          const sofar = wanted.length;
          writer.after(() => called.push(found.length - sofar));
        }
        await writer.room();
      }
      await writer.finish();
    }
    expect(found).toEqual(wanted);
    expect(called.length).toBeGreaterThan(5);
    expect(called.every((difference) => difference === 0)).toBe(true);
    const [one, other] = ["written", "expected"].map((name) => fs.readFileSync(path.join(directory, name))) as [
      Buffer,
      Buffer,
    ];
    expect(Buffer.compare(one, other)).toBe(0);
    for (const fd of [file, expected]) fs.closeSync(fd);
  },
  60_000,
);

test("what the disk says of a write in the thread is thrown with its code, and so is what a callback throws", async () => {
  const file = path.join(directory, "file");
  const good = fs.openSync(file, "w");
  const readable = fs.openSync(file, "r");
  const fails = (): never => expect.fail("a callback that throws");
  for (const [fd, callback, refusal] of [
    [readable, () => undefined, { code: "EBADF" }],
    [good, fails, { message: "a callback that throws" }],
  ] as const) {
    await using writer = new PageWriter(ALL_BYTES);
    const write = async (): Promise<void> => {
      const target = { fd, pageSize: PAGE, seed: 7n };
      for (const blob of blobs()) {
        writer.write(blob, { target, runs: [{ firstPage: 1, data: blob }] }, callback);
        await writer.room();
      }
      await writer.finish();
    };
    await expect(write()).rejects.toMatchObject(refusal);
  }
  for (const fd of [good, readable]) fs.closeSync(fd);
});
