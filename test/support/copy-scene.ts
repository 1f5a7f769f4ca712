import fs from "node:fs";

import type { LogEvent, SqliteCommit, SqlitePart } from "../../src/event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../../src/event/positions.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import type { Deployment } from "./deployment.ts";
import type { RunningTidemark } from "./tidemark-cli.ts";
import { waitFor } from "./wait.ts";

type Shipped = LogEvent & { readonly body: SqlitePart | SqliteCommit };

/** Looks at the log while a copy is under way, and cuts it off where a killed agent could have left it. */
export class CopyScene {
  readonly #deployment: Deployment;
  readonly #name: string;

  constructor(deployment: Deployment, name = "app.db") {
    this.#deployment = deployment;
    this.#name = name;
  }

  /** Bytes of the log; 0 before it is there. */
  async logBytes(): Promise<number> {
    if (!fs.existsSync(this.#deployment.logDirectory)) return 0;
    await using log = await this.#deployment.openLog();
    return (await log.bounds()).bytes;
  }

  /** Resolves when the log has grown by so many bytes since the call. */
  async grownBy(bytes: number, agent: RunningTidemark): Promise<void> {
    const before = await this.logBytes();
    const grown = async (): Promise<boolean> => {
      if (agent.child.exitCode !== null) throw new Error(`the agent ended: ${agent.output.stderr}`);
      return (await this.logBytes()) >= before + bytes;
    };
    await waitFor(`the log grows by ${bytes} bytes`, grown, { everyMs: 10 });
  }

  /** Everything shipped of the database. */
  async shipped(): Promise<Shipped[]> {
    return (await this.#deployment.events()).filter(
      (event): event is Shipped => "database" in event.body && event.body.database === this.#name,
    );
  }

  /** Bytes of page images among them. */
  async shippedBytes(): Promise<number> {
    return (await this.shipped()).reduce((sum, { body }) => sum + body.pages.length * body.pageSize, 0);
  }

  /** Leaves the log as it was when `through` was its last record. No agent may be running. */
  async cutLogAfter(through: Offset): Promise<void> {
    const { logDirectory, set } = this.#deployment;
    const whole = `${logDirectory}-whole`;
    fs.renameSync(logDirectory, whole);
    {
      await using from = await openEmbeddedLog({ directory: whole, set, mode: "read" });
      await using to = await openEmbeddedLog({ directory: logDirectory, set, mode: "write" });
      const { signal } = new AbortController();
      let head: Offset = BEFORE_FIRST;
      for await (const batch of from.read(BEFORE_FIRST, { signal, follow: false })) {
        const records = batch.filter((record) => record.offset <= through).map(({ data }) => data);
        if (records.length > 0) head = await to.append(records, head, signal);
      }
    }
    fs.rmSync(whole, { recursive: true });
  }
}
