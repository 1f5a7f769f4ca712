import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { decodeRecord, encodeRecord } from "../../src/event/codec.ts";
import type { LogEvent } from "../../src/event/kinds.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { hashAt, readEvents, readLogIdentity } from "../../src/log/log-reader.ts";
import { LogWriter, type LogWriterOptions } from "../../src/log/log-writer.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { chain, codeOf } from "../support/log-records.ts";

const signal = new AbortController().signal;

interface Place extends AsyncDisposable {
  readonly directory: string;
  readonly clock: Clock & { ms: number };
  open(): Promise<ChangeLog>;
  writer(log: ChangeLog, more?: Partial<LogWriterOptions>): Promise<LogWriter>;
}

function newPlace(): Place {
  const directory = mkdtempSync(join(tmpdir(), "tidemark-writer-"));
  const clock = { ms: 1_000_000, now: () => clock.ms, monotonic: () => clock.ms };
  const open = (): Promise<ChangeLog> => openEmbeddedLog({ directory, set: "app", mode: "write" });
  const identity = { writer: "writer-a", host: "host-a" };
  const writer = (log: ChangeLog, more: Partial<LogWriterOptions> = {}): Promise<LogWriter> =>
    LogWriter.open({
      log,
      set: "app",
      identity,
      known: undefined,
      clock,
      signal,
      foreignWriterGraceMs: 30_000,
      takeover: false,
      ...more,
    });
  return {
    directory,
    clock,
    open,
    writer,
    [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true }),
  };
}

async function events(log: ChangeLog, after = 0): Promise<LogEvent[]> {
  const found: LogEvent[] = [];
  for await (const batch of readEvents(log, { after: offset(after), signal, follow: false })) found.push(...batch);
  return found;
}

const other = { writer: "writer-b", host: "host-b" };
const mark = (name: string): { kind: "mark"; name: string } => ({ kind: "mark", name });

test("a new log begins with its genesis and the first epoch", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  const [genesis, start, ...rest] = await events(log);
  expect(genesis?.body).toMatchObject({
    kind: "genesis",
    set: "app",
    logId: writer.logId,
    checksumSeed: writer.checksumSeed,
  });
  expect(start?.body).toMatchObject({
    kind: "epoch",
    epoch: 1,
    writer: "writer-a",
    host: "host-a",
    reason: "start",
  });
  expect(rest).toEqual([]);
  expect([writer.head, writer.epoch, writer.acknowledged.offset]).toEqual([2, 1, 2]);
  const identity = await readLogIdentity(log, signal);
  expect(identity).toEqual({
    logId: writer.logId,
    set: "app",
    checksumSeed: writer.checksumSeed,
    epoch: 1,
    writer: "writer-a",
  });
});

test("an empty log has no identity", async () => {
  await using place = newPlace();
  await using log = await place.open();
  expect(await codeOf(readLogIdentity(log, signal))).toBe("LOG_EMPTY");
});

test("offsets are known before the acknowledgement, and flush waits for all", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  const sent = [writer.append([mark("a"), mark("b")]), writer.append([mark("c")])];
  expect(sent.map(({ offsets }) => offsets)).toEqual([[3, 4], [5]]);
  expect([writer.head, writer.acknowledged.offset]).toEqual([5, 2]);
  expect(writer.pendingBytes).toBeGreaterThan(0);
  expect(await writer.flush()).toBe(5);
  expect([writer.pendingBytes, writer.acknowledged.offset]).toEqual([0, 5]);
  expect(writer.acknowledged.hash).toEqual(await hashAt(log, offset(5), signal));
});

test("the same writer goes on in its epoch, with an unbroken chain", async () => {
  await using place = newPlace();
  for (const name of ["one", "two", "three"]) {
    await using log = await place.open();
    const writer = await place.writer(log);
    await writer.append([mark(name)]).acknowledged;
    expect(writer.epoch).toBe(1);
  }
  await using log = await place.open();
  expect((await events(log)).map(({ body }) => body.kind)).toEqual([
    "genesis",
    "epoch",
    "mark",
    "heartbeat",
    "mark",
    "heartbeat",
    "mark",
  ]);
});

test("time never runs backwards, whatever the clock does, also across a restart", async () => {
  await using place = newPlace();
  {
    await using log = await place.open();
    const writer = await place.writer(log);
    for (const ms of [1_000_500, 900_000, 1_000_400, 1_000_600]) {
      place.clock.ms = ms;
      await writer.append([mark(`at-${ms}`)]).acknowledged;
    }
    place.clock.ms = 5;
  }
  await using log = await place.open();
  await (await place.writer(log)).append([mark("after")]).acknowledged;
  expect((await events(log)).slice(2).map(({ timeMs }) => timeMs)).toEqual([
    1_000_500, 1_000_500, 1_000_500, 1_000_600, 1_000_600, 1_000_600,
  ]);
});

test("another writer that may be alive is not displaced, unless told to, or when it has been silent", async () => {
  await using place = newPlace();
  await using log = await place.open();
  await place.writer(log);
  place.clock.ms += 29_000;
  await expect(place.writer(log, { identity: other })).rejects.toMatchObject({
    code: "LOG_FOREIGN_WRITER",
    message: expect.stringMatching(/writer-a on host host-a .* 29 s ago/),
    hint: expect.stringContaining("--takeover"),
  });
  const forced = await place.writer(log, { identity: other, takeover: true });
  expect(forced.epoch).toBe(2);
  place.clock.ms += 30_000;
  const third = await place.writer(log);
  expect(third.epoch).toBe(3);
  const epochs = (await events(log)).flatMap(({ body }) =>
    body.kind === "epoch" ? [[body.epoch, body.writer, body.reason]] : [],
  );
  expect(epochs).toEqual([
    [1, "writer-a", "start"],
    [2, "writer-b", "takeover"],
    [3, "writer-a", "start"],
  ]);
  expect(await readLogIdentity(log, signal)).toMatchObject({ epoch: 3, writer: "writer-a" });
});

test("the displaced writer is fenced at its next append, and every later one fails the same way", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const old = await place.writer(log);
  await place.writer(log, { identity: other, takeover: true });
  const sent = [mark("late-1"), mark("late-2"), mark("late-3")].map((body) => codeOf(old.append([body]).acknowledged));
  expect(await Promise.all(sent)).toEqual(["FENCED", "FENCED", "FENCED"]);
  expect(await codeOf(old.append([mark("later")]).acknowledged)).toBe("FENCED");
  expect(await codeOf(old.flush())).toBe("FENCED");
  expect(await codeOf(old.room())).toBe("FENCED");
  expect((await events(log)).map(({ body }) => body.kind)).toEqual(["genesis", "epoch", "epoch"]);
});

test("room waits until little enough is under way", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log, { maxPendingBytes: 10_000 });
  let most = 0;
  for (let index = 0; index < 2_000; index += 1) {
    await writer.room();
    writer.append([mark(`mark-${index}`)]);
    most = Math.max(most, writer.pendingBytes);
  }
  expect(await writer.flush()).toBe(2_002);
  expect(most).toBeLessThan(11_000);
});

test("a body that cannot be encoded changes nothing", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  const pages = Array.from({ length: 20 }, (_, index) => ({
    pageNumber: index + 1,
    data: crypto.getRandomValues(new Uint8Array(65_536)),
  }));
  const tooLarge = {
    kind: "sqlite.part",
    database: "app.db",
    transaction: 1,
    sequence: 0,
    pageSize: 65_536,
    pages,
  } as const;
  expect(() => writer.append([mark("before"), tooLarge])).toThrow(
    expect.objectContaining({ code: "RECORD_TOO_LARGE" }),
  );
  expect(writer.append([mark("after")]).offsets).toEqual([3]);
  expect(await writer.flush()).toBe(3);
});

test("the log that the state directory remembers: re-created, gone backwards, another record at the known offset", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  await writer.append([mark("one"), mark("two")]).acknowledged;
  const known = {
    logId: writer.logId,
    offset: offset(3),
    hash: await hashAt(log, offset(3), signal),
  };
  expect((await place.writer(log, { known })).head).toBe(5);
  expect(await codeOf(place.writer(log, { known: { ...known, logId: "another" } }))).toBe("LOG_RECREATED");
  expect(await codeOf(place.writer(log, { known: { ...known, offset: offset(9) } }))).toBe("LOG_REGRESSED");
  expect(await codeOf(place.writer(log, { known: { ...known, offset: offset(4) } }))).toBe("LOG_RECREATED");
  await using empty = newPlace();
  await using emptyLog = await empty.open();
  expect(await codeOf(empty.writer(emptyLog, { known }))).toBe("LOG_RECREATED");
});

test("after a trim the log keeps its identity and its writer", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  for (let index = 0; index < 20; index += 1) writer.append([mark(`mark-${index}`)]);
  const last = await writer.flush();
  await log.trim(offset(15));
  const known = { logId: writer.logId, offset: last, hash: writer.acknowledged.hash };
  expect((await place.writer(log, { known })).epoch).toBe(1);
  expect(await codeOf(place.writer(log, { identity: other }))).toBe("LOG_FOREIGN_WRITER");
  expect(await readLogIdentity(log, signal)).toMatchObject({
    logId: writer.logId,
    checksumSeed: writer.checksumSeed,
    epoch: 1,
  });
});

test("a writer that died between genesis and its epoch is no obstacle", async () => {
  await using place = newPlace();
  await using log = await place.open();
  await log.append(chain(1), offset(0), signal);
  const writer = await place.writer(log);
  expect([writer.epoch, writer.head]).toEqual([2, 2]);
});

test("a log of another set is refused", async () => {
  await using place = newPlace();
  await using log = await place.open();
  await log.append(chain(1, { set: "other" }), offset(0), signal);
  expect(await codeOf(place.writer(log))).toBe("LOG_FOREIGN");
});

test("a record that does not follow the one before is found", async () => {
  await using place = newPlace();
  await using log = await place.open();
  await place.writer(log);
  const stray = encodeRecord({
    offset: offset(3),
    epoch: epoch(1),
    timeMs: 2_000_000,
    previousHash: new Uint8Array(32).fill(7),
    body: mark("stray"),
  });
  await log.append([stray], offset(2), signal);
  expect(decodeRecord(stray).offset).toBe(3);
  expect(await codeOf(events(log))).toBe("LOG_CORRUPT");
  expect(await codeOf(events(log, 2))).toBe("none");
});

test("a reader that knows the hash before its first record notices another log", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  await writer.append([mark("one"), mark("two")]).acknowledged;
  const read = async (previousHash: Uint8Array): Promise<void> => {
    for await (const batch of readEvents(log, {
      after: offset(3),
      previousHash,
      signal,
      follow: false,
    }))
      expect(batch).toHaveLength(1);
  };
  await read(await hashAt(log, offset(3), signal));
  expect(await codeOf(read(new Uint8Array(32).fill(1)))).toBe("LOG_RECREATED");
});

test("reading ends where it is told to", async () => {
  await using place = newPlace();
  await using log = await place.open();
  const writer = await place.writer(log);
  writer.append(["a", "b", "c", "d"].map(mark));
  await writer.flush();
  const read = async (through: number, follow: boolean): Promise<number[]> => {
    const found: number[] = [];
    for await (const batch of readEvents(log, {
      after: offset(1),
      through: offset(through),
      signal,
      follow,
    }))
      found.push(...batch.map((e) => e.offset));
    return found;
  };
  expect(await read(4, false)).toEqual([2, 3, 4]);
  expect(await read(4, true)).toEqual([2, 3, 4]);
  expect(await read(99, false)).toEqual([2, 3, 4, 5, 6]);
  expect(await read(1, true)).toEqual([]);
  expect(await codeOf(hashAt(log, offset(99), signal))).toBe("OFFSET_NOT_FOUND");
});
