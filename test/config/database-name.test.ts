import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterAll, expect, test } from "vitest";

import { requireDatabaseName } from "../../src/config/database-name.ts";
import { encodeRecord, NO_PREVIOUS_HASH } from "../../src/event/codec.ts";
import { databasePath } from "../../src/replica/standby-paths.ts";
import { epoch, offset } from "../../src/event/positions.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-names-"));
afterAll(() => fs.rmSync(directory, { recursive: true }));

/** Whether a record can carry the name, and a standby takes it. One that can not ends the agent for all databases. */
function isTaken(name: string): boolean {
  const body = { kind: "sqlite.part", database: name, transaction: 1, sequence: 0, pageSize: 512, pages: [] } as const;
  try {
    encodeRecord({ offset: offset(1), epoch: epoch(1), timeMs: 0, previousHash: NO_PREVIOUS_HASH, body });
    databasePath({ root: directory }, name);
    return true;
  } catch {
    return false;
  }
}

test("every name that is allowed fits into a record of the log and onto a standby", () => {
  const names = [
    "app.db",
    "a b.db",
    "ü/x.db",
    "a.tidemark-new",
    "a/.tidemark/b",
    "a-wal",
    "a\u007f.db",
    "a\u0085.db",
    "a\ud800.db",
    `${"n".repeat(200)}/${"n".repeat(54)}`,
  ];
  const controls = Array.from({ length: 0x120 }, (_, code) => `a${String.fromCodePoint(code)}.db`);
  for (const name of [...names, ...controls, `${"n".repeat(200)}/${"n".repeat(55)}`]) {
    let allowed = true;
    try {
      requireDatabaseName(name, "here");
    } catch {
      allowed = false;
    }
    if (allowed) expect([name, isTaken(name)]).toEqual([name, true]);
  }
  for (const name of ["app.db", "a b.db", "ü/x.db"]) expect(requireDatabaseName(name, "here")).toBe(name);
});
