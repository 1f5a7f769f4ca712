import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { Process } from "../support/processes.ts";
import { waitFor } from "../support/wait.ts";

/** In a user namespace of its own, whose limit is nobody else's: inotify_init says EMFILE. */
const WITHOUT_INOTIFY = [
  "--user",
  "--map-root-user",
  "sh",
  "-c",
  'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"',
  "sh",
];

test("inotify has no room: the agent says so, looks by itself, and captures all the same", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  const agent = new Process("unshare", [
    ...WITHOUT_INOTIFY,
    ...deployment.commandLine("run", "-c", deployment.configFile),
  ]);
  try {
    await waitFor("the standby", () => agent.output.includes("ready"));
    expect(agent.errors).toContain("cannot watch the WAL");
    expect(agent.errors).toContain("fs.inotify.max_user");
    const standby = new SqlSession(deployment.standbyDatabase);
    const tookMs: number[] = [];
    for (let value = 1; value <= 3; value += 1) {
      // Longer than the agent expects another commit soon after one.
      await sleep(800);
      await app.run(`INSERT INTO t VALUES (${value}, randomblob(5000))`);
      const committed = performance.now();
      // Nobody asks the agent, which would wake it.
      await waitFor("the row", async () => (await standby.value("SELECT max(value) FROM t")) === value, { everyMs: 2 });
      tookMs.push(performance.now() - committed);
    }
    await standby[Symbol.asyncDispose]();
    // One look every 10 ms, where one a second would do with a watch.
    expect(tookMs.toSorted((a, b) => a - b)[1]).toBeLessThan(400);
    expect(await deployment.difference()).toBeUndefined();
    expect(await deployment.repairs()).toBe(0);
  } finally {
    await agent.kill();
  }
});
