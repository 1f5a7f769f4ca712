import { hasCode, type TidemarkError } from "../runtime/errors.ts";

/** What is wrong with an object, and what it means. */
export interface VerifyProblem {
  /** Name of the object. */
  readonly object: string;
  readonly problem: string;
  /** What cannot be restored for it, for people; empty: nothing that is known. */
  readonly affects: readonly string[];
}

export interface VerifyReport {
  readonly objects: number;
  /** Stored. */
  readonly bytes: number;
  /** Of them read and proved in this run, or in the one that it goes on with. */
  readonly checkedBytes: number;
  readonly bases: number;
  readonly segments: number;
  readonly problems: readonly VerifyProblem[];
  /** Not wrong, but worth knowing. */
  readonly warnings: readonly string[];
}

/** Gathers what is found; what one object's damage affects is often learned later. */
export class Findings {
  readonly warnings: string[] = [];
  readonly #problems = new Map<string, { object: string; problem: string; affects: Set<string> }>();

  add(object: string, problem: string, affects?: string): void {
    const key = `${object}\0${problem}`;
    const known = this.#problems.get(key) ?? { object, problem, affects: new Set() };
    if (affects !== undefined) known.affects.add(affects);
    this.#problems.set(key, known);
  }

  /** To everything that is known to be wrong with the object. */
  affects(object: string, what: string): void {
    for (const problem of this.#problems.values()) if (problem.object === object) problem.affects.add(what);
  }

  get problems(): VerifyProblem[] {
    return [...this.#problems.values()].map((each) => ({ ...each, affects: [...each.affects] }));
  }
}

/** An object that does not say what it should; also one that seems to be of a later version: a flipped bit looks like that. */
export function isDamage(error: unknown): error is TidemarkError {
  return hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT", "REPOSITORY_VERSION", "RECORD_INVALID", "RECORD_VERSION");
}
