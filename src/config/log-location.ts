import path from "node:path";

import { configError } from "./config-error.ts";

export type LogLocation =
  | { readonly kind: "embedded"; readonly directory: string }
  | {
      readonly kind: "nats";
      /** host:port each. */
      readonly servers: readonly string[];
      readonly user: string | undefined;
      readonly password: string | undefined;
      readonly tls: boolean;
    };

const FORMS = "Write embedded:DIRECTORY, or nats://host:4222 (several: nats://host1:4222,host2:4222).";
const DEFAULT_PORT = 4222;

/** Parses `embedded:DIR` or `nats://[user:password@]host[:port],…`. Messages never show a password. */
export function parseLogLocation(text: string, options: { where: string; directory: string }): LogLocation {
  const { where, directory } = options;
  if (text.startsWith("embedded:")) {
    const given = text.slice("embedded:".length);
    if (given === "") throw configError(`${where}: "embedded:" names no directory`, FORMS);
    return { kind: "embedded", directory: path.resolve(directory, given) };
  }
  const scheme = /^(nats|tls):\/\//.exec(text)?.[1];
  if (scheme === undefined)
    throw configError(`${where}: ${JSON.stringify(withoutSecrets(text))} is no place for a log`, FORMS);
  return { kind: "nats", tls: scheme === "tls", ...parseServers(text.slice(scheme.length + 3), where) };
}

function parseServers(
  text: string,
  where: string,
): { servers: string[]; user: string | undefined; password: string | undefined } {
  const at = text.lastIndexOf("@");
  const [user, ...rest] = at < 0 ? [undefined] : text.slice(0, at).split(":");
  const password = rest.length > 0 ? rest.join(":") : undefined;
  const hosts = text
    .slice(at + 1)
    .replace(/\/$/, "")
    .split(",");
  const servers = hosts.map((host) => parseServer(host.trim().replace(/^(nats|tls):\/\//, ""), where));
  return { servers, user: decode(user, where), password: decode(password, where) };
}

function parseServer(text: string, where: string): string {
  const [, host, port] = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const number = port === undefined ? DEFAULT_PORT : Number(port);
  if (host === undefined || number < 1 || number > 65_535) {
    throw configError(`${where}: ${JSON.stringify(text)} is no host:port of a NATS server`, FORMS);
  }
  return `${host}:${number}`;
}

function decode(part: string | undefined, where: string): string | undefined {
  if (part === undefined || part === "") return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    throw configError(`${where}: user or password are not percent-encoded rightly`, "Write a literal % as %25.");
  }
}

/** What may be shown of a text that somebody meant as a log location. */
export function withoutSecrets(text: string): string {
  const at = text.lastIndexOf("@");
  if (at < 0) return text;
  const scheme = /^[a-z]+:\/\//i.exec(text)?.[0] ?? "";
  return `${scheme}***@${text.slice(at + 1)}`;
}
