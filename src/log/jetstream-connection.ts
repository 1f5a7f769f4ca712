import { JetStreamApiError, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, errors, type NatsConnection, type NodeConnectionOptions, type Status } from "@nats-io/transport-node";
import type { NatsLogConfig } from "../config/config.ts";
import { systemClock } from "../runtime/clock.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { type Login, loginOf } from "./jetstream-login.ts";
import { tlsAlert } from "./jetstream-tls-probe.ts";
import { unreachableError } from "./log-errors.ts";
import { reconnectPauses } from "./reconnect-pause.ts";

const CONNECT_TIMEOUT_MS = 5_000;
/** The third one without an answer ends a connection that is dead and does not know it: capture must not hang for a minute. */
const PING_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;
/** JetStream API error: JetStream is not enabled for the account. */
const NOT_ENABLED_FOR_ACCOUNT = 10039;
/** Codes of Node's TLS errors: UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERT_HAS_EXPIRED, ERR_TLS_CERT_ALTNAME_INVALID, ERR_SSL_… */
const TLS_ERROR = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL|ERR_OSSL/;

/** A connection that tells whether it is up, and why it is gone for good. */
export class JetStreamConnection implements AsyncDisposable {
  readonly nats: NatsConnection;
  readonly manager: JetStreamManager;
  readonly location: string;
  readonly #login: Login;
  readonly #listeners = new Set<() => void>();
  #up = true;
  #failure: TidemarkError | undefined;
  readonly #denials = new Map<string, TidemarkError>();

  private constructor(nats: NatsConnection, options: { manager: JetStreamManager; location: string; login: Login }) {
    this.nats = nats;
    this.manager = options.manager;
    this.location = options.location;
    this.#login = options.login;
    void this.#watchStatus();
    void nats.closed().then((error) => this.#lost(error ?? undefined));
  }

  /** @throws LOG_UNREACHABLE, LOG_DENIED, CONFIG (a credentials file that cannot be read) */
  static async open(config: NatsLogConfig, location: string): Promise<JetStreamConnection> {
    const login = loginOf(config);
    try {
      const nats = await connect(connectionOptions(config, login));
      keepAll(nats, config.servers);
      const manager = await jetstreamManager(nats, {
        checkAPI: false,
        timeout: CONNECT_TIMEOUT_MS,
      });
      return new JetStreamConnection(nats, { manager, location, login });
    } catch (error) {
      throw toConnectionError(await reasonOf(error, { config, login }), { location, login });
    }
  }

  get up(): boolean {
    return this.#up && !this.#failure;
  }

  /** Set when the connection will not come back by itself. */
  get failure(): TidemarkError | undefined {
    return this.#failure;
  }

  /** Why the connection ended, when it did: a request that it took along only says that it is closed. */
  async ended(): Promise<TidemarkError | undefined> {
    if (!this.nats.isClosed()) return undefined;
    this.#lost((await this.nats.closed()) ?? undefined);
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
      ? toConnectionError(error, { location: this.location, login: this.#login })
      : unreachableError(this.location, "the connection was closed");
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}

function connectionOptions(config: NatsLogConfig, login: Login): NodeConnectionOptions {
  return {
    name: "tidemark",
    servers: [...config.servers],
    timeout: CONNECT_TIMEOUT_MS,
    // An outage is waited out; two refusals of our credentials in a row still end the connection.
    maxReconnectAttempts: -1,
    reconnectDelayHandler: reconnectPauses(config.servers.length, systemClock),
    pingInterval: PING_MS,
    ...login.options,
  };
}

/** The client library forgets servers that were away at its first attempt; they are needed when the others fail. */
function keepAll(nats: NatsConnection, servers: readonly string[]): void {
  const known = nats.getServers().map(({ listen }) => listen);
  const forgotten = servers.filter((server) => !known.includes(server));
  if (forgotten.length > 0) nats.setServers([...known, ...forgotten]);
}

async function reasonOf(error: unknown, { config, login }: { config: NatsLogConfig; login: Login }): Promise<unknown> {
  if (!causes(error).some((cause) => cause instanceof errors.TimeoutError)) return error;
  for (const server of config.servers) {
    const alert = await tlsAlert(server, login.options.tls ?? {}, PROBE_TIMEOUT_MS);
    if (alert) return alert;
  }
  return error;
}

/** What ends a connection, or keeps it from coming about: with what we showed, when it was that. */
function toConnectionError(error: unknown, options: { location: string; login: Login }): TidemarkError {
  const { location, login } = options;
  const refused = causes(error).find(isLoginRefusal);
  if (!refused) return toLogError(error, location);
  return new TidemarkError("LOG_DENIED", `${location}: the server refuses ${login.shown}: ${refused.message}`, {
    hint: "Correct `nats:` in tidemark.yml (`user` and `password`, `token`, `nkey`, `credentials`, or `tls.cert`), or the user's entry on the server.",
    cause: error,
  });
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
  const tls = tlsProblem(chain);
  if (tls)
    return new TidemarkError("LOG_DENIED", `${location}: TLS: ${tls.evidence}`, { hint: tls.hint, cause: error });
  if (chain.some((cause) => cause instanceof errors.NoRespondersError)) {
    return unreachableError(
      location,
      "JetStream does not answer (is it enabled on the server, with `jetstream {}` or -js?)",
      error,
    );
  }
  return unreachableError(location, message, error);
}

/** What went wrong with TLS itself, and what to do about it. */
function tlsProblem(chain: readonly Error[]): { evidence: string; hint: string } | undefined {
  if (chain.some(({ message }) => message === "server does not support 'tls'")) {
    return {
      evidence: "the server speaks no TLS",
      hint: "Switch TLS on at the server. To speak with it in the clear, write nats:// in `log:` and remove `nats.tls`.",
    };
  }
  const found = chain.find((cause) => TLS_ERROR.test(errnoOf(cause) ?? ""));
  if (!found) return undefined;
  // Node adds a piece of advice that is not ours to give.
  const evidence = found.message.replace(/; if the root CA is installed locally.*$/, "");
  const code = errnoOf(found) ?? "";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return { evidence, hint: "Name the server in `log:` as its certificate does, or have one issued for that name." };
  }
  if (/ALERT/.test(code)) {
    const [, alert = code] = /\balert ([a-z0-9 ]+?)(?::|$)/.exec(found.message) ?? [];
    return {
      evidence: `the server refuses this client ("${alert}")`,
      hint: "Name a client certificate that the server trusts in `nats.tls.cert` and `nats.tls.key`.",
    };
  }
  return { evidence, hint: "Name the certificate authority that signed the server's certificate in `nats.tls.ca`." };
}

function isLoginRefusal(error: Error): boolean {
  return error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError;
}

function isRefusal(error: Error): boolean {
  if (isLoginRefusal(error) || error instanceof errors.PermissionViolationError) return true;
  return error instanceof JetStreamApiError && error.code === NOT_ENABLED_FOR_ACCOUNT;
}

function causes(error: unknown): Error[] {
  const found: Error[] = [];
  for (let at = error; at instanceof Error && found.length < 10; at = at.cause) found.push(at);
  return found;
}
