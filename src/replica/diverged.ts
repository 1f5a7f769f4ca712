import { type CurrentEpoch, epochsOf } from "../log/log-reader.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { RepairContext } from "./repair-standby.ts";

/**
 * A log that was begun anew, after the one before was lost, goes on behind the offset that its primary had. Who had applied
 * more than that has events which nobody else will ever have: from the same offsets on the log holds others, of a higher epoch.
 *
 * @throws LOG_DIVERGED
 */
export async function requireNotDiverged({ state, log, paths, identity }: RepairContext): Promise<void> {
  const { position } = state;
  if (!position || identity.epoch <= position.epoch) return;
  for await (const begun of epochsOf(log)) {
    if (begun.epoch <= position.epoch) return;
    // Of one that was trimmed nobody knows where it began.
    if (begun.start && begun.offset <= position.offset) throw diverged(paths.root, position.offset, begun);
  }
}

function diverged(standby: string, offset: number, { start, epoch, offset: began }: CurrentEpoch): TidemarkError {
  return new TidemarkError(
    "LOG_DIVERGED",
    `the standby ${standby} has applied offset ${offset}, but the log was begun anew at offset ${began} (epoch ${epoch}, host ${start?.host ?? "unknown"}): what is here beyond that is nowhere else`,
    {
      hint:
        "Copy this standby's databases and files aside if that may be needed (SQLite opens them), then build it anew from the new primary: `tidemark replica --reseed`. " +
        "If this standby should have been promoted instead, stop the new primary first.",
    },
  );
}
