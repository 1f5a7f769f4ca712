import { expect, test } from "vitest";
import { offset } from "../../src/event/positions.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import { until } from "../support/log-records.ts";
import { LogScene, mark, markNames, openWriter } from "../support/log-scene.ts";
import { natsConfig } from "../support/nats-server.ts";
import { rewriting, type WireMessage, WireReader } from "../support/nats-wire.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";

// The server here is 2.9.10. What newer ones say differently was read in their source (2.10.29 to 2.14.5), and its own
// answers are put into those words on their way. What cannot be had that way is in docs/operations.md as read only.

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `mark-${index}`);
const unchanged = (message: WireMessage): WireMessage => message;
const json = (message: WireMessage, value: unknown): WireMessage => ({
  ...message,
  payload: Buffer.from(JSON.stringify(value)),
});
const isDuplicate = ({ payload }: WireMessage): boolean => /"duplicate": ?true/.test(payload.toString());
const isStreamInfo = ({ payload }: WireMessage): boolean => payload.includes("stream_info_response");

/** 2.12 and newer, one replica: the expected sequence is looked at before the message id. */
function wrongLastSequence(message: WireMessage): WireMessage {
  if (!isDuplicate(message)) return message;
  const error = { code: 400, err_code: 10071, description: "wrong last sequence: 32" };
  return json(message, { error, stream: "TIDEMARK_app", seq: 0 });
}

/** 2.10 and newer, clustered, as long as the first one is being replicated. */
function inProcess(message: WireMessage): WireMessage {
  if (!isDuplicate(message)) return message;
  const error = { code: 409, err_code: 10158, description: "duplicate message id is in process" };
  return json(message, { error, stream: "TIDEMARK_app", seq: 0 });
}

const ANSWERS = [
  ["2.9: a duplicate", unchanged],
  ["2.12: wrong last sequence", wrongLastSequence],
  ["2.10 clustered: in process", inProcess],
] as const;

for (const [name, answer] of ANSWERS) {
  test(`records sent again after they landed are in the log once (${name})`, async () => {
    await using scene = await LogScene.start();
    await using second = await TcpProxy.start(scene.server.port);
    const direct = await scene.openDirect("write");
    let landing: Promise<void> | undefined;
    const resent: string[] = [];
    // The first look after the cut finds nothing; before its answer is there, what was under way lands.
    const land = async (): Promise<void> => {
      scene.proxy.holdUploads = false;
      await until(async () => (await direct.bounds()).last > 2);
    };
    second.rewriteAnswers = rewriting(async (message) => {
      if (isStreamInfo(message)) await (landing ??= land());
      if (isDuplicate(message)) resent.push(message.subject);
      return answer(message);
    });
    const config = natsConfig("", { servers: [scene.proxy.address, second.address] });
    second.refuse = true;
    const writer = await openWriter(await scene.open("write", { config }));
    second.refuse = false;
    scene.proxy.holdUploads = true;
    for (const one of names(30)) writer.append([mark(one)]);
    await until(() => scene.proxy.waiting > 0);
    scene.proxy.refuse = true;
    scene.proxy.cutClients();
    expect(await writer.flush()).toBe(32);
    expect(await markNames(direct)).toEqual(names(30));
    expect(resent.length).toBeGreaterThan(0);
  });
}

/** 2.14 and newer with the feature js_ack_fc_v2: domain and account hash before the stream's name. */
function longReply(message: WireMessage): WireMessage {
  return message.reply?.startsWith("$JS.ACK.TIDEMARK_app.")
    ? { ...message, reply: message.reply.replace("$JS.ACK.", "$JS.ACK._.Ab3xK9q1.") }
    : message;
}

test("2.14: the place of a record is found in the longer reply subject", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  for (const one of names(20)) writer.append([mark(one)]);
  await writer.flush();
  let rewritten = 0;
  scene.proxy.rewriteAnswers = rewriting((message) => {
    const answer = longReply(message);
    if (answer !== message) rewritten += 1;
    return answer;
  });
  expect(await markNames(await scene.open("read"))).toEqual(names(20));
  expect(rewritten).toBe(22);
});

/** How servers from 2.9 to 2.14 end a pull, the ways that 2.9.10 cannot be made to show included. */
const ENDINGS = [
  "408 Request Timeout",
  "408 Interest Expired",
  "404 No Messages",
  "409 Batch Completed",
  "409 Message Size Exceeds MaxBytes",
  "409 Leadership Change",
  "409 Server Shutdown",
  "409 Consumer Deleted",
  "409 Exceeded MaxWaiting",
  "409 Exceeded MaxRequestMaxBytes of 1048576",
  "423 Nats-Wrong-Pin-Id",
  "503 No Responders",
];

test("however a server ends a pull, the reader goes on", async () => {
  await using scene = await LogScene.start();
  const writer = await openWriter(await scene.openDirect("write"));
  const endings = [...ENDINGS];
  scene.proxy.rewriteAnswers = rewriting((message) => {
    const ending = message.headers.startsWith("NATS/1.0 100 ") ? endings.shift() : undefined;
    if (ending === undefined) return message;
    return {
      ...message,
      headers: `NATS/1.0 ${ending}\r\nNats-Pending-Messages: 65536\r\nNats-Pending-Bytes: 16\r\n\r\n`,
    };
  });
  const reader = await scene.open("read", { idleHeartbeatMs: 100 });
  const stop = new AbortController();
  const seen: number[] = [];
  const following = (async () => {
    for await (const batch of readEvents(reader, { after: offset(0), signal: stop.signal, follow: true }))
      seen.push(...batch.map((event) => event.offset));
  })();
  for (let round = 0; round < ENDINGS.length; round += 1) {
    const left = ENDINGS.length - round;
    await until(() => endings.length < left);
    writer.append([mark(`mark-${round}`)]);
    await until(() => seen.length === round + 3);
  }
  stop.abort();
  await following;
  expect(seen).toEqual(Array.from({ length: ENDINGS.length + 2 }, (_, index) => index + 1));
});

test("a server that limits the messages of a pull is asked for no more", async () => {
  await using scene = await LogScene.start({ jetstream: "limits { max_request_batch: 7 }" });
  const writer = await openWriter(await scene.openDirect("write"));
  for (const one of names(30)) writer.append([mark(one)]);
  await writer.flush();
  expect(await markNames(await scene.openDirect("read"))).toEqual(names(30));
});

/** What 2.14.5 knows of each request (its Go structs): from 2.12 on a server may refuse one that says more (`strict`). */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  "STREAM.CREATE": ["name", "description", "subjects", "retention", "max_msgs", "max_bytes", "max_age", "discard"],
  "STREAM.UPDATE": [
    "max_consumers",
    "max_msgs_per_subject",
    "max_msg_size",
    "allow_rollup_hdrs",
    "deny_purge",
    "sealed",
  ],
  "STREAM.MSG.GET": ["seq"],
  "STREAM.PURGE": ["seq"],
  "CONSUMER.CREATE": ["stream_name", "config", "action", "pedantic"],
  "CONSUMER.MSG.NEXT": ["batch", "max_bytes", "expires", "idle_heartbeat"],
};
const STREAM_KEYS = ["storage", "num_replicas", "duplicate_window", "deny_delete", "allow_direct", "mirror_direct"];

test("2.12: no request says more than a strict server knows", async () => {
  await using scene = await LogScene.start();
  const sent = new Map<string, Set<string>>();
  const readers = new WireReader();
  scene.proxy.onUpload = (chunk) => {
    for (const part of readers.push(chunk)) {
      if (Buffer.isBuffer(part) || !part.subject.startsWith("$JS.API.")) continue;
      const request = Object.keys(KNOWN).find((name) => part.subject.startsWith(`$JS.API.${name}.`));
      const keys = part.payload.length === 0 ? [] : Object.keys(JSON.parse(part.payload.toString()) as object);
      const kind = request ?? part.subject;
      sent.set(kind, new Set([...(sent.get(kind) ?? []), ...keys]));
    }
  };
  const config = natsConfig(scene.proxy.address, { maxBytes: 64 * 1024 * 1024 });
  const log = await scene.open("write", { config });
  const writer = await openWriter(log);
  await writer.append([mark("one")]).acknowledged;
  expect(await markNames(log)).toEqual(["one"]);
  await log.trim(offset(2));
  expect(new Set(sent.keys()).isSupersetOf(new Set(Object.keys(KNOWN)))).toBe(true);
  for (const [request, keys] of sent) {
    const stream = request.startsWith("STREAM.CREATE") || request.startsWith("STREAM.UPDATE");
    const known = stream ? [...(KNOWN["STREAM.CREATE"] ?? []), ...STREAM_KEYS] : [];
    expect({
      request,
      unknown: [...keys].filter((key) => ![...known, ...(KNOWN[request] ?? [])].includes(key)),
    }).toEqual({
      request,
      unknown: [],
    });
  }
});
