import { jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import type { NatsLogConfig } from "../../src/config/config.ts";
import { BEFORE_FIRST } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { type JetStreamLogOptions, openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { codeOf, until } from "../support/log-records.ts";
import { LogScene, mark, openWriter } from "../support/log-scene.ts";
import { freePort, natsConfig, NatsServer } from "../support/nats-server.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";

function open(
  server: NatsServer,
  more: Partial<NatsLogConfig> = {},
  options: Partial<JetStreamLogOptions> = {},
): Promise<ChangeLog> {
  return openJetStreamLog({
    config: natsConfig(server.address, more),
    set: "app",
    mode: "write",
    ...options,
  });
}

/** "none" when it opens. */
async function openCode(
  server: NatsServer,
  more: Partial<NatsLogConfig> = {},
  options: Partial<JetStreamLogOptions> = {},
): Promise<string> {
  return codeOf(open(server, more, options).then((log) => log[Symbol.asyncDispose]()));
}

async function addStream(server: NatsServer, config: Partial<StreamConfig> & { name: string }): Promise<void> {
  const nats = await connect({ servers: [server.address] });
  await (await jetstreamManager(nats)).streams.add(config);
  await nats.close();
}

test("no server", async () => {
  const nowhere = natsConfig(`127.0.0.1:${await freePort()}`);
  await expect(openJetStreamLog({ config: nowhere, set: "app", mode: "write" })).rejects.toMatchObject({
    code: "LOG_UNREACHABLE",
    message: expect.stringContaining(nowhere.servers[0] ?? "?"),
  });
});

test("one of several servers is enough", async () => {
  await using server = await NatsServer.start();
  expect(await openCode(server, { servers: [`127.0.0.1:${await freePort()}`, server.address] })).toBe("none");
});

test("a server that was away at the start is used when the others fail", async () => {
  await using scene = await LogScene.start();
  await using other = await TcpProxy.start(scene.server.port);
  other.refuse = true;
  const config = natsConfig("", { servers: [other.address, scene.proxy.address] });
  let log = await scene.open("write", { config });
  // The client tries them in any order.
  while (other.refused === 0) log = await scene.open("write", { config });
  const writer = await openWriter(log);
  other.refuse = false;
  scene.proxy.refuse = true;
  scene.proxy.cut();
  expect(await writer.append([mark("over the other one")]).acknowledged).toBe(3);
});

test("a server without JetStream", async () => {
  await using server = await NatsServer.start({ jetstream: false });
  await expect(open(server)).rejects.toMatchObject({
    code: "LOG_UNREACHABLE",
    message: expect.stringContaining("JetStream"),
  });
});

test("a password that is changed while the writer runs ends in an error, not in silence", async () => {
  await using server = await NatsServer.start({
    config: 'authorization { user: "tide", password: "mark" }',
  });
  await using log = await open(server, { user: "tide", password: "mark" });
  const writer = await openWriter(log);
  await server.kill();
  server.configure({ config: 'authorization { user: "tide", password: "changed" }' });
  const waiting = codeOf(writer.append([mark("late")]).acknowledged);
  await server.start();
  expect(await waiting).toBe("LOG_DENIED");
});

test("rights: no JetStream API, and no publishing to the log", async () => {
  const users = (publish: string): string =>
    `authorization { users: [{ user: u, password: p, permissions: { publish: [${publish}], subscribe: [">"] } }] }`;
  const login = { user: "u", password: "p" };
  await using server = await NatsServer.start({ config: users('"tidemark.>"') });
  expect(await openCode(server, login)).toBe("LOG_DENIED");
  await server.kill();
  server.configure({ config: users('"$JS.API.>"') });
  await server.start();
  await using log = await open(server, login);
  expect(await codeOf(openWriter(log))).toBe("LOG_DENIED");
});

test("streams that are not ours are refused and left as they were", async () => {
  const foreign: readonly (Partial<StreamConfig> & { name: string })[] = [
    { name: "TIDEMARK_app", subjects: ["orders.>"] },
    {
      name: "TIDEMARK_app",
      subjects: ["tidemark.app"],
      max_age: 3_600_000_000_000,
      discard: "new",
    },
    { name: "TIDEMARK_app", subjects: ["tidemark.app"] },
    { name: "OTHER", subjects: ["tidemark.>"] },
  ];
  for (const config of foreign) {
    await using server = await NatsServer.start();
    await addStream(server, config);
    expect(await openCode(server)).toBe("LOG_FOREIGN");
  }
});

test("a stream that holds other messages is refused", async () => {
  await using server = await NatsServer.start();
  await (await open(server))[Symbol.asyncDispose]();
  const nats = await connect({ servers: [server.address] });
  await nats.request("tidemark.app", "not a record");
  await nats.close();
  expect(await openCode(server)).toBe("LOG_FOREIGN");
  expect(await openCode(server, {}, { mode: "read" })).toBe("LOG_FOREIGN");
});

test("the configured limit is applied to a stream that exists; more replicas than servers are refused", async () => {
  await using server = await NatsServer.start();
  await (await open(server, { maxBytes: 1_000_000 }))[Symbol.asyncDispose]();
  await (await open(server, { maxBytes: 2_000_000 }))[Symbol.asyncDispose]();
  const nats = await connect({ servers: [server.address] });
  const { config } = await (await jetstreamManager(nats)).streams.info("TIDEMARK_app");
  await nats.close();
  expect(config).toMatchObject({
    max_bytes: 2_000_000,
    discard: "new",
    deny_delete: true,
    storage: "file",
    subjects: ["tidemark.app"],
  });
  await using other = await NatsServer.start();
  await expect(open(other, { replicas: 3 })).rejects.toMatchObject({
    code: "LOG_DENIED",
    hint: expect.stringContaining("nats.replicas"),
  });
});

test("a server, or a stream, that takes only small messages", async () => {
  await using server = await NatsServer.start({ config: "max_payload: 65536" });
  for (const mode of ["write", "read"] as const) {
    await expect(open(server, {}, { mode })).rejects.toMatchObject({
      code: "RECORD_TOO_LARGE",
      message: expect.stringContaining("max_payload is 65536"),
    });
  }
  await using other = await NatsServer.start();
  await addStream(other, { name: "TIDEMARK_app", subjects: ["tidemark.app"], discard: "new", max_msg_size: 65536 });
  await expect(open(other)).rejects.toMatchObject({
    code: "RECORD_TOO_LARGE",
    message: expect.stringContaining("max_msg_size is 65536"),
  });
});

test("an idle reader asks the server for next to nothing", async () => {
  await using server = await NatsServer.start();
  await using log = await open(server);
  await openWriter(log);
  const nats = await connect({ servers: [server.address] });
  let requests = 0;
  const watching = nats.subscribe("$JS.API.>", { callback: () => void (requests += 1) });
  const stop = new AbortController();
  let seen = 0;
  const following = (async () => {
    for await (const batch of log.read(BEFORE_FIRST, { signal: stop.signal, follow: true })) seen += batch.length;
  })();
  await until(() => seen === 2);
  // The request that it waits with is on its way.
  let before = 0;
  await until(async () => {
    before = requests;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return before > 0 && requests === before;
  });
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(requests - before).toBe(0);
  stop.abort();
  await following;
  watching.unsubscribe();
  await nats.close();
});
