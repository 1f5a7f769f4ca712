import { type JournalLine } from "./journal.ts";
import { GENESIS } from "./ledger.ts";

/** Everything that was told and seen in a run. Plain data: a failing run leaves it behind as a file. */
export interface Evidence {
  readonly journal: readonly JournalLine[];
  readonly syncs: readonly Sync[];
  readonly seen: readonly Seen[];
  readonly log: readonly LogPoint[];
  readonly restores: readonly Restored[];
  /** All copies at the end, the primary's first. */
  readonly final: readonly Copy[];
  /** What did not come right by itself and by the documented commands. */
  readonly stuck: readonly string[];
  /** With what agents ended that nobody stopped, fenced or killed. Told, not judged: a service manager starts them again. */
  readonly ends: readonly string[];
}

/** `sync` confirmed what was committed at this place before it was called. */
export interface Sync {
  readonly place: string;
  readonly calledMs: number;
  readonly offset: number;
}

/** What one copy held; with what cannot be in any state. */
export interface Copy {
  readonly place: string;
  readonly chain: string;
  readonly problems: readonly string[];
}

/** By a reader of a standby, in the order of looking at that place. */
export interface Seen extends Copy {
  readonly atMs: number;
}

/** One record. */
export interface LogPoint {
  readonly offset: number;
  readonly epoch: number;
  /** The record begins its epoch. */
  readonly begins?: { readonly writer: string; readonly reason: string; readonly contains?: number };
  /** What the database holds with this record, where that changed. */
  readonly chain?: string;
  /** What rows name at a point that says it is consistent, and is not there. */
  readonly problems?: readonly string[];
}

export interface Restored extends Copy {
  readonly offset: number;
}

export type ViolationKind =
  | "confirmed commit lost"
  | "state that never was"
  | "two writers in one epoch"
  | "restore differs"
  | "file missing"
  | "copies differ"
  | "needs a hand";

export interface Violation {
  readonly kind: ViolationKind;
  readonly text: string;
}

/** What a run broke of the promises; nothing else is judged anywhere. */
export function violationsOf(evidence: Evidence): Violation[] {
  const told = new Told(evidence.journal);
  const log = new LogStates(evidence.log);
  return [
    ...lostCommits(evidence, told, log),
    ...statesThatNeverWere(evidence, told, log),
    ...twoWriters(evidence.log, told),
    ...wrongRestores(evidence.restores, log),
    ...evidence.log.flatMap(({ offset, problems = [] }) => as("file missing", problems, `offset ${offset}: `)),
    ...differingCopies(evidence.final, log),
    ...as("needs a hand", evidence.stuck),
  ];
}

function as(kind: ViolationKind, texts: readonly string[], before = ""): Violation[] {
  return texts.map((text) => ({ kind, text: before + text }));
}

type Begun = Extract<JournalLine, { at: "begun" }>;
type Done = Extract<JournalLine, { at: "done" }>;

/** What the writers knew: a tree of transactions, each with the one that it came after. */
class Told {
  readonly #begun = new Map<string, Begun>();
  readonly #failed = new Map<string, string>();
  readonly done: readonly Done[];

  constructor(journal: readonly JournalLine[]) {
    for (const line of journal) if (line.at === "begun") this.#begun.set(line.chain, line);
    for (const line of journal) if (line.at === "failed") this.#failed.set(line.chain, line.why);
    this.done = journal.filter((line) => line.at === "done");
    for (const { chain } of this.done) this.#failed.delete(chain);
  }

  placeOf(chain: string): string | undefined {
    return this.#begun.get(chain)?.place;
  }

  /** Why no database can have been in this state; undefined: one was, or may have been. */
  impossible(chain: string): string | undefined {
    if (chain === GENESIS) return undefined;
    if (!this.#begun.has(chain)) return "which nobody wrote";
    const why = this.#failed.get(chain);
    return why === undefined ? undefined : `whose COMMIT had failed (${why})`;
  }

  /** Whether everything of `earlier` is in `later`. */
  contains(later: string, earlier: string): boolean {
    if (earlier === GENESIS) return true;
    const least = this.#begun.get(earlier)?.seq ?? Infinity;
    let at = this.#begun.get(later);
    while (at && at.seq > least) at = this.#begun.get(at.previous);
    return at?.chain === earlier;
  }
}

/** What the log says of the database, and where it says that something is taken back. */
class LogStates {
  readonly #points: readonly LogPoint[];

  constructor(points: readonly LogPoint[]) {
    this.#points = points;
  }

  at(offset: number): string {
    return this.#points.findLast((point) => point.offset <= offset && point.chain !== undefined)?.chain ?? GENESIS;
  }

  get last(): string {
    return this.at(Infinity);
  }

  /** A promotion that was forced said that it did not have this record. */
  tookBack(offset: number): boolean {
    return this.#points.some(
      ({ offset: at, begins }) => at > offset && begins?.contains !== undefined && begins.contains < offset,
    );
  }

  get everTookBack(): boolean {
    return this.#points.some(({ begins }) => begins?.contains !== undefined);
  }
}

function lostCommits({ syncs }: Evidence, told: Told, log: LogStates): Violation[] {
  const violations = syncs.flatMap(({ place, calledMs, offset }) => {
    const before = told.done.filter(({ chain, ms }) => ms < calledMs && told.placeOf(chain) === place);
    const newest = before.reduce<Done | undefined>((a, b) => (a && a.ms > b.ms ? a : b), undefined);
    if (!newest) return [];
    if (!told.contains(log.at(offset), newest.chain)) {
      return [`${newest.chain} of ${place}: sync named offset ${offset}, and what the log holds there lacks it`];
    }
    if (told.contains(log.last, newest.chain) || log.tookBack(offset)) return [];
    return [`${newest.chain} of ${place}: sync confirmed it at offset ${offset}, and it is gone`];
  });
  return as("confirmed commit lost", [...new Set(violations)]);
}

function statesThatNeverWere({ seen }: Evidence, told: Told, log: LogStates): Violation[] {
  const last = new Map<string, string>();
  const violations: string[] = [];
  for (const { place, chain, problems } of seen) {
    violations.push(...problems.map((problem) => `${place}: ${problem}`));
    const impossible = told.impossible(chain);
    if (impossible !== undefined) violations.push(`${place} showed ${chain}, ${impossible}`);
    const before = last.get(place) ?? GENESIS;
    if (impossible === undefined && !told.contains(chain, before) && !log.everTookBack) {
      violations.push(`${place} showed ${chain}, which lacks what it showed before (${before})`);
    }
    last.set(place, chain);
  }
  return as("state that never was", [...new Set(violations)]);
}

/** Epochs follow one another, and what is new in one comes from one place. */
function twoWriters(points: readonly LogPoint[], told: Told): Violation[] {
  const violations: string[] = [];
  const known = new Set<string>();
  const owners = new Map<number, string>();
  let epoch = 0;
  for (const { offset, epoch: of, begins, chain } of points) {
    // The genesis stands before the first epoch's record.
    if ((begins && of > epoch) || epoch === 0) epoch = begins ? of : 0;
    else if (begins || of !== epoch) violations.push(`record ${offset} is of epoch ${of}, in epoch ${epoch}`);
    if (chain === undefined || known.has(chain)) continue;
    known.add(chain);
    const impossible = told.impossible(chain);
    if (impossible !== undefined) violations.push(`record ${offset} leads to ${chain}, ${impossible}`);
    const place = told.placeOf(chain);
    if (place === undefined) continue;
    const owner = owners.get(of) ?? place;
    owners.set(of, owner);
    if (owner !== place) violations.push(`epoch ${of} holds commits of ${owner}, and at ${offset} one of ${place}`);
  }
  return as("two writers in one epoch", violations);
}

function wrongRestores(restores: readonly Restored[], log: LogStates): Violation[] {
  const texts = restores.flatMap(({ place, offset, chain, problems }) => {
    const expected = log.at(offset);
    const what = `offset ${offset} of ${place}: `;
    if (chain !== expected) return [`${what}${chain}, and the log says ${expected}`];
    return problems.map((problem) => what + problem);
  });
  return as("restore differs", texts);
}

function differingCopies(copies: readonly Copy[], log: LogStates): Violation[] {
  const texts = copies.flatMap(({ place, chain, problems }) => [
    ...problems.map((problem) => `${place}: ${problem}`),
    ...(chain === log.last ? [] : [`${place} ends with ${chain}, the log with ${log.last}`]),
  ]);
  return as("copies differ", texts);
}
