import { createHash, createHmac } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { SftpPlace } from "../config/config.ts";
import { errnoOf } from "../runtime/errors.ts";

export interface KnownKeys {
  /** Whether this is the host's key. */
  accepts(key: Buffer): boolean;
  /** Of the keys that are known, to ask the host for one of those first; none: whichever it has. */
  readonly types: readonly string[];
}

/** `SHA256:…`, as OpenSSH shows it. */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash("sha256").update(key).digest("base64").replace(/=+$/, "")}`;
}

/** From the configured fingerprint, else from OpenSSH's files. */
export function knownKeys({ host, port, hostKey, knownHosts }: SftpPlace): KnownKeys {
  if (hostKey !== undefined) return { accepts: (key) => fingerprint(key) === hostKey.replace(/=+$/, ""), types: [] };
  const files = knownHosts === undefined ? usualFiles() : [knownHosts];
  const name = (port === 22 ? host : `[${host}]:${port}`).toLowerCase();
  const lines = files.flatMap(linesOf).filter(({ hosts }) => isAmong(name, hosts));
  const good = lines.filter(({ marker }) => marker === "");
  const revoked = lines.filter(({ marker }) => marker === "@revoked").map(({ key }) => key);
  return {
    accepts: (key) => {
      const text = key.toString("base64");
      return !revoked.includes(text) && good.some((line) => line.key === text);
    },
    types: [...new Set(good.map(({ type }) => type))],
  };
}

function usualFiles(): string[] {
  return [path.join(os.homedir(), ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"];
}

interface Line {
  readonly marker: string;
  readonly hosts: string;
  readonly type: string;
  readonly key: string;
}

function linesOf(file: string): Line[] {
  const lines = readIfThere(file).split("\n");
  return lines.flatMap((line) => {
    const [, marker = "", hosts, type, key] =
      /^\s*(?:(@\S+)\s+)?([^\s#@]\S*)\s+(\S+)\s+([A-Za-z0-9+/=]+)/.exec(line) ?? [];
    return hosts !== undefined && type !== undefined && key !== undefined ? [{ marker, hosts, type, key }] : [];
  });
}

function readIfThere(file: string): string {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  }
}

/** Patterns of OpenSSH (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): one with a `!` that fits takes the whole line out. */
function isAmong(name: string, hosts: string): boolean {
  const given = hosts.split(",");
  const fitting = given.filter((pattern) => fits(name, pattern.replace(/^!/, "")));
  return fitting.length > 0 && !fitting.some((pattern) => pattern.startsWith("!"));
}

/** `|1|SALT|HASH` are hashed names. */
function fits(name: string, pattern: string): boolean {
  const [, salt, hash] = /^\|1\|([^|]+)\|(.+)$/.exec(pattern) ?? [];
  if (salt !== undefined) return createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest("base64") === hash;
  const literal = pattern.toLowerCase().replace(/[\\^$+.()|{}[\]]/g, String.raw`\$&`);
  return new RegExp(`^${literal.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(name);
}
