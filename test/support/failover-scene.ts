import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { epoch } from "../../src/event/positions.ts";
import { LogWriter } from "../../src/log/log-writer.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { newIdentity } from "./age-identity.ts";
import { SqlSession } from "./apps/sql-session.ts";
import { Deployment } from "./deployment.ts";
import { natsConfig } from "./nats-server.ts";
import { lastJson } from "./tidemark-cli.ts";
import { waitFor } from "./wait.ts";

/** Hosts of one set: a directory each, with nothing in common but the log. */
export class FailoverScene implements AsyncDisposable {
  readonly nats: string;
  /** Scenes can share a server. */
  readonly set = `set-${randomUUID().slice(0, 8)}`;
  readonly #hosts: Deployment[] = [];
  readonly #apps: SqlSession[] = [];

  constructor(nats: string) {
    this.nats = nats;
  }

  /** Further lines of its configuration beside a heartbeat that makes an idle writer meet its fence soon. */
  host(config = "", trees: readonly string[] = []): Deployment {
    const host = new Deployment({ nats: this.nats, set: this.set, config: `heartbeat: 500ms\n${config}`, trees });
    this.#hosts.push(host);
    return host;
  }

  /** A host with a database, `CREATE TABLE t (id INTEGER PRIMARY KEY, body)`, that is captured. */
  async primary(config = "", trees: readonly string[] = []): Promise<{ host: Deployment; app: SqlSession }> {
    const host = this.host(config, trees);
    const app = this.open(host.database);
    await app.run("PRAGMA journal_mode=WAL");
    await app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body)");
    await app.run("INSERT INTO t (body) VALUES ('first')");
    return { host, app };
  }

  /** Configuration of hosts that encrypt the log, and can read it. */
  async encryption(): Promise<{ recipients: string; identity: string; both: string }> {
    const { identity: key, recipient } = await newIdentity();
    const file = path.join(this.host().directory, "identity.txt");
    fs.writeFileSync(file, key, { mode: 0o600 });
    const [recipients, identity] = [`recipients: [${recipient}]`, `identity: ${file}`];
    const line = (...parts: string[]): string => `encryption: { ${parts.join(", ")} }`;
    return { recipients: line(recipients), identity: line(identity), both: line(recipients, identity) };
  }

  /** An application that does not wait for locks. */
  open(database: string): SqlSession {
    const app = new SqlSession(database);
    this.#apps.push(app);
    return app;
  }

  /** A writer that no agent of these hosts is begins the next epoch; gives the offset of its record. */
  async takeOver(): Promise<number> {
    await using log = await openJetStreamLog({ config: natsConfig(this.nats), set: this.set, mode: "write" });
    const { head } = await LogWriter.open({
      log,
      set: this.set,
      identity: { writer: "another", host: "elsewhere" },
      known: undefined,
      clock: systemClock,
      signal: new AbortController().signal,
      foreignWriterGraceMs: 0,
      takeover: false,
      promotion: { from: epoch(1), contains: undefined },
    });
    return head;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const app of this.#apps) await app[Symbol.asyncDispose]();
    for (const host of this.#hosts) await host[Symbol.asyncDispose]();
  }
}

/** What `status` says of a host's fence, whatever its exit code; undefined when there is none. */
export async function fenceOf(
  host: Deployment,
): Promise<{ final: boolean; locked: number; reason: string; code: number } | undefined> {
  const { code, stdout } = await host.command("status");
  const { fence } = lastJson(stdout) as { fence: { final: boolean; locked: number; reason: string } | null };
  return fence ? { ...fence, code } : undefined;
}

/** Until the application's writes fail for a lock that somebody holds; what it could write meanwhile stays. */
export async function refused(app: SqlSession): Promise<void> {
  await app.run("PRAGMA busy_timeout=0");
  await waitFor("writes to be refused", async () =>
    app.run("INSERT INTO t (body) VALUES ('after')").then(
      () => false,
      (error: unknown) => String(error).includes("locked"),
    ),
  );
}

export function linesOf(file: string): string[] {
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim().split("\n") : [];
}
