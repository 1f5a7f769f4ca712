import { expect, test } from "vitest";

import { askAgent } from "../../src/observe/control-client.ts";
import type { StatusReport } from "../../src/observe/status-report.ts";
import { Program } from "../support/apps/program.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

const FILL =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800) INSERT INTO t SELECT i, randomblob(3500) FROM n";

test("how far a first copy is: a bar on a terminal, pages in status --json; at its rate", async () => {
  await using deployment = new Deployment({ config: "copyRate: 2MiB" });
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER PRIMARY KEY, body BLOB)");
  await app.run(FILL);
  const command = deployment.commandLine("capture", "-c", deployment.configFile);
  const startedMs = performance.now();
  // A terminal of its own.
  await using terminal = new Program(["script", "-qec", `exec ${command.join(" ")}`, "/dev/null"], { TERM: "xterm" });
  let shown = "";
  terminal.child.stdout?.on("data", (data: Buffer) => (shown += data.toString()));
  await waitFor("the bar", () => /copying +█+·+ \d+ %/.test(shown));
  const request = { method: "GET", path: "/status", timeoutMs: 10_000 } as const;
  const { capture } = (await askAgent(deployment.state, request)) as StatusReport;
  const [database] = capture?.databases ?? [];
  expect(database?.copy?.total).toBeGreaterThan(800);
  expect(database?.copy?.done).toBeLessThan(database?.copy?.total ?? 0);
  await waitFor("ready", () => shown.includes("ready: app.db captured"));
  // About 3.2 MiB.
  expect(performance.now() - startedMs).toBeGreaterThan(1500);
  expect(shown.slice(shown.lastIndexOf("%"))).toContain("\u001B[2K");
  await terminal.end("SIGTERM");
});
