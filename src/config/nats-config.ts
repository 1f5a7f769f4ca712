import fs from "node:fs";
import path from "node:path";

import { errnoOf } from "../runtime/errors.ts";
import type { NatsLogConfig } from "./config.ts";
import { configError } from "./config-error.ts";
import type { ConfigFile, Environment } from "./config-file.ts";
import type { LogLocation } from "./log-location.ts";

type NatsLocation = Extract<LogLocation, { kind: "nats" }>;

export interface NatsSources {
  readonly location: NatsLocation;
  /** true: `location` comes from the command line, which goes before the environment. */
  readonly fromFlag: boolean;
  readonly file: ConfigFile | undefined;
  readonly environment: Environment;
}

/** Location, `nats:` section and environment in one. Flags go before the environment, the environment before the file. */
export function natsLogConfig(sources: NatsSources): NatsLogConfig {
  const { location, file } = sources;
  const section = file?.values.nats ?? {};
  const fileOf = (key: string, given: string | undefined): string | undefined =>
    given === undefined || !file
      ? undefined
      : readableFile(path.resolve(path.dirname(file.path), given), file.where(["nats", key]));
  const config: NatsLogConfig = {
    kind: "nats",
    servers: location.servers,
    credentials: fileOf("credentials", section.credentials),
    user: pick(sources, location.user, "USER") ?? section.user,
    password: pick(sources, location.password, "PASSWORD") ?? section.password,
    token: pick(sources, undefined, "TOKEN") ?? section.token,
    nkey: fileOf("nkey", section.nkey),
    tls: tlsOf(sources),
    replicas: section.replicas,
    maxBytes: section.maxBytes,
  };
  refuseTwoWaysIn(config);
  return config;
}

function pick(sources: NatsSources, located: string | undefined, variable: string): string | undefined {
  const fromEnvironment = sources.environment[`TIDEMARK_NATS_${variable}`] || undefined;
  return sources.fromFlag ? (located ?? fromEnvironment) : (fromEnvironment ?? located);
}

function tlsOf({ location, file }: NatsSources): NatsLogConfig["tls"] {
  const given = file?.values.nats?.tls;
  if (!given || !file) return location.tls ? {} : undefined;
  const files = Object.entries(given).map(([key, value]) => {
    const found = path.resolve(path.dirname(file.path), value ?? "");
    return [key, readableFile(found, file.where(["nats", "tls", key]))];
  });
  return Object.fromEntries(files) as NatsLogConfig["tls"];
}

function readableFile(file: string, where: string): string {
  try {
    fs.accessSync(file, fs.constants.R_OK);
    return file;
  } catch (error) {
    throw configError(
      `${where}: ${file} cannot be read (${errnoOf(error) ?? "unknown"})`,
      "Correct the path or its permissions.",
    );
  }
}

function refuseTwoWaysIn({ user, password, token, credentials, nkey }: NatsLogConfig): void {
  const ways = Object.entries({ "user and password": user ?? password, token, credentials, nkey })
    .filter(([, value]) => value !== undefined)
    .map(([name]) => name);
  if (ways.length < 2) return;
  throw configError(
    `the log has ${ways.length} ways to log in: ${ways.join("; ")}`,
    "Keep one of them: in log:, in nats:, or in TIDEMARK_NATS_USER, TIDEMARK_NATS_PASSWORD, TIDEMARK_NATS_TOKEN.",
  );
}
