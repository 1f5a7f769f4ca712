import type { LogEvent, SqliteCommit, SqlitePart } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import type { ChangeLog, LogBounds } from "../log/change-log.ts";
import { readEvents } from "../log/log-reader.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { PageIndex, pageHash } from "../sqlite/page-index.ts";
import type { StoredCapture } from "./capture-state.ts";
import type { ShippedState } from "./sqlite/shipper.ts";

/**
 * Brings stored indexes up to the log's head by reading the log's tail: an index older than the head would take a page
 * that went A → B → A for unchanged. One of which nothing came since it was stored is given back as it is; those that
 * cannot be recovered are left out: they need a full copy.
 */
export async function recoverIndexes(options: {
  readonly log: ChangeLog;
  readonly stored: ReadonlyMap<string, StoredCapture>;
  readonly head: Offset;
  readonly signal: AbortSignal;
}): Promise<Map<string, ShippedState>> {
  const { log, stored, head, signal } = options;
  const bounds = await log.bounds();
  const recovering = new Map<string, Recovering>();
  for (const [name, state] of stored) {
    if (isUsable(state, bounds, head)) recovering.set(name, new Recovering(state));
  }
  if (recovering.size === 0) return new Map();
  const after = Math.min(...[...recovering.values()].map((one) => one.storedAt)) as Offset;
  if (after < head) {
    for await (const events of readEvents(log, { after, through: head, follow: false, signal })) {
      for (const event of events) replay(recovering, event);
    }
  }
  const recovered = [...recovering].map(([name, one]) => [name, one.state] as const);
  return new Map(recovered.filter((entry): entry is [string, ShippedState] => entry[1] !== undefined));
}

/** A copy under way counts only while the log holds all of its parts; other parts before the stored offset are void. */
function isUsable({ offset, copy }: StoredCapture, { first }: LogBounds, head: Offset): boolean {
  return offset >= first - 1 && offset <= head && (!copy || copy.parts === 0 || copy.transaction >= first);
}

function replay(recovering: ReadonlyMap<string, Recovering>, event: LogEvent): void {
  const { body } = event;
  if (body.kind !== "sqlite.part" && body.kind !== "sqlite.commit") return;
  const one = recovering.get(body.database);
  if (!one || event.offset <= one.storedAt) return;
  if (body.kind === "sqlite.part") one.part(body);
  else one.commit(event, body);
}

/** One database's index on its way to the log's head. */
class Recovering {
  readonly storedAt: Offset;
  readonly #stored: StoredCapture;
  /** As of the last closing record, or ahead of it by the parts of `copy`. */
  #known: ShippedState | undefined;
  /** Parts of another transaction than the copy's, whose commit has not come yet. */
  #open: { transaction: number; parts: number; pageSize: number; hashes: Map<number, bigint> } | undefined;

  constructor(stored: StoredCapture) {
    this.#stored = stored;
    this.storedAt = stored.offset;
    this.#known = stored;
  }

  /** Undefined when the log does not say what it holds of the database. */
  get state(): ShippedState | undefined {
    if (!this.#known) return undefined;
    return this.#open?.pageSize === this.#known.index.pageSize ? { ...this.#known, leftOver: this.#open } : this.#known;
  }

  part(body: SqlitePart): void {
    const known = this.#known;
    if (known?.copy?.transaction === body.transaction) {
      for (const page of body.pages) known.index.set(page.pageNumber, page.data);
      this.#known = { ...known, copy: { ...known.copy, parts: body.sequence + 1 } };
    } else {
      this.#dropCopy();
      const { transaction, pageSize } = body;
      if (this.#open?.transaction !== transaction) this.#open = { transaction, parts: 0, pageSize, hashes: new Map() };
      this.#open.parts += 1;
      this.#hash(body);
    }
  }

  commit(event: LogEvent, body: SqliteCommit): void {
    if (this.#known?.copy?.transaction !== body.transaction) this.#dropCopy();
    if (this.#open?.transaction !== body.transaction) this.#open = undefined;
    const index = this.#base(body);
    if (!index) return;
    index.resize(body.sizePages);
    this.#open ??= { transaction: body.transaction, parts: 0, pageSize: body.pageSize, hashes: new Map() };
    this.#hash(body);
    for (const [pageNumber, hash] of this.#open.hashes) {
      if (pageNumber <= body.sizePages) index.setHash(pageNumber, hash);
    }
    if (index.checksum !== body.after) throw mismatch(event, body);
    this.#open = undefined;
    this.#known = { index, position: body.wal, file: this.#stored.file };
  }

  /** What the pages of a closed transaction are added to. */
  #base(body: SqliteCommit): PageIndex | undefined {
    if (this.#known?.copy || body.cause !== "copy") return this.#known?.index;
    return new PageIndex(body.pageSize, this.#stored.index.seed);
  }

  #hash(body: SqlitePart | SqliteCommit): void {
    const { seed } = this.#stored.index;
    for (const page of body.pages) this.#open?.hashes.set(page.pageNumber, pageHash(seed, page.pageNumber, page.data));
  }

  /** Another transaction began: the copy's parts are void, and what the log held before them is not known. */
  #dropCopy(): void {
    if (this.#known?.copy) this.#known = undefined;
  }
}

function mismatch(event: LogEvent, body: SqliteCommit): TidemarkError {
  return new TidemarkError(
    "CHECKSUM_MISMATCH",
    `${body.database}: the agent's index does not match the log at offset ${event.offset}`,
    { hint: "Move the agent's state directory aside and start it again: it takes a full copy." },
  );
}
