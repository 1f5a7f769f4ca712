import { openLog } from "../compose.ts";
import type { Config } from "../config/config.ts";
import { type CurrentEpoch, currentEpoch } from "../log/log-reader.ts";

/** What stands in the place of a log that an agent has lost says. Undefined: it cannot be asked, or says nothing yet. */
export async function newestEpoch({
  log: where,
  set,
  encryption,
}: Config): Promise<(CurrentEpoch & { readonly location: string }) | undefined> {
  if (!where) return undefined;
  try {
    await using log = await openLog({ log: where, set, encryption, mode: "read" });
    return { ...(await currentEpoch(log, await log.bounds())), location: log.location };
  } catch {
    return undefined;
  }
}
