import { configError } from "../config/config-error.ts";
import { logMissing, type Settings } from "../config/load-config.ts";
import type { ChangeLog } from "../log/change-log.ts";

/** The log for a command that reads it and ends: one attempt. @throws CONFIG, LOG_UNREACHABLE and others of opening */
export async function openLogToRead(command: string, settings: Settings): Promise<ChangeLog> {
  const { log, set, encryption } = settings;
  if (log === undefined) throw logMissing(command);
  if (set === undefined && log.kind === "nats") {
    throw configError(`tidemark ${command} needs the name of the set`, "Give --set NAME, or set: in tidemark.yml.");
  }
  const { openLog } = await import("../compose.ts");
  // Without a set there is no embedded log that could be read: opening says what is wrong.
  return openLog({ log, set: set ?? "", encryption, mode: "read" });
}
