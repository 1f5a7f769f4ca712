import { decodeRecord } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { archivedThrough } from "./archived-events.ts";
import type { RepairContext } from "./repair-standby.ts";
import { findSeed } from "./seed.ts";

/**
 * A standby whose next event was trimmed away goes on with the segments of a repository. When those do not lead to the
 * log either, it forgets its position, so that it is built anew from a base; nothing of it is open meanwhile.
 *
 * @throws LOG_GAP when neither is possible
 */
export async function reseedIfLeftBehind(context: RepairContext): Promise<void> {
  const { state, log, lookBack, identity, paths, logger, signal } = context;
  const { position } = state;
  const bounds = await log.bounds();
  if (!position || position.logId !== identity.logId || position.offset >= bounds.first - 1) return;
  const { offset } = position;
  const leads = await lookBack.first(
    async (repository) => (await archivedThrough(repository, offset, signal)) >= bounds.first - 1 || undefined,
  );
  if (leads) return;
  const seed = await findSeed(lookBack, { logId: identity.logId, bounds, signal });
  const anew =
    seed?.repository.location ?? ((await beginsWithCopies(context, bounds.first)) ? log.location : undefined);
  if (anew === undefined) throw leftBehind(context, { offset, first: bounds.first });
  logger.warn(
    { position: offset, first: bounds.first, base: seed?.manifest.offset },
    `the log begins behind this standby, and the events between are in no repository: it is built anew from ${anew}`,
  );
  state.beginReseed(paths);
  crashPoint("standby: reseed begun");
}

/** A log that was begun anew holds a full copy of everything. */
async function beginsWithCopies({ log }: RepairContext, first: Offset): Promise<boolean> {
  const record = await log.get(first);
  const body = record && decodeRecord(record).body;
  return body?.kind === "epoch" && body.reason === "new-log";
}

function leftBehind(
  { log, paths, lookBack }: RepairContext,
  { offset, first }: { readonly offset: Offset; readonly first: Offset },
): TidemarkError {
  const where = lookBack.any ? "its repositories do not lead there" : "it knows no repository";
  return new TidemarkError(
    "LOG_GAP",
    `the standby ${paths.root} is at offset ${offset}, ${log.location} begins at ${first}, and ${where}`,
    {
      hint: "Name the repository of the set in its configuration (repository:) and start it again: it goes on from there. `tidemark bases` shows what a repository holds.",
    },
  );
}
