import fs from "node:fs";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { Process } from "../support/processes.ts";
import { waitFor } from "../support/wait.ts";

const AGENTS = {
  "an agent": [],
  "an agent that sees no process but its own, as in a container,": [
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
  ],
};

test.concurrent.for(Object.entries(AGENTS))("%s does not empty the WAL under an open database", async ([, around]) => {
  await using deployment = new Deployment({ config: "heartbeat: 1s" });
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL; CREATE TABLE t (value INTEGER)");
  const [command = "", ...args] = [...around, ...deployment.commandLine("run", "-c", deployment.configFile)];
  const agent = new Process(command, args);
  try {
    await waitFor("the standby", () => agent.output.includes("ready"));
    await app.run("INSERT INTO t VALUES (1)");
    await deployment.sync();
    // A reader that stays for longer than an agent waits, and then writes: a WAL begun anew would be SQLITE_BUSY_SNAPSHOT.
    await app.run("BEGIN");
    expect(await app.value("SELECT count(*) FROM t")).toBe(1);
    const before = (await deployment.events()).length;
    await waitFor("eight seconds of heartbeats", async () => (await deployment.events()).length >= before + 8, {
      everyMs: 500,
    });
    expect(fs.statSync(`${deployment.database}-wal`).size).toBeGreaterThan(0);
    await app.run("INSERT INTO t VALUES (2)");
    await app.run("COMMIT");
    expect(await deployment.difference()).toBeUndefined();
  } finally {
    await agent.kill();
  }
});
