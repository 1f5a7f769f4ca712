import { JetStreamApiError, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  errors,
  type NatsConnection,
  nkeyAuthenticator,
  type NodeConnectionOptions,
  type Status,
} from "@nats-io/transport-node";
import { readFile } from "node:fs/promises";
import type { NatsLogConfig } from "../config/config.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { unreachableError } from "./log-errors.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_MS = 500;
/** JetStream API error: JetStream is not enabled for the account. */
const NOT_ENABLED_FOR_ACCOUNT = 10039;
/** Codes of Node's TLS errors: UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERT_HAS_EXPIRED, ERR_TLS_CERT_ALTNAME_INVALID, ERR_SSL_… */
const TLS_ERROR = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL|ERR_OSSL/;

/** A connection that tells whether it is up, and why it is gone for good. */
export class JetStreamConnection implements AsyncDisposable {
  readonly nats: NatsConnection;
  readonly manager: JetStreamManager;
  readonly location: string;
  readonly #listeners = new Set<() => void>();
  #up = true;
  #failure: TidemarkError | undefined;
  readonly #denials = new Map<string, TidemarkError>();

  private constructor(nats: NatsConnection, options: { manager: JetStreamManager; location: string }) {
    this.nats = nats;
    this.manager = options.manager;
    this.location = options.location;
    void this.#watchStatus();
    void nats.closed().then((error) => this.#lost(error ?? undefined));
  }

  /** @throws LOG_UNREACHABLE, LOG_DENIED, CONFIG (a credentials file that cannot be read) */
  static async open(config: NatsLogConfig, location: string): Promise<JetStreamConnection> {
    const options = await connectionOptions(config);
    try {
      const nats = await connect(options);
      const manager = await jetstreamManager(nats, {
        checkAPI: false,
        timeout: CONNECT_TIMEOUT_MS,
      });
      return new JetStreamConnection(nats, { manager, location });
    } catch (error) {
      throw toLogError(error, location);
    }
  }

  get up(): boolean {
    return this.#up && !this.#failure;
  }

  /** Set when the connection will not come back by itself. */
  get failure(): TidemarkError | undefined {
    return this.#failure;
  }

  /** Set when the server refused a publish to `subject`: it says so at some time after, not to the publish itself. */
  denial(subject: string): TidemarkError | undefined {
    return this.#denials.get(subject);
  }

  /** Calls `listener` whenever `up`, `failure` or a denial may have changed. Returns what ends it. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Resolves when the connection is up, is gone for good, or `signal` aborts. */
  async settled(signal: AbortSignal): Promise<void> {
    if (this.up || this.#failure || signal.aborted) return;
    const changed = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.up || this.#failure || signal.aborted) changed.resolve();
    };
    const listening = this.onChange(look);
    signal.addEventListener("abort", look);
    await changed.promise;
    listening[Symbol.dispose]();
    signal.removeEventListener("abort", look);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.nats.close();
  }

  async #watchStatus(): Promise<void> {
    for await (const status of this.nats.status()) this.#see(status);
  }

  #see(status: Status): void {
    if (status.type === "disconnect") this.#up = false;
    if (status.type === "reconnect") this.#up = true;
    if (status.type === "error" && status.error instanceof errors.PermissionViolationError) {
      this.#denials.set(status.error.subject, toLogError(status.error, this.location));
    }
    if (status.type === "disconnect" || status.type === "reconnect" || status.type === "error") this.#notify();
  }

  #lost(error: Error | undefined): void {
    this.#up = false;
    this.#failure ??= error
      ? toLogError(error, this.location)
      : unreachableError(this.location, "the connection was closed");
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}

async function connectionOptions(config: NatsLogConfig): Promise<NodeConnectionOptions> {
  const authenticator = await authenticatorOf(config);
  const tls = await tlsOf(config);
  return {
    name: "tidemark",
    servers: [...config.servers],
    timeout: CONNECT_TIMEOUT_MS,
    // An outage is waited out; two refusals of our credentials in a row still end the connection.
    maxReconnectAttempts: -1,
    reconnectDelayHandler: () => RECONNECT_MS * (0.5 + Math.random()),
    pingInterval: 20_000,
    ...(authenticator ? { authenticator } : {}),
    ...(config.user === undefined ? {} : { user: config.user, pass: config.password ?? "" }),
    ...(config.token === undefined ? {} : { token: config.token }),
    ...(tls ? { tls } : {}),
  };
}

/** Read here, so that a missing file is named as what it is and not as a server out of reach. */
async function tlsOf(config: NatsLogConfig): Promise<Record<string, string> | undefined> {
  if (!config.tls) return undefined;
  const { ca, cert, key } = config.tls;
  const named = Object.entries({ ca, cert, key }).flatMap(([name, path]) => (path ? [[name, path] as const] : []));
  const read = named.map(async ([name, path]) => [
    name,
    new TextDecoder().decode(await readSecret(path, `nats.tls.${name}`)),
  ]);
  return Object.fromEntries(await Promise.all(read)) as Record<string, string>;
}

async function authenticatorOf(config: NatsLogConfig): Promise<Authenticator | undefined> {
  if (config.credentials) return credsAuthenticator(await readSecret(config.credentials, "nats.credentials"));
  if (config.nkey) return nkeyAuthenticator(trimmed(await readSecret(config.nkey, "nats.nkey")));
  return undefined;
}

async function readSecret(path: string, key: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new TidemarkError(
      "CONFIG",
      `${key}: cannot read ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        hint: `Set ${key} to a file that this user can read.`,
        cause,
      },
    );
  }
}

function trimmed(seed: Uint8Array): Uint8Array {
  return new TextEncoder().encode(new TextDecoder().decode(seed).trim());
}

/** Names what the client library or the server's JetStream API said. */
export function toLogError(error: unknown, location: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const chain = causes(error);
  const message = error instanceof Error ? error.message : String(error);
  const denied = chain.find(isRefusal);
  if (denied) {
    return new TidemarkError("LOG_DENIED", `${location}: ${denied.message}`, {
      hint: "Check the user, token, nkey or credentials file under `nats:`, and that this account may use JetStream and the stream's subjects.",
      cause: error,
    });
  }
  const certificate = chain.find((cause) => TLS_ERROR.test(errnoOf(cause) ?? ""));
  if (certificate) {
    return new TidemarkError("LOG_DENIED", `${location}: TLS: ${certificate.message}`, {
      hint: "Name the certificate authority of the server in `nats.tls.ca`, and this client's certificate in `nats.tls.cert` and `.key` if it asks for one.",
      cause: error,
    });
  }
  if (chain.some((cause) => cause instanceof errors.NoRespondersError)) {
    return unreachableError(
      location,
      "JetStream does not answer (is it enabled on the server, with `jetstream {}` or -js?)",
      error,
    );
  }
  return unreachableError(location, message, error);
}

function isRefusal(error: Error): boolean {
  if (error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError) return true;
  if (error instanceof errors.PermissionViolationError) return true;
  return error instanceof JetStreamApiError && error.code === NOT_ENABLED_FOR_ACCOUNT;
}

function causes(error: unknown): Error[] {
  const found: Error[] = [];
  for (let at = error; at instanceof Error && found.length < 10; at = at.cause) found.push(at);
  return found;
}
