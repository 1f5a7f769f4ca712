import fs from "node:fs";

import Database from "better-sqlite3";

import { sleep } from "../../../src/runtime/clock.ts";
import type { Host } from "./host.ts";
import { machineMs } from "./journal.ts";
import { GENESIS, type LedgerLook, lookAtLedger, missingFiles } from "./ledger.ts";
import { TREE } from "./host.ts";
import type { Seen } from "./verdict.ts";

const EVERY_MS = 25;
/** Looks after which another connection is opened, and everything is looked at. */
const FRESH_EVERY = 10;
/** Of the newest, in every look. */
const ENTRIES = 30;

/** Looks at a host's standby all the time, whether its agent lives or not, with a connection that stays and others that come and go. */
export class StandbyReader {
  readonly #host: Host;
  readonly #seen: Seen[];
  #held: { readonly connection: Database.Database; readonly file: string } | undefined;
  #last = GENESIS;

  constructor(host: Host, seen: Seen[]) {
    this.#host = host;
    this.#seen = seen;
  }

  async run(signal: AbortSignal): Promise<void> {
    for (let looks = 1; !signal.aborted; looks += 1) {
      if (this.#host.isOffline) this.#close();
      else if (looks % FRESH_EVERY === 0) this.#attempt(() => this.#lookAnew());
      else this.#attempt(() => this.#lookAgain());
      await sleep(EVERY_MS, signal);
    }
    this.#close();
  }

  #close(): void {
    this.#held?.connection.close();
    this.#held = undefined;
  }

  #lookAgain(): void {
    const file = this.#identity();
    if (file === undefined) return;
    if (this.#held?.file !== file) {
      this.#close();
      this.#held = { connection: this.#open(), file };
    }
    this.#note(lookAtLedger(this.#held.connection, ENTRIES));
  }

  /** With its files: a row that names one before and after that one was missed has none. */
  #lookAnew(): void {
    if (this.#identity() === undefined) return;
    const connection = this.#open();
    try {
      const look = lookAtLedger(connection);
      const missing = missingFiles(look, this.#host.deployment.standbyOf(TREE));
      const still = missing.length === 0 ? [] : lookAtLedger(connection).files.map(({ name }) => name);
      const problems = missing.filter((name) => still.includes(name)).map((name) => `there is no file ${name}`);
      this.#note({ ...look, problems: [...look.problems, ...problems] });
    } finally {
      connection.close();
    }
  }

  #open(): Database.Database {
    return new Database(this.#host.deployment.standbyDatabase, { readonly: true, fileMustExist: true, timeout: 200 });
  }

  #identity(): string | undefined {
    const stat = fs.statSync(this.#host.deployment.standbyDatabase, { bigint: true, throwIfNoEntry: false });
    return stat && `${stat.dev}:${stat.ino}`;
  }

  #attempt(look: () => void): void {
    try {
      look();
    } catch (error) {
      const { code = "" } = error as { code?: string };
      const excused = code.startsWith("SQLITE_BUSY") || this.#host.diskIsFull;
      if (!excused) this.#note({ chain: this.#last, problems: [`it cannot be read: ${String(error)}`] });
    }
  }

  #note({ chain, problems }: Pick<LedgerLook, "chain" | "problems">): void {
    if (chain === this.#last && problems.length === 0) return;
    this.#last = chain;
    this.#seen.push({ place: this.#host.standbyPlace, chain, problems, atMs: machineMs() });
  }
}
