import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import Database from "better-sqlite3";
import { expect, test, vi } from "vitest";

import { CliScene } from "../support/cli-scene.ts";
import { NatsServer } from "../support/nats-server.ts";
import { waitFor } from "../support/wait.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

function write(file: string): void {
  const database = new Database(file);
  database.pragma("wal_autocheckpoint=0");
  database.exec("INSERT INTO note (text) VALUES ('more')");
  database.close();
}

test.concurrent("capture and replica are two processes, and status and sync speak with both", async () => {
  await using server = await NatsServer.start();
  await using scene = new CliScene();
  const file = scene.database();
  scene.write(
    "tidemark.yml",
    `set: shop\ndatabases: [app.db]\nlog: nats://${server.address}\nstandby: standby\nstate: state\n`,
  );
  const capture = scene.start(["capture"]);
  expect(await capture.waitReady()).toContain(
    `restore with: tidemark restore -c ${scene.path("tidemark.yml")} --target DIR`,
  );
  const replica = scene.start(["replica"]);
  expect(await replica.waitReady()).toContain(`ready: set shop live on ${scene.path("standby")}`);
  write(file);
  const synced = await scene.ask(["sync", "--applied"]);
  expect(synced).toMatchObject({ ok: true, applied: true });
  const offset = Number(synced["offset"]);
  expect(await scene.ask(["status"])).toMatchObject({
    set: "shop",
    log: { first: 1 },
    capture: { lagMs: 0 },
    standby: { verified: true, databases: [{ name: "app.db" }] },
    rpo: { ok: true },
    agents: [{ role: "capture" }, { role: "replica" }],
  });
  expect(offset).toBeGreaterThan(3);
  const alone = await scene.refused(["sync", "--state", "elsewhere"]);
  expect(alone).toMatchObject({
    exit: 3,
    code: "AGENT_NOT_RUNNING",
    message: "the agent here is a replica and captures nothing",
  });
  expect((await replica.stop()).code).toBe(0);
  const noReplica = await scene.refused(["sync", "--applied"]);
  expect(noReplica).toMatchObject({ exit: 3, code: "AGENT_NOT_RUNNING" });
  expect(noReplica.message).toContain(scene.path("standby/.tidemark"));
  expect((await capture.stop()).code).toBe(0);
});

test.concurrent("an agent waits for a log that is away, says so, and is ready when it comes", async () => {
  await using server = await NatsServer.start();
  await server.kill();
  await using scene = new CliScene();
  scene.database();
  const args = ["--log", `nats://${server.address}`, "--state", "state"];
  const capture = scene.start(["capture", "--db", "app.db", ...args]);
  await waitFor("the warning", () => capture.output.stderr.includes("LOG_UNREACHABLE"));
  const waiting = await scene.ask(["status", "--state", "state"]);
  expect(waiting).toMatchObject({ capture: null, agents: [{ role: "capture", state: "starting" }] });
  expect(JSON.stringify(waiting["alerts"])).toContain(server.address);
  expect(await scene.refused(["mark", "early", "--state", "state"])).toMatchObject({
    exit: 3,
    code: "AGENT_NOT_RUNNING",
  });
  await server.start();
  await capture.waitReady();
  expect(await scene.ask(["sync", "--state", "state"])).toMatchObject({ ok: true });
});

test.concurrent("an agent that waits for its log stops gracefully", async () => {
  await using server = await NatsServer.start();
  await server.kill();
  await using scene = new CliScene();
  scene.database();
  const capture = scene.start(["capture", "--db", "app.db", "--log", `nats://${server.address}`, "--state", "state"]);
  await waitFor("the warning", () => capture.output.stderr.includes("LOG_UNREACHABLE"));
  expect((await capture.stop()).code).toBe(0);
});

test.concurrent("a second signal ends at once, with 130, an agent whose stop waits for the log", async () => {
  await using server = await NatsServer.start();
  await using scene = new CliScene();
  const file = scene.database();
  const capture = scene.start(["capture", "--db", "app.db", "--log", `nats://${server.address}`, "--state", "state"]);
  await capture.waitReady();
  server.pause();
  write(file);
  await waitFor(
    "a commit that waits",
    async () => JSON.stringify(await scene.ask(["status", "--state", "state"])).match(/"lagMs":[1-9]/) !== null,
  );
  capture.child.kill("SIGTERM");
  await waitFor("the stop", async () =>
    JSON.stringify(await scene.ask(["status", "--state", "state"])).includes('"state":"stopping"'),
  );
  capture.child.kill("SIGTERM");
  expect((await capture.exited).code).toBe(130);
});

test.concurrent("wrong credentials end every command with 3, and none shows them", async () => {
  await using server = await NatsServer.start({ config: 'authorization { user: "app", password: "right" }' });
  await using scene = new CliScene();
  scene.database();
  const wrong = ["--log", `nats://app:geheim@${server.address}`];
  for (const args of [
    ["log", "--set", "app"],
    ["check", "--db", "app.db"],
    ["capture", "--db", "app.db", "--state", "state"],
  ]) {
    const { code, stdout, stderr } = await scene.run([...args, ...wrong, "--json"]);
    expect(code).toBe(3);
    expect(`${stdout}${stderr}`).toContain("LOG_DENIED");
    expect(`${stdout}${stderr}`).not.toContain("geheim");
  }
  const env = { TIDEMARK_NATS_USER: "app", TIDEMARK_NATS_PASSWORD: "right" };
  const capture = scene.start(["capture", "--db", "app.db", "--log", `nats://${server.address}`, "--state", "state"], {
    env,
  });
  expect(await capture.waitReady()).not.toContain("right");
});

test.concurrent("a stream with foreign content is refused and left alone", async () => {
  await using server = await NatsServer.start();
  await using nats = {
    connection: await connect({ servers: [server.address] }),
    [Symbol.asyncDispose]: () => nats.connection.close(),
  };
  const { streams } = await jetstreamManager(nats.connection);
  await streams.add({ name: "TIDEMARK_app", subjects: ["orders.>"] });
  await using scene = new CliScene();
  scene.database();
  const { code, stderr } = await scene.run([
    "capture",
    "--db",
    "app.db",
    "--log",
    `nats://${server.address}`,
    "--state",
    "state",
    "--json",
  ]);
  expect(code).toBe(1);
  expect(stderr).toContain("LOG_FOREIGN");
  expect(stderr).toContain("TIDEMARK_app");
  expect((await streams.info("TIDEMARK_app")).config.subjects).toEqual(["orders.>"]);
});

test.concurrent("a second agent on the same set, with a state of its own, is refused and named", async () => {
  await using server = await NatsServer.start();
  await using scene = new CliScene();
  scene.database();
  const args = ["capture", "--db", "app.db", "--log", `nats://${server.address}`, "--json"];
  const first = scene.start([...args, "--state", "one"]);
  await first.waitReady();
  const { code, stderr } = await scene.run([...args, "--state", "two"]);
  expect(code).toBe(1);
  expect(stderr).toContain("LOG_FOREIGN_WRITER");
  expect(await scene.ask(["sync", "--state", "one"])).toMatchObject({ ok: true });
});
