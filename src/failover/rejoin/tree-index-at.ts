import { type Offset, offset as toOffset } from "../../event/positions.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import { readEvents } from "../../log/log-reader.ts";
import { FilesState } from "../../replica/files/files-state.ts";
import type { LookBack } from "../../replica/look-back.ts";
import { entriesOf, findBase } from "../../replica/seed.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { TidemarkError } from "../../runtime/errors.ts";

export interface TreeIndexOptions {
  /** Where the index is. */
  readonly files: string;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly logId: string;
  /** The trees as of this offset. */
  readonly at: Offset;
  readonly signal: AbortSignal;
}

/**
 * Brings the standby's index of its trees, which may be empty or of a time before, to an offset: from the log, or from a base
 * and the events behind it. What stands in the trees is not looked at. @throws NO_COMMON_STATE
 */
export async function bringTreeIndexTo(options: TreeIndexOptions): Promise<void> {
  const { files, log, logId, at, signal } = options;
  const state = FilesState.open(files, logId);
  try {
    if (state.offset >= at) return;
    state.begin();
    const after = await beginning(options, state);
    for await (const events of readEvents(log, { after, through: at, follow: false, signal, freed: true }))
      for (const event of events) state.index.apply(event);
    signal.throwIfAborted();
    // Nothing is to be shown: what stands there is compared with the index as a whole.
    state.touched.clear();
    state.commit(at);
    crashPoint("rejoin: tree index made");
  } finally {
    state.close();
  }
}

/** The log is read from here on. */
async function beginning({ log, lookBack, logId, at, signal }: TreeIndexOptions, state: FilesState): Promise<Offset> {
  const { first } = await log.bounds();
  if (state.offset >= first - 1 && state.offset > 0) return state.offset;
  if (first === 1) return toOffset(0);
  const seed = await findBase(lookBack, { logId, last: at, leadsTo: toOffset(first - 1), signal });
  if (!seed) throw cut(log.location, first);
  for await (const entry of entriesOf(seed, signal)) state.index.insert(entry);
  const cursor = { logId, position: seed.manifest.offset, hash: seed.manifest.hash };
  for await (const events of lookBack.events(cursor))
    for (const event of events) if (event.offset <= at) state.index.apply(event);
  return cursor.position;
}

function cut(location: string, first: Offset): TidemarkError {
  return new TidemarkError(
    "NO_COMMON_STATE",
    `${location} begins at offset ${first}, and no repository that can be read holds the trees before that`,
    {
      hint: "Name the repository of the set in the configuration (repository:), or use --force: the old databases are kept whole, and the standby is built anew.",
    },
  );
}
