import type { LogEvent, SqliteCommit } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readEvents } from "../log/log-reader.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { PageIndex, pageHash } from "../sqlite/page-index.ts";
import type { StoredCapture } from "./capture-state.ts";
import type { ShippedState } from "./sqlite/shipper.ts";

interface Recovering {
  readonly storedAt: Offset;
  state: ShippedState;
  /** Hashes of the pages of parts whose commit has not come yet. */
  open: { readonly transaction: number; readonly hashes: Map<number, bigint> };
}

/**
 * Brings stored indexes up to the log's head by reading the log's tail: an index older than the head would take a page
 * that went A → B → A for unchanged. Databases that cannot be recovered are left out: they need a full copy.
 */
export async function recoverIndexes(options: {
  readonly log: ChangeLog;
  readonly stored: ReadonlyMap<string, StoredCapture>;
  readonly head: Offset;
  readonly signal: AbortSignal;
}): Promise<Map<string, ShippedState>> {
  const { log, stored, head, signal } = options;
  const { first } = await log.bounds();
  const recovering = new Map<string, Recovering>();
  for (const [name, state] of stored) {
    // A part before the stored offset can belong to no later commit: the state is stored at flushes between them.
    if (state.offset >= first - 1 && state.offset <= head) {
      recovering.set(name, { storedAt: state.offset, state, open: { transaction: 0, hashes: new Map() } });
    }
  }
  if (recovering.size === 0) return new Map();
  const after = Math.min(...[...recovering.values()].map((one) => one.storedAt)) as Offset;
  if (after < head) {
    for await (const events of readEvents(log, { after, through: head, follow: false, signal })) {
      for (const event of events) replay(recovering, event);
    }
  }
  return new Map([...recovering].map(([name, one]) => [name, one.state]));
}

function replay(recovering: ReadonlyMap<string, Recovering>, event: LogEvent): void {
  const { body } = event;
  if (body.kind !== "sqlite.part" && body.kind !== "sqlite.commit") return;
  const one = recovering.get(body.database);
  if (!one || event.offset <= one.storedAt) return;
  if (one.open.transaction !== body.transaction) one.open = { transaction: body.transaction, hashes: new Map() };
  const { seed } = one.state.index;
  for (const page of body.pages) one.open.hashes.set(page.pageNumber, pageHash(seed, page.pageNumber, page.data));
  if (body.kind === "sqlite.commit") close(one, event, body);
}

function close(one: Recovering, event: LogEvent, body: SqliteCommit): void {
  const known = one.state.index;
  const index = body.cause === "copy" ? new PageIndex(body.pageSize, known.seed) : known;
  index.resize(body.sizePages);
  for (const [pageNumber, hash] of one.open.hashes) {
    if (pageNumber <= body.sizePages) index.setHash(pageNumber, hash);
  }
  if (index.checksum !== body.after) {
    throw new TidemarkError(
      "CHECKSUM_MISMATCH",
      `${body.database}: the agent's index does not match the log at offset ${event.offset}`,
      { hint: "Move the agent's state directory aside and start it again: it takes a full copy." },
    );
  }
  one.state = { ...one.state, index, position: body.wal };
  one.open = { transaction: 0, hashes: new Map() };
}
