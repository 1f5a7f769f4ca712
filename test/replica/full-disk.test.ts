import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { applied, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor } from "../support/wait.ts";

/** A file system of a few MiB needs the right to mount one. */
const mayMount = process.getuid?.() === 0 && canMount();

function canMount(): boolean {
  const probe = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-mount-"));
  try {
    shell(`mount -t tmpfs -o size=1m tmpfs ${probe}`);
    shell(`umount ${probe}`);
    return true;
  } catch {
    return false;
  } finally {
    fs.rmdirSync(probe);
  }
}

function shell(command: string): void {
  execFileSync("sh", ["-c", command], { stdio: "ignore" });
}

let fixture: ReplicaFixture;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test.runIf(mayMount)(
  "a full disk stops apply without harm, and it goes on when there is room",
  async () => {
    const { log } = fixture;
    const primary = fixture.source("a.db");
    await log.ship("a.db", primary);
    fs.mkdirSync(fixture.standby);
    shell(`mount -t tmpfs -o size=10m tmpfs ${fixture.standby}`);
    try {
      const ballast = path.join(fixture.standby, "ballast");
      fs.writeFileSync(ballast, new Uint8Array(8 * 1024 * 1024));
      const agent = await fixture.ready();
      let at = log.writer.head;
      for (let i = 0; i < 60; i += 1) {
        primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(50000))");
        at = await log.ship("a.db", primary);
      }
      await waitFor("the problem in the status", () => agent.status().problem?.includes("no room on the disk"));
      expect(query(fixture.file("a.db"), "PRAGMA integrity_check")).toBe("ok");
      fs.rmSync(ballast);
      await applied(agent, at);
      expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("60");
      expect(agent.status()).toMatchObject({ problem: undefined, verified: true });
      await fixture.stop();
      expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
    } finally {
      await fixture.stop().catch(() => undefined);
      shell(`umount -l ${fixture.standby}`);
    }
  },
  60_000,
);
