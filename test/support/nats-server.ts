import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NatsLogConfig } from "../../src/config/config.ts";
import { sleep } from "../../src/runtime/clock.ts";

export interface NatsServerOptions {
  /** Lines for the server's configuration file: users, permissions, limits. */
  readonly config?: string;
  /** false: a server without JetStream; a text: further lines of its block. */
  readonly jetstream?: boolean | string;
}

/** A real nats-server with JetStream on a free port of 127.0.0.1 and a store of its own. */
export class NatsServer implements AsyncDisposable {
  readonly port: number;
  readonly directory = mkdtempSync(join(tmpdir(), "tidemark-nats-"));
  #process: ChildProcess | undefined;

  private constructor(port: number, options: NatsServerOptions) {
    this.port = port;
    this.configure(options);
  }

  static async start(options: NatsServerOptions = {}): Promise<NatsServer> {
    if (spawnSync("nats-server", ["--version"]).error) {
      throw new Error("nats-server is missing; the tests need the real one: apt-get install nats-server");
    }
    const server = new NatsServer(await freePort(), options);
    await server.start();
    return server;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get storeDirectory(): string {
    return join(this.directory, "store");
  }

  /** Takes effect at the next start. */
  configure(options: NatsServerOptions): void {
    const more = typeof options.jetstream === "string" ? options.jetstream : "";
    const jetstream = options.jetstream === false ? "" : `jetstream { store_dir: "${this.storeDirectory}", ${more} }`;
    const config = `listen: 127.0.0.1:${this.port}\n${jetstream}\n${options.config ?? ""}\n`;
    writeFileSync(join(this.directory, "server.conf"), config);
  }

  /** Starts it again on the same port and store. Resolves when clients are served. */
  async start(): Promise<void> {
    const log = join(this.directory, "server.log");
    this.#process = spawn("nats-server", ["-c", join(this.directory, "server.conf"), "-l", log], {
      stdio: "ignore",
    });
    const deadline = performance.now() + 20_000;
    while (!(await greets(this.port))) {
      if (performance.now() > deadline || this.#process.exitCode !== null) {
        throw new Error(`nats-server does not start: ${readFileSync(log, "utf8")}`);
      }
      await sleep(20);
    }
  }

  /** SIGKILL by default: nothing is flushed. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (!running || running.exitCode !== null) return;
    const exited = once(running, "exit");
    running.kill(signal);
    await exited;
  }

  /** Its disk is lost; it is started again with another one. */
  async loseStore(): Promise<void> {
    await this.kill();
    rmSync(this.storeDirectory, { recursive: true });
    await this.start();
  }

  /** SIGSTOP: connections stay up, nothing answers. */
  pause(): void {
    this.#process?.kill("SIGSTOP");
  }

  resume(): void {
    this.#process?.kill("SIGCONT");
  }

  /** Copies the store aside; the server must not be running. */
  saveStore(): string {
    const copy = mkdtempSync(join(this.directory, "saved-"));
    cpSync(this.storeDirectory, copy, { recursive: true });
    return copy;
  }

  restoreStore(copy: string): void {
    rmSync(this.storeDirectory, { recursive: true, force: true });
    cpSync(copy, this.storeDirectory, { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.resume();
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Configuration of a log on `address`, one or several with commas between, without credentials. */
export function natsConfig(address: string, more: Partial<NatsLogConfig> = {}): NatsLogConfig {
  const none = {
    credentials: undefined,
    user: undefined,
    password: undefined,
    token: undefined,
    nkey: undefined,
    tls: undefined,
  };
  return { kind: "nats", servers: address.split(","), ...none, replicas: 1, maxBytes: undefined, ...more };
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

/** The server speaks first, with INFO, once it serves clients. */
async function greets(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "data");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
