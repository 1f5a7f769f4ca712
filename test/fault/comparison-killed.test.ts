import { expect, test } from "vitest";

import { flipBits } from "../support/bit-rot.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { Deployment } from "../support/deployment.ts";
import { NatsServer } from "../support/nats-server.ts";
import { waitFor } from "../support/wait.ts";

const PAGE = 4096;

test.concurrent("killed as it begins to compare a file that was written around SQLite: the next start compares it", async () => {
  await using scene = new CrashScene();
  await scene.createDatabase();
  await scene.launch().waitReady();
  await scene.sync();
  scene.order("copy: begun");
  let page = 100;
  // The WAL proves to the next start that no commit passed, and no more than that.
  await scene.diesOf("copy: begun", async () => {
    flipBits(scene.deployment.database, [page * PAGE + 2000], { unnoticed: false });
    page += 1;
    await new Promise((resolve) => void setTimeout(resolve, 500));
  });
  await scene.goesOn();
  expect(await scene.deployment.repairs()).toBe(1);
});

test.concurrent("the same while the log is away and has not acknowledged what the index holds", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (body BLOB); INSERT INTO t VALUES (randomblob(400000))");
  const agent = await deployment.start("capture");
  // Else the first copy may not be in the log, and the next start makes it: nothing would be repaired.
  await deployment.sync({ applied: false });
  await server.kill();
  await app.run("INSERT INTO t VALUES (1)");
  let page = 10;
  await waitFor("it is noticed", async () => {
    flipBits(deployment.database, [page * PAGE + 2000], { unnoticed: false });
    page += 1;
    await new Promise((resolve) => void setTimeout(resolve, 300));
    return agent.output.stderr.includes("was written around SQLite");
  });
  await new Promise((resolve) => void setTimeout(resolve, 200));
  await agent.kill9();
  await server.start();
  await deployment.start("capture");
  await deployment.sync({ applied: false });
  expect(await deployment.repairs()).toBe(1);
});
