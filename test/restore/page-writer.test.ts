import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { encodeEnvelope } from "../../src/repository/envelope.ts";
import { type PlacedBlob, PlacedReader } from "../../src/repository/placed-blob.ts";
import { freeBlob } from "../../src/restore/blob-copies.ts";
import { PageWriter } from "../../src/restore/page-writer.ts";
import type { PageHashes, PageRun, PageTarget } from "../../src/restore/write-pages.ts";
import { shareOut } from "../../src/runtime/give-back.ts";
import { pageHash } from "../../src/sqlite/page-index.ts";
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

/** The same blob where a repository of a directory has it, sealed, or not there. */
function placed(blob: Buffer, file: number, place: { path: string; position: number }): PlacedBlob {
  const kind = "extent";
  const sealed = encodeEnvelope({ kind, name: `${place.position}` }, blob);
  fs.writeSync(file, sealed, 0, sealed.length, place.position);
  return { kind, file: place.path, position: place.position, storedBytes: sealed.length, rawBytes: blob.length };
}

const LANES = 5;
/** Of each lane. */
const LANE_PAGES = 10_000;

test.each([ALL_BYTES, 0])(
  "the pages of a lane are written in their order, each hash is told, and what comes after is called after them (%i bytes announced)",
  async (announced) => {
    const [file, expected] = ["written", "expected"].map((name) => fs.openSync(path.join(directory, name), "w+")) as [
      number,
      number,
    ];
    const packOf = (name: string): { path: string; file: number; end: number } => {
      const pack = path.join(directory, name);
      return { path: pack, file: fs.openSync(pack, "w+"), end: 0 };
    };
    const packs = [packOf("one"), packOf("other")] as const;
    const target = { pageSize: PAGE, seed: 7n };
    const lanes = Array.from({ length: LANES }, () => ({ wanted: [] as bigint[], found: [] as bigint[] }));
    const called: number[] = [];
    const unread = { wanted: 0, found: 0 };
    {
      await using writer = new PageWriter(announced);
      for (const blob of blobs()) {
        const lane = random.integer(0, LANES - 1);
        const { wanted, found } = lanes[lane] as (typeof lanes)[number];
        const firstPage = (): number => lane * LANE_PAGES + random.integer(1, LANE_PAGES - 64);
        // Some pages come again, and the last image counts.
        const runs: PageRun[] = [{ firstPage: firstPage(), at: 0, bytes: blob.length }];
        if (random.next() < 0.3) runs.push({ firstPage: firstPage(), at: blob.length - PAGE, bytes: PAGE });
        const take = (hashes: PageHashes): void => void (hashes ? found.push(...hashes) : (unread.found += 1));
        const how = random.next();
        if (how < 0.5) {
          wanted.push(...writeAlone({ ...target, fd: expected }, runs, blob));
          writer.write(lane, { target: { ...target, fd: file }, runs, blob }, take);
        } else {
          const pack = random.pick(packs);
          const place = placed(blob, pack.file, { path: pack.path, position: pack.end });
          freeBlob(blob);
          pack.end += place.storedBytes + random.pick([0, 0, 0, 100]);
          const wrong = random.pick(WRONG_PLACES);
          if (how < 0.9) wanted.push(...writeAlone({ ...target, fd: expected }, runs, readPlaced(place)));
          else unread.wanted += 1;
          writer.write(lane, { target: { ...target, fd: file }, runs, blob: how < 0.9 ? place : wrong(place) }, take);
        }
        if (random.next() < 0.1) {
          const sofar = wanted.length;
          writer.after(lane, () => called.push(found.length - sofar));
        }
        await writer.room();
      }
      await writer.finish();
    }
    for (const { wanted, found } of lanes) expect(found).toEqual(wanted);
    expect(unread.found).toBe(unread.wanted);
    expect(unread.wanted).toBeGreaterThan(0);
    expect(called.length).toBeGreaterThan(5);
    expect(called.every((difference) => difference === 0)).toBe(true);
    const [one, other] = ["written", "expected"].map((name) => fs.readFileSync(path.join(directory, name))) as [
      Buffer,
      Buffer,
    ];
    expect(Buffer.compare(one, other)).toBe(0);
    for (const fd of [file, expected, ...packs.map((pack) => pack.file)]) fs.closeSync(fd);
  },
  60_000,
);

function readPlaced(place: PlacedBlob): Uint8Array {
  using reader = new PlacedReader();
  return reader.read([place], ([raw]) => Uint8Array.from(raw ?? expect.fail("it is there")));
}

function writeAlone({ fd, pageSize, seed }: PageTarget, runs: readonly PageRun[], blob: Uint8Array): bigint[] {
  return runs.flatMap(({ firstPage, at, bytes }) =>
    Array.from({ length: bytes / pageSize }, (_, index) => {
      const page = blob.subarray(at + index * pageSize, at + (index + 1) * pageSize);
      fs.writeSync(fd, page, 0, pageSize, (firstPage - 1 + index) * pageSize);
      return pageHash(seed, firstPage + index, page);
    }),
  );
}

/** What may be in a blob's place. */
const WRONG_PLACES = [
  (place: PlacedBlob): PlacedBlob => ({ ...place, file: `${place.file} gone` }),
  (place: PlacedBlob): PlacedBlob => ({ ...place, file: directory }),
  (place: PlacedBlob): PlacedBlob => ({ ...place, file: fifo() }),
  (place: PlacedBlob): PlacedBlob => ({ ...place, position: place.position + 1 }),
  (place: PlacedBlob): PlacedBlob => ({ ...place, position: 1 << 30 }),
  (place: PlacedBlob): PlacedBlob => ({ ...place, rawBytes: place.rawBytes + PAGE }),
  (place: PlacedBlob): PlacedBlob => ({ ...place, kind: "patch" }),
] as const;

function fifo(): string {
  const file = path.join(directory, "fifo");
  if (!fs.existsSync(file)) execFileSync("mkfifo", [file]);
  return file;
}

test.each([ALL_BYTES, 0])("a lane alone is written, whichever it is (%i bytes announced)", async (announced) => {
  const fd = fs.openSync(path.join(directory, "file"), "w+");
  for (const lane of [1, 2, 7]) {
    await using writer = new PageWriter(announced);
    const blob = random.bytes(PAGE);
    const hashes: PageHashes[] = [];
    const target = { fd, pageSize: PAGE, seed: 7n };
    writer.write(lane, { target, runs: [{ firstPage: 1, at: 0, bytes: PAGE }], blob }, (found) => hashes.push(found));
    await writer.finish();
    expect(hashes).toHaveLength(1);
  }
  fs.closeSync(fd);
});

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
        writer.write(0, { target, runs: [{ firstPage: 1, at: 0, bytes: blob.length }], blob }, callback);
        await writer.room();
      }
      await writer.finish();
    };
    await expect(write()).rejects.toMatchObject(refusal);
  }
  for (const fd of [good, readable]) fs.closeSync(fd);
});
