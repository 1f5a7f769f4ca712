import type { LogEvent, SqliteCommit } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** What becomes of one database, and from which events. */
export interface PlannedDatabase {
  readonly name: string;
  /** Events of this database up to here are superseded: the full copy it is built from begins after it. */
  readonly afterOffset: Offset;
  /** Offset of the record that closes that copy. */
  readonly copyOffset: Offset;
  /** Its last commit at or before the target. */
  readonly offset: Offset;
  readonly timeMs: number;
  readonly pageSize: number;
  readonly sizePages: number;
  /** Largest size on the way there. */
  readonly peakPages: number;
  readonly checksum: bigint;
  /** Transactions in several parts that were closed at or before the target: others' parts are never applied. */
  readonly transactions: ReadonlySet<number>;
}

/** Commits of this database passed one by one unseen between two times, and the restored moment lies there. */
export interface PlannedGap {
  readonly database: string;
  readonly sinceMs: number;
  /** When the repair was logged. */
  readonly untilMs: number;
  /** Last exact state before the gap, and the first after it. */
  readonly exactBefore: Offset;
  readonly exactFrom: Offset;
}

/** All that carrying out a restore needs to know. Bases of a repository will be a second source of page images. */
export interface RestorePlan {
  /** Events after this offset are read. */
  readonly afterOffset: Offset;
  readonly databases: readonly PlannedDatabase[];
  readonly gaps: readonly PlannedGap[];
}

export interface PlannerOptions {
  /** First offset that the log still holds. */
  readonly firstOffset: Offset;
  readonly targetOffset: Offset;
  readonly momentMs: number;
}

interface Draft {
  copy: { afterOffset: Offset; offset: Offset; peakPages: number; transactions: Set<number> } | undefined;
  last: LogEvent & { readonly body: SqliteCommit };
}

/**
 * Folds the log's events into a plan: those up to the target say what to build, those after it whether the target
 * lies in a gap. Pure; page images are not looked at.
 */
export class RestorePlanner {
  readonly #options: PlannerOptions;
  readonly #drafts = new Map<string, Draft>();
  readonly #gaps: PlannedGap[] = [];
  readonly #undecided = new Set<string>();
  #firstAhead: { readonly database: string; readonly offset: Offset; readonly timeMs: number } | undefined;

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  /** Every `sqlite.commit` in order; other events may be left out. */
  take(event: LogEvent): void {
    const { body } = event;
    if (body.kind !== "sqlite.commit") return;
    if (event.offset > this.#options.targetOffset) this.#lookAhead(event, body);
    else this.#takeCommit({ ...event, body });
  }

  /** Whether events after the target can tell nothing more. */
  get decided(): boolean {
    return this.#drafts.size === 0 ? this.#firstAhead !== undefined : this.#undecided.size === 0;
  }

  /** First database of the log when there is none yet at the target. */
  get firstAhead(): { readonly database: string; readonly offset: Offset; readonly timeMs: number } | undefined {
    return this.#firstAhead;
  }

  get names(): string[] {
    return [...this.#drafts.keys()].toSorted();
  }

  /** @throws OFFSET_NOT_FOUND when the log no longer holds the copy that a database is built from */
  plan(wanted: readonly string[]): RestorePlan {
    const databases = wanted.map((name) => this.#planned(name));
    const afterOffset = databases.reduce((least, { afterOffset: after }) => Math.min(least, after), Infinity);
    return {
      afterOffset: offset(Number.isFinite(afterOffset) ? afterOffset : this.#options.targetOffset),
      databases,
      gaps: this.#gaps.filter(({ database }) => wanted.includes(database)),
    };
  }

  #takeCommit(event: LogEvent & { readonly body: SqliteCommit }): void {
    const { body } = event;
    const draft = this.#drafts.get(body.database);
    const previous = draft?.last.offset ?? offset(this.#options.firstOffset - 1);
    const { sizePages } = body;
    let copy = draft?.copy;
    if (body.cause === "copy") {
      copy = { afterOffset: previous, offset: event.offset, peakPages: sizePages, transactions: new Set() };
    }
    if (copy) {
      copy.peakPages = Math.max(copy.peakPages, sizePages);
      if (body.parts > 0) copy.transactions.add(body.transaction);
    }
    this.#undecided.add(body.database);
    // The images are not needed, and a draft lives long.
    this.#drafts.set(body.database, { copy, last: { ...event, body: { ...body, pages: [] } } });
  }

  #lookAhead(event: LogEvent, body: SqliteCommit): void {
    this.#firstAhead ??= { database: body.database, offset: event.offset, timeMs: event.timeMs };
    if (!this.#undecided.delete(body.database)) return;
    const { gapSinceMs: sinceMs } = body;
    const exactBefore = this.#drafts.get(body.database)?.last.offset;
    if (sinceMs === undefined || exactBefore === undefined || sinceMs >= this.#options.momentMs) return;
    const { timeMs: untilMs, offset: exactFrom } = event;
    this.#gaps.push({ database: body.database, sinceMs, untilMs, exactBefore, exactFrom });
  }

  #planned(name: string): PlannedDatabase {
    const draft = this.#drafts.get(name);
    if (!draft?.copy) throw withoutCopy(name, this.#options);
    const { copy, last } = draft;
    return {
      name,
      afterOffset: copy.afterOffset,
      copyOffset: copy.offset,
      offset: last.offset,
      timeMs: last.timeMs,
      pageSize: last.body.pageSize,
      sizePages: last.body.sizePages,
      peakPages: copy.peakPages,
      checksum: last.body.after,
      transactions: copy.transactions,
    };
  }
}

function withoutCopy(name: string, { firstOffset, targetOffset }: PlannerOptions): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${name} at offset ${targetOffset}: the log begins at ${firstOffset} and holds no full copy of it up to there`,
    { hint: "Name a later point, or leave this database out with `--database`." },
  );
}
