import type { LogEvent, SqliteCommit } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { SegmentDatabase } from "../repository/segment.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { BaseDatabase, PlanBase } from "./plan-base.ts";

/** What becomes of one database, and from which events. */
export interface PlannedDatabase {
  readonly name: string;
  /** Events of this database up to here are superseded: the base or the full copy it is built from. */
  readonly afterOffset: Offset;
  /** What it begins with; undefined: a copy that the events hold. */
  readonly base: BaseDatabase | undefined;
  /** Its last commit at or before the target. */
  readonly offset: Offset;
  readonly timeMs: number;
  readonly pageSize: number;
  readonly sizePages: number;
  /** Largest size on the way there. */
  readonly peakPages: number;
  readonly checksum: bigint;
  /** Transactions in several parts that were closed at or before the target, but for those that summaries stood for: others' parts are never applied. */
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

/** What becomes of the databases. */
export interface RestorePlan {
  /** Events after this offset are read. */
  readonly afterOffset: Offset;
  readonly databases: readonly PlannedDatabase[];
  readonly gaps: readonly PlannedGap[];
}

export interface PlannerOptions {
  /** First event that the planner is told of. */
  readonly firstOffset: Offset;
  readonly targetOffset: Offset;
  readonly momentMs: number;
  /** The state before that event; undefined: only the events tell. */
  readonly base: Pick<PlanBase, "offset" | "timeMs" | "databases"> | undefined;
}

interface Draft {
  /** What it is built from. */
  beginning:
    | { base: BaseDatabase | undefined; afterOffset: Offset; peakPages: number; transactions: Set<number> }
    | undefined;
  last: Pick<PlannedDatabase, "offset" | "timeMs" | "pageSize" | "sizePages" | "checksum">;
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
    for (const base of options.base?.databases ?? []) this.#begin(base, options.base);
  }

  /** Every `sqlite.commit` in order; other events may be left out. */
  take(event: LogEvent): void {
    const { body } = event;
    if (body.kind !== "sqlite.commit") return;
    if (event.offset > this.#options.targetOffset) this.#lookAhead(event, body);
    else this.#takeCommit({ ...event, body });
  }

  /** What several events up to the target come to, of which none holds a copy. */
  takeSummary({ name, largestPages, commits, ...last }: SegmentDatabase): void {
    if (commits === 0) return;
    const beginning = this.#drafts.get(name)?.beginning;
    if (beginning) beginning.peakPages = Math.max(beginning.peakPages, largestPages);
    this.#undecided.add(name);
    this.#drafts.set(name, { beginning, last });
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

  #begin(base: BaseDatabase, at: Pick<PlanBase, "offset" | "timeMs"> | undefined): void {
    const { name, pageSize, sizePages, checksum } = base;
    const { offset: afterOffset = this.#options.firstOffset, timeMs = 0 } = at ?? {};
    this.#drafts.set(name, {
      beginning: { base, afterOffset, peakPages: sizePages, transactions: new Set() },
      last: { offset: afterOffset, timeMs, pageSize, sizePages, checksum },
    });
    this.#undecided.add(name);
  }

  #takeCommit(event: LogEvent & { readonly body: SqliteCommit }): void {
    const { body } = event;
    const draft = this.#drafts.get(body.database);
    const previous = draft?.last.offset ?? offset(this.#options.firstOffset - 1);
    const { pageSize, sizePages, after: checksum } = body;
    let beginning = draft?.beginning;
    if (body.cause === "copy") {
      beginning = { base: undefined, afterOffset: previous, peakPages: sizePages, transactions: new Set() };
    }
    if (beginning) {
      beginning.peakPages = Math.max(beginning.peakPages, sizePages);
      if (body.parts > 0) beginning.transactions.add(body.transaction);
    }
    this.#undecided.add(body.database);
    const { offset: at, timeMs } = event;
    this.#drafts.set(body.database, { beginning, last: { offset: at, timeMs, pageSize, sizePages, checksum } });
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
    if (!draft?.beginning) throw withoutCopy(name, this.#options);
    return { name, ...draft.beginning, ...draft.last };
  }
}

function withoutCopy(name: string, { firstOffset, targetOffset }: PlannerOptions): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${name} at offset ${targetOffset}: what is there begins at ${firstOffset} and holds no full copy of it up to there`,
    { hint: "Name a later point, or leave this database out with `--database`." },
  );
}
