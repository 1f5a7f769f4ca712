import { expect, test } from "vitest";

import type { DatabaseCaptureStatus } from "../../src/capture/capture-agent.ts";
import { offset } from "../../src/event/positions.ts";
import { buildStatusReport } from "../../src/observe/status-report.ts";
import type { DatabaseReplicaStatus } from "../../src/replica/replica-agent.ts";
import type { ScrubStatus } from "../../src/sqlite/page-comparison.ts";

const at = "2026-01-01T00:00:00.000Z";

function messages(scrub: ScrubStatus): string[] {
  const database = { name: "a.db", path: "/srv/a.db", pages: 10, walBytes: 0, repairs: 0, scrub };
  const captured: DatabaseCaptureStatus = {
    ...database,
    state: "following",
    problem: undefined,
    commits: 0,
    copies: 1,
    seals: 0,
    ways: 0,
    copy: undefined,
  };
  const copied: DatabaseReplicaStatus = { ...database, offset: offset(3), checksum: "00", checked: true };
  const report = buildStatusReport({
    set: "app",
    objectiveMs: 60_000,
    nowMs: 0,
    agents: [],
    capture: {
      set: "app",
      writer: "w",
      epoch: 1,
      offset: offset(3),
      atMs: 1,
      lagMs: 0,
      overtaken: 0,
      databases: [captured],
      files: [],
      warnings: [],
    },
    replica: {
      set: "app",
      state: "following",
      problem: undefined,
      offset: offset(3),
      atMs: 1,
      head: offset(3),
      lagEvents: 0,
      lagMs: 0,
      lastApplyMs: 0,
      verified: true,
      databases: [copied],
      trees: [],
      treeScrub: { at: undefined, places: 0, differing: 0, strays: 0, running: false },
    },
  });
  return report.alerts.map(({ severity, message }) => `${severity} ${message}`);
}

test("what a scrub found is an alert until a later one finds everything right", () => {
  expect(messages({ at, pages: 10, differing: 0, running: undefined })).toEqual([]);
  expect(messages({ at: undefined, pages: 0, differing: 0, running: { done: 1, total: 10 } })).toEqual([]);
  expect(messages({ at, pages: 10, differing: 2, running: undefined })).toEqual([
    `warning capture of a.db: the scrub of ${at} found 2 pages of its file that no commit had changed, and shipped them; look at the disk`,
    `warning standby copy of a.db: the scrub of ${at} found 2 pages damaged, and repaired them from the log; look at the disk`,
  ]);
});
