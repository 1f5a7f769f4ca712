import {
  type Authenticator,
  jwtAuthenticator,
  nkeyAuthenticator,
  nkeys,
  type TlsOptions,
} from "@nats-io/transport-node";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity, createSecureContext, type PeerCertificate } from "node:tls";
import type { NatsLogConfig } from "../config/config.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** How a connection proves who it is, and whom it trusts. */
export interface Login {
  /** For messages: what the server was shown. Never a secret. */
  readonly shown: string;
  readonly options: {
    readonly authenticator?: Authenticator;
    readonly user?: string;
    readonly pass?: string;
    readonly token?: string;
    readonly tls?: TlsOptions;
  };
}

/**
 * Every file is read and tried out here, so that what is wrong with it is told by its key and path, not as a server out of
 * reach. Credentials and certificates are read again at each reconnect: who renews them need not restart the agents.
 *
 * @throws CONFIG
 */
export function loginOf(config: NatsLogConfig): Login {
  const tls = tlsOf(config);
  return { shown: shownBy(config), options: { ...identityOf(config), ...(tls ? { tls } : {}) } };
}

function shownBy({ credentials, nkey, user, token, tls }: NatsLogConfig): string {
  if (credentials !== undefined) return `the credentials in ${credentials}${expiry(credentials)}`;
  if (nkey !== undefined) return `the nkey in ${nkey}`;
  if (user !== undefined) return `the user "${user}" with its password`;
  if (token !== undefined) return "the token";
  return tls?.cert === undefined ? "a connection without credentials" : `the client certificate ${tls.cert}`;
}

function identityOf({ credentials, nkey, user, password, token }: NatsLogConfig): Login["options"] {
  if (credentials !== undefined) {
    const current = lastGood(() => readCredentials(credentials));
    return {
      authenticator: jwtAuthenticator(
        () => current().jwt,
        () => current().seed,
      ),
    };
  }
  if (nkey !== undefined) return { authenticator: nkeyAuthenticator(lastGood(() => readSeed(nkey))) };
  if (user !== undefined) return { user, pass: password ?? "" };
  return token === undefined ? {} : { token };
}

/** A file that is being replaced just now must not end a connection that had a good one. */
function lastGood<T>(read: () => T): () => T {
  let good = read();
  return () => {
    try {
      good = read();
    } catch {
      // What was read before may still do; when it does not, the server says so.
    }
    return good;
  };
}

/** A `.creds` file: the user's JWT, then its seed, each between lines of dashes. */
function readCredentials(path: string): { jwt: string; seed: Uint8Array } {
  const text = readText(path, "nats.credentials");
  const [, jwt, seed] = /^-{3,}.*-{3,}\s+([\w.-]+)\s+-{3,}[^]*^-{3,}.*-{3,}\s+(S[A-Z2-7]+)\s+-{3,}/m.exec(text) ?? [];
  if (jwt === undefined || seed === undefined) {
    throw fileError("nats.credentials", `${path} is no credentials file: it must hold a user's JWT and its nkey seed`);
  }
  return { jwt, seed: checkedSeed(seed, { key: "nats.credentials", path }) };
}

function readSeed(path: string): Uint8Array {
  return checkedSeed(readText(path, "nats.nkey").trim(), { key: "nats.nkey", path });
}

function checkedSeed(text: string, from: { key: string; path: string }): Uint8Array {
  const seed = new TextEncoder().encode(text);
  try {
    nkeys.fromSeed(seed);
  } catch (cause) {
    // The library's message may quote a part of the seed.
    throw fileError(from.key, `${from.path} holds no valid nkey seed (a line that begins with SU)`, cause);
  }
  return seed;
}

/** " (expired 2026-01-31T…)" */
function expiry(path: string): string {
  try {
    const [, claims = ""] = readCredentials(path).jwt.split(".");
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString()) as { exp?: number };
    return exp === undefined ? "" : ` (valid until ${new Date(exp * 1000).toISOString()})`;
  } catch {
    return "";
  }
}

function tlsOf({ tls, servers }: NatsLogConfig): TlsOptions | undefined {
  if (!tls) return undefined;
  const [ca, cert, key] = (["ca", "cert", "key"] as const).map((name) => readPem(name, tls[name]));
  if ((cert === undefined) !== (key === undefined)) {
    throw new TidemarkError("CONFIG", "nats.tls: a client certificate takes both `cert` and `key`", {
      hint: `Set nats.tls.${cert === undefined ? "cert" : "key"} as well.`,
    });
  }
  checkPem(`nats.tls.ca: ${tls.ca} is no certificate`, () => ca !== undefined && new X509Certificate(ca));
  checkPem(`nats.tls.cert: ${tls.cert} is no certificate`, () => cert !== undefined && new X509Certificate(cert));
  checkPem(
    `nats.tls.key: ${tls.key} is not the key of ${tls.cert} (a key with a passphrase cannot be used)`,
    () => cert !== undefined && key !== undefined && createSecureContext({ cert, key }),
  );
  // Of Node's own options, which the client library passes on.
  const identity = { checkServerIdentity: identityCheck(servers) };
  return {
    ...identity,
    ...(tls.ca === undefined ? {} : { caFile: tls.ca }),
    ...(tls.cert === undefined ? {} : { certFile: tls.cert }),
    ...(tls.key === undefined ? {} : { keyFile: tls.key }),
  };
}

function readPem(name: string, path: string | undefined): string | undefined {
  return path === undefined ? undefined : readText(path, `nats.tls.${name}`);
}

function checkPem(problem: string, attempt: () => unknown): void {
  try {
    attempt();
  } catch (cause) {
    const [key = "", ...message] = problem.split(": ");
    throw fileError(key, message.join(": "), cause);
  }
}

/**
 * The client connects by address and tells Node only the name that the server was given by. A server that was given by
 * its address has none, and Node would compare its certificate with "localhost".
 */
function identityCheck(servers: readonly string[]): typeof checkServerIdentity {
  const hosts = servers.map((server) => server.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1"));
  const unnamed = hosts.filter((host) => isIP(host) > 0 || host === "localhost");
  return (name: string, certificate: PeerCertificate) => {
    const accepted = name === "localhost" && unnamed.length > 0 ? unnamed : [name];
    const errors = accepted.map((host) => checkServerIdentity(host, certificate));
    return errors.includes(undefined) ? undefined : errors[0];
  };
}

function readText(path: string, key: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw fileError(key, `cannot read ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
}

function fileError(key: string, message: string, cause?: unknown): TidemarkError {
  return new TidemarkError("CONFIG", `${key}: ${message}`, {
    hint: `Set ${key} to the right file, one that this user can read.`,
    cause,
  });
}
