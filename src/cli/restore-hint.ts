import path from "node:path";

import type { Config, LogConfig } from "../config/config.ts";
import { standbyState } from "../config/load-config.ts";

/**
 * The command that restores this set, for people to copy; `file` when that alone tells where everything is. Secrets are
 * never in it.
 */
export function restoreHint(
  config: Pick<Config, "set" | "log" | "standby"> & { readonly file: string | undefined },
): string {
  return `tidemark restore ${sourceOf(config)} --target DIR [--to TIME]`;
}

function sourceOf({ set, log, standby, file }: Parameters<typeof restoreHint>[0]): string {
  if (file !== undefined) return `-c ${quoted(file)}`;
  if (standby !== undefined && log?.kind === "embedded" && log.directory === path.join(standbyState(standby), "log")) {
    return `--standby ${quoted(standby)}`;
  }
  return log ? `--set ${set} --log ${quoted(locationOf(log))}` : `--set ${set}`;
}

/** As `--log` takes it, without credentials. */
export function locationOf(log: LogConfig): string {
  return log.kind === "embedded" ? `embedded:${log.directory}` : `nats://${log.servers.join(",")}`;
}

/** For a shell. */
export function quoted(text: string): string {
  return /^[A-Za-z0-9_./:=@,+-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
