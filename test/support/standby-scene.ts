import fs from "node:fs";

import { type Logger, pino } from "pino";
import { expect } from "vitest";

import type { DatabaseReplicaStatus, ReplicaAgent } from "../../src/replica/replica-agent.ts";
import type { ImagedDatabase } from "./database-images.ts";
import { REPLICA_CONFIG } from "./replica-config.ts";
import type { ReplicaFixture } from "./replica-fixture.ts";
import { waitFor } from "./wait.ts";

// What tests of damaged standbys have in common: one database, a.db, of pages of 4,096 bytes.

export const PAGE = 4096;
export const SCRUBBING = { ...REPLICA_CONFIG, scrub: { everyMs: 100, bytesPerSecond: 1024 ** 3 } };

/** A standby with one database of 50 pages and more, all of it in its file; nobody runs. */
export async function standbyOf(fixture: ReplicaFixture): Promise<ImagedDatabase> {
  const primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(200000))");
  await fixture.log.ship("a.db", primary);
  await checked(await fixture.ready());
  await fixture.stop();
  return primary;
}

export async function checked(agent: ReplicaAgent): Promise<void> {
  await waitFor("the comparison of all pages", () => status(agent)?.checked, { timeoutMs: 10_000 });
}

export function status(agent: ReplicaAgent): DatabaseReplicaStatus | undefined {
  return agent.status().databases[0];
}

/** Stops the replica: then all that it showed is in the file. */
export async function requireEqual(fixture: ReplicaFixture, primary: ImagedDatabase): Promise<void> {
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
}

/** What an agent logs, kept. */
export class Said {
  readonly logger: Logger;
  text = "";

  constructor() {
    this.logger = pino({ level: "info" }, { write: (line) => void (this.text += line) });
  }
}
