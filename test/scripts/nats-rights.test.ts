import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { NatsLogConfig } from "../../src/config/config.ts";
import { BEFORE_FIRST } from "../../src/event/positions.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { readEvents, readLogIdentity } from "../../src/log/log-reader.ts";
import { LogWriter } from "../../src/log/log-writer.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { waitFor } from "../support/wait.ts";

const EXAMPLE = resolve(import.meta.dirname, "../../docs/nats-server.conf");

let directory = "";
let server: ChildProcess | undefined;
let address = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tidemark-rights-"));
  const config = (await readFile(EXAMPLE, "utf8"))
    .replace("127.0.0.1:4222", "127.0.0.1:-1")
    .replace("/var/lib/nats", join(directory, "store"));
  await writeFile(join(directory, "nats.conf"), config);
  const started = spawn("nats-server", ["-c", join(directory, "nats.conf"), "--ports_file_dir", directory], {
    stdio: "ignore",
  });
  server = started;
  const ports = await waitFor(
    "the server's ports file",
    async () =>
      JSON.parse(await readFile(join(directory, `nats-server_${started.pid}.ports`), "utf8")) as { nats: string[] },
  );
  address = new URL(ports.nats[0] ?? "").host;
});

afterAll(async () => {
  if (server) {
    server.kill("SIGKILL");
    await once(server, "close");
  }
  await rm(directory, { recursive: true, force: true });
});

function configOf(user: "capture" | "replica", password: string): NatsLogConfig {
  return {
    kind: "nats",
    servers: [address],
    user,
    password,
    credentials: undefined,
    token: undefined,
    nkey: undefined,
    tls: undefined,
    replicas: 1,
    maxBytes: undefined,
  };
}

const capture = (): NatsLogConfig => configOf("capture", "change-me-1");
const replica = (): NatsLogConfig => configOf("replica", "change-me-2");

const writerOn = (log: ChangeLog, signal: AbortSignal): Promise<LogWriter> =>
  LogWriter.open({
    log,
    set: "app",
    identity: { writer: "6f1f7a4e-0d0f-4c80-9d0e-6a4f0a1b2c3d", host: "primary" },
    known: undefined,
    clock: systemClock,
    signal,
    foreignWriterGraceMs: 0,
    takeover: false,
  });

test("the rights of the example suffice for their roles: capture makes the stream, appends and reads, a replica reads", async () => {
  const { signal } = new AbortController();
  await using log = await openJetStreamLog({ config: capture(), set: "app", mode: "write" });
  const writer = await writerOn(log, signal);
  await writer.append([{ kind: "mark", name: "one" }]).acknowledged;
  await using resized = await openJetStreamLog({
    config: { ...capture(), maxBytes: 64 * 1024 * 1024 },
    set: "app",
    mode: "write",
  });
  expect((await resized.bounds()).last).toBe(writer.head);

  await using readable = await openJetStreamLog({ config: replica(), set: "app", mode: "read" });
  expect((await readLogIdentity(readable, signal)).set).toBe("app");
  expect(await readable.locate(systemClock.now() + 1_000)).toBe(writer.head);
  const kinds: string[] = [];
  for await (const events of readEvents(readable, { after: BEFORE_FIRST, follow: false, signal })) {
    kinds.push(...events.map((event) => event.body.kind));
  }
  expect(kinds.at(-1)).toBe("mark");
  expect((await log.durability()).survivesPowerLoss).toBe(false);
});

test("a replica's rights do not let it append or trim", async () => {
  const { signal } = new AbortController();
  await using log = await openJetStreamLog({
    config: { ...replica(), maxBytes: 64 * 1024 * 1024 },
    set: "app",
    mode: "write",
  });
  const { last } = await log.bounds();
  // A writer takes its place with a first record, and already that is refused.
  await expect(writerOn(log, signal)).rejects.toMatchObject({ code: "LOG_DENIED" });
  await expect(log.trim(last)).rejects.toMatchObject({ code: "LOG_DENIED" });
  await using readable = await openJetStreamLog({ config: replica(), set: "app", mode: "read" });
  expect(await readable.bounds()).toMatchObject({ first: 1, last });
});

test("a wrong password is refused by name", async () => {
  const wrong = openJetStreamLog({ config: configOf("capture", "guess"), set: "app", mode: "write" });
  await expect(wrong).rejects.toMatchObject({ code: "LOG_DENIED" });
});
