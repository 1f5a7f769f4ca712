import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { encodeRecord, recordHash } from "../../src/event/codec.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { LogWriter } from "../../src/log/log-writer.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { PageDiffLog } from "../support/page-diff-log.ts";
import { failure, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { replicaProcess } from "../support/replica-process.ts";
import { waitFor, within } from "../support/wait.ts";

let fixture: ReplicaFixture;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test("what a standby showed and did not record, and the log lost, is not taken for what a full copy says", async () => {
  const logDirectory = path.join(fixture.directory, "log");
  const kept = path.join(fixture.directory, "kept");
  const primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t VALUES (1, 'kept'), (2, zeroblob(9000))");
  await fixture.log.ship("a.db", primary);
  await fixture.ready();
  await fixture.stop();
  await fixture.log[Symbol.asyncDispose]();
  fs.cpSync(logDirectory, kept, { recursive: true });

  fixture.log = await PageDiffLog.open(logDirectory);
  primary.connection.exec("UPDATE t SET body = 'lost' WHERE id = 1");
  const bodies = fixture.log.commitBodies("a.db", { pages: primary.allPages(), cause: "copy", database: primary });
  await fixture.log.append(bodies);
  const point: CrashPoint = "append: unlocked";
  const victim = replicaProcess({ log: logDirectory, standby: fixture.standby }, point);
  expect((await victim.exited).signal).toBe("SIGKILL");
  expect(query(fixture.file("a.db"), "SELECT body FROM t WHERE id = 1")).toBe("lost");

  // The log's server lost power, the primary too; capture, without its state, ships a full copy.
  await fixture.log[Symbol.asyncDispose]();
  fs.rmSync(logDirectory, { recursive: true });
  fs.cpSync(kept, logDirectory, { recursive: true });
  fixture.log = await PageDiffLog.open(logDirectory);
  primary.connection.exec("UPDATE t SET body = 'kept' WHERE id = 1");
  await fixture.log.copy("a.db", primary);
  const agent = await fixture.ready();
  expect(query(fixture.file("a.db"), "SELECT body FROM t WHERE id = 1")).toBe("kept");
  // Nor was it the comparison after the start that put it right.
  await waitFor("the comparison", () => agent.status().databases[0]?.scrub.at !== undefined);
  expect(agent.status().databases[0]?.scrub.differing).toBe(0);
});

test("a record of an epoch that is over is damage, not news", async () => {
  const { log } = fixture.log;
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const successor = { writer: "00000000-0000-4000-8000-000000000002", host: "other" };
  const { signal } = new AbortController();
  const writer = await LogWriter.open({
    log,
    set: "app",
    identity: successor,
    known: undefined,
    clock: systemClock,
    signal,
    foreignWriterGraceMs: 0,
    takeover: true,
  });
  expect(writer.epoch).toBe(2);
  const agent = await fixture.ready();
  const { last } = await log.bounds();
  const previous = await log.get(last);
  if (!previous) throw new Error("the log has no newest record");
  const late = encodeRecord({
    offset: offset(last + 1),
    epoch: epoch(1),
    timeMs: Date.now(),
    previousHash: recordHash(previous),
    body: { kind: "heartbeat", writer: "00000000-0000-4000-8000-000000000001", host: "test" },
  });
  await log.append([late], last, signal);
  const error = await within("a halt", 10_000, failure(agent.done));
  expect(error.code).toBe("LOG_CORRUPT");
  expect(error.message).toContain(`offset ${last + 1} is of epoch 1, after epoch 2 had begun`);
  // Started again, too.
  expect((await failure((await fixture.start()).done)).code).toBe("LOG_CORRUPT");
});
