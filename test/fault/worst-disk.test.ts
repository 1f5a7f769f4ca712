import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import type { DiskEffect } from "../support/power-cut/disk-journal.ts";
import { identityOf, keepIdentity } from "../support/power-cut/file-identity.ts";
import { DiskRecording } from "../support/power-cut/recording.ts";
import { startTidemark } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

// Where power-cut.test.ts draws by lot, here the power is cut at the worst moment: the position of the standby has just been
// recorded, by luck that record reached the disk although nobody synced it, and of everything else only what was synced.

const FRAME_HEADER_BYTES = 24;

/** The moments right after each commit to the WAL at this path. */
function commitsTo(effects: readonly DiskEffect[], wal: string): number[] {
  const writes = effects.flatMap((effect, index) =>
    effect.kind === "write" && effect.path === wal ? [{ index, data: effect.data }] : [],
  );
  const isCommit = (data: Buffer): boolean => data.length === FRAME_HEADER_BYTES && data.readUInt32BE(4) > 0;
  // The page comes after its header.
  return writes.flatMap(({ data }, nth) => (isCommit(data) ? [(writes[nth + 1]?.index ?? effects.length) + 1] : []));
}

test("what a recorded position says was on the disk before it: nothing of the standby is to be repaired", async () => {
  await using deployment = new Deployment();
  const { database, configFile } = deployment;
  using recording = new DiskRecording(deployment.directory);
  const { env } = recording;
  const app = new SqlSession(database, { env });
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB); INSERT INTO t VALUES (0, randomblob(100000))");
  const agent = startTidemark(["run", "-c", configFile, "--json"], { env });
  await agent.waitReady();
  const wal = path.join(deployment.standby, ".tidemark", "state.db-wal");
  const records = (): number[] => commitsTo(recording.effects(), wal);
  const before = records().length;
  await app.run("INSERT INTO t VALUES (1, randomblob(3000))");
  await waitFor("a position", () => records().length > before);
  // What the next one holds was appended to the standby's WAL after the last.
  await app.run("INSERT INTO t VALUES (2, randomblob(3000))");
  await waitFor("the next position", () => records().length > before + 1);
  recording.kill(agent.child.pid);
  await agent.exited;
  recording.kill(app.program.child.pid);
  await app.program.exited;

  const identity = identityOf(database);
  const effects = recording.effects();
  const disk = recording.replay(effects.slice(0, commitsTo(effects, wal).at(-1)));
  recording.write(disk.afterWorstCut((name) => path.dirname(name) === path.dirname(wal)));
  keepIdentity(deployment, identity);
  const next = deployment.launch("run");
  await next.waitReady(20_000);
  expect(await deployment.difference()).toBeUndefined();
  await next.stop();
  expect(next.output.stderr).not.toMatch(/repaired from the log|built anew|made anew/);
});
