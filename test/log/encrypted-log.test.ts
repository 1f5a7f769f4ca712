import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { decodeRecordHeader } from "../../src/event/codec.ts";
import { offset } from "../../src/event/positions.ts";
import { type DataKey, makeDataKey, type OwnKey, wrapKey } from "../../src/keys/data-key.ts";
import { Identities } from "../../src/keys/identities.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { listKeys } from "../../src/log/list-keys.ts";
import { LogKeys } from "../../src/log/log-keys.ts";
import type { LogWriter } from "../../src/log/log-writer.ts";
import { keyInUse, requireKeys } from "../../src/log/open-record.ts";
import { trimBound } from "../../src/log/trim-bound.ts";
import { type AgeIdentity, newIdentity } from "../support/age-identity.ts";
import { codeOf } from "../support/log-records.ts";
import { allEvents, bulk, mark, markNames, openWriter } from "../support/log-scene.ts";

const { signal } = new AbortController();
const ann = await newIdentity();
const bob = await newIdentity();
const MIB = 1024 * 1024;
const MINUTE_MS = 60_000;

let directory = "";
const clock = { ms: 1_000_000, now: () => clock.ms, monotonic: () => clock.ms };
const stack: AsyncDisposableStack[] = [];
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), "tidemark-encrypted-log-"));
  stack.push(new AsyncDisposableStack());
});
afterEach(async () => {
  await stack.pop()?.disposeAsync();
  rmSync(directory, { recursive: true });
});

async function open(mode: "write" | "read", person?: AgeIdentity, kept: readonly DataKey[] = []): Promise<ChangeLog> {
  const source = person && ({ kind: "text", text: person.identity, variable: "TIDEMARK_IDENTITY" } as const);
  const keys = new LogKeys({ identities: new Identities(source), kept: () => kept });
  const log = await openEmbeddedLog({ directory, set: "app", mode, keys });
  stack.at(-1)?.use(log);
  return log;
}

async function keyFor(key: DataKey, ...people: readonly AgeIdentity[]): Promise<OwnKey> {
  return {
    key,
    wrapped: await wrapKey(
      key,
      people.map(({ recipient }) => recipient),
    ),
  };
}

async function beginLog(
  ...people: readonly AgeIdentity[]
): Promise<{ log: ChangeLog; writer: LogWriter; key: OwnKey }> {
  const log = await open("write");
  const key = await keyFor(makeDataKey(), ...people);
  return { log, writer: await openWriter(log, { key, clock }), key };
}

const kindsOf = async (log: ChangeLog): Promise<string[]> => (await allEvents(log)).map(({ body }) => body.kind);

test("the key comes first; offsets are those of what was appended, whatever was announced before it", async () => {
  const { writer } = await beginLog(ann);
  const first = writer.append([mark("a"), mark("b")]);
  expect(first.offsets).toEqual([4, 5]);
  await writer.changeKey(await keyFor(makeDataKey(), ann));
  clock.ms += 11 * MINUTE_MS;
  const second = writer.append([mark("c")], { consistent: true });
  expect(second.offsets).toEqual([8]);
  await writer.flush();
  const reader = await open("read", ann);
  expect(await kindsOf(reader)).toEqual(["genesis", "epoch", "key", "mark", "mark", "key", "key", "mark"]);
  expect(await markNames(reader)).toEqual(["a", "b", "c"]);
  expect((await allEvents(reader)).map(({ consistent = false }) => consistent).lastIndexOf(true)).toBe(7);
});

test("the key is said again after ten minutes with something to say, and not with heartbeats alone", async () => {
  const { log, writer } = await beginLog(ann);
  const beat = { kind: "heartbeat", writer: "w", host: "h" } as const;
  for (let i = 0; i < 3; i += 1) {
    clock.ms += 11 * MINUTE_MS;
    await writer.append([beat]).acknowledged;
  }
  expect((await log.bounds()).last).toBe(6);
  writer.append([mark("a")]);
  writer.append([mark("b")]);
  await writer.flush();
  expect(await kindsOf(await open("read", ann))).toEqual([
    "genesis",
    "epoch",
    "key",
    "heartbeat",
    "heartbeat",
    "heartbeat",
    "key",
    "mark",
    "mark",
  ]);
});

test("and after 64 MiB; a log that is trimmed keeps the announcement that it needs", async () => {
  const { log, writer } = await beginLog(ann);
  for (let i = 0; i < 150; i += 1) {
    writer.append([bulk(i, 500_000)]);
    await writer.room();
  }
  await writer.flush();
  const keys = (await kindsOf(await open("read", ann))).flatMap((kind, index) => (kind === "key" ? [index + 1] : []));
  expect(keys).toHaveLength(2);
  const again = keys[1] ?? 0;
  expect((again - 3) * 0.5).toBeGreaterThan((64 * MIB) / 1e6 - 1);
  expect(await trimBound(log, offset(50), signal)).toBe(2);
  expect(await trimBound(log, offset(again), signal)).toBe(again - 1);
  await log.trim(await trimBound(log, offset(again + 2), signal));
  expect((await log.bounds()).first).toBe(again);
  const reader = await open("read", ann);
  const { last } = await reader.bounds();
  expect(decodeRecordHeader((await reader.get(last)) ?? new Uint8Array()).flags & 2).toBe(2);
  await requireKeys(reader);
  // The newest record is never trimmed, so its key must not be.
  expect(await trimBound(log, last, signal)).toBe(again - 1);
});

test("who was added reads all that the key encrypts, also what was announced before", async () => {
  const { writer, key } = await beginLog(ann);
  writer.append([mark("before")]);
  await writer.flush();
  expect(await codeOf(allEvents(await open("read", bob)))).toBe("KEY_WRONG");
  await writer.changeKey(await keyFor(key.key, ann, bob));
  writer.append([mark("after")]);
  await writer.flush();
  expect(await markNames(await open("read", bob))).toEqual(["before", "after"]);
  expect(await listKeys(await open("read"), signal)).toMatchObject([
    { id: key.key.id, offset: 3, recipients: [ann.recipient, bob.recipient] },
  ]);
});

test("who was removed reads what was before, and not what came after", async () => {
  const { writer, key } = await beginLog(ann, bob);
  writer.append([mark("before")]);
  const next = await keyFor(makeDataKey(key.key.nameKey), ann);
  await writer.changeKey(next);
  writer.append([mark("after")]);
  await writer.flush();
  expect(await markNames(await open("read", ann))).toEqual(["before", "after"]);
  const forBob = await open("read", bob);
  expect(await codeOf(requireKeys(forBob))).toBe("KEY_WRONG");
  expect(await codeOf(allEvents(forBob))).toBe("KEY_WRONG");
  expect(await markNames(await open("read", undefined, [key.key, next.key]))).toEqual(["before", "after"]);
  expect((await keyInUse(await open("read", ann)))?.key).toEqual(next.key);
});

test("a log that begins in the clear and goes on encrypted, and ends with many heartbeats", async () => {
  const log = await open("write");
  const plain = await openWriter(log, { clock });
  plain.append([mark("plain")]);
  await plain.flush();
  expect(await keyInUse(await open("read"))).toBeUndefined();
  const key = await keyFor(makeDataKey(), ann);
  const writer = await openWriter(log, { clock, key });
  writer.append([mark("secret")]);
  for (let i = 0; i < 600; i += 1) writer.append([{ kind: "heartbeat", writer: "w", host: "h" }]);
  await writer.flush();
  expect(await codeOf(requireKeys(await open("read")))).toBe("KEY_MISSING");
  const reader = await open("read", ann);
  expect((await keyInUse(reader))?.key).toEqual(key.key);
  expect(reader.keys?.nameKeys).toEqual([key.key.nameKey]);
  expect(await markNames(reader)).toEqual(["plain", "secret"]);
});

test("a record that is damaged is told as such, not as a key that is missing", async () => {
  const { log, writer } = await beginLog(ann);
  writer.append([mark("a")]);
  await writer.flush();
  const record = Buffer.from((await log.get(offset(4))) ?? []);
  record[87] = 2;
  const damaged: ChangeLog = {
    ...log,
    location: log.location,
    keys: new LogKeys({ identities: new Identities(undefined) }),
    bounds: () => log.bounds(),
    get: (at) => log.get(at),
    read: async function* read() {
      yield [{ offset: offset(4), data: record }];
    },
  };
  expect(await codeOf(allEventsAfter(damaged))).toBe("RECORD_INVALID");
});

async function allEventsAfter(log: ChangeLog): Promise<void> {
  const { readEvents } = await import("../../src/log/log-reader.ts");
  for await (const _ of readEvents(log, { after: offset(3), signal, follow: false }));
}
