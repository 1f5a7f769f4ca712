import type { EventBody, LogEvent } from "../../src/event/kinds.ts";
import { offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { type JetStreamLogOptions, openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import { LogWriter, type LogWriterOptions } from "../../src/log/log-writer.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { TidemarkError } from "../../src/runtime/errors.ts";
import { natsConfig, NatsServer, type NatsServerOptions } from "./nats-server.ts";
import { TcpProxy } from "./tcp-proxy.ts";

/** A NATS server, a network in front of it that can misbehave, and logs opened over either. */
export class LogScene implements AsyncDisposable {
  readonly server: NatsServer;
  readonly proxy: TcpProxy;
  readonly problems: TidemarkError[] = [];
  readonly #open: ChangeLog[] = [];

  private constructor(server: NatsServer, proxy: TcpProxy) {
    this.server = server;
    this.proxy = proxy;
  }

  static async start(options: NatsServerOptions = {}): Promise<LogScene> {
    const server = await NatsServer.start(options);
    return new LogScene(server, await TcpProxy.start(server.port));
  }

  /** Over the proxy. */
  open(mode: "write" | "read", more: Partial<JetStreamLogOptions> = {}): Promise<ChangeLog> {
    return this.#remember({ config: natsConfig(this.proxy.address), set: "app", mode, ...more });
  }

  openDirect(mode: "write" | "read", more: Partial<JetStreamLogOptions> = {}): Promise<ChangeLog> {
    return this.#remember({ config: natsConfig(this.server.address), set: "app", mode, ...more });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.resume();
    for (const log of this.#open) await log[Symbol.asyncDispose]();
    await this.proxy[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }

  async #remember(options: JetStreamLogOptions): Promise<ChangeLog> {
    const onProblem = (error: TidemarkError): void => void this.problems.push(error);
    const log = await openJetStreamLog({
      ackTimeoutMs: 500,
      idleHeartbeatMs: 500,
      onProblem,
      ...options,
    });
    this.#open.push(log);
    return log;
  }
}

const forever = new AbortController().signal;

export function openWriter(log: ChangeLog, more: Partial<LogWriterOptions> = {}): Promise<LogWriter> {
  const identity = { writer: "writer-a", host: "host-a" };
  const rest = {
    known: undefined,
    clock: systemClock,
    signal: forever,
    foreignWriterGraceMs: 60_000,
    takeover: false,
  };
  return LogWriter.open({ log, set: "app", identity, ...rest, ...more });
}

export const mark = (name: string): EventBody => ({ kind: "mark", name });

/** A body of about `bytes` bytes that does not compress. */
export function bulk(transaction: number, bytes: number): EventBody {
  const pages = Array.from({ length: Math.ceil(bytes / 4096) }, (_, index) => {
    return { pageNumber: index + 1, data: crypto.getRandomValues(new Uint8Array(4096)) };
  });
  return {
    kind: "sqlite.part",
    database: "app.db",
    transaction,
    sequence: 0,
    pageSize: 4096,
    pages,
  };
}

/** Everything the log holds, with contiguity and hash chain checked on the way. */
export async function allEvents(log: ChangeLog): Promise<LogEvent[]> {
  const found: LogEvent[] = [];
  for await (const batch of readEvents(log, { after: offset(0), signal: forever, follow: false })) found.push(...batch);
  return found;
}

export async function markNames(log: ChangeLog): Promise<string[]> {
  return (await allEvents(log)).flatMap(({ body }) => (body.kind === "mark" ? [body.name] : []));
}
