import { expect, test } from "vitest";
import { recordHash } from "../../src/event/codec.ts";
import { offset } from "../../src/event/positions.ts";
import type { ChangeLog, LogBeginning } from "../../src/log/change-log.ts";
import { chain, codeOf, readAll, until } from "../support/log-records.ts";

/** A place where a log can be, and what can happen to it there. */
export interface LogPlace extends AsyncDisposable {
  open(mode: "write" | "read", set?: string, begin?: LogBeginning): Promise<ChangeLog>;
  /** Copies the log aside. Nothing has it open. */
  save(): Promise<void>;
  /** Puts the copy back, as an operator with an old backup would. */
  restore(): Promise<void>;
  /** Removes the log; whoever opens it for writing next makes a new one. May be called while it is open. */
  remove(): Promise<void>;
  /** Makes acknowledgements take as long as it says, or never come. */
  stall(): void;
  unstall(): void;
}

const signal = new AbortController().signal;
const MiB = 1024 * 1024;

/** What every ChangeLog must do. */
export function changeLogContract(makePlace: () => Promise<LogPlace>): void {
  /** A new place, with its log open for writing. */
  const fresh = async (): Promise<{ place: LogPlace; log: ChangeLog } & AsyncDisposable> => {
    const place = await makePlace();
    const log = await place.open("write");
    const dispose = async (): Promise<void> => {
      await log[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    };
    return { place, log, [Symbol.asyncDispose]: dispose };
  };

  const filled = async (count: number): ReturnType<typeof fresh> => {
    const made = await fresh();
    await made.log.append(chain(count), offset(0), signal);
    return made;
  };

  test("a new log is empty and nothing can be read from it", async () => {
    await using at = await fresh();
    const { first, last } = await at.log.bounds();
    expect([first, last]).toEqual([1, 0]);
    expect(await readAll(at.log)).toEqual([]);
    expect(await at.log.locate(Date.now())).toBe(0);
    expect(await at.log.get(offset(1))).toBeUndefined();
    expect((await at.log.durability()).text).not.toBe("");
  });

  test("opening for reading creates nothing", async () => {
    await using place = await makePlace();
    expect(await codeOf(place.open("read"))).toBe("LOG_UNREACHABLE");
    expect(await codeOf(place.open("read"))).toBe("LOG_UNREACHABLE");
  });

  test("a log of another set is refused", async () => {
    await using place = await makePlace();
    const log = await place.open("write", "app");
    await log.append(chain(3), offset(0), signal);
    await log[Symbol.asyncDispose]();
    const other = place.open("write", "other");
    expect(await codeOf(other.then((opened) => opened[Symbol.asyncDispose]()))).toMatch(/LOG_FOREIGN|none/);
    await using again = await place.open("read", "app");
    expect(await readAll(again)).toHaveLength(3);
  });

  test("appends made without waiting for one another land in order", async () => {
    await using at = await fresh();
    const records = chain(500);
    const heads = records.map((record, index) => at.log.append([record], offset(index), signal));
    expect(await Promise.all(heads)).toEqual(records.map((_, index) => index + 1));
    const stored = await readAll(at.log);
    expect(stored.map((record) => record.offset)).toEqual(records.map((_, index) => index + 1));
    expect(stored.every((record, index) => Buffer.compare(record.data, records[index] ?? Buffer.alloc(0)) === 0)).toBe(
      true,
    );
  });

  test("an append of many records is one call", async () => {
    await using at = await fresh();
    expect(await at.log.append(chain(300), offset(0), signal)).toBe(300);
    expect((await at.log.bounds()).last).toBe(300);
  });

  test("the same records sent again are accepted once", async () => {
    await using at = await fresh();
    const records = chain(5);
    expect(await at.log.append(records, offset(0), signal)).toBe(5);
    expect(await at.log.append(records, offset(0), signal)).toBe(5);
    expect((await at.log.bounds()).last).toBe(5);
  });

  test("another record where ours should be: fenced by a higher epoch, a foreign writer otherwise", async () => {
    await using at = await filled(3);
    const ours = chain(2, { from: 4, name: "ours" });
    await at.log.append(chain(1, { from: 4, epoch: 2 }), offset(3), signal);
    expect(await codeOf(at.log.append(ours, offset(3), signal))).toBe("FENCED");
    const later = chain(1, { from: 4, epoch: 2, name: "later" });
    expect(await codeOf(at.log.append(later, offset(3), signal))).toBe("LOG_FOREIGN_WRITER");
    expect((await at.log.bounds()).last).toBe(4);
  });

  test("when one append fails, those sent behind it fail with it", async () => {
    await using at = await filled(3);
    // Many, so that some are sent before the first one's failure is known and some after.
    const wrong = chain(600, { from: 3, name: "wrong" });
    const sent = wrong.map((record, index) => at.log.append([record], offset(2 + index), signal));
    const codes = await Promise.all(sent.map(codeOf));
    expect(codes).toEqual(wrong.map(() => "LOG_FOREIGN_WRITER"));
    expect((await at.log.bounds()).last).toBe(3);
    // And the log goes on for who knows its head.
    expect(await at.log.append(chain(1, { from: 4 }), offset(3), signal)).toBe(4);
  });

  test("a head before the expected one is a regressed log", async () => {
    await using at = await filled(3);
    expect(await codeOf(at.log.append(chain(1, { from: 9 }), offset(8), signal))).toBe("LOG_REGRESSED");
  });

  test("reading begins after an offset and ends at the head", async () => {
    await using at = await filled(50);
    expect((await readAll(at.log, 20)).map((record) => record.offset)).toEqual(
      Array.from({ length: 30 }, (_, index) => index + 21),
    );
    expect(await readAll(at.log, 50)).toEqual([]);
    expect(await codeOf(readAll(at.log, 51))).toBe("LOG_REGRESSED");
  });

  test("a reader that follows sees what is appended, at once and in order, until it is told to stop", async () => {
    await using at = await filled(10);
    await using reader = await at.place.open("read");
    const stop = new AbortController();
    const seen: number[] = [];
    const following = (async () => {
      for await (const batch of reader.read(offset(5), { signal: stop.signal, follow: true })) {
        expect(batch.length).toBeGreaterThan(0);
        seen.push(...batch.map((record) => record.offset));
      }
    })();
    await until(() => seen.length === 5);
    const records = chain(200, { from: 11 });
    let slowestMs = 0;
    for (const [index, record] of records.entries()) {
      const sentAt = performance.now();
      await at.log.append([record], offset(10 + index), signal);
      await until(() => seen.at(-1) === 11 + index);
      slowestMs = Math.max(slowestMs, performance.now() - sentAt);
    }
    stop.abort();
    await following;
    expect(seen).toEqual(Array.from({ length: 205 }, (_, index) => index + 6));
    // A reader that only looks once a second would need 1,000.
    expect(slowestMs).toBeLessThan(900);
  });

  test("a reader that waits ends when its signal aborts", async () => {
    await using at = await filled(1);
    const stop = new AbortController();
    const batches = at.log.read(offset(1), { signal: stop.signal, follow: true })[Symbol.asyncIterator]();
    const next = batches.next();
    stop.abort();
    expect((await next).done).toBe(true);
  });

  test("batches are bounded in bytes and a slow reader gets everything", async () => {
    await using at = await fresh();
    const records = chain(81, { payload: 400_000 });
    const hashes = records.map(recordHash);
    for (let from = 0; from < 81; from += 9) await at.log.append(records.slice(from, from + 9), offset(from), signal);
    let count = 0;
    for await (const batch of at.log.read(offset(0), { signal, follow: false })) {
      expect(batch.reduce((bytes, record) => bytes + record.data.length, 0)).toBeLessThanOrEqual(16 * MiB);
      for (const record of batch) expect(recordHash(record.data)).toEqual(hashes[count++]);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(count).toBe(81);
  });

  test("a log that does not acknowledge holds a bounded number of bytes, and loses nothing when it comes back", async () => {
    await using at = await filled(1);
    const records = chain(100, {
      from: 2,
      payload: 400_000,
      previousHash: recordHash(chain(1)[0] ?? Buffer.alloc(0)),
    });
    at.place.stall();
    let acknowledged = 0;
    const sent = records.map(async (record, index) => {
      await at.log.append([record], offset(1 + index), signal);
      acknowledged += 1;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(acknowledged).toBeLessThan(100);
    at.place.unstall();
    await Promise.all(sent);
    expect((await readAll(at.log)).map((record) => record.offset)).toEqual(
      Array.from({ length: 101 }, (_, index) => index + 1),
    );
  });

  test("locate finds the last record at or before a time", async () => {
    await using at = await filled(100);
    const times: readonly (readonly [number, number])[] = [
      [999, 0],
      [1_000, 1],
      [1_009, 1],
      [1_010, 2],
      [1_500, 51],
      [1_990, 100],
      [9_999, 100],
    ];
    for (const [timeMs, expected] of times) expect(await at.log.locate(timeMs)).toBe(expected);
  });

  test("trim drops the old, keeps the newest record and the genesis, and numbers go on", async () => {
    await using at = await filled(1_200);
    await at.log.trim(offset(700));
    await at.log.trim(offset(700));
    expect(await at.log.bounds()).toMatchObject({ first: 701, last: 1_200 });
    expect(await codeOf(readAll(at.log, 0))).toBe("LOG_GAP");
    expect(await codeOf(readAll(at.log, 699))).toBe("LOG_GAP");
    expect(await readAll(at.log, 700)).toHaveLength(500);
    expect(await at.log.get(offset(700))).toBeUndefined();
    expect(recordHash((await at.log.get(offset(1))) ?? Buffer.alloc(0))).toEqual(
      recordHash(chain(1)[0] ?? Buffer.alloc(1)),
    );
    expect(await at.log.locate(1_000)).toBe(700);
    await at.log.trim(offset(5_000));
    expect(await at.log.bounds()).toMatchObject({ first: 1_200, last: 1_200 });
    expect(await at.log.append(chain(1, { from: 1_201 }), offset(1_200), signal)).toBe(1_201);
  });

  test("standbys say how far they are, from a log that is open to read, and each counts once", async () => {
    await using at = await filled(3);
    expect(await at.log.replicas()).toEqual([]);
    await using reader = await at.place.open("read");
    const one = { id: "1-a", host: "here", standby: "/srv/standby", offset: offset(1), atMs: 1 };
    const other = { ...one, id: "2-b", offset: offset(3) };
    await reader.register(one);
    await reader.register(other);
    const position = { applied: offset(3), verified: true, promotable: false };
    await reader.register({ ...one, offset: offset(2), atMs: 2, position });
    const said = (await at.log.replicas()).toSorted((a, b) => a.offset - b.offset);
    expect(said).toEqual([{ ...one, offset: 2, atMs: 2, position }, other]);
    expect((await at.log.bounds()).last).toBe(3);
  });

  test("a reader that falls behind a trim is told, not led past it", async () => {
    await using at = await filled(5);
    await using reader = await at.place.open("read");
    const batches = reader.read(offset(0), { signal, follow: true })[Symbol.asyncIterator]();
    // Over a network they may come one by one.
    for (let seen = 0; seen < 5;) seen += (await batches.next()).value?.length ?? 5;
    await at.log.append(chain(60, { from: 6, payload: 400_000 }).slice(0, 30), offset(5), signal);
    await at.log.append(chain(30, { from: 36, payload: 400_000 }), offset(35), signal);
    await at.log.trim(offset(64));
    const rest = (async () => {
      let expected = 6;
      for (let next = await batches.next(); !next.done; next = await batches.next()) {
        for (const record of next.value) expect(record.offset).toBe(expected++);
        if (expected > 65) return;
      }
    })();
    // Either it had them already, or it says that they are gone.
    expect(await codeOf(rest)).toMatch(/^(none|LOG_GAP)$/);
  });

  test("a log put back from an older copy is seen to have gone backwards", async () => {
    await using place = await makePlace();
    const grow = async (from: number): Promise<void> => {
      await using log = await place.open("write");
      await log.append(chain(10, { from }), offset(from - 1), signal);
    };
    await grow(1);
    await place.save();
    await grow(11);
    await place.restore();
    await using log = await place.open("write");
    expect((await log.bounds()).last).toBe(10);
    expect(await codeOf(readAll(log, 20))).toBe("LOG_REGRESSED");
    expect(await codeOf(log.append(chain(1, { from: 21 }), offset(20), signal))).toBe("LOG_REGRESSED");
  });

  test("a log removed and made anew under a waiting reader and a writer is noticed by both", async () => {
    await using place = await makePlace();
    const log = await place.open("write");
    await log.append(chain(5), offset(0), signal);
    await using reader = await place.open("read");
    const batches = reader.read(offset(5), { signal, follow: true })[Symbol.asyncIterator]();
    const waiting = codeOf(batches.next());
    await place.remove();
    expect(await codeOf(log.append(chain(1, { from: 6 }), offset(5), signal))).toBe("LOG_RECREATED");
    await log[Symbol.asyncDispose]();
    await using anew = await place.open("write");
    await anew.append(chain(8, { name: "anew" }), offset(0), signal);
    expect(await waiting).toBe("LOG_RECREATED");
  });

  test("one that goes on with a lost log is like one that was trimmed; nobody else makes it", async () => {
    await using place = await makePlace();
    const [genesis] = chain(1);
    const begin = { after: offset(1000), writer: "ours", genesis: genesis ?? new Uint8Array() };
    // What an agent leaves behind that finds its log gone.
    await (await place.open("write"))[Symbol.asyncDispose]();
    await (await place.open("write", "app", begin))[Symbol.asyncDispose]();
    expect(await codeOf(place.open("write", "app", { ...begin, writer: "other" }))).toBe("LOG_EXISTS");
    expect(await codeOf(place.open("write", "app", { ...begin, after: offset(999) }))).toBe("LOG_EXISTS");
    const log = await place.open("write", "app", begin);
    expect(await log.bounds()).toMatchObject({ first: 1001, last: 1000 });
    expect(await codeOf(log.append(chain(1, { from: 999 }), offset(998), signal))).toMatch(
      /LOG_FOREIGN_WRITER|LOG_GAP/,
    );
    await log[Symbol.asyncDispose]();
    const again = await place.open("write", "app", begin);
    const records = chain(20, { from: 1001 });
    await again.append(records.slice(0, 10), offset(1000), signal);
    const rest = records.slice(10).map((record, index) => again.append([record], offset(1010 + index), signal));
    expect((await Promise.all(rest)).at(-1)).toBe(1020);
    await again.trim(offset(1005));
    await place.save();
    await using reader = await place.open("read");
    expect(await reader.bounds()).toMatchObject({ first: 1006, last: 1020 });
    expect((await readAll(reader, 1005)).map(({ offset: at }) => at)).toEqual(records.slice(5).map((_, i) => 1006 + i));
    const held = async (at: number): Promise<Buffer> => Buffer.from((await reader.get(offset(at))) ?? "");
    expect(await held(1)).toEqual(Buffer.from(begin.genesis));
    expect(await held(1010)).toEqual(Buffer.from(records[9] ?? ""));
    expect(await reader.get(offset(900))).toBeUndefined();
    expect(await codeOf(readAll(reader, 1000))).toBe("LOG_GAP");
    await again[Symbol.asyncDispose]();
    expect(await codeOf(place.open("write", "app", { ...begin, writer: "other" }))).toBe("LOG_EXISTS");
  });

  test("an append that waits is given up when its signal aborts", async () => {
    await using at = await filled(1);
    at.place.stall();
    const stop = new AbortController();
    const waiting = chain(60, { from: 2, payload: 400_000 }).map((record, index) =>
      at.log.append([record], offset(1 + index), stop.signal),
    );
    const codes = Promise.all(waiting.map(codeOf));
    stop.abort();
    expect((await codes).filter((code) => code !== "none").every((code) => code === "LOG_UNREACHABLE")).toBe(true);
    expect((await codes).at(-1)).toBe("LOG_UNREACHABLE");
    at.place.unstall();
    const { last } = await at.log.bounds();
    expect((await readAll(at.log)).map((record) => record.offset)).toEqual(
      Array.from({ length: last }, (_, index) => index + 1),
    );
  });
}
