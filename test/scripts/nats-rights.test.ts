import { connect, type NatsConnection } from "@nats-io/transport-node";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { expect, test, vi } from "vitest";
import type { NatsLogConfig } from "../../src/config/config.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { CliScene } from "../support/cli-scene.ts";
import { codeOf } from "../support/log-records.ts";
import { mark, markNames, openWriter } from "../support/log-scene.ts";
import { NatsOperator } from "../support/nats-identity.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const EXAMPLE = await readFile(resolve(import.meta.dirname, "../../docs/nats-server.conf"), "utf8");
const USERS = {
  capture: "change-me-1",
  replica: "change-me-2",
  admin: "change-me-3",
  archiver: "change-me-4",
} as const;
type User = keyof typeof USERS;

/** The documented example on a free port and a store of its own. */
function startExample(): Promise<NatsServer> {
  const authorization = EXAMPLE.slice(EXAMPLE.indexOf("READ_API = "));
  expect(authorization).toContain("authorization {");
  return NatsServer.start({ config: authorization });
}

/** What the example lets a user publish to. */
function rightsOf(user: "capture" | "replica"): string[] {
  const start = user === "replica" ? EXAMPLE.indexOf("READ_API = ") : EXAMPLE.indexOf("user: capture");
  const list = EXAMPLE.slice(EXAMPLE.indexOf("[", start), EXAMPLE.indexOf("]", start));
  return [...list.matchAll(/"([^"]+)"/g)].map(([, subject = ""]) => subject);
}

const login = (server: NatsServer, user: User): NatsLogConfig =>
  natsConfig(server.address, { user, password: USERS[user], replicas: undefined });

async function openAs(server: NatsServer, user: User, mode: "write" | "read"): Promise<ChangeLog> {
  return openJetStreamLog({ config: login(server, user), set: "app", mode });
}

/** What changes or shortens a log, besides appending. */
const ALTERING = [
  ["$JS.API.STREAM.PURGE.TIDEMARK_app", ""],
  ["$JS.API.STREAM.PURGE.TIDEMARK_app", '{"seq":3}'],
  ["$JS.API.STREAM.DELETE.TIDEMARK_app", ""],
  ["$JS.API.STREAM.MSG.DELETE.TIDEMARK_app", '{"seq":2}'],
  ["$JS.API.STREAM.RESTORE.TIDEMARK_app", "{}"],
  ["$JS.API.STREAM.LEADER.STEPDOWN.TIDEMARK_app", ""],
  ["$JS.API.STREAM.CREATE.OTHER", '{"name":"OTHER","subjects":["tidemark.app"],"storage":"file"}'],
] as const;
const READER_MAY_NOT = [
  ["tidemark.app", "not a record"],
  ["$JS.API.STREAM.UPDATE.TIDEMARK_app", '{"name":"TIDEMARK_app","subjects":["tidemark.app"],"max_msgs":1}'],
  ["$JS.API.STREAM.CREATE.TIDEMARK_app", "{}"],
] as const;

/** Publishes each; returns those that the server did not refuse. */
async function notRefused(nats: NatsConnection, attempts: readonly (readonly [string, string])[]): Promise<string[]> {
  const taken: string[] = [];
  for (const [subject, payload] of attempts) {
    const answer = nats.request(subject, payload, { timeout: 1_000 }).then(
      () => "an answer",
      (error: unknown) => (error instanceof Error ? error.message : ""),
    );
    if (!(await answer).includes("Permissions Violation")) taken.push(subject);
  }
  return taken;
}

test("the rights of the example suffice for every command, each with the role it is meant for", async () => {
  await using server = await startExample();
  await using scene = new CliScene();
  scene.database();
  const config = [
    "set: app",
    "databases: [app.db]",
    "standby: standby",
    "state: state",
    `log: nats://${server.address}`,
  ];
  scene.write("tidemark.yml", [...config, "nats: { maxBytes: 256MiB }"].join("\n"));
  const as = (user: User) => ({ env: { TIDEMARK_NATS_USER: user, TIDEMARK_NATS_PASSWORD: USERS[user] } });
  const capture = scene.start(["capture"], as("capture"));
  await capture.waitReady();
  const replica = scene.start(["replica"], as("replica"));
  await replica.waitReady();
  await waitFor("the log knows its standby", async () => {
    const { stdout } = await scene.run(["status", "--json"], as("replica"));
    return (JSON.parse(stdout) as { replicas: unknown[] }).replicas.length === 1;
  });
  // Of the agents, which have their own rights.
  for (const args of [["mark", "one"], ["sync", "--applied"], ["status"]]) {
    const { code, stderr } = await scene.run(args);
    expect({ args, code, stderr }).toMatchObject({ args, code: 0 });
  }
  const reading = [["log"], ["marks"], ["check"], ["restore", "--target", "restored", "--to", "mark:one"]];
  await capture.stop();
  await replica.stop();
  const ended = await Promise.all([...reading, ["status"]].map((args) => scene.run(args, as("replica"))));
  expect(ended.map(({ code, stderr }) => ({ code, stderr }))).toMatchObject(ended.map(() => ({ code: 0 })));
  // A changed limit is the writer's to apply.
  const limited = { ...login(server, "capture"), maxBytes: 128 * 1024 * 1024 };
  await using log = await openJetStreamLog({ config: limited, set: "app", mode: "write" });
  expect((await log.bounds()).last).toBeGreaterThan(3);
});

test("a standby's user cannot append, change, shorten or delete the log, a writer's cannot shorten or delete it", async () => {
  await using server = await startExample();
  await using log = await openAs(server, "capture", "write");
  const writer = await openWriter(log);
  for (const name of ["one", "two", "three"]) writer.append([mark(name)]);
  await writer.flush();
  const before = await log.bounds();
  const attempts = { capture: ALTERING, replica: [...ALTERING, ...READER_MAY_NOT] } as const;
  for (const user of ["capture", "replica"] as const) {
    const nats = await connect({ servers: [server.address], user, pass: USERS[user] });
    expect({ user, taken: await notRefused(nats, attempts[user]) }).toEqual({ user, taken: [] });
    await nats.close();
    await using own = await openAs(server, user, "write");
    expect(await codeOf(own.trim(before.last))).toBe("LOG_DENIED");
  }
  expect(await log.bounds()).toEqual(before);
  expect(await markNames(log)).toEqual(["one", "two", "three"]);
  // As a writer a standby's user gets no further than its first record.
  await using reader = await openAs(server, "replica", "write");
  expect(await codeOf(openWriter(reader, { takeover: true }))).toBe("LOG_DENIED");
  await using archiver = await openAs(server, "archiver", "read");
  await archiver.trim(before.last);
  expect((await log.bounds()).first).toBe(before.last);
});

test("the same rights in credentials files", async () => {
  const operator = new NatsOperator();
  await using server = await NatsServer.start({ config: operator.serverConfig() });
  await using scene = new CliScene();
  const fileOf = (user: "capture" | "replica"): string => {
    const rights = { publish: rightsOf(user), subscribe: ["_INBOX.>"] };
    return scene.write(`${user}.creds`, operator.credentials(user, rights));
  };
  const configOf = (user: "capture" | "replica"): NatsLogConfig =>
    natsConfig(server.address, { credentials: fileOf(user) });
  await using log = await openJetStreamLog({ config: configOf("capture"), set: "app", mode: "write" });
  const writer = await openWriter(log);
  await writer.append([mark("one")]).acknowledged;
  await using readable = await openJetStreamLog({ config: configOf("replica"), set: "app", mode: "read" });
  expect(await markNames(readable)).toEqual(["one"]);
  await using reader = await openJetStreamLog({ config: configOf("replica"), set: "app", mode: "write" });
  expect(await codeOf(openWriter(reader, { takeover: true }))).toBe("LOG_DENIED");
  for (const one of [log, reader]) expect(await codeOf(one.trim(writer.head))).toBe("LOG_DENIED");
});

test("what NATS does not keep a reader from: the answer to its request lands in the log, is noticed, and passes for nothing", async () => {
  await using server = await startExample();
  await using log = await openAs(server, "capture", "write");
  const writer = await openWriter(log);
  await writer.append([mark("one")]).acknowledged;
  const nats = await connect({ servers: [server.address], user: "replica", pass: USERS.replica });
  nats.publish("$JS.API.STREAM.INFO.TIDEMARK_app", "", { reply: "tidemark.app" });
  // A purge or deletion is not to be had that way: the server takes such requests from clients only.
  for (const verb of ["PURGE", "DELETE"])
    nats.publish("$JS.API.STREAM.INFO.TIDEMARK_app", "", { reply: `$JS.API.STREAM.${verb}.TIDEMARK_app` });
  await nats.flush();
  await nats.close();
  expect(await codeOf(writer.append([mark("two")]).acknowledged)).toBe("LOG_FOREIGN_WRITER");
  expect((await log.bounds()).last).toBe(4);
  expect(await codeOf(markNames(log))).toBe("LOG_CORRUPT");
  expect(await codeOf(openAs(server, "capture", "write"))).toBe("LOG_FOREIGN");
});
