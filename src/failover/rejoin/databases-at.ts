import type { CaptureState } from "../../capture/capture-state.ts";
import { recoverIndexes } from "../../capture/recover.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { FormerPrimary } from "./former-primary.ts";
import type { LastCommon } from "./last-common.ts";
import type { DatabaseToRejoin } from "./rejoin-database.ts";

export interface DatabasesAtOptions {
  readonly former: FormerPrimary;
  readonly capture: CaptureState;
  readonly log: ChangeLog;
  readonly common: LastCommon;
  /** Where the standby wants a database. */
  readonly targetOf: (name: string) => string;
  readonly signal: AbortSignal;
}

/** The databases of a former primary, and what the log says of them at the last common offset. @throws NO_COMMON_STATE */
export async function databasesAt(options: DatabasesAtOptions): Promise<DatabaseToRejoin[]> {
  const { former, capture, log, common, targetOf, signal } = options;
  const captured = capture.captured();
  const stored = new Map(
    [...captured.keys()].flatMap((name) => {
      const one = capture.load(name, common.checksumSeed);
      return one ? [[name, one] as const] : [];
    }),
  );
  const shipped = await recoverIndexes({ log, stored, head: common.offset, signal });
  return [...captured].map(([name, place]) => {
    const known = shipped.get(name);
    if (!known || known.copy) throw notKnown(name);
    const target = targetOf(name);
    return { name, source: former.isPromoted ? target : place, target, shipped: known };
  });
}

function notKnown(name: string): TidemarkError {
  return new TidemarkError(
    "NO_COMMON_STATE",
    `it is not known here what the log holds of ${name} at the last common offset`,
    { hint: "`tidemark rejoin --force` keeps the old databases whole and has the standby built anew." },
  );
}
