import ssh2, { type Client, type ConnectConfig, type ServerHostKeyAlgorithm, type SFTPWrapper } from "ssh2";

import type { SftpPlace } from "../config/config.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { fingerprint, knownKeys } from "./known-hosts.ts";
import { sftpConnectError } from "./sftp-errors.ts";
import { loginMethods, loginName } from "./sftp-login.ts";
import { storeLocation } from "./store-location.ts";

const READY_MS = 20_000;
const KEEPALIVE_MS = 15_000;
/** In the order of preference. */
const HOST_KEYS: readonly ServerHostKeyAlgorithm[] = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
];

export interface SftpOptions {
  /** So often a silent server is asked whether it is there; one that says nothing four times over is taken for cut. */
  readonly keepaliveMs?: number;
}

export interface SftpSession {
  readonly sftp: SFTPWrapper;
  /** Aborted when the connection is cut. */
  readonly cut: AbortSignal;
  /** The next call makes a new one; those that still use this one fail. */
  end(): void;
}

/** One connection, made when it is needed and again after it was cut. */
export class SftpConnection {
  readonly #place: SftpPlace;
  readonly #keepaliveMs: number;
  readonly #closed = new AbortController();
  #open: Promise<SftpSession> | undefined;

  constructor(place: SftpPlace, { keepaliveMs = KEEPALIVE_MS }: SftpOptions = {}) {
    this.#place = place;
    this.#keepaliveMs = keepaliveMs;
  }

  /** @throws the signal's reason; others go on waiting for the connection */
  async get(signal: AbortSignal): Promise<SftpSession> {
    this.#open ??= this.#openOnce();
    const { promise, reject } = Promise.withResolvers<never>();
    const giveUp = (): void => reject(signal.reason);
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await Promise.race([this.#open, promise]);
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#open?.catch(() => undefined);
  }

  #openOnce(): Promise<SftpSession> {
    const open = openSession(this.#place, { keepaliveInterval: this.#keepaliveMs, closed: this.#closed.signal });
    const forget = (): void => {
      if (this.#open === open) this.#open = undefined;
    };
    open.then(({ cut }) => (cut.aborted ? forget() : cut.addEventListener("abort", forget)), forget);
    return open;
  }
}

/** Ended when `closed` is aborted, also before it is ready. */
async function openSession(
  place: SftpPlace,
  { keepaliveInterval, closed }: { readonly keepaliveInterval: number; readonly closed: AbortSignal },
): Promise<SftpSession> {
  const client = new ssh2.Client();
  const cut = new AbortController();
  const end = (): void => {
    cut.abort(new Error("the connection was cut"));
    client.end();
    client.destroy();
  };
  // Small requests and answers alternate: with Nagle's algorithm each would wait for the other side's delayed ACK.
  client.on("connect", () => client.setNoDelay(true)).on("close", end);
  closed.addEventListener("abort", end, { once: true, signal: cut.signal });
  let refusal: TidemarkError | undefined;
  try {
    const trust = trustOf(place, (error) => (refusal = error));
    await ready(client, { ...configOf(place), ...trust, keepaliveInterval });
    return { sftp: await startSftp(client), cut: cut.signal, end };
  } catch (error) {
    end();
    throw refusal ?? sftpConnectError(error, storeLocation(place));
  }
}

function configOf(place: SftpPlace): ConnectConfig {
  const { host, port } = place;
  return { host, port, username: loginName(place), authHandler: loginMethods(place), readyTimeout: READY_MS };
}

async function ready(client: Client, config: ConnectConfig): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  client.on("ready", resolve).on("close", () => reject(new Error("the connection was closed")));
  client.on("error", (error) => {
    // The next way to log in is tried then.
    if (error.level !== "agent") reject(error);
  });
  client.connect(config);
  await promise;
}

async function startSftp(client: Client): Promise<SFTPWrapper> {
  const { promise, resolve, reject } = Promise.withResolvers<SFTPWrapper>();
  client.sftp((error, sftp) => (error ? reject(error) : resolve(sftp)));
  const sftp = await promise;
  // Calls under way are told by the end of the connection.
  sftp.on("error", () => client.end());
  return sftp;
}

/** A host may have several keys: those that are known are asked for first. */
function trustOf(
  place: SftpPlace,
  onRefused: (error: TidemarkError) => void,
): Pick<ConnectConfig, "hostVerifier" | "algorithms"> {
  const known = knownKeys(place);
  const names = known.types.flatMap(algorithmsOf);
  const wanted = HOST_KEYS.filter((name) => names.includes(name));
  const serverHostKey = [...wanted, ...HOST_KEYS.filter((name) => !names.includes(name))];
  const hostVerifier = (key: Buffer): boolean => {
    const accepted = known.accepts(key);
    const another = wanted.length > 0 || place.hostKey !== undefined;
    if (!accepted) onRefused(strangeHost(place, { key: fingerprint(key), another }));
    return accepted;
  };
  return { hostVerifier, algorithms: { serverHostKey } };
}

/** An RSA key signs with other algorithms than it is named for. */
function algorithmsOf(type: string): string[] {
  return type === "ssh-rsa" ? ["rsa-sha2-512", "rsa-sha2-256"] : [type];
}

/** `another`: there is a key that it should have shown. */
function strangeHost(place: SftpPlace, { key, another }: { key: string; another: boolean }): TidemarkError {
  const { host, port } = place;
  const what = another ? "is not the one that is known, so somebody may stand in between" : "is not known";
  return new TidemarkError("STORE_DENIED", `${storeLocation(place)}: the host's key ${what}: ${key}`, {
    hint: `Compare it with the host's own (there: \`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\`). If it is that, \`ssh-keyscan -p ${port} ${host} >> ~/.ssh/known_hosts\`, or set hostKey: ${key}.`,
  });
}
