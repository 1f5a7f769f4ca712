import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import { decodeRecordHeader, encodeRecord } from "../../src/event/codec.ts";
import { offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import { sleep } from "../../src/runtime/clock.ts";
import { chain, codeOf, until } from "../support/log-records.ts";
import { natsConfig } from "../support/nats-server.ts";
import { rewriting, type WireMessage } from "../support/nats-wire.ts";
import { bulk, LogScene, mark, markNames, openWriter } from "../support/log-scene.ts";

const forever = new AbortController().signal;
const MiB = 1024 * 1024;
const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `mark-${index}`);

test.concurrent("acknowledgements that never arrive: every record is in the log exactly once", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.open("write"));
  scene.proxy.swallowAnswers = true;
  for (const name of names(300)) writer.append([mark(name)]);
  const direct = await scene.openDirect("read");
  // They went through; only nobody was told.
  await until(async () => (await direct.bounds()).last > 200);
  expect(writer.acknowledged.offset).toBe(2);
  scene.proxy.swallowAnswers = false;
  expect(await writer.flush()).toBe(302);
  expect(await markNames(direct)).toEqual(names(300));
});

test.concurrent("acknowledgements lost with the connection: every record is in the log exactly once", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.open("write"));
  const direct = await scene.openDirect("read");
  scene.proxy.swallowAnswers = true;
  for (const name of names(300)) writer.append([mark(name)]);
  await until(async () => (await direct.bounds()).last > 100);
  scene.proxy.cut();
  scene.proxy.swallowAnswers = false;
  expect(await writer.flush()).toBe(302);
  expect(await markNames(direct)).toEqual(names(300));
  expect(scene.problems.map(({ code }) => code)).toContain("LOG_UNREACHABLE");
});

test.concurrent("a publish that lands only after it was given up is not in the log twice", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.open("write"));
  // The server stands still: what is sent waits in its socket, is given up, and lands when it goes on.
  scene.server.pause();
  for (const name of names(50)) writer.append([mark(name)]);
  await until(() => scene.problems.length > 0);
  await sleep(1_500);
  scene.server.resume();
  expect(await writer.flush()).toBe(52);
  expect(await markNames(await scene.openDirect("read"))).toEqual(names(50));
});

test.concurrent("a server of a cluster holds what the others never agreed on: nobody is shown it", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  for (const name of names(10)) writer.append([mark(name)]);
  const last = await writer.flush();
  let wrong = 0;
  // Three servers as far as the reader is told, and the one that its consumer lives on has another newest record.
  scene.proxy.rewriteAnswers = rewriting((message) => {
    const payload = message.payload.toString("latin1").replace('"num_replicas":1', '"num_replicas":3');
    if (message.payload.includes("stream_info_response"))
      return { ...message, payload: Buffer.from(payload, "latin1") };
    const isNewest = message.reply?.startsWith("$JS.ACK.") && decodeRecordHeader(message.payload).offset === last;
    if (!isNewest || wrong === 2) return message;
    wrong += 1;
    const { epoch, timeMs, previousHash } = decodeRecordHeader(message.payload);
    const other = encodeRecord({ epoch, timeMs, previousHash, offset: last, consistent: false, body: mark("other") });
    return { ...message, payload: Buffer.from(other) };
  });
  expect(await markNames(await scene.open("read"))).toEqual(names(10));
  expect(wrong).toBe(2);
});

test.concurrent("a leader that was just elected tells of less than was agreed on: in a cluster it is given time", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  for (const name of names(10)) writer.append([mark(name)]);
  const last = await writer.flush();
  let behind = 0;
  const inCluster = (info: string): string => info.replace('"server_name"', '"cluster":"tide","server_name"');
  scene.proxy.rewriteAnswers = rewriting((message) => {
    if (behind === 0 || !message.payload.includes("stream_info_response")) return message;
    behind -= 1;
    return { ...message, payload: Buffer.from(message.payload.toString().replace(/"last_seq":\d+/, '"last_seq":1')) };
  }, inCluster);
  const log = await scene.open("read");
  behind = 5;
  expect((await log.bounds()).last).toBe(last);
  expect(behind).toBe(0);
});

test.concurrent("a reconnect storm under load", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.open("write"));
  const reader = await scene.open("read");
  const seen: number[] = [];
  const stop = new AbortController();
  const following = (async () => {
    for await (const batch of readEvents(reader, {
      after: offset(0),
      signal: stop.signal,
      follow: true,
    }))
      seen.push(...batch.map((e) => e.offset));
  })();
  for (let round = 0; round < 12; round += 1) {
    for (let index = 0; index < 100; index += 1) writer.append([mark(`mark-${round * 100 + index}`)]);
    scene.proxy.swallowAnswers = round % 3 === 0;
    await sleep(40 + 30 * (round % 4));
    scene.proxy.cut();
    scene.proxy.swallowAnswers = false;
  }
  expect(await writer.flush()).toBe(1_202);
  expect(await markNames(await scene.openDirect("read"))).toEqual(names(1_200));
  await until(() => seen.length === 1_202);
  stop.abort();
  await following;
  expect(seen).toEqual(Array.from({ length: 1_202 }, (_, index) => index + 1));
});

test.concurrent("the server killed in the middle of a window and started again on its store", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  const reader = await scene.openDirect("read");
  const seen: number[] = [];
  const stop = new AbortController();
  const following = (async () => {
    for await (const batch of readEvents(reader, {
      after: offset(2),
      signal: stop.signal,
      follow: true,
    }))
      seen.push(...batch.map((e) => e.offset));
  })();
  for (let round = 0; round < 4; round += 1) {
    for (let index = 0; index < 40; index += 1) writer.append([bulk(index, 100_000)]);
    await until(() => writer.acknowledged.offset > 2 + round * 40);
    await scene.server.kill("SIGKILL");
    await sleep(100);
    await scene.server.start();
  }
  expect(await writer.flush()).toBe(162);
  await until(() => seen.length === 160);
  stop.abort();
  await following;
  expect(seen).toEqual(Array.from({ length: 160 }, (_, index) => index + 3));
});

test.concurrent("a minute of disconnection, in short: appends wait, report why, and go on", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.open("write"));
  scene.proxy.refuse = true;
  scene.proxy.cut();
  for (const name of names(20)) writer.append([mark(name)]);
  await sleep(3_000);
  expect(writer.acknowledged.offset).toBe(2);
  expect(scene.problems.length).toBeGreaterThan(0);
  scene.proxy.refuse = false;
  expect(await writer.flush()).toBe(22);
});

test.concurrent("two writers race for a new log and for the same head: one wins, the other stops", async () => {
  await using scene = await LogScene.start();
  const [one, two] = [await scene.open("write"), await scene.openDirect("write")];
  const identity = { writer: "writer-b", host: "host-b" };
  const opened = await Promise.allSettled([openWriter(one), openWriter(two, { identity })]);
  const winners = opened.filter((result) => result.status === "fulfilled");
  expect(winners).toHaveLength(1);
  expect(opened.flatMap((result) => (result.status === "rejected" ? [result.reason.code] : []))).toEqual([
    "LOG_FOREIGN_WRITER",
  ]);
  const taken = await Promise.allSettled([
    openWriter(one, { takeover: true, identity: { writer: "c", host: "c" } }),
    openWriter(two, { takeover: true, identity: { writer: "d", host: "d" } }),
  ]);
  expect(taken.some((result) => result.status === "fulfilled")).toBe(true);
  const [winner] = winners;
  expect(winner && (await codeOf(winner.value.append([mark("late")]).acknowledged))).toBe("FENCED");
  expect(await markNames(two)).toEqual([]);
});

test.concurrent("a writer with records under way is fenced, and none of them lands behind the new epoch", async () => {
  await using scene = await LogScene.start();
  const old = await openWriter(await scene.open("write"));
  for (const name of names(10)) old.append([mark(name)]);
  await old.flush();
  const next = await scene.openDirect("write");
  // What the old one sends from now on is on its way for a while.
  scene.proxy.uploadBytesPerSecond = 20_000;
  const late = names(100).map((name) => codeOf(old.append([mark(`late-${name}`)]).acknowledged));
  await openWriter(next, { identity: { writer: "writer-b", host: "host-b" }, takeover: true });
  scene.proxy.uploadBytesPerSecond = 0;
  const codes = await Promise.all(late);
  expect(codes.at(-1)).toBe("FENCED");
  // A prefix may have won the race; after the new epoch there is nothing of the old one.
  const landed = codes.filter((code) => code === "none").length;
  expect(codes).toEqual([...Array(landed).fill("none"), ...Array(100 - landed).fill("FENCED")]);
  expect(await markNames(next)).toEqual([
    ...names(10),
    ...names(100)
      .slice(0, landed)
      .map((name) => `late-${name}`),
  ]);
});

test.concurrent("a full stream: appends wait and say so, and go on after a trim", async () => {
  await using scene = await LogScene.start();
  const log = await scene.openDirect("write", {
    config: natsConfig(scene.server.address, { maxBytes: 4 * MiB }),
  });
  const writer = await openWriter(log);
  for (let index = 0; index < 20; index += 1) writer.append([bulk(index, 400_000)]);
  await until(() => scene.problems.some(({ code }) => code === "LOG_FULL"));
  const { offset: stored } = writer.acknowledged;
  expect(stored).toBeLessThan(22);
  while (writer.acknowledged.offset < 22) {
    await log.trim(writer.acknowledged.offset);
    await sleep(50);
  }
  expect(await writer.flush()).toBe(22);
});

test.concurrent("a slow log: no more than a window is under way, and slowness is not taken for failure for ever", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.open("write"));
  const before = scene.proxy.uploaded;
  scene.server.pause();
  for (let index = 0; index < 60; index += 1) writer.append([bulk(index, 400_000)]);
  await sleep(400);
  expect(scene.proxy.uploaded - before).toBeLessThan(9 * MiB);
  scene.server.resume();
  scene.proxy.uploadBytesPerSecond = 4 * MiB;
  expect(await writer.flush()).toBe(62);
});

test.concurrent("a slow reader: no more than a pull is under way", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  for (let index = 0; index < 120; index += 1) {
    await writer.room();
    writer.append([bulk(index, 400_000)]);
  }
  await writer.flush();
  const reader = await scene.open("read");
  const batches = reader.read(offset(0), { signal: forever, follow: false })[Symbol.asyncIterator]();
  let count = (await batches.next()).value?.length ?? 0;
  const before = scene.proxy.downloaded;
  await sleep(1_000);
  expect(scene.proxy.downloaded - before).toBeLessThan(17 * MiB);
  for (let next = await batches.next(); !next.done; next = await batches.next()) count += next.value.length;
  expect(count).toBe(122);
});

test.concurrent("a server put back to an older store under a writer and a reader", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  await writer.append([mark("kept")]).acknowledged;
  await scene.server.kill("SIGTERM");
  const saved = scene.server.saveStore();
  await scene.server.start();
  for (const name of names(20)) writer.append([mark(name)]);
  await writer.flush();
  const reader = await scene.openDirect("read");
  const batches = reader.read(offset(23), { signal: forever, follow: true })[Symbol.asyncIterator]();
  const waiting = codeOf(batches.next());
  await scene.server.kill("SIGTERM");
  scene.server.restoreStore(saved);
  await scene.server.start();
  expect(await codeOf(writer.append([mark("lost")]).acknowledged)).toBe("LOG_REGRESSED");
  expect(await waiting).toBe("LOG_REGRESSED");
});

test.concurrent("a consumer that says it is alive and brings nothing is given up for another one", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  // As on a server that has fallen behind: its consumers know of nothing new.
  let behind = false;
  const isRecord = ({ reply }: WireMessage): boolean => reply?.startsWith("$JS.ACK.") === true;
  const heartbeat = "NATS/1.0 100 Idle Heartbeat\r\n\r\n";
  scene.proxy.rewriteAnswers = rewriting((message) =>
    behind && isRecord(message)
      ? { ...message, reply: undefined, headers: heartbeat, payload: Buffer.alloc(0) }
      : message,
  );
  const reader = await scene.open("read", { idleHeartbeatMs: 100, barrenMs: 400 });
  const batches = reader.read(offset(1), { signal: forever, follow: true })[Symbol.asyncIterator]();
  expect((await batches.next()).value?.[0]?.offset).toBe(2);
  behind = true;
  const next = batches.next();
  await writer.append([mark("unseen")]).acknowledged;
  await sleep(300);
  behind = false;
  expect((await next).value?.[0]?.offset).toBe(3);
});

test.concurrent("records purged before a reader had them, and at the head", async () => {
  await using scene = await LogScene.start();
  const log = await scene.openDirect("write");
  const writer = await openWriter(log);
  for (const name of names(30)) writer.append([mark(name)]);
  await writer.flush();
  const nats = await connect({ servers: [scene.server.address] });
  const { streams } = await jetstreamManager(nats);
  const ahead = log.read(offset(32), { signal: forever, follow: true })[Symbol.asyncIterator]();
  const next = ahead.next();
  await streams.purge("TIDEMARK_app", { seq: 20 });
  expect(await codeOf(markNames(log))).toBe("LOG_GAP");
  await streams.purge("TIDEMARK_app");
  expect(await codeOf(markNames(log))).toBe("LOG_GAP");
  const behind = log.read(offset(31), { signal: forever, follow: true })[Symbol.asyncIterator]();
  expect(await codeOf(behind.next())).toBe("LOG_GAP");
  // Who had everything goes on.
  await writer.append([mark("more")]).acknowledged;
  expect((await next).value?.[0]?.offset).toBe(33);
  await nats.close();
});

test.concurrent("a record given up on its way does not pass for another one at its offset", async () => {
  await using scene = await LogScene.start();
  const log = await scene.open("write");
  await log.append(chain(1), offset(0), forever);
  scene.proxy.answerDelayMs = 400;
  const stop = new AbortController();
  const given = codeOf(log.append(chain(1, { from: 2, name: "given up" }), offset(1), stop.signal));
  await sleep(100);
  stop.abort();
  expect(await given).toBe("LOG_UNREACHABLE");
  // It landed; the answer to it is on its way when the next one is sent.
  expect(await codeOf(log.append(chain(1, { from: 2, name: "next" }), offset(1), forever))).toBe("LOG_FOREIGN_WRITER");
});

test.concurrent("somebody else's record in the place of ours stops the writer", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  const nats = await connect({ servers: [scene.server.address] });
  await nats.request("tidemark.app", "hello");
  expect(await codeOf(writer.append([mark("ours")]).acknowledged)).toBe("LOG_FOREIGN_WRITER");
  await nats.close();
});

test.concurrent("what a killed writer had under way lands while the next one starts: nothing is lost, doubled or refused", async () => {
  await using scene = await LogScene.start();
  const first = await scene.open("write");
  const killed = await openWriter(first);
  scene.proxy.holdUploads = true;
  for (const name of names(30)) killed.append([mark(`late-${name}`)]);
  await sleep(100);
  await first[Symbol.asyncDispose]();
  const log = await scene.openDirect("write");
  // They land after the new writer has looked where the log ends, and before it writes.
  const landing = async (): Promise<void> => {
    scene.proxy.holdUploads = false;
    await until(async () => (await log.bounds()).last > 2);
    await sleep(300);
  };
  const writer = await openWriter(beforeFirstAppend(log, landing));
  expect(writer.epoch).toBe(1);
  for (const name of names(10)) writer.append([mark(name)]);
  await writer.flush();
  const landed = (await log.bounds()).last - 13;
  expect(landed).toBeGreaterThan(0);
  expect(await markNames(log)).toEqual([...names(landed).map((name) => `late-${name}`), ...names(10)]);
});

/** The same log; `work` runs before the first append. */
function beforeFirstAppend(log: ChangeLog, work: () => Promise<void>): ChangeLog {
  let before: (() => Promise<void>) | undefined = work;
  return {
    location: log.location,
    bounds: () => log.bounds(),
    get: (at) => log.get(at),
    append: async (records, expectedHead, signal) => {
      const first = before;
      before = undefined;
      await first?.();
      return log.append(records, expectedHead, signal);
    },
    read: (after, options) => log.read(after, options),
    locate: (timeMs) => log.locate(timeMs),
    trim: (through) => log.trim(through),
    register: (replica) => log.register(replica),
    replicas: () => log.replicas(),
    durability: () => log.durability(),
    [Symbol.asyncDispose]: () => log[Symbol.asyncDispose](),
  };
}

test.concurrent("a reader that takes its time over a batch is not told that nothing came", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  // More than one pull brings.
  for (let i = 1; i <= 48; i += 1) {
    writer.append([bulk(i, 400_000)]);
    await writer.room();
  }
  const last = await writer.flush();
  const reader = await scene.openDirect("read", { barrenMs: 300 });
  let position = 0;
  for await (const batch of reader.read(offset(0), { follow: false, signal: new AbortController().signal })) {
    position = batch.at(-1)?.offset ?? position;
    await sleep(400);
  }
  expect(position).toBe(last);
});

test.concurrent("an empty stream that tells another time of creation, as in a starting cluster, is the same log", async () => {
  await using scene = await LogScene.start();
  const log = await scene.openDirect("write");
  const reader = await scene.openDirect("read");
  const nats = await connect({ servers: [scene.server.address] });
  const { streams } = await jetstreamManager(nats);
  const { config, created } = await streams.info("TIDEMARK_app");
  await streams.delete("TIDEMARK_app");
  expect((await streams.add(config)).created).not.toBe(created);
  const first = reader.read(offset(0), { signal: forever, follow: true })[Symbol.asyncIterator]().next();
  const writer = await openWriter(log);
  await writer.append([mark("first")]).acknowledged;
  expect((await first).value?.[0]?.offset).toBe(1);
  expect(await markNames(reader)).toEqual(["first"]);
  await nats.close();
});
