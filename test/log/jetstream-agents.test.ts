import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, test, vi } from "vitest";
import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { NatsServer } from "../support/nats-server.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000 });

const MiB = 1024 * 1024;

test("64 KiB pages, and a transaction larger than any message, over a server with its default limits", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA page_size=65536");
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (body BLOB)");
  await deployment.start("capture");
  await deployment.start("replica");
  await app.run(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO t SELECT randomblob(1000000) FROM n",
  );
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.commits()).toMatchObject([{ pageSize: 65_536 }, { pageSize: 65_536 }]);
});

test("a full stream: capture says so and waits, the application goes on, and with more room everything arrives", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address, config: "nats: { maxBytes: 1MiB }" });
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (body BLOB)");
  const capture = await deployment.start("capture");
  await deployment.start("replica");
  for (let round = 0; round < 20; round += 1) await app.run("INSERT INTO t VALUES (randomblob(200000))");
  await waitFor("the stream is full", () => capture.output.stderr.includes("LOG_FULL"));
  expect(await app.value("SELECT count(*) FROM t")).toBe(20);
  const nats = await connect({ servers: [server.address] });
  await (await jetstreamManager(nats)).streams.update("TIDEMARK_e2e", { max_bytes: 64 * MiB });
  await nats.close();
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});
