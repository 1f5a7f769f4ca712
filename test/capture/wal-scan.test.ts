import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { Follower } from "../../src/capture/sqlite/follower.ts";
import { frameImage, positionAtBackfill, resumePoint, scanTail, scanWal } from "../../src/capture/sqlite/wal-scan.ts";
import { WalTail } from "../../src/capture/sqlite/wal-tail.ts";
import type { WalPosition } from "../../src/event/kinds.ts";
import { FRAME_HEADER_BYTES, frameByteOffset } from "../../src/format/wal.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { LiveFiles, type WalIndexState } from "../../src/sqlite/live-files.ts";

const START: WalPosition = { salt1: 0, salt2: 0, frame: 0, checksum1: 0, checksum2: 0 };
const PAGE_SIZE = 4096;

let directory: string;
let file: string;
let app: Database.Database;
let files: LiveFiles;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-scan-"));
  file = path.join(directory, "app.db");
  app = new Database(file);
  app.pragma("journal_mode=WAL");
  app.pragma("wal_autocheckpoint=0");
  app.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)");
  files = new LiveFiles(file, "r");
});

afterEach(() => {
  app.close();
  files.close();
  fs.rmSync(directory, { recursive: true });
});

function state(): WalIndexState {
  const found = files.readWalIndex();
  if (!found) throw new Error("no wal-index");
  return found;
}

function insert(bytes: number): void {
  app.prepare("INSERT INTO t (v) VALUES (randomblob(?))").run(bytes);
}

/** Flips a byte of the WAL from outside, as a bad disk would. */
function damage(byteOffset: number): void {
  const fd = fs.openSync(`${file}-wal`, "r+");
  const byte = new Uint8Array(1);
  fs.readSync(fd, byte, 0, 1, byteOffset);
  byte[0] = (byte[0] ?? 0) ^ 0xff;
  fs.writeSync(fd, byte, 0, 1, byteOffset);
  fs.closeSync(fd);
}

test("every commit is found with its size, and as many as the change counter counts", () => {
  const before = state().header;
  const position = resumePoint(START, before);
  for (let i = 0; i < 20; i += 1) insert(6000);
  const { header } = state();
  const scan = scanWal(files.walFd, position, header);
  const ofTable = 1;
  expect(scan.commits.length).toBe(20 + ofTable);
  expect(((header.changeCounter - before.changeCounter) >>> 0) + ofTable).toBe(scan.commits.length);
  expect(scan.commits.at(-1)?.sizePages).toBe(header.sizePages);
});

test("frames beyond mxFrame are not looked at, however valid they are", () => {
  insert(100);
  const old = state().header;
  insert(100);
  const scan = scanWal(files.walFd, START, old);
  expect(scan.commits.at(-1)?.lastFrame).toBe(old.mxFrame);
  expect(state().header.mxFrame).toBeGreaterThan(old.mxFrame);
});

test("a flipped bit at or below mxFrame is a gap, in the page and in the header of a frame", () => {
  for (const within of [FRAME_HEADER_BYTES + 5, 1]) {
    insert(3000);
    const { header } = state();
    const at = frameByteOffset(header.mxFrame, PAGE_SIZE) + within;
    damage(at);
    expect(() => scanWal(files.walFd, START, header)).toThrow(expect.objectContaining({ code: "WAL_GAP" }));
    damage(at);
    expect(scanWal(files.walFd, START, header).commits.length).toBeGreaterThan(0);
  }
});

test("a scan of many slices reads its images again, and notices when one was overwritten meanwhile", () => {
  app.transaction(() => {
    for (let i = 0; i < 1500; i += 1) insert(4000);
  })();
  const { header } = state();
  const scan = scanWal(files.walFd, START, header);
  expect(scan.slice).toBeUndefined();
  const frame = header.mxFrame - 10;
  const image = Buffer.from(frameImage(files.walFd, scan, frame));
  expect(image.length).toBe(PAGE_SIZE);
  damage(frameByteOffset(frame, PAGE_SIZE) + FRAME_HEADER_BYTES + 100);
  expect(() => frameImage(files.walFd, scan, frame)).toThrow(expect.objectContaining({ code: "WAL_GAP" }));
});

test("a copy begins after the backfilled frames, and the chain goes on from there", () => {
  for (let i = 0; i < 5; i += 1) insert(5000);
  app.pragma("wal_checkpoint(PASSIVE)");
  // A reader in another process would do as well: it keeps the WAL from restarting at the next commit.
  const reader = new Database(file, { readonly: true });
  reader.exec("BEGIN");
  reader.prepare("SELECT count(*) FROM t").get();
  insert(5000);
  const now = state();
  const position = positionAtBackfill(files.walFd, now);
  reader.close();
  expect(position.frame).toBe(now.checkpoint.backfilledFrames);
  expect(scanWal(files.walFd, position, now.header).commits.length).toBeGreaterThanOrEqual(1);
});

test("after a restart of the WAL a position in the old one resumes at frame 0", () => {
  insert(100);
  const { header } = state();
  const scan = scanWal(files.walFd, START, header);
  app.pragma("wal_checkpoint(TRUNCATE)");
  insert(100);
  const fresh = state().header;
  const position = {
    salt1: scan.salt1,
    salt2: scan.salt2,
    frame: header.mxFrame,
    checksum1: header.frameChecksum.c1,
    checksum2: header.frameChecksum.c2,
  };
  expect(resumePoint(position, fresh).frame).toBe(0);
  expect(scanWal(files.walFd, position, fresh).commits.length).toBe(1);
});

test("the formats agree with another SQLite: its WAL, written by another process, is read the same", () => {
  insert(10);
  const { changeCounter } = state().header;
  execFileSync("sqlite3", [file, "INSERT INTO t (v) VALUES (zeroblob(9000)); INSERT INTO t (v) VALUES (1);"]);
  const { header } = state();
  expect((header.changeCounter - changeCounter) >>> 0).toBe(2);
  expect(scanWal(files.walFd, START, header).commits.at(-1)?.lastFrame).toBe(header.mxFrame);
});

test("a follower resumes only in the same WAL and only where the chain continues", () => {
  insert(2000);
  const { header } = state();
  const position = {
    salt1: header.salt1,
    salt2: header.salt2,
    frame: header.mxFrame,
    checksum1: header.frameChecksum.c1,
    checksum2: header.frameChecksum.c2,
  };
  const resume = (from: WalPosition): boolean => followerAt(from).tryResume(state().header);
  // Nothing was added: the wal-index itself says where the chain ends.
  expect(resume(position)).toBe(true);
  expect(resume({ ...position, checksum1: position.checksum1 ^ 1 })).toBe(false);
  expect(resume({ ...position, checksum2: position.checksum2 ^ 1 })).toBe(false);
  insert(2000);
  expect(resume(position)).toBe(true);
  expect(resume({ ...position, checksum1: position.checksum1 ^ 1 })).toBe(false);
  expect(resume({ ...position, salt2: position.salt2 ^ 1 })).toBe(false);
  expect(resume({ ...position, frame: 0, checksum1: 0, checksum2: 0 })).toBe(false);
});

/** Only what tryResume looks at. */
function followerAt(position: WalPosition): Follower {
  const parts: unknown = { source: { files }, shipper: { position }, clock: systemClock };
  return new Follower(parts as ConstructorParameters<typeof Follower>[0]);
}

function tailAfter(position: WalPosition): Uint8Array {
  const tail = new WalTail(files.walFd, position, PAGE_SIZE);
  tail.readRest();
  return tail.take();
}

/** Captured up to `position`, then `unseen` commits, then the WAL restarts and holds `fresh` commits. */
function restartWith({ unseen, fresh }: { unseen: number; fresh: number }): { position: WalPosition; missing: number } {
  app.pragma("wal_autocheckpoint=0");
  for (let i = 0; i < 20; i += 1) insert(6000);
  const before = state();
  const scan = scanWal(files.walFd, START, before.header);
  const checksum = scan.commits.at(-1)?.checksum ?? { c1: 0, c2: 0 };
  const { salt1, salt2, mxFrame } = before.header;
  for (let i = 0; i < unseen; i += 1) insert(100);
  app.pragma("wal_checkpoint(RESTART)");
  for (let i = 0; i < fresh; i += 1) insert(100);
  const { header } = state();
  const expected = (header.changeCounter - before.header.changeCounter) >>> 0;
  const position = { salt1, salt2, frame: mxFrame, checksum1: checksum.c1, checksum2: checksum.c2 };
  return { position, missing: expected - scanWal(files.walFd, position, header).commits.length };
}

test("commits that were not captured before the WAL restarted are read behind the position", () => {
  const { position, missing } = restartWith({ unseen: 5, fresh: 3 });
  expect(missing).toBe(5);
  const tail = tailAfter(position);
  const scan = scanTail(tail, position, { commits: missing, header: state().header });
  expect(scan.commits.map((commit) => commit.firstFrame)[0]).toBe(position.frame + 1);
  expect(scan.commits.length).toBe(5);
  const last = scan.commits.at(-1)?.lastFrame ?? 0;
  // The image is the page as it was then: an insert that filled it further came after the restart.
  expect(frameImage(files.walFd, scan, last).length).toBe(PAGE_SIZE);
});

test("a commit frame that was never honoured stands behind the tail and is not taken for one of it", () => {
  const { position, missing } = restartWith({ unseen: 5, fresh: 3 });
  const tail = tailAfter(position);
  const all = scanTail(tail, position, { commits: missing, header: state().header });
  const fewer = scanTail(tail, position, { commits: missing - 1, header: state().header });
  expect(fewer.commits).toEqual(all.commits.slice(0, -1));
});

test("what the new generation has written over, a damaged tail and a second restart are gaps", () => {
  const overwritten = restartWith({ unseen: 5, fresh: 200 });
  const { header } = state();
  const gap = expect.objectContaining({ code: "WAL_GAP" });
  const { position, missing } = overwritten;
  expect(() => scanTail(tailAfter(position), position, { commits: missing, header })).toThrow(gap);
  const second = restartWith({ unseen: 5, fresh: 3 });
  const tail = tailAfter(second.position);
  const broken = Uint8Array.from(tail);
  broken[100] = (broken[100] ?? 0) ^ 1;
  const now = state().header;
  expect(() => scanTail(broken, second.position, { commits: second.missing, header: now })).toThrow(gap);
  const later = { ...now, salt1: (now.salt1 + 1) >>> 0 };
  expect(() => scanTail(tail, second.position, { commits: second.missing, header: later })).toThrow(gap);
  expect(() => scanTail(tail, second.position, { commits: second.missing + 1, header: now })).toThrow(gap);
});

test("what was read before the WAL was truncated is enough; what is read afterwards is nothing", () => {
  for (let i = 0; i < 20; i += 1) insert(6000);
  const before = state().header;
  const checksum = scanWal(files.walFd, START, before).commits.at(-1)?.checksum ?? { c1: 0, c2: 0 };
  const { salt1, salt2, mxFrame: frame } = before;
  const position = { salt1, salt2, frame, checksum1: checksum.c1, checksum2: checksum.c2 };
  const tail = new WalTail(files.walFd, position, PAGE_SIZE);
  for (let i = 0; i < 3; i += 1) insert(100);
  expect(tail.readTo(state().header.mxFrame)).toBe(true);
  app.pragma("wal_checkpoint(TRUNCATE)");
  insert(100);
  tail.readRest();
  const { header } = state();
  expect(scanTail(tail.take(), position, { commits: 3, header }).commits.length).toBe(3);
  expect(tailAfter(position).length).toBe(0);
});
